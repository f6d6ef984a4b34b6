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

// What one panel of one input row needs.
template <class T>
struct BackwardRow {
  const ConvShape& s;
  const Ring& ring;
  int64_t panel, count;
  int64_t y;            // the input row
  const float* weight;  // (kh * kw, kPanel)
  const float* view;    // the view of the row, kPanel floats a column, zeros after the last; with dweight
  T* dx;                // the row, at the panel's first channel, or null
  float* dweight;       // (kh * kw, kPanel) or null

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
inline void backward_phase(const BackwardRow<T>& r, const KernelRows<K>& rows) {
  constexpr int kTaps = (K - Phase + Stride - 1) / Stride;
  const int64_t end = end_q(r.s, Phase);
  for (int64_t q = first_q(r.s, Phase); q < end; q += kTrainTile) {
    const int columns = static_cast<int>(std::min<int64_t>(kTrainTile, end - q));
    const int64_t ix = q * Stride + Phase - r.s.pad_left;
    for_lanes<S>(r.count, [&](int64_t i, int lanes) __attribute__((always_inline)) {
      const float* view = r.view + ix * kPanel + i;
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
        T* out = r.dx + ix * r.s.c + i;
#pragma GCC unroll 8
        for (int j = 0; j < kTrainTile; ++j) {
          if (j >= columns) break;
          store_lanes(dx[j], out + j * Stride * r.s.c, lanes);
        }
      }
    });
  }
}

template <class S, class T, int K, int Stride, bool NeedX, bool NeedWeight>
void backward_row_needs(const BackwardRow<T>& r) {
  KernelRows<K> rows;
  r.for_kernel_rows([&](int64_t kh, const float* du) {
    rows.kh[rows.count] = static_cast<int>(kh);
    rows.du[rows.count++] = du;
  });
  backward_phase<S, T, K, Stride, 0, NeedX, NeedWeight>(r, rows);
  if constexpr (Stride == 2) backward_phase<S, T, K, Stride, 1, NeedX, NeedWeight>(r, rows);
}

