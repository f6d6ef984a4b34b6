// Depthwise convolution + bias + activation over NHWC, with sums for the pooled mean.
//
// A tile is seven output columns of one row (112, 56, 28, 14 and 7 are multiples of it) or eight where they cover a row
// with fewer; the last overlaps the one before. For one vector of channels the accumulators and one kernel row's
// weights stay in registers, and each input is loaded once a kernel row. Tiles below each other follow one another, a
// few channels at a time, so that the rows that they share and the weights come from the L1 cache.
#pragma once

#include <algorithm>
#include <type_traits>

#include "../core/activation.h"
#include "kernel_size.h"
#include "kernels.h"

namespace effops {

// A strip is the same columns and channels of so many rows, and what one of its tiles reads takes so much of the L1
// cache.
constexpr int kStripRows = 16;
constexpr int64_t kStripBytes = 14 * 1024;

template <class T>
struct DepthwiseRow {
  const T* image;    // what there is of the input image of this output row
  T* y;              // the output row
  float* sums;       // (c) or null
  int64_t iy0;       // input row of kernel row 0
  int64_t kh0, kh1;  // kernel rows that fall on the image
  int64_t pitch;     // from an input row to the next

  DepthwiseRow(const DepthwiseParams& p, int64_t row, const Channels& channels) {
    const ConvShape& s = p.shape;
    const int64_t n = row / s.oh, oy = row % s.oh;
    pitch = s.w * channels.pitch;
    image = static_cast<const T*>(p.x) + (p.x_rows ? 0 : n * s.h * pitch);
    y = static_cast<T*>(p.y) + (row - p.y_row0) * s.ow * s.c;
    sums = p.row_sums ? p.row_sums + row * s.c : nullptr;
    iy0 = oy * s.stride_h - s.pad_top;
    kh0 = iy0 < 0 ? std::min(s.kh, (-iy0 + s.dilation_h - 1) / s.dilation_h) : 0;
    kh1 = std::min(s.kh, iy0 < s.h ? (s.h - iy0 + s.dilation_h - 1) / s.dilation_h : 0);
    if (sums) std::fill(sums + channels.first, sums + channels.last, 0.0f);
  }
  // The row of x that a kernel row falls on.
  const T* input(const DepthwiseParams& p, int64_t kh) const {
    const int64_t iy = iy0 + kh * p.shape.dilation_h;
    return image + (p.x_rows ? iy % p.x_rows : iy) * pitch;
  }
};

// Multiples of the distance between two pixels, in bytes. An address adds one register times 1, 2, 4 or 8 for nothing,
// so that these four reach eight columns.
struct Pitch {
  int64_t one, three, five, seven;

