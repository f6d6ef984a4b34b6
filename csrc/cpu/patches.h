// Rows of A for a dense convolution: the patch (kh, kw, c) of x under every output pixel, zeros where it
// hangs over.
#pragma once

#include <algorithm>

#include "../core/params.h"
#include "panels.h"

namespace effops {

inline void assign(float& to, float from) { to = from; }
inline void assign(float& to, bf16 from) { to = widen(from); }
inline void assign(bf16& to, bf16 from) { to = from; }

template <class T, class A>
void make_patches(const GemmParams& p, int64_t m0, int64_t m1, A* rows, int64_t lda) {
  const ConvShape& s = *p.conv;
  for (int64_t m = m0; m < m1; ++m, rows += lda) {
    const int64_t ox = m % s.ow, oy = m / s.ow % s.oh, n = m / (s.ow * s.oh);
    const T* image = static_cast<const T*>(p.x) + n * p.x_stride_n;
    A* out = rows;
    for (int64_t ky = 0; ky < s.kh; ++ky) {
      const int64_t iy = oy * s.stride_h - s.pad_top + ky * s.dilation_h;
      for (int64_t kx = 0; kx < s.kw; ++kx, out += s.c) {
        const int64_t ix = ox * s.stride_w - s.pad_left + kx * s.dilation_w;
        if (iy < 0 || iy >= s.h || ix < 0 || ix >= s.w) {
          std::fill(out, out + s.c, A{});
          continue;
        }
        const T* pixel = image + iy * p.x_stride_h + ix * p.x_stride_w;
        for (int64_t c = 0; c < s.c; ++c) assign(out[c], pixel[c * p.x_stride_c]);
      }
    }
    std::fill(out, rows + lda, A{});
  }
}

}  // namespace effops
