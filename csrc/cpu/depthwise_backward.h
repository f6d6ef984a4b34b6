// Gradients of a depthwise convolution of a view, for the view and for the weight, in one walk over the input rows.
//
// Input row r meets the same rows of du in both gradients: dx[r] = sum over kh of du[oy] * w[kh] and
// dw[kh] += du[oy] x view(x)[r], oy = (r + pad - kh) / stride. So the rows of du stay in a ring, padded with columns of
// zeros, one row of the view is enough, and every value of du that is loaded serves both.
#pragma once

#include "depthwise_training.h"

namespace effops {

// Input columns of one phase are q * stride - pad + phase. They meet the taps phase + t * stride, at column q - t of
// du.
inline int64_t first_q(const ConvShape& s, int64_t phase) {
  return std::max<int64_t>(0, (s.pad_left - phase + s.stride_w - 1) / s.stride_w);
}
inline int64_t end_q(const ConvShape& s, int64_t phase) { return (s.w - 1 + s.pad_left - phase) / s.stride_w + 1; }

inline Ring backward_ring(const ConvShape& s) {
  int64_t right = s.ow;
  for (int64_t phase = 0; phase < s.stride_w; ++phase) {
    const int64_t q = first_q(s, phase);
    right = std::max(right, q + tiled(std::max<int64_t>(0, end_q(s, phase) - q)));
  }
  const int64_t left = s.kw - 1;
  return {(s.kh - 1) * s.dilation_h / s.stride_h + 1, left + right, left};
}

// One panel of an input row as the backward reads it, kPanel floats a column: its view, and for the sums of the
// gradient the activation's slope and the distance to the mean. Columns of zeros follow the last.
struct ViewRow {
  float* view;
  float* slope;
  float* away;

  ViewRow(float* data, int64_t columns)
      : view(data), slope(data + columns * kPanel), away(data + 2 * columns * kPanel) {}
};

// Fills a ViewRow, so that the activation is computed once for the view and its slope, and adds the two sums that do
// not depend on the gradient. `x` is the row at the panel's first channel, `affine` (3, c) likewise.
template <class S, class T>
void write_slopes(Act act, const float* affine, int64_t c, const T* x, int64_t pixels, int64_t count,
                  const ViewRow& row, float* sums) {
  constexpr int64_t kPixels = 8;  // share the loads of what belongs to a channel
  with_activation(act, [&](auto f) __attribute__((always_inline)) {
    for (int64_t p0 = 0; p0 < pixels; p0 += kPixels) {
      const int64_t p1 = std::min(p0 + kPixels, pixels);
      for_lanes<S>(count, [&](int64_t i, int lanes) __attribute__((always_inline)) {
        const S mean = load_lanes<S>(affine + i, lanes), scale = load_lanes<S>(affine + c + i, lanes),
                shift = load_lanes<S>(affine + 2 * c + i, lanes);
        S slopes = S::load(sums + 2 * kPanel + i), moments = S::load(sums + 4 * kPanel + i);
        for (int64_t p = p0; p < p1; ++p) {
          const S away = load_lanes<S>(x + p * c + i, lanes) - mean;
          const auto both = f.both(fma(away, scale, shift));
          both.value.store(row.view + p * kPanel + i);
          both.slope.store(row.slope + p * kPanel + i);
          away.store(row.away + p * kPanel + i);
          slopes = slopes + both.slope;
          moments = fma(both.slope, away, moments);
        }
        slopes.store(sums + 2 * kPanel + i);
        moments.store(sums + 4 * kPanel + i);
      });
    }
  });
}

// Adds the sums of a tile of dx that depend on it. `at` is its first float in the ViewRow.
template <class S, int Columns, int Step>
inline void add_tile_sums(const S (&dx)[Columns], int columns, const ViewRow& row, int64_t at, float* sums) {
  S values(0.0f), slopes(0.0f), moments(0.0f);
#pragma GCC unroll 8
  for (int j = 0; j < Columns; ++j) {
    if (j >= columns) break;
    const int64_t pixel = at + j * Step * kPanel;
    const S dz = dx[j] * S::load(row.slope + pixel);
    values = fma(dx[j], S::load(row.view + pixel), values);
    slopes = slopes + dz;
    moments = fma(dz, S::load(row.away + pixel), moments);
  }
  (S::load(sums) + values).store(sums);
  (S::load(sums + kPanel) + slopes).store(sums + kPanel);
  (S::load(sums + 3 * kPanel) + moments).store(sums + 3 * kPanel);
}

// Stores a tile of dx as T and adds what was stored to the sums, if any are asked for.
template <class S, class T, int Columns, int Step>
inline void finish_dx(S (&dx)[Columns], T* out, int64_t pitch, int columns, int lanes, const ViewRow& row, int64_t at,
                      float* sums) {
#pragma GCC unroll 8
  for (int j = 0; j < Columns; ++j) {
    if (j >= columns) break;
    store_lanes(dx[j], out + j * Step * pitch, lanes);
    if (!std::is_same_v<T, float>) dx[j] = load_lanes<S>(out + j * Step * pitch, lanes);
  }
  if (sums) add_tile_sums<S, Columns, Step>(dx, columns, row, at, sums);
}

// What one panel of one input row needs.
template <class T>
struct BackwardRow {
  const ConvShape& s;
  const Ring& ring;
  int64_t panel, count;
  int64_t y;            // the input row
  const float* weight;  // (kh * kw, kPanel)
  ViewRow view;
  T* dx;           // the row, at the panel's first channel, or null
  float* dweight;  // (kh * kw, kPanel) or null
  float* sums;     // (kGradSums, kPanel) or null; with dx
  Ahead ahead;