  explicit Pitch(int64_t bytes) : one(bytes), three(3 * bytes), five(5 * bytes), seven(7 * bytes) {
#if defined(__x86_64__)
    // Or the compiler derives one from another again, with an addition a column.
    asm("" : "+r"(one), "+r"(three), "+r"(five), "+r"(seven));
#endif
  }
  // Column j of a row that starts at `at`, j known where it is compiled.
  template <class T>
  T* operator()(T* at, int j) const {
    uintptr_t address = reinterpret_cast<uintptr_t>(at);
    for (; j >= 8; j -= 8) address += 8 * one;
    const int64_t odd = j == 3 || j == 6 ? three : j == 5 ? five : j == 7 ? seven : one;
    const int64_t times = j == 0 ? 0 : j == 2 || j == 6 ? 2 : j == 4 ? 4 : 1;
    return reinterpret_cast<T*>(address + odd * times);
  }
};

// Stands for an activation that is chosen where it is applied, in tiles too rare to be compiled once for each.
struct AnyActivation {
  Act act;
};

// Where a tile's sums go, at one vector of channels.
template <class T>
struct DepthwiseOutput {
  const float* bias;  // or null
  T* y;
  float* sums;            // or null
  int columns, repeated;  // columns [0, columns) are stored, [repeated, columns) are summed
  int first, last;        // lanes [0, last) are stored, [first, last) are summed
};

// Adds the bias (last: a chain that starts from a large bias rounds worse), applies the activation, stores and sums.
template <class S, class F, class T, int Columns>
inline __attribute__((always_inline)) void finish_tile(S (&acc)[Columns], F f, const DepthwiseOutput<T>& out,
                                                       const Pitch& pitch) {
  const bool full = out.last == S::kLanes;
  if (out.bias) {
    const S bias = full ? S::load(out.bias) : S::load(out.bias, out.last);
#pragma GCC unroll 8
    for (int i = 0; i < Columns; ++i) acc[i] = acc[i] + bias;
  }
  if constexpr (std::is_same_v<F, AnyActivation>) {
    with_activation(f.act, [&](auto chosen) __attribute__((always_inline)) {
#pragma GCC unroll 8
      for (int i = 0; i < Columns; ++i) acc[i] = chosen.apply(acc[i]);
    });
  } else {
#pragma GCC unroll 8
    for (int i = 0; i < Columns; ++i) acc[i] = f.apply(acc[i]);
  }
#pragma GCC unroll 8
  for (int i = 0; i < Columns; ++i) {
    if (i >= out.columns) break;
    if (full) {
      acc[i].store(pitch(out.y, i));
    } else {
      acc[i].store(pitch(out.y, i), out.last);
    }
  }
  if (!out.sums) return;
  S sum = full ? S::load(out.sums) : S::load(out.sums, out.last);
  if (out.repeated == 0) {
#pragma GCC unroll 8
    for (int i = 0; i < Columns; ++i) {
      if (i < out.columns) sum = sum + acc[i];
    }
  } else {
#pragma GCC unroll 8
    for (int i = 1; i < Columns; ++i) {
      if (i >= out.repeated && i < out.columns) sum = sum + acc[i];
    }
  }
  if (full && out.first == 0) {
    sum.store(out.sums);
  } else {
    float lanes[S::kLanes];
    sum.store(lanes);
    for (int lane = out.first; lane < std::min<int>(out.last, S::kLanes); ++lane) out.sums[lane] = lanes[lane];
  }
}

// How a tile lies on the image: within it; whole, with fewer than K columns beyond either side; any way.
enum class Fit { kInside, kEdge, kAny };

// A tile of one row, at channel 0.
template <class T, int K>
struct DepthwiseTile {
  const T* in[K];  // the first column in every kernel row; only in [kh0, kh1)
  int kh0, kh1;
  int64_t pitch;          // from an input pixel to the next
  int left, right;        // its columns [left, right) are on the image
  int columns, repeated;  // of the output, and those of them that the tile before has made
  const float *weight, *bias;
  T* y;
  float* sums;
};

// Channels [c0, c1) of a tile, of `channels`; the last vector overlaps the one before where they do not fill it. With
// Few there is less than one vector of channels in all.
template <class S, class T, int K, int Stride, int Columns, Fit Fitting, bool Few, class F>
void depthwise_tile(const DepthwiseTile<T, K>& t, F f, int64_t channels, int64_t c0, int64_t c1) {
  constexpr int kSpan = (Columns - 1) * Stride + K;
  const Pitch pitch(t.pitch * static_cast<int64_t>(sizeof(T))), out_pitch(channels * static_cast<int64_t>(sizeof(T)));
  const int left = t.left, right = t.right;
  for (int64_t next = c0; next < c1; next += S::kLanes) {
    const int lanes = Few ? static_cast<int>(channels) : S::kLanes;
    const int64_t c = Few ? 0 : std::min(next, channels - S::kLanes);
    S sum[Columns];
#pragma GCC unroll 8
    for (int i = 0; i < Columns; ++i) sum[i] = S(0.0f);
    const float* weight = t.weight + c + t.kh0 * K * channels;
#pragma GCC unroll 1
    for (int kh = t.kh0; kh < t.kh1; ++kh, weight += K * channels) {
      const T* in = t.in[kh] + c;
      S taps[K];
#pragma GCC unroll 8
      for (int j = 0; j < K; ++j) {
        const float* tap = weight + j * channels;
        taps[j] = Few ? S::load(tap, lanes) : S::load(tap);
      }
#pragma GCC unroll 20
      for (int j = 0; j < kSpan; ++j) {
        if (Fitting == Fit::kEdge && ((j < K && j < left) || (j >= kSpan - K && j >= right))) continue;
        if (Fitting == Fit::kAny && j >= right) break;
        if (Fitting == Fit::kAny && j < left) continue;
        const S x = Few ? S::load(pitch(in, j), lanes) : S::load(pitch(in, j));
#pragma GCC unroll 8
        for (int i = 0; i < Columns; ++i) {
          const int k = j - i * Stride;
          if (k >= 0 && k < K) sum[i] = fma(x, taps[k], sum[i]);
        }
      }
    }
    S acc[Columns];
#pragma GCC unroll 8
    for (int i = 0; i < Columns; ++i) acc[i] = sum[i];
    const int columns = Fitting == Fit::kAny ? t.columns : Columns, first = static_cast<int>(next - c);
    const int repeated = Fitting == Fit::kInside ? 0 : t.repeated;
    const float* bias = t.bias ? t.bias + c : nullptr;
    float* sums = t.sums ? t.sums + c : nullptr;
    finish_tile(acc, f, DepthwiseOutput<T>{bias, t.y + c, sums, columns, repeated, first, lanes}, out_pitch);
  }
}

template <class S, class T, int K, int Stride, int Columns, class F>
void depthwise_rows_of(const DepthwiseParams& p, F f, int64_t row0, int64_t row1, const Channels& channels) {
  const AnyActivation any{p.act};
  constexpr int kSpan = (Columns - 1) * Stride + K;
  constexpr int64_t kLine = std::max<int64_t>(64 / sizeof(T), S::kLanes);
  // Channels of a strip.
  constexpr int64_t kStrip = std::max<int64_t>(kStripBytes / (K * kSpan * sizeof(T)) / kLine, 1) * kLine;
  const ConvShape& s = p.shape;
  for (int64_t first = row0; first < row1; first += kStripRows) {
    const int rows = static_cast<int>(std::min<int64_t>(kStripRows, row1 - first));
    DepthwiseTile<T, K> tiles[kStripRows];
    for (int r = 0; r < rows; ++r) {
      const DepthwiseRow<T> row(p, first + r, channels);
      DepthwiseTile<T, K>& t = tiles[r];
      t.kh0 = static_cast<int>(row.kh0), t.kh1 = static_cast<int>(row.kh1);
      for (int kh = t.kh0; kh < t.kh1; ++kh) t.in[kh] = row.input(p, kh) - s.pad_left * channels.pitch;
      t.pitch = channels.pitch, t.weight = p.weight, t.bias = p.bias, t.y = row.y, t.sums = row.sums;
    }
    for (int64_t next = 0, before = 0; next < s.ow; next += Columns) {
      const int columns = static_cast<int>(std::min<int64_t>(Columns, s.ow));
      const int64_t ox = std::min(next, s.ow - columns), moved = ox - before;
      before = ox;
      const int64_t ix0 = ox * Stride - s.pad_left;
      const int left = static_cast<int>(std::min<int64_t>(kSpan, std::max<int64_t>(0, -ix0)));
      const int right = static_cast<int>(std::min<int64_t>(kSpan, std::max<int64_t>(0, s.w - ix0)));
      const bool inside = next == ox && columns == Columns && left == 0 && right == kSpan;
      const bool edge = columns == Columns && left <= K && right >= kSpan - K;
      for (int r = 0; r < rows; ++r) {
        DepthwiseTile<T, K>& t = tiles[r];
        t.left = left, t.right = right, t.columns = columns, t.repeated = static_cast<int>(next - ox);
        for (int kh = t.kh0; kh < t.kh1; ++kh) t.in[kh] += moved * Stride * channels.pitch;
        t.y += moved * s.c;
      }
      for (int64_t c0 = channels.first; c0 < channels.last; c0 += kStrip) {
        const int64_t c1 = std::min(channels.last, c0 + kStrip);
        for (int r = 0; r < rows; ++r) {
          if (s.c < S::kLanes) {
            depthwise_tile<S, T, K, Stride, Columns, Fit::kAny, true>(tiles[r], any, s.c, c0, c1);
          } else if (inside) {
            depthwise_tile<S, T, K, Stride, Columns, Fit::kInside, false>(tiles[r], f, s.c, c0, c1);
          } else if (edge) {
            depthwise_tile<S, T, K, Stride, Columns, Fit::kEdge, false>(tiles[r], f, s.c, c0, c1);
          } else {
            depthwise_tile<S, T, K, Stride, Columns, Fit::kAny, false>(tiles[r], any, s.c, c0, c1);
          }
        }
      }
    }
  }
}

template <class S, class T, class Size, class F>
void depthwise_rows_fixed(const DepthwiseParams& p, F f, int64_t row0, int64_t row1, const Channels& channels) {
  // Not for single lanes, where it would only cost the compiler time.
  if constexpr (S::kLanes >= 8) {
    const auto covered = [&](int64_t columns) { return (p.shape.ow + columns - 1) / columns * columns; };
    if (covered(8) < covered(7)) {
      return depthwise_rows_of<S, T, Size::kernel, Size::stride, 8>(p, f, row0, row1, channels);
    }
  }
  depthwise_rows_of<S, T, Size::kernel, Size::stride, 7>(p, f, row0, row1, channels);
}

// Any kernel, stride and dilation: one output pixel at a time.
template <class S, class T>
void depthwise_rows_general(const DepthwiseParams& p, int64_t row0, int64_t row1, const Channels& channels) {
  const ConvShape& s = p.shape;
  const Pitch pitch(0);
  for (int64_t r = row0; r < row1; ++r) {
    const DepthwiseRow<T> row(p, r, channels);
    for (int64_t ox = 0; ox < s.ow; ++ox) {
      const int64_t ix0 = ox * s.stride_w - s.pad_left;
      for (int64_t c = channels.first; c < channels.last; c += S::kLanes) {
        const int lanes = static_cast<int>(std::min<int64_t>(S::kLanes, s.c - c));
        S acc[1] = {S(0.0f)};
        for (int64_t kh = row.kh0; kh < row.kh1; ++kh) {
          for (int64_t kw = 0; kw < s.kw; ++kw) {
            const int64_t ix = ix0 + kw * s.dilation_w;
            if (ix < 0 || ix >= s.w) continue;
            const T* at = row.input(p, kh) + ix * channels.pitch + c;
            acc[0] = fma(S::load(at, lanes), S::load(p.weight + (kh * s.kw + kw) * s.c + c, lanes), acc[0]);
          }
        }
        const DepthwiseOutput<T> out{
            p.bias ? p.bias + c : nullptr, row.y + ox * s.c + c, row.sums ? row.sums + c : nullptr, 1, 0, 0, lanes};
        finish_tile(acc, AnyActivation{p.act}, out, pitch);
      }
    }
  }
}

template <class S, class T>
void depthwise_rows(const DepthwiseParams& p, int64_t row0, int64_t row1, const Channels& channels) {
  with_kernel_size(p.shape, [&](auto size) {
    using Size = decltype(size);
    if constexpr (Size::kernel == 0) {
      depthwise_rows_general<S, T>(p, row0, row1, channels);
    } else if constexpr (std::is_same_v<T, float>) {
      with_activation(p.act, [&](auto f) { depthwise_rows_fixed<S, T, Size>(p, f, row0, row1, channels); });
    } else {
      depthwise_rows_fixed<S, T, Size>(p, AnyActivation{p.act}, row0, row1, channels);
    }
  });
}

template <class S>
void depthwise(const DepthwiseParams& p, int64_t row0, int64_t row1, const Channels& channels) {
  if (p.dtype == DType::kFloat32) {
    depthwise_rows<S, float>(p, row0, row1, channels);
  } else {
    depthwise_rows<S, bf16>(p, row0, row1, channels);
  }
}

}  // namespace effops
