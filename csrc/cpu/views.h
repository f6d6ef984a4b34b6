// Reads what lies between two convolutions in training while it is loaded: views of an output and of its gradient.
//
// Every function works on `pixels` pixels of one image and the channels [c0, c0 + count) of c, and writes or adds to
// float32 (or bfloat16 where pairs of them are multiplied) that stays in the cache. What is absent is left out at
// compile time, and several pixels share one load of what belongs to a channel.
#pragma once

#include <algorithm>
#include <type_traits>

#include "../core/activation.h"
#include "../core/params.h"
#include "lanes.h"

namespace effops {

// shift = mean of the first pixels, near enough to the part's mean that little cancels where it is taken off.
template <class S, class T>
void first_mean(const T* u, int64_t rows, int64_t count, int64_t pitch, float* shift) {
  const int64_t some = std::min<int64_t>(rows, 8);
  const S share(1.0f / static_cast<float>(some));
  for_lanes<S>(count, [&](int64_t i, int lanes) {
    const S first = load_lanes<S>(u + i, lanes);
    S away(0.0f);
    for (int64_t m = 1; m < some; ++m) away = away + (load_lanes<S>(u + m * pitch + i, lanes) - first);
    store_lanes(fma(away, share, first), shift + i, lanes);
  });
}

// Calls f(j) for j < n: unrolled for a tile's integral_constant, a loop for the rest.
template <int N, class F>
__attribute__((always_inline)) inline void repeat(std::integral_constant<int, N>, F f) {
#pragma GCC unroll 8
  for (int j = 0; j < N; ++j) f(j);
}
template <class F>
__attribute__((always_inline)) inline void repeat(int n, F f) {
  for (int j = 0; j < n; ++j) f(j);
}

// Calls f(pixel, offset, lanes, n) for every vector of channels of every n pixels, whole pixels in order. f asks for
// its rows in the next tile too: there are more short streams than the processor's own prefetcher follows.
template <class S, int Pixels, class F>
__attribute__((always_inline)) inline void for_tiles(int64_t pixels, int64_t count, F f) {
  constexpr std::integral_constant<int, Pixels> kTile;
  for (int64_t p = 0; p < pixels; p += Pixels) {
    const int n = static_cast<int>(std::min<int64_t>(Pixels, pixels - p));
    int64_t i = 0;
    if (n == Pixels) {
      for (; i + S::kLanes <= count; i += S::kLanes) f(p, i, S::kLanes, kTile);
      // Where a part of a vector is loaded lane by lane, an unrolled tile of it would only be long code.
      if (S::kLanes >= 16 && i < count) {
        f(p, i, static_cast<int>(count - i), kTile);
        continue;
      }
    }
    for (; i < count; i += S::kLanes) f(p, i, static_cast<int>(std::min<int64_t>(S::kLanes, count - i)), n);
  }
}

// Not in the scalar tier, which would ask for every value.
template <class S, class T>
__attribute__((always_inline)) inline void prefetch(const T* at) {
  if (S::kLanes > 1) __builtin_prefetch(at);
}

// Calls f with a flag as a type, so that the choice is made once outside the loop.
template <class F>
inline void with_flag(bool flag, F&& f) {
  if (flag) {
    f(std::true_type{});
  } else {
    f(std::false_type{});
  }
}

// mean, scale and shift of one vector of channels.
template <class S>
struct Affine {
  S mean, scale, shift;