  // Calls f(kh, row of du) for every kernel row that takes this input row to an output row.
  template <class F>
  void for_kernel_rows(F f) const {
    for (int64_t kh = 0; kh < s.kh; ++kh) {
      const int64_t at = y + s.pad_top - kh * s.dilation_h;
      if (at < 0) break;
      if (at % s.stride_h == 0 && at / s.stride_h < s.oh) f(kh, ring.row(panel, at / s.stride_h));
    }
  }
};

// The kernel rows of a BackwardRow.
template <int K>
struct KernelRows {
  int count = 0;
  int kh[K];
  const float* du[K];
};

template <class S, class T, int K, int Stride, int Phase, bool NeedX, bool NeedWeight>
inline void backward_phase(BackwardRow<T>& r, const KernelRows<K>& rows) {
  constexpr int kTaps = (K - Phase + Stride - 1) / Stride;
  const int64_t end = end_q(r.s, Phase);
  for (int64_t q = first_q(r.s, Phase); q < end; q += kTrainTile) {
    const int columns = static_cast<int>(std::min<int64_t>(kTrainTile, end - q));
    const int64_t ix = q * Stride + Phase - r.s.pad_left;
    for_lanes<S>(r.count, [&](int64_t i, int lanes) __attribute__((always_inline)) {
      const float* view = r.view.view + ix * kPanel + i;
      S dx[kTrainTile];
#pragma GCC unroll 8
      for (int j = 0; j < kTrainTile; ++j) dx[j] = S(0.0f);
      for (int k = 0; k < rows.count; ++k) {
        const int64_t tap0 = (rows.kh[k] * K + Phase) * kPanel + i;
        const float* du = rows.du[k] + (q - (kTaps - 1)) * kPanel + i;
        S taps[kTaps], dw[kTaps];
#pragma GCC unroll 8
        for (int t = 0; t < kTaps; ++t) {
          if (NeedX) taps[t] = S::load(r.weight + tap0 + t * Stride * kPanel);
          dw[t] = S(0.0f);
        }
#pragma GCC unroll 16
        for (int j = 0; j < kTrainTile + kTaps - 1; ++j) {
          const S g = S::load(du + j * kPanel);
#pragma GCC unroll 8
          for (int c = 0; c < kTrainTile; ++c) {
            const int t = c + kTaps - 1 - j;
            if (t < 0 || t >= kTaps) continue;
            if (NeedX) dx[c] = fma(g, taps[t], dx[c]);
            if (NeedWeight) dw[t] = fma(g, S::load(view + c * Stride * kPanel), dw[t]);
          }
        }
        if (NeedWeight) {
#pragma GCC unroll 8
          for (int t = 0; t < kTaps; ++t) {
            float* sum = r.dweight + tap0 + t * Stride * kPanel;
            (S::load(sum) + dw[t]).store(sum);
          }
        }
      }
      if (NeedX) {
        S acc[kTrainTile];
#pragma GCC unroll 8
        for (int j = 0; j < kTrainTile; ++j) acc[j] = dx[j];
        finish_dx<S, T, kTrainTile, Stride>(acc, r.dx + ix * r.s.c + i, r.s.c, columns, lanes, r.view, ix * kPanel + i,
                                            r.sums ? r.sums + i : nullptr);
      }
    });
    r.ahead.fetch();
  }
}

template <class S, class T, int K, int Stride, bool NeedX, bool NeedWeight>
void backward_row_needs(BackwardRow<T>& r) {
  KernelRows<K> rows;
  r.for_kernel_rows([&](int64_t kh, const float* du) {
    rows.kh[rows.count] = static_cast<int>(kh);
    rows.du[rows.count++] = du;
  });
  backward_phase<S, T, K, Stride, 0, NeedX, NeedWeight>(r, rows);
  if constexpr (Stride == 2) backward_phase<S, T, K, Stride, 1, NeedX, NeedWeight>(r, rows);
}

template <class S, class T, int K, int Stride>
void backward_row_fixed(BackwardRow<T> r) {
  if (r.dx && r.dweight) {
    backward_row_needs<S, T, K, Stride, true, true>(r);
  } else if (r.dx) {
    backward_row_needs<S, T, K, Stride, true, false>(r);
  } else {
    backward_row_needs<S, T, K, Stride, false, true>(r);
  }
}

// Any kernel, stride and dilation: one input pixel at a time.
template <class S, class T>
void backward_row_general(BackwardRow<T> r) {
  const ConvShape& s = r.s;
  for (int64_t ix = 0; ix < s.w; ++ix) {
    for_lanes<S>(r.count, [&](int64_t i, int lanes) __attribute__((always_inline)) {
      const S view = S::load(r.view.view + ix * kPanel + i);
      S dx[1] = {S(0.0f)};
      r.for_kernel_rows([&](int64_t kh, const float* du) {
        for (int64_t kw = 0; kw < s.kw; ++kw) {
          const int64_t at = ix + s.pad_left - kw * s.dilation_w;
          if (at < 0) break;
          if (at % s.stride_w != 0 || at / s.stride_w >= s.ow) continue;
          const S g = S::load(du + at / s.stride_w * kPanel + i);
          const int64_t tap = (kh * s.kw + kw) * kPanel + i;
          dx[0] = fma(g, S::load(r.weight + tap), dx[0]);
          if (r.dweight) fma(g, view, S::load(r.dweight + tap)).store(r.dweight + tap);
        }
      });
      if (r.dx) {
        finish_dx<S, T, 1, 1>(dx, r.dx + ix * s.c + i, s.c, 1, lanes, r.view, ix * kPanel + i,
                              r.sums ? r.sums + i : nullptr);
      }
    });
  }
}

// total += chain; chain = 0.
template <class S>
void move_sums(float* chain, double* total, int64_t floats) {
  for (int64_t i = 0; i < floats; ++i) total[i] += static_cast<double>(chain[i]);
  std::fill(chain, chain + floats, 0.0f);
}

// Units [unit0, unit1); `row` computes one panel of one input row.
template <class S, class T, class F>
void backward_units(const DepthwiseBackwardParams& p, int64_t unit0, int64_t unit1, F row) {
  const ConvShape& s = p.shape;
  const int64_t taps = s.kh * s.kw, panels = p.split.group / p.split.width, width = p.split.width;
  Ring ring = backward_ring(s);
  const int64_t view_columns = s.w + kTrainTile * s.stride_w, view_floats = 3 * view_columns * kPanel;
  const int64_t rings = panels * ring.floats(), weights = panels * taps * kPanel;
  const int64_t sums_floats = panels * kGradSums * kPanel, part_floats = sums_floats + weights;
  ring.data = scratch<float>(Slot::kRows, rings + view_floats + weights + 3 * part_floats);
  const ViewRow view(ring.data + rings, view_columns);
  float* weight = ring.data + rings + view_floats;
  float* chain = weight + weights;  // the sums of the gradient, then dweight
  double* total = reinterpret_cast<double*>(chain + part_floats);
  // Rows leave the columns beside the image as they are: zero.
  std::fill(ring.data, chain, 0.0f);
  std::fill(chain, chain + part_floats, 0.0f);
  std::fill(total, total + part_floats, 0.0);
  for (int64_t at = unit0; at < unit1; ++at) {
    const DepthwiseUnit unit = p.split.unit(at);
    copy_weight<S>(p.weight, taps, s.c, unit, width, weight);
    // The first row of du that the unit reads.
    const int64_t first =
        std::max<int64_t>(0, unit.row0 + s.pad_top - (s.kh - 1) * s.dilation_h + s.stride_h - 1) / s.stride_h;
    int64_t pixels = 0;
    for (int64_t n = unit.n0; n < unit.n1; ++n) {
      const int64_t image = n * s.h * s.w * s.c, out_image = n * s.oh * s.ow * s.c;
      const float* gate = p.grad.gate ? p.grad.gate + n * s.c : nullptr;
      const float* pool_grad = p.grad.pool_grad ? p.grad.pool_grad + n * s.c : nullptr;
      int64_t next = first;
      for (int64_t y = unit.row0; y < unit.row1; ++y) {
        const int64_t last = std::min(s.oh, (y + s.pad_top) / s.stride_h + 1);
        next = std::max(next, last - ring.slots);
        // The input row after this one, and the rows of du that it reads first.
        struct {
          int64_t n, row, y0, y1;
        } after{n, y + 1, last, 0};
        if (after.row == unit.row1) after = {n + 1, unit.row0, first, 0};
        after.y1 = std::min(s.oh, (after.row + s.pad_top) / s.stride_h + 1);
        const int64_t offset = image + y * s.w * s.c;
        const T* x = static_cast<const T*>(p.view.x) + offset;
        for (int64_t i = 0; i < unit.channels; i += width) {
          const int64_t panel = i / width, count = std::min(width, unit.channels - i), c0 = unit.c0 + i;
          for (int64_t oy = next; oy < last; ++oy) {
            const int64_t du = out_image + oy * s.ow * s.c;
            write_grad<S>(p.grad, s.c, static_cast<const T*>(p.grad.grad) + du,
                          p.grad.coef ? static_cast<const T*>(p.grad.u) + du : nullptr, gate, pool_grad, s.ow, c0,
                          count, ring.row(panel, oy), kPanel);
          }
          float* sums = p.sums ? chain + panel * kGradSums * kPanel : nullptr;
          if (sums) {
            write_slopes<S>(p.view.act, p.view.affine + c0, s.c, x + c0, s.w, count, view, sums);
          } else if (p.dweight) {
            write_view<S>(p.view, s.c, x, nullptr, s.w, c0, count, view.view, kPanel);
          }
          T* dx = p.dx ? static_cast<T*>(p.dx) + offset + c0 : nullptr;
          Ahead ahead(s.c, count, sizeof(T));
          if (after.n < unit.n1) {
            const int64_t tiles = tiled(s.w) / kTrainTile;
            const int64_t in = (after.n * s.h + after.row) * s.w * s.c + c0;
            if (p.dweight || p.sums) ahead.add(static_cast<const T*>(p.view.x) + in, s.w, tiles);
            if (p.dx) ahead.add(static_cast<const T*>(p.dx) + in, s.w, tiles);
            for (int64_t oy = after.y0; oy < after.y1; ++oy) {
              const int64_t out = (after.n * s.oh + oy) * s.ow * s.c + c0;
              ahead.add(static_cast<const T*>(p.grad.grad) + out, s.ow, tiles);
              if (p.grad.coef) ahead.add(static_cast<const T*>(p.grad.u) + out, s.ow, tiles);
            }
          }
          row(BackwardRow<T>{s, ring, panel, count, y, weight + panel * taps * kPanel, view, dx,
                             p.dweight ? chain + sums_floats + panel * taps * kPanel : nullptr, sums, ahead});
        }
        next = std::max(next, last);
        if ((pixels += s.w) >= kChainPixels) {
          move_sums<S>(chain, total, part_floats);
          pixels = 0;
        }
      }
      if (!p.sums) continue;
      move_sums<S>(chain, total, sums_floats);
      for (int64_t i = 0; i < unit.channels; i += width) {
        const int64_t count = std::min(width, unit.channels - i);
        for (int64_t j = 0; j < kGradSums; ++j) {
          const double* in = total + (i / width * kGradSums + j) * kPanel;
          std::copy(in, in + count, p.sums + ((n * p.split.bands + unit.band) * kGradSums + j) * s.c + unit.c0 + i);
        }
      }
      std::fill(total, total + sums_floats, 0.0);
    }
    if (!p.dweight) continue;
    move_sums<S>(chain + sums_floats, total + sums_floats, weights);
    for (int64_t i = 0; i < unit.channels; i += width) {
      const int64_t count = std::min(width, unit.channels - i);
      for (int64_t tap = 0; tap < taps; ++tap) {
        const double* in = total + sums_floats + (i / width * taps + tap) * kPanel;
        std::copy(in, in + count, p.dweight + (unit.part * taps + tap) * s.c + unit.c0 + i);
      }
    }
    std::fill(total + sums_floats, total + part_floats, 0.0);
  }
}

template <class S, class T>
void depthwise_backward_of(const DepthwiseBackwardParams& p, int64_t unit0, int64_t unit1) {
  with_kernel_size(p.shape, [&](auto size) {
    using Size = decltype(size);
    if constexpr (Size::kernel > 0) {
      backward_units<S, T>(p, unit0, unit1, backward_row_fixed<S, T, Size::kernel, Size::stride>);
    } else {
      backward_units<S, T>(p, unit0, unit1, backward_row_general<S, T>);
    }
  });
}

template <class S>
void depthwise_backward(const DepthwiseBackwardParams& p, int64_t unit0, int64_t unit1) {
  if (p.dtype == DType::kFloat32) {
    depthwise_backward_of<S, float>(p, unit0, unit1);
  } else {
    depthwise_backward_of<S, bf16>(p, unit0, unit1);
  }
}

}  // namespace effops
