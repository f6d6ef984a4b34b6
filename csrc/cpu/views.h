// Reads what lies between two convolutions in training while it is loaded: views of an output and of its gradient.
//
// Every function works on `pixels` pixels of one image and the channels [c0, c0 + count) of c, and writes or adds to
// float32 (or bfloat16 where pairs of them are multiplied) that stays in the cache.
#pragma once

#include <algorithm>

#include "../core/activation.h"
#include "../core/params.h"

namespace effops {

template <class S, class P>
inline S load_lanes(const P* at, int lanes) {
  return lanes == S::kLanes ? S::load(at) : S::load(at, lanes);
}

template <class S, class P>
inline void store_lanes(S v, P* at, int lanes) {
  if (lanes == S::kLanes) {
    v.store(at);
  } else {
    v.store(at, lanes);
  }
}

// Calls f(offset, lanes) for every vector of `count` channels.
template <class S, class F>
inline void for_lanes(int64_t count, F f) {
  int64_t i = 0;
  for (; i + S::kLanes <= count; i += S::kLanes) f(i, S::kLanes);
  if (i < count) f(i, static_cast<int>(count - i));
}

// mean, scale and shift of one vector of channels.
template <class S>
struct Affine {
  S mean, scale, shift;

  Affine(const float* affine, int64_t c, int64_t at, int lanes)
      : mean(load_lanes<S>(affine + at, lanes)),
        scale(load_lanes<S>(affine + c + at, lanes)),
        shift(load_lanes<S>(affine + 2 * c + at, lanes)) {}
  S operator()(S x) const { return fma(x - mean, scale, shift); }
};

// out[p, i] = view of pixel p, channel c0 + i; `x` is pixel 0 of the image part, `gate` the row of its image or null,
// and rows of out lie `pitch` apart.
template <class S, class T, class A>
void write_view(const View& v, int64_t c, const T* x, const float* gate, int64_t pixels, int64_t c0, int64_t count,
                A* out, int64_t pitch) {
  with_activation(v.act, [&](auto f) __attribute__((always_inline)) {
    for (int64_t p = 0; p < pixels; ++p) {
      const T* in = x + p * c + c0;
      A* to = out + p * pitch;
      for_lanes<S>(count, [&](int64_t i, int lanes) __attribute__((always_inline)) {
        S z = load_lanes<S>(in + i, lanes);
        if (v.affine) z = Affine<S>(v.affine, c, c0 + i, lanes)(z);
        S y = f.apply(z);
        if (gate) y = y * load_lanes<S>(gate + c0 + i, lanes);
        store_lanes(y, to + i, lanes);
      });
    }
  });
}

// out[p, i] = gradient of u at pixel p, channel c0 + i, from the gradient `grad` of its view; `gate` and `pool_grad`
// are the rows of the image, or null.
template <class S, class T, class A>
void write_grad(const GradView& v, int64_t c, const T* grad, const T* u, const float* gate, const float* pool_grad,
                int64_t pixels, int64_t c0, int64_t count, A* out, int64_t pitch) {
  with_activation(v.act, [&](auto f) __attribute__((always_inline)) {
    for (int64_t p = 0; p < pixels; ++p) {
      const int64_t row = p * c + c0;
      for_lanes<S>(count, [&](int64_t i, int lanes) __attribute__((always_inline)) {
        S g = load_lanes<S>(grad + row + i, lanes);
        if (gate) g = g * load_lanes<S>(gate + c0 + i, lanes);
        if (pool_grad) g = g + load_lanes<S>(pool_grad + c0 + i, lanes);
        if (v.coef) {
          const Affine<S> affine(v.coef, c, c0 + i, lanes);
          const S away = load_lanes<S>(u + row + i, lanes) - affine.mean;
          const S slope = f.both(fma(away, affine.scale, affine.shift)).slope;
          const S rest =
              fma(load_lanes<S>(v.coef + 3 * c + c0 + i, lanes), away, load_lanes<S>(v.coef + 4 * c + c0 + i, lanes));
          g = fma(affine.scale, g * slope, rest);
        }
        store_lanes(g, out + p * pitch + i, lanes);
      });
    }
  });
}

// Adds the five sums of `pixels` pixels to sums[j * sums_pitch + i]. `grad` rows lie `grad_pitch` apart and start at
// channel c0; x is as in write_view.
template <class S, class G, class T>
void add_grad_sums(const View& v, int64_t c, const G* grad, int64_t grad_pitch, const T* x, int64_t pixels, int64_t c0,
                   int64_t count, float* sums, int64_t sums_pitch) {
  with_activation(v.act, [&](auto f) __attribute__((always_inline)) {
    for_lanes<S>(count, [&](int64_t i, int lanes) __attribute__((always_inline)) {
      S sum[kGradSums];
      for (int j = 0; j < kGradSums; ++j) sum[j] = load_lanes<S>(sums + j * sums_pitch + i, lanes);
      const bool plain = !v.affine;
      const Affine<S> affine(plain ? sums : v.affine, plain ? 0 : c, plain ? i : c0 + i, lanes);
      for (int64_t p = 0; p < pixels; ++p) {
        const S g = load_lanes<S>(grad + p * grad_pitch + i, lanes);
        const S loaded = load_lanes<S>(x + p * c + c0 + i, lanes);
        const S away = plain ? loaded : loaded - affine.mean;
        const auto act = f.both(plain ? loaded : fma(away, affine.scale, affine.shift));
        const S dz = g * act.slope;
        sum[0] = fma(g, act.value, sum[0]);
        sum[1] = sum[1] + dz;
        sum[2] = sum[2] + act.slope;
        sum[3] = fma(dz, away, sum[3]);
        sum[4] = fma(act.slope, away, sum[4]);
      }
      for (int j = 0; j < kGradSums; ++j) store_lanes(sum[j], sums + j * sums_pitch + i, lanes);
    });
  });
}

}  // namespace effops