  Affine(const float* affine, int64_t c, int64_t at, int lanes)
      : mean(load_lanes<S>(affine + at, lanes)),
        scale(load_lanes<S>(affine + c + at, lanes)),
        shift(load_lanes<S>(affine + 2 * c + at, lanes)) {}
  S away(S x) const { return x - mean; }
  S normal(S away) const { return fma(away, scale, shift); }
  S operator()(S x) const { return normal(away(x)); }
};

// What stands for an absent affine.
template <class S>
struct NoAffine {
  NoAffine(const float*, int64_t, int64_t, int) {}
  S away(S x) const { return x; }
  S normal(S away) const { return away; }
  S operator()(S x) const { return x; }
};

template <class S, bool Present>
using AffineOr = std::conditional_t<Present, Affine<S>, NoAffine<S>>;

// out[p, i] = view of pixel p, channel c0 + i; `x` is pixel 0 of the image part, `gate` the row of its image or null,
// and rows of out lie `pitch` apart.
template <class S, class T, class A>
void write_view(const View& v, int64_t c, const T* x, const float* gate, int64_t pixels, int64_t c0, int64_t count,
                A* out, int64_t pitch) {
  with_activation(v.act, [&](auto f) {
    with_flag(v.affine, [&](auto affine) {
      with_flag(gate, [&](auto gated) {
        for_tiles<S, 4>(pixels, count, [&](int64_t p, int64_t i, int lanes, auto n) __attribute__((always_inline)) {
          const AffineOr<S, decltype(affine)::value> a(v.affine, c, c0 + i, lanes);
          const S scale = decltype(gated)::value ? load_lanes<S>(gate + c0 + i, lanes) : S(1.0f);
          repeat(n, [&](int j) __attribute__((always_inline)) {
            const T* at = x + (p + j) * c + c0 + i;
            // Once a cache line: asking costs as much as the rest of a cheap view.
            if (i % (64 / static_cast<int64_t>(sizeof(T))) == 0) prefetch<S>(at + n * c);
            const S y = f.apply(a(load_lanes<S>(at, lanes)));
            store_lanes(decltype(gated)::value ? y * scale : y, out + (p + j) * pitch + i, lanes);
          });
        });
      });
    });
  });
}

// out[p, i] = gradient of u at pixel p, channel c0 + i, from the gradient `grad` of its view; `gate` and `pool_grad`
// are the rows of the image, or null.
template <class S, class T, class A>
void write_grad(const GradView& v, int64_t c, const T* grad, const T* u, const float* gate, const float* pool_grad,
                int64_t pixels, int64_t c0, int64_t count, A* out, int64_t pitch) {
  // Squeeze-excite brings the gate and pool_grad together; where one comes alone, a constant stands for the other.
  with_flag(gate || pool_grad, [&](auto pooled) {
    const auto passed_on = [&](int64_t i, int lanes) __attribute__((always_inline)) {
      const S scale = gate ? load_lanes<S>(gate + c0 + i, lanes) : S(1.0f);
      const S shift = pool_grad ? load_lanes<S>(pool_grad + c0 + i, lanes) : S(0.0f);
      return [=](S g) __attribute__((always_inline)) { return decltype(pooled)::value ? fma(g, scale, shift) : g; };
    };
    if (!v.coef) {
      const auto tile = [&](int64_t p, int64_t i, int lanes, auto n) __attribute__((always_inline)) {
        const auto from = passed_on(i, lanes);
        repeat(n, [&](int j) __attribute__((always_inline)) {
          const T* at = grad + (p + j) * c + c0 + i;
          prefetch<S>(at + n * c);
          store_lanes(from(load_lanes<S>(at, lanes)), out + (p + j) * pitch + i, lanes);
        });
      };
      return for_tiles<S, 4>(pixels, count, tile);
    }
    with_activation(v.act, [&](auto f) {
      for_tiles<S, 4>(pixels, count, [&](int64_t p, int64_t i, int lanes, auto n) __attribute__((always_inline)) {
        const auto from = passed_on(i, lanes);
        const Affine<S> a(v.coef, c, c0 + i, lanes);
        const S slope = load_lanes<S>(v.coef + 3 * c + c0 + i, lanes);
        const S offset = load_lanes<S>(v.coef + 4 * c + c0 + i, lanes);
        repeat(n, [&](int j) __attribute__((always_inline)) {
          const int64_t at = (p + j) * c + c0 + i;
          prefetch<S>(grad + at + n * c);
          prefetch<S>(u + at + n * c);
          const S away = a.away(load_lanes<S>(u + at, lanes));
          const S dz = from(load_lanes<S>(grad + at, lanes)) * f.both(a.normal(away)).slope;
          store_lanes(fma(a.scale, dz, fma(slope, away, offset)), out + (p + j) * pitch + i, lanes);
        });
      });
    });
  });
}

// Adds the five sums of `pixels` pixels to sums[j * sums_pitch + i]. `grad` rows lie `grad_pitch` apart and start at
// channel c0; x is as in write_view.
template <class S, class G, class T>
void add_grad_sums(const View& v, int64_t c, const G* grad, int64_t grad_pitch, const T* x, int64_t pixels, int64_t c0,
                   int64_t count, float* sums, int64_t sums_pitch) {
  with_activation(v.act, [&](auto f) {
    with_flag(v.affine, [&](auto affine) {
      for_tiles<S, 8>(pixels, count, [&](int64_t p, int64_t i, int lanes, auto n) __attribute__((always_inline)) {
        const AffineOr<S, decltype(affine)::value> a(v.affine, c, c0 + i, lanes);
        S sum[kGradSums];
#pragma GCC unroll 5
        for (int j = 0; j < kGradSums; ++j) sum[j] = S(0.0f);
        repeat(n, [&](int j) __attribute__((always_inline)) {
          const G* incoming = grad + (p + j) * grad_pitch + i;
          const T* at = x + (p + j) * c + c0 + i;
          prefetch<S>(incoming + n * grad_pitch);
          prefetch<S>(at + n * c);
          const S g = load_lanes<S>(incoming, lanes);
          const S away = a.away(load_lanes<S>(at, lanes));
          const auto act = f.both(a.normal(away));
          const S dz = g * act.slope;
          sum[0] = fma(g, act.value, sum[0]);
          sum[1] = sum[1] + dz;
          sum[2] = sum[2] + act.slope;
          sum[3] = fma(dz, away, sum[3]);
          sum[4] = fma(act.slope, away, sum[4]);
        });
#pragma GCC unroll 5
        for (int j = 0; j < kGradSums; ++j) {
          float* to = sums + j * sums_pitch + i;
          store_lanes(load_lanes<S>(to, lanes) + sum[j], to, lanes);
        }
      });
    });
  });
}

}  // namespace effops
