// Depthwise convolution of a view, with the sums behind its batch statistics.
//
// A unit of work walks down a band of rows. Every input row is read once through the view into a ring of the rows that
// the kernel spans, in float32 and with columns of zeros at both ends, so that no tile meets an edge.
#pragma once

#include "../core/depthwise_training.h"
#include "kernels.h"
#include "scratch.h"
#include "views.h"

namespace effops {

constexpr int kTrainTile = 7;  // columns, as in depthwise.h

// Partial sums move to their second level, in double, after this many pixels: one long chain of float32 additions
// rounds worse than what eager PyTorch computes.
constexpr int64_t kChainPixels = 64;

// The last `slots` rows of an image, panel by panel: `columns` columns of kPanel floats, `left` of them before the
// image.
struct Ring {
  int64_t slots, columns, left;
  float* data = nullptr;

  int64_t floats() const { return slots * columns * kPanel; }  // of one panel
  // Column 0 of the image.
  float* row(int64_t panel, int64_t y) const { return data + ((panel * slots + y % slots) * columns + left) * kPanel; }
};

inline int64_t tiled(int64_t columns) { return (columns + kTrainTile - 1) / kTrainTile * kTrainTile; }

inline Ring stats_ring(const ConvShape& s) {
  const int64_t read = (tiled(s.ow) - 1) * s.stride_w + (s.kw - 1) * s.dilation_w + 1;
  return {(s.kh - 1) * s.dilation_h + 1, std::max(read, s.pad_left + s.w), s.pad_left};
}

// Rows that a panel reads or writes next, asked for a few pixels at a time while the row before is computed: a panel's
// channels of the pixels of a row are short runs far apart, which the processor's own prefetcher does not follow.
struct Ahead {
  static constexpr int kRows = 6;
  const char* rows[kRows];
  int64_t pixels[kRows], steps[kRows];
  int count = 0;
  int64_t pitch, bytes;

