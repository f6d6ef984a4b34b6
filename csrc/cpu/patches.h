// Rows of A for a dense convolution: the patch (kh, kw, c) of x under every output pixel, zeros where it
// hangs over.
#pragma once

#include <algorithm>

#include "../core/params.h"
#include "panels.h"
#include "scratch.h"

namespace effops {

inline void assign(float& to, float from) { to = from; }
inline void assign(float& to, bf16 from) { to = widen(from); }
inline void assign(bf16& to, bf16 from) { to = from; }

// Where element k of a patch lies in x, from the patch's first element. The same for every patch.
inline const int64_t* patch_offsets(const GemmParams& p) {
  const ConvShape& s = *p.conv;
  int64_t* offsets = scratch<int64_t>(Slot::kOffsets, p.k);
  int64_t k = 0;
  for (int64_t ky = 0; ky < s.kh; ++ky) {
    for (int64_t kx = 0; kx < s.kw; ++kx) {
      const int64_t tap = ky * s.dilation_h * p.x_stride_h + kx * s.dilation_w * p.x_stride_w;
      for (int64_t c = 0; c < s.c; ++c) offsets[k++] = tap + c * p.x_stride_c;
    }
  }
  return offsets;
}

// Writes rows [m0, m1) of A, `lda` apart, padded with zeros.
template <class T, class A>
void make_patches(const GemmParams& p, const int64_t* offsets, int64_t m0, int64_t m1, A* rows, int64_t lda) {
  const ConvShape& s = *p.conv;
  const int64_t reach_h = (s.kh - 1) * s.dilation_h, reach_w = (s.kw - 1) * s.dilation_w;
  for (int64_t m = m0; m < m1; ++m, rows += lda) {
    const int64_t ox = m % s.ow, oy = m / s.ow % s.oh, n = m / (s.ow * s.oh);
    const int64_t iy = oy * s.stride_h - s.pad_top, ix = ox * s.stride_w - s.pad_left;
    // The address of the first element may lie outside of x: it is an integer until an element inside is read.
    const int64_t first = n * p.x_stride_n + iy * p.x_stride_h + ix * p.x_stride_w;
    const T* x = static_cast<const T*>(p.x);
    if (iy >= 0 && iy + reach_h < s.h && ix >= 0 && ix + reach_w < s.w) {
      for (int64_t k = 0; k < p.k; ++k) assign(rows[k], x[first + offsets[k]]);
    } else {
      for (int64_t k = 0; k < p.k; ++k) {
        const int64_t tap = k / s.c;
        const int64_t y = iy + tap / s.kw * s.dilation_h, column = ix + tap % s.kw * s.dilation_w;
        const bool inside = y >= 0 && y < s.h && column >= 0 && column < s.w;
        if (inside) {
          assign(rows[k], x[first + offsets[k]]);
        } else {
          rows[k] = A{};
        }
      }
    }
    std::fill(rows + p.k, rows + lda, A{});
  }
}

}  // namespace effops
