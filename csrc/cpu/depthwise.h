// Depthwise convolution + bias + activation over NHWC, with sums for the pooled mean.
//
// A tile is seven output columns of one row: 112, 56, 28, 14 and 7 are multiples of it. For one vector of
// channels the seven accumulators and one kernel row's weights stay in registers, and each input is loaded
// once a kernel row.
#pragma once

#include <algorithm>

#include "../core/activation.h"
#include "kernel_size.h"
#include "kernels.h"

namespace effops {

constexpr int kTileColumns = 7;

template <class S, class T>
struct DepthwiseRow {
  const DepthwiseParams& p;
  const T* image;    // what there is of the input image of this output row
  T* y;              // the output row
  float* sums;       // (c) or null
  int64_t iy0;       // input row of kernel row 0
  int64_t kh0, kh1;  // kernel rows that fall on the image

  DepthwiseRow(const DepthwiseParams& params, int64_t row) : p(params) {
    const ConvShape& s = p.shape;
    const int64_t n = row / s.oh, oy = row % s.oh;
    image = static_cast<const T*>(p.x) + (p.x_rows ? 0 : n * s.h * s.w * s.c);
    y = static_cast<T*>(p.y) + (row - p.y_row0) * s.ow * s.c;
    sums = p.row_sums ? p.row_sums + row * s.c : nullptr;
    iy0 = oy * s.stride_h - s.pad_top;
    kh0 = iy0 < 0 ? std::min(s.kh, (-iy0 + s.dilation_h - 1) / s.dilation_h) : 0;
    kh1 = std::min(s.kh, iy0 < s.h ? (s.h - iy0 + s.dilation_h - 1) / s.dilation_h : 0);
    if (sums) std::fill(sums, sums + s.c, 0.0f);
  }
  // The row of x that a kernel row falls on, in elements from `image`.
  int64_t input(int64_t kh) const {
    const int64_t iy = iy0 + kh * p.shape.dilation_h;
    return (p.x_rows ? iy % p.x_rows : iy) * p.shape.w * p.shape.c;
  }
};

template <class S>
inline S load_bias(const float* bias, int64_t c, int lanes) {
  if (!bias) return S(0.0f);
  return lanes == S::kLanes ? S::load(bias + c) : S::load(bias + c, lanes);
}

// Adds the bias (last: a chain that starts from a large bias rounds worse), applies the activation, stores
// and sums.
template <class S, class T, int Columns>
inline void finish_tile(S (&acc)[Columns], const DepthwiseRow<S, T>& row, int64_t ox, int64_t c, int columns,
                        int lanes) {
  const DepthwiseParams& p = row.p;
  const bool full = lanes == S::kLanes;
  const S bias = load_bias<S>(p.bias, c, lanes);
  with_activation(p.act, [&](auto f) __attribute__((always_inline)) {
#pragma GCC unroll 8
    for (int i = 0; i < Columns; ++i) acc[i] = f.apply(acc[i] + bias);
  });
  T* y = row.y + ox * p.shape.c + c;
#pragma GCC unroll 8
  for (int i = 0; i < Columns; ++i) {
    if (i >= columns) break;
    if (full) {
      acc[i].store(y + i * p.shape.c);
    } else {
      acc[i].store(y + i * p.shape.c, lanes);
    }
  }
  if (!row.sums) return;
  float* sums = row.sums + c;
  S sum = full ? S::load(sums) : S::load(sums, lanes);
#pragma GCC unroll 8
  for (int i = 0; i < Columns; ++i) {
    if (i < columns) sum = sum + acc[i];
  }
  if (full) {
    sum.store(sums);
  } else {
    sum.store(sums, lanes);
  }
}

// Asks for what the next tile reads first of all tiles: its new columns in the lowest kernel row. A tile reads many
// short streams, too many for the processor's own prefetcher to follow.
template <class S, class T, int K, int Stride>
inline void prefetch_next(const DepthwiseRow<S, T>& row, int64_t lowest, int64_t ix, int64_t c) {
  const ConvShape& s = row.p.shape;
  const T* at = row.image + lowest + ix * s.c + c;
#pragma GCC unroll 16
  for (int j = 0; j < kTileColumns * Stride; ++j) __builtin_prefetch(at + j * s.c);
}

// One tile for one vector of channels. Edge tiles may hang over the image or the output row; Tail has fewer
// channels.
template <class S, class T, int K, int Stride, bool Edge, bool Tail>
inline void depthwise_tile(const DepthwiseRow<S, T>& row, const int64_t (&inputs)[K], int64_t ox, int64_t c,
                           int columns, int tail_lanes) {
  constexpr int kSpan = (kTileColumns - 1) * Stride + K;
  const DepthwiseParams& p = row.p;
  const ConvShape& s = p.shape;
  const int lanes = Tail ? tail_lanes : S::kLanes;
  const int64_t ix0 = ox * Stride - s.pad_left;
  if (!Tail && row.kh1 > row.kh0 && c % (64 / static_cast<int64_t>(sizeof(T))) == 0) {
    prefetch_next<S, T, K, Stride>(row, inputs[row.kh1 - 1], ix0 + kSpan, c);
  }
  // An array whose address nobody takes, so that the compiler keeps it in registers.
  S sum[kTileColumns];
#pragma GCC unroll 8
  for (int i = 0; i < kTileColumns; ++i) sum[i] = S(0.0f);
  for (int64_t kh = row.kh0; kh < row.kh1; ++kh) {
    const float* weight = p.weight + kh * K * s.c + c;
    const int64_t offset = inputs[kh] + ix0 * s.c + c;
    S taps[K];
#pragma GCC unroll 8
    for (int j = 0; j < K; ++j) taps[j] = Tail ? S::load(weight + j * s.c, lanes) : S::load(weight + j * s.c);
#pragma GCC unroll 20
    for (int j = 0; j < kSpan; ++j) {
      if (Edge && (ix0 + j < 0 || ix0 + j >= s.w)) continue;
      const T* at = row.image + (offset + j * s.c);
      const S x = Tail ? S::load(at, lanes) : S::load(at);
#pragma GCC unroll 8
      for (int i = 0; i < kTileColumns; ++i) {
        const int tap = j - i * Stride;
        if (tap >= 0 && tap < K) sum[i] = fma(x, taps[tap], sum[i]);
      }
    }
  }
  S acc[kTileColumns];
#pragma GCC unroll 8
  for (int i = 0; i < kTileColumns; ++i) acc[i] = sum[i];
  finish_tile(acc, row, ox, c, columns, lanes);
}

template <class S, class T, int K, int Stride>
void depthwise_rows_fixed(const DepthwiseParams& p, int64_t row0, int64_t row1) {
  constexpr int kSpan = (kTileColumns - 1) * Stride + K;
  const ConvShape& s = p.shape;
  const int64_t whole = s.c - s.c % S::kLanes;
  for (int64_t r = row0; r < row1; ++r) {
    const DepthwiseRow<S, T> row(p, r);
    int64_t inputs[K];
    for (int64_t kh = row.kh0; kh < row.kh1; ++kh) inputs[kh] = row.input(kh);
    for (int64_t ox = 0; ox < s.ow; ox += kTileColumns) {
      const int columns = static_cast<int>(std::min<int64_t>(kTileColumns, s.ow - ox));
      const int64_t ix0 = ox * Stride - s.pad_left;
      const bool inside = columns == kTileColumns && ix0 >= 0 && ix0 + kSpan <= s.w;
      if (inside) {
        for (int64_t c = 0; c < whole; c += S::kLanes) {
          depthwise_tile<S, T, K, Stride, false, false>(row, inputs, ox, c, columns, 0);
        }
      } else {
        for (int64_t c = 0; c < whole; c += S::kLanes) {
          depthwise_tile<S, T, K, Stride, true, false>(row, inputs, ox, c, columns, 0);
        }
      }
      if (whole < s.c) {
        depthwise_tile<S, T, K, Stride, true, true>(row, inputs, ox, whole, columns, static_cast<int>(s.c - whole));
      }
    }
  }
}

// Any kernel, stride and dilation: one output pixel at a time.
template <class S, class T>
void depthwise_rows_general(const DepthwiseParams& p, int64_t row0, int64_t row1) {
  const ConvShape& s = p.shape;
  for (int64_t r = row0; r < row1; ++r) {
    const DepthwiseRow<S, T> row(p, r);
    for (int64_t ox = 0; ox < s.ow; ++ox) {
      const int64_t ix0 = ox * s.stride_w - s.pad_left;
      for (int64_t c = 0; c < s.c; c += S::kLanes) {
        const int lanes = static_cast<int>(std::min<int64_t>(S::kLanes, s.c - c));
        S acc[1] = {S(0.0f)};
        for (int64_t kh = row.kh0; kh < row.kh1; ++kh) {
          for (int64_t kw = 0; kw < s.kw; ++kw) {
            const int64_t ix = ix0 + kw * s.dilation_w;
            if (ix < 0 || ix >= s.w) continue;
            const T* at = row.image + row.input(kh) + ix * s.c + c;
            acc[0] = fma(S::load(at, lanes), S::load(p.weight + (kh * s.kw + kw) * s.c + c, lanes), acc[0]);
          }
        }
        finish_tile(acc, row, ox, c, 1, lanes);
      }
    }
  }
}

template <class S, class T>
void depthwise_rows(const DepthwiseParams& p, int64_t row0, int64_t row1) {
  with_kernel_size(p.shape, [&](auto size) {
    using Size = decltype(size);
    if constexpr (Size::kernel > 0) {
      depthwise_rows_fixed<S, T, Size::kernel, Size::stride>(p, row0, row1);
    } else {
      depthwise_rows_general<S, T>(p, row0, row1);
    }
  });
}

template <class S>
void depthwise(const DepthwiseParams& p, int64_t row0, int64_t row1) {
  if (p.dtype == DType::kFloat32) {
    depthwise_rows<S, float>(p, row0, row1);
  } else {
    depthwise_rows<S, bf16>(p, row0, row1);
  }
}

}  // namespace effops