template <class S, class T, int K, int Stride>
void backward_row_fixed(const BackwardRow<T>& r) {
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
void backward_row_general(const BackwardRow<T>& r) {
  const ConvShape& s = r.s;
  for (int64_t ix = 0; ix < s.w; ++ix) {
    for_lanes<S>(r.count, [&](int64_t i, int lanes) __attribute__((always_inline)) {
      const S view = r.dweight ? S::load(r.view + ix * kPanel + i) : S(0.0f);
      S dx(0.0f);
      r.for_kernel_rows([&](int64_t kh, const float* du) {
        for (int64_t kw = 0; kw < s.kw; ++kw) {
          const int64_t at = ix + s.pad_left - kw * s.dilation_w;
          if (at < 0) break;
          if (at % s.stride_w != 0 || at / s.stride_w >= s.ow) continue;
          const S g = S::load(du + at / s.stride_w * kPanel + i);
          const int64_t tap = (kh * s.kw + kw) * kPanel + i;
          dx = fma(g, S::load(r.weight + tap), dx);
          if (r.dweight) fma(g, view, S::load(r.dweight + tap)).store(r.dweight + tap);
        }
      });
      if (r.dx) store_lanes(dx, r.dx + ix * s.c + i, lanes);
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
  const int64_t taps = s.kh * s.kw, panels = p.split.group / kPanel;
  Ring ring = backward_ring(s);
  const int64_t view_floats = (s.w + kTrainTile * s.stride_w) * kPanel;
  const int64_t rings = panels * ring.floats(), weights = panels * taps * kPanel;
  const int64_t sums_floats = panels * kGradSums * kPanel, part_floats = sums_floats + weights;
  ring.data = scratch<float>(Slot::kRows, rings + view_floats + weights + 3 * part_floats);
  float* view = ring.data + rings;
  float* weight = view + view_floats;
  float* chain = weight + weights;  // the sums of the gradient, then dweight
  double* total = reinterpret_cast<double*>(chain + part_floats);
  // Rows leave the columns beside the image as they are: zero.
  std::fill(ring.data, chain, 0.0f);
  std::fill(chain, chain + part_floats, 0.0f);
  std::fill(total, total + part_floats, 0.0);
  for (int64_t at = unit0; at < unit1; ++at) {
    const DepthwiseUnit unit = p.split.unit(at);
    copy_weight<S>(p.weight, taps, s.c, unit, weight);
    int64_t pixels = 0;
    for (int64_t n = unit.n0; n < unit.n1; ++n) {
      const int64_t image = n * s.h * s.w * s.c, out_image = n * s.oh * s.ow * s.c;
      const float* gate = p.grad.gate ? p.grad.gate + n * s.c : nullptr;
      const float* pool_grad = p.grad.pool_grad ? p.grad.pool_grad + n * s.c : nullptr;
      int64_t next = std::max<int64_t>(0, unit.row0 + s.pad_top - (s.kh - 1) * s.dilation_h + s.stride_h - 1) /
                     s.stride_h;  // the first row of du that was never in the ring
      for (int64_t y = unit.row0; y < unit.row1; ++y) {
        const int64_t last = std::min(s.oh, (y + s.pad_top) / s.stride_h + 1);
        next = std::max(next, last - ring.slots);
        const int64_t offset = image + y * s.w * s.c;
        const T* x = static_cast<const T*>(p.view.x) + offset;
        for (int64_t i = 0; i < unit.channels; i += kPanel) {
          const int64_t panel = i / kPanel, count = std::min(kPanel, unit.channels - i), c0 = unit.c0 + i;
          for (int64_t oy = next; oy < last; ++oy) {
            const int64_t du = out_image + oy * s.ow * s.c;
            write_grad<S>(p.grad, s.c, static_cast<const T*>(p.grad.grad) + du,
                          p.grad.coef ? static_cast<const T*>(p.grad.u) + du : nullptr, gate, pool_grad, s.ow, c0,
                          count, ring.row(panel, oy), kPanel);
          }
          if (p.dweight) write_view<S>(p.view, s.c, x, nullptr, s.w, c0, count, view, kPanel);
          T* dx = p.dx ? static_cast<T*>(p.dx) + offset + c0 : nullptr;
          row(BackwardRow<T>{s, ring, panel, count, y, weight + i * taps, view, dx,
                             p.dweight ? chain + sums_floats + i * taps : nullptr});
          if (p.sums) add_grad_sums<S>(p.view, s.c, dx, s.c, x, s.w, c0, count, chain + i * kGradSums, kPanel);
        }
        next = std::max(next, last);
        if ((pixels += s.w) >= kChainPixels) {
          move_sums<S>(chain, total, part_floats);
          pixels = 0;
        }
      }
      if (!p.sums) continue;
      move_sums<S>(chain, total, sums_floats);
      for (int64_t i = 0; i < unit.channels; i += kPanel) {
        const int64_t count = std::min(kPanel, unit.channels - i);
        for (int64_t j = 0; j < kGradSums; ++j) {
          const double* in = total + i * kGradSums + j * kPanel;
          std::copy(in, in + count, p.sums + ((n * p.split.bands + unit.band) * kGradSums + j) * s.c + unit.c0 + i);
        }
      }
      std::fill(total, total + sums_floats, 0.0);
    }
    if (!p.dweight) continue;
    move_sums<S>(chain + sums_floats, total + sums_floats, weights);
    for (int64_t i = 0; i < unit.channels; i += kPanel) {
      const int64_t count = std::min(kPanel, unit.channels - i);
      for (int64_t tap = 0; tap < taps; ++tap) {
        const double* in = total + sums_floats + i * taps + tap * kPanel;
        std::copy(in, in + count, p.dweight + (unit.part * taps + tap) * s.c + unit.c0 + i);
      }
    }
    std::fill(total + sums_floats, total + part_floats, 0.0);
  }
}

template <class S, class T>
void depthwise_backward_of(const DepthwiseBackwardParams& p, int64_t unit0, int64_t unit1) {
  switch (fixed_kernel(p.shape)) {
    case 31:
      return backward_units<S, T>(p, unit0, unit1, backward_row_fixed<S, T, 3, 1>);
    case 32:
      return backward_units<S, T>(p, unit0, unit1, backward_row_fixed<S, T, 3, 2>);
    case 51:
      return backward_units<S, T>(p, unit0, unit1, backward_row_fixed<S, T, 5, 1>);
    case 52:
      return backward_units<S, T>(p, unit0, unit1, backward_row_fixed<S, T, 5, 2>);
    case 71:
      return backward_units<S, T>(p, unit0, unit1, backward_row_fixed<S, T, 7, 1>);
    case 72:
      return backward_units<S, T>(p, unit0, unit1, backward_row_fixed<S, T, 7, 2>);
    default:
      return backward_units<S, T>(p, unit0, unit1, backward_row_general<S, T>);
  }
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
