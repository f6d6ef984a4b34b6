// A dense convolution's image as its product reads it: frames, and the patches (kh, kw, c) under output pixels.
#pragma once

#include <algorithm>
#include <type_traits>

#include "../core/params.h"
#include "lanes.h"
#include "panels.h"
#include "scratch.h"

namespace effops {

inline void assign(float& to, float from) { to = from; }
inline void assign(float& to, bf16 from) { to = widen(from); }
inline void assign(bf16& to, bf16 from) { to = from; }

// What a frame may take of the L2 cache, unless one row of the output needs more.
constexpr int64_t kFrameBytes = 64 * 1024;

// Values that are copied at once, though fewer are needed: frames and patches have room for as many behind them.
template <class A>
constexpr int64_t kPiece = 32 / sizeof(A);

// The part of one image that lies under some rows of the output, with zeros where these hang over: pixels side by side,
// `pitch` values from a row to the next, of the type that is multiplied.
template <class A>
struct Frame {
  const A* a;
  int64_t pitch;

  static int64_t pitch_of(const ConvShape& s) {
    return ((s.ow - 1) * s.stride_w + (s.kw - 1) * s.dilation_w + 1) * s.c;
  }
  // How many rows of the output a frame is made for.
  static int64_t rows(const ConvShape& s) {
    const int64_t row = pitch_of(s) * static_cast<int64_t>(sizeof(A)), reach = (s.kh - 1) * s.dilation_h;
    return std::max<int64_t>(1, (kFrameBytes / row - reach) / s.stride_h);
  }
  // Where the patch of an output pixel begins, of the frame's first row of the output and those below.
  const A* patch(const ConvShape& s, int64_t row, int64_t ox) const {
    return a + row * s.stride_h * pitch + ox * s.stride_w * s.c;
  }
};

// Pixels [first, last) of a row x of the image, converted.
template <class S, class T, class A>
void copy_pixels(const GemmParams& p, const T* x, int64_t first, int64_t last, A* to) {
  const int64_t c = p.conv->c;
  x += first * p.x_stride_w;
  if (p.x_stride_c == 1 && p.x_stride_w == c) {
    if constexpr (std::is_same_v<T, A>) {
      std::copy(x, x + (last - first) * c, to);
    } else {
      for_lanes<S>((last - first) * c, [&](int64_t i, int lanes) { S::load(x + i, lanes).store(to + i, lanes); });
    }
    return;
  }
  for (int64_t channel = 0; channel < c; ++channel) {
    const T* from = x + channel * p.x_stride_c;
    for (int64_t i = 0; i < last - first; ++i) assign(to[i * c + channel], from[i * p.x_stride_w]);
  }
}

// The frame of rows [oy0, oy1) of image n of the output.
template <class S, class T, class A>
Frame<A> make_frame(const GemmParams& p, int64_t n, int64_t oy0, int64_t oy1) {
  const ConvShape& s = *p.conv;
  const int64_t pitch = Frame<A>::pitch_of(s), width = pitch / s.c;
  const int64_t rows = (oy1 - oy0 - 1) * s.stride_h + (s.kh - 1) * s.dilation_h + 1;
  A* const frame = scratch<A>(Slot::kFrame, rows * pitch + kPiece<A>);
  // The columns [first, last) of the frame lie on the image.
  const int64_t first = std::min(s.pad_left, width), last = std::clamp(s.w + s.pad_left, first, width);
  const T* image = static_cast<const T*>(p.x) + n * p.x_stride_n;
  for (int64_t row = 0; row < rows; ++row) {
    A* to = frame + row * pitch;
    const int64_t iy = oy0 * s.stride_h - s.pad_top + row;
    if (iy < 0 || iy >= s.h) {
      std::fill(to, to + pitch, A{});
      continue;
    }
    std::fill(to, to + first * s.c, A{});
    if (first < last) {
      copy_pixels<S>(p, image + iy * p.x_stride_h, first - s.pad_left, last - s.pad_left, to + first * s.c);
    }
    std::fill(to + last * s.c, to + pitch, A{});
  }
  return {frame, pitch};
}

// Calls f(m, end, patch) for the pixels [m, end) of every row of the output, or what [m0, m1) has of it, and where the
// patch of the first begins. The frame begins with the row of m0.
template <class A, class F>
void for_output_rows(const ConvShape& s, const Frame<A>& frame, int64_t m0, int64_t m1, F f) {
  const int64_t first = m0 / s.ow;
  for (int64_t m = m0, end; m < m1; m = end) {
    const int64_t row = m / s.ow;
    end = std::min(m1, (row + 1) * s.ow);
    f(m, end, frame.patch(s, row - first, m % s.ow));
  }
}

// Calls f(frame, m, end) for the pixels [m0, m1) of the output, as many rows of it at a time as a frame is made for.
template <class S, class T, class A, class F>
void for_frames(const GemmParams& p, int64_t m0, int64_t m1, F f) {
  const ConvShape& s = *p.conv;
  const int64_t rows = Frame<A>::rows(s);
  for (int64_t m = m0, end; m < m1; m = end) {
    const int64_t row = m / s.ow, n = row / s.oh, oy = row % s.oh;
    const int64_t last = std::min({oy + rows, s.oh, (m1 - 1) / s.ow - n * s.oh + 1});
    end = std::min(m1, (n * s.oh + last) * s.ow);
    f(make_frame<S, T, A>(p, n, oy, last), m, end);
  }
}

// Where element k of a patch lies in a frame, from the patch's first element. The same for every patch.
inline const int64_t* patch_offsets(const ConvShape& s, int64_t pitch) {
  int64_t* offsets = scratch<int64_t>(Slot::kOffsets, s.kh * s.kw * s.c);
  int64_t k = 0;
  for (int64_t ky = 0; ky < s.kh; ++ky) {
    for (int64_t kx = 0; kx < s.kw; ++kx) {
      const int64_t tap = ky * s.dilation_h * pitch + kx * s.dilation_w * s.c;
      for (int64_t c = 0; c < s.c; ++c) offsets[k++] = tap + c;
    }
  }
  return offsets;
}

// Writes rows [m0, m1) of A, `lda` apart, padded with zeros.
template <class S, class T, class A>
void make_patches(const GemmParams& p, int64_t m0, int64_t m1, A* rows, int64_t lda) {
  const ConvShape& s = *p.conv;
  // Values side by side, and where the next begin.
  const int64_t taps = s.dilation_w == 1 ? 1 : s.kw, run = s.kw / taps * s.c, next = s.dilation_w * s.c;
  for_frames<S, T, A>(p, m0, m1, [&](const Frame<A>& frame, int64_t m, int64_t end) {
    for_output_rows(s, frame, m, end, [&](int64_t first, int64_t last, const A* patch) {
      for (; first < last; ++first, patch += s.stride_w * s.c, rows += lda) {
        A* to = rows;
        for (int64_t ky = 0; ky < s.kh; ++ky) {
          for (int64_t kx = 0; kx < taps; ++kx, to += run) {
            const A* from = patch + ky * s.dilation_h * frame.pitch + kx * next;
            // What is written too much is written over by what follows.
            for (int64_t i = 0; i < run; i += kPiece<A>) __builtin_memcpy(to + i, from + i, sizeof(A) * kPiece<A>);
          }
        }
        std::fill(to, rows + lda, A{});
      }
    });
  });
}

}  // namespace effops