  Ahead(int64_t c, int64_t channels, int64_t size) : pitch(c * size), bytes(channels * size) {}
  // `tiles` calls of fetch cover the row.
  void add(const void* row, int64_t row_pixels, int64_t tiles) {
    if (count == kRows) return;
    rows[count] = static_cast<const char*>(row);
    pixels[count] = row_pixels;
    steps[count++] = (row_pixels + tiles - 1) / tiles;
  }
  void fetch() {
    for (int i = 0; i < count; ++i) {
      for (int64_t j = std::min(steps[i], pixels[i]); j > 0; --j, --pixels[i], rows[i] += pitch) {
        for (int64_t b = 0; b < bytes; b += 64) __builtin_prefetch(rows[i] + b, 0, 2);
      }
    }
  }
};

// The weights of a unit's channels, panel by panel as (kh * kw, kPanel). Lanes beyond c stay as they are.
template <class S>
void copy_weight(const float* weight, int64_t taps, int64_t c, const DepthwiseUnit& unit, int64_t width, float* out) {
  for (int64_t i = 0; i < unit.channels; i += width, out += taps * kPanel) {
    const int64_t count = std::min(width, unit.channels - i);
    for (int64_t tap = 0; tap < taps; ++tap) {
      const float* in = weight + tap * c + unit.c0 + i;
      for_lanes<S>(count, [&](int64_t j, int lanes) __attribute__((always_inline)) {
        store_lanes(load_lanes<S>(in + j, lanes), out + tap * kPanel + j, lanes);
      });
    }
  }
}

// Joins a chain of `count` pixels to the mean and the squared deviations of the `before` pixels before it, and starts
// the next one from the mean: whatever the image begins with, the sums cancel in the first chain alone.
template <class S>
void join_chain(float* shift, float* sums, float* squares, int64_t count, int64_t before, double* mean, double* m2) {
  const double each = 1.0 / static_cast<double>(count), earlier = static_cast<double>(before);
  const double share = static_cast<double>(count) / static_cast<double>(before + count);
  for (int64_t i = 0; i < kPanel; ++i) {
    const double sum = static_cast<double>(sums[i]);
    join_moments(static_cast<double>(shift[i]) + sum * each, static_cast<double>(squares[i]) - sum * sum * each,
                 earlier, share, mean[i], m2[i]);
    shift[i] = static_cast<float>(mean[i]);
    sums[i] = squares[i] = 0.0f;
  }
}

// Where the sums of a panel lie.
struct StatsSums {
  float* shift;  // (kPanel)
  float* chain;  // (2, kPanel)
  bool first;    // the tile's mean becomes the shift
};

// Stores a tile as T and adds what was stored to the sums.
template <class S, class T, int Columns>
inline void finish_stats(S (&acc)[Columns], T* u, int64_t pitch, int columns, int lanes, const StatsSums& sums,
                         int64_t i) {
#pragma GCC unroll 8
  for (int j = 0; j < Columns; ++j) {
    if (j >= columns) break;
    store_lanes(acc[j], u + j * pitch + i, lanes);
    if (!std::is_same_v<T, float>) acc[j] = load_lanes<S>(u + j * pitch + i, lanes);
  }
  if (sums.first) {
    S total(0.0f);
    for (int j = 0; j < columns; ++j) total = total + load_lanes<S>(u + j * pitch + i, lanes);
    (total * S(1.0f / static_cast<float>(columns))).store(sums.shift + i);
  }
  const S shift = S::load(sums.shift + i);
  S sum(0.0f), squares(0.0f);
#pragma GCC unroll 8
  for (int j = 0; j < Columns; ++j) {
    if (j >= columns) break;
    const S away = acc[j] - shift;
    sum = sum + away;
    squares = fma(away, away, squares);
  }
  (S::load(sums.chain + i) + sum).store(sums.chain + i);
  (S::load(sums.chain + kPanel + i) + squares).store(sums.chain + kPanel + i);
}

// What one panel of one output row needs.
template <class T>
struct StatsRow {
  const ConvShape& s;
  const Ring& ring;
  int64_t panel, count;
  int64_t iy0, kh0, kh1;  // input row of kernel row 0; kernel rows that fall on the image
  const float* weight;    // (kh * kw, kPanel)
  T* u;                   // the output row, at the panel's first channel
  StatsSums sums;
  Ahead ahead;
};

template <class S, class T, int K, int Stride>
void stats_row_fixed(StatsRow<T> r) {
  constexpr int kSpan = (kTrainTile - 1) * Stride + K;
  const float* rows[K];
  const int kh0 = static_cast<int>(r.kh0), kh1 = static_cast<int>(r.kh1);
  for (int kh = kh0; kh < kh1; ++kh) rows[kh] = r.ring.row(r.panel, r.iy0 + kh) - r.s.pad_left * kPanel;
  for (int64_t ox = 0; ox < r.s.ow; ox += kTrainTile) {
    const int columns = static_cast<int>(std::min<int64_t>(kTrainTile, r.s.ow - ox));
    for_lanes<S>(r.count, [&](int64_t i, int lanes) __attribute__((always_inline)) {
      // An array whose address nobody takes, so that the compiler keeps it in registers.
      S sum[kTrainTile];
#pragma GCC unroll 8
      for (int j = 0; j < kTrainTile; ++j) sum[j] = S(0.0f);
      for (int kh = kh0; kh < kh1; ++kh) {
        const float* weight = r.weight + kh * K * kPanel + i;
        const float* x = rows[kh] + ox * Stride * kPanel + i;
        S taps[K];
#pragma GCC unroll 8
        for (int j = 0; j < K; ++j) taps[j] = S::load(weight + j * kPanel);
#pragma GCC unroll 20
        for (int j = 0; j < kSpan; ++j) {
          const S v = S::load(x + j * kPanel);
#pragma GCC unroll 8
          for (int k = 0; k < kTrainTile; ++k) {
            const int tap = j - k * Stride;
            if (tap >= 0 && tap < K) sum[k] = fma(v, taps[tap], sum[k]);
          }
        }
      }
      S acc[kTrainTile];
#pragma GCC unroll 8
      for (int j = 0; j < kTrainTile; ++j) acc[j] = sum[j];
      finish_stats(acc, r.u + ox * r.s.c, r.s.c, columns, lanes, r.sums, i);
    });
    r.sums.first = false;
    r.ahead.fetch();
  }
}

// Any kernel, stride and dilation: one output pixel at a time.
template <class S, class T>
void stats_row_general(StatsRow<T> r) {
  const ConvShape& s = r.s;
  for (int64_t ox = 0; ox < s.ow; ++ox) {
    for_lanes<S>(r.count, [&](int64_t i, int lanes) __attribute__((always_inline)) {
      S acc[1] = {S(0.0f)};
      for (int64_t kh = r.kh0; kh < r.kh1; ++kh) {
        const float* x = r.ring.row(r.panel, r.iy0 + kh * s.dilation_h) + (ox * s.stride_w - s.pad_left) * kPanel + i;
        const float* weight = r.weight + kh * s.kw * kPanel + i;
        for (int64_t kw = 0; kw < s.kw; ++kw) {
          acc[0] = fma(S::load(x + kw * s.dilation_w * kPanel), S::load(weight + kw * kPanel), acc[0]);
        }
      }
      finish_stats(acc, r.u + ox * s.c, s.c, 1, lanes, r.sums, i);
    });
    r.sums.first = false;
  }
}

// Units [unit0, unit1); `row` computes one panel of one output row.
template <class S, class T, class F>
void stats_units(const DepthwiseStatsParams& p, int64_t unit0, int64_t unit1, F row) {
  const ConvShape& s = p.shape;
  const int64_t taps = s.kh * s.kw, panels = p.split.group / p.split.width, width = p.split.width;
  Ring ring = stats_ring(s);
  const int64_t sizes[] = {panels * ring.floats(), panels * taps * kPanel, panels * kPanel};
  ring.data = scratch<float>(Slot::kRows, sizes[0] + sizes[1] + 7 * sizes[2]);
  float* weight = ring.data + sizes[0];
  float* shift = weight + sizes[1];
  float* chain = shift + sizes[2];
  double* moments = reinterpret_cast<double*>(chain + 2 * sizes[2]);  // (2, kPanel) a panel: mean, squared deviations
  // Rows leave the columns beside the image as they are: zero.
  std::fill(ring.data, chain, 0.0f);
  for (int64_t at = unit0; at < unit1; ++at) {
    const DepthwiseUnit unit = p.split.unit(at);
    copy_weight<S>(p.weight, taps, s.c, unit, width, weight);
    std::fill(chain, chain + 2 * sizes[2], 0.0f);
    std::fill(moments, moments + 2 * sizes[2], 0.0);
    int64_t pixels = 0, before = 0;
    const auto join_chains = [&] {
      for (int64_t panel = 0; panel * width < unit.channels; ++panel) {
        const int64_t i = panel * kPanel;
        join_chain<S>(shift + i, chain + 2 * i, chain + 2 * i + kPanel, pixels, before, moments + 2 * i,
                      moments + 2 * i + kPanel);
      }
      before += pixels;
      pixels = 0;
    };
    for (int64_t n = unit.n0; n < unit.n1; ++n) {
      const T* image = static_cast<const T*>(p.view.x) + n * s.h * s.w * s.c;
      T* u = static_cast<T*>(p.u) + n * s.oh * s.ow * s.c;
      int64_t next = 0;  // the first row that was never in the ring
      for (int64_t oy = unit.row0; oy < unit.row1; ++oy) {
        const int64_t iy0 = oy * s.stride_h - s.pad_top;
        const int64_t last = std::min(s.h, iy0 + ring.slots);
        next = std::max(next, iy0);
        const int64_t kh0 = iy0 < 0 ? std::min(s.kh, (-iy0 + s.dilation_h - 1) / s.dilation_h) : 0;
        const int64_t kh1 = std::min(s.kh, iy0 < s.h ? (s.h - iy0 + s.dilation_h - 1) / s.dilation_h : 0);
        // The output row after this one, and the rows that it reads first.
        struct {
          int64_t n, row, y0, y1;
        } after{n, oy + 1, std::max<int64_t>(0, last), 0};
        if (after.row == unit.row1)
          after = {n + 1, unit.row0, std::max<int64_t>(0, unit.row0 * s.stride_h - s.pad_top), 0};
        after.y1 = std::min(s.h, after.row * s.stride_h - s.pad_top + ring.slots);
        for (int64_t i = 0; i < unit.channels; i += width) {
          const int64_t panel = i / width, at_panel = panel * kPanel, count = std::min(width, unit.channels - i);
          for (int64_t y = next; y < last; ++y) {
            write_view<S>(p.view, s.c, image + y * s.w * s.c, nullptr, s.w, unit.c0 + i, count, ring.row(panel, y),
                          kPanel);
          }
          Ahead ahead(s.c, count, sizeof(T));
          if (after.n < unit.n1) {
            const int64_t tiles = tiled(s.ow) / kTrainTile, c0 = unit.c0 + i;
            for (int64_t y = after.y0; y < after.y1; ++y) {
              ahead.add(static_cast<const T*>(p.view.x) + (after.n * s.h + y) * s.w * s.c + c0, s.w, tiles);
            }
            ahead.add(static_cast<const T*>(p.u) + (after.n * s.oh + after.row) * s.ow * s.c + c0, s.ow, tiles);
          }
          row(StatsRow<T>{s, ring, panel, count, iy0, kh0, std::max(kh0, kh1), weight + panel * taps * kPanel,
                          u + oy * s.ow * s.c + unit.c0 + i,
                          StatsSums{shift + at_panel, chain + 2 * at_panel, n == unit.n0 && oy == unit.row0}, ahead});
        }
        next = std::max(next, last);
        if ((pixels += s.ow) >= kChainPixels || before == 0) join_chains();
      }
    }
    if (pixels) join_chains();
    double* out = p.moments + unit.part * 2 * s.c + unit.c0;
    for (int64_t i = 0; i < unit.channels; i += width) {
      const int64_t count = std::min(width, unit.channels - i);
      const double* in = moments + i / width * 2 * kPanel;
      std::copy(in, in + count, out + i);
      std::copy(in + kPanel, in + kPanel + count, out + s.c + i);
    }
  }
}

template <class S, class T>
void depthwise_stats_of(const DepthwiseStatsParams& p, int64_t unit0, int64_t unit1) {
  with_kernel_size(p.shape, [&](auto size) {
    using Size = decltype(size);
    if constexpr (Size::kernel > 0) {
      stats_units<S, T>(p, unit0, unit1, stats_row_fixed<S, T, Size::kernel, Size::stride>);
    } else {
      stats_units<S, T>(p, unit0, unit1, stats_row_general<S, T>);
    }
  });
}

template <class S>
void depthwise_stats(const DepthwiseStatsParams& p, int64_t unit0, int64_t unit1) {
  if (p.dtype == DType::kFloat32) {
    depthwise_stats_of<S, float>(p, unit0, unit1);
  } else {
    depthwise_stats_of<S, bf16>(p, unit0, unit1);
  }
}

}  // namespace effops
