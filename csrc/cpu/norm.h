// The passes of batch norm in training that no convolution could take along: over whole images, bound by memory.
#pragma once

#include <algorithm>
#include <type_traits>

#include "kernels.h"
#include "views.h"

namespace effops {

// Calls f with a null pointer to the type of the images, so that the choice is made once outside the loop.
template <class F>
inline void with_dtype(DType dtype, F&& f) {
  if (dtype == DType::kFloat32) {
    f(static_cast<const float*>(nullptr));
  } else {
    f(static_cast<const bf16*>(nullptr));
  }
}

// Statistics of one part. Shifted by the mean of its first pixels, the sums are as large as the deviations, however far
// from zero the values lie; the mean stays apart from the shift, as their sum would round that away again.
template <class S, class T>
void norm_stats_part(const T* x, int64_t pixels, int64_t c, float* stats) {
  float *mean = stats + c, *squares = stats + 2 * c;
  std::fill(mean, mean + c, 0.0f);
  std::fill(squares, squares + c, 0.0f);
  first_mean<S>(x, pixels, c, c, stats);
  for_tiles<S, 4>(pixels, c, [&](int64_t p, int64_t i, int lanes, auto n) __attribute__((always_inline)) {
    const S shift = load_lanes<S>(stats + i, lanes);
    S sum(0.0f), square = load_lanes<S>(squares + i, lanes);
    repeat(n, [&](int j) __attribute__((always_inline)) {
      const T* at = x + (p + j) * c + i;
      prefetch<S>(at + n * c);
      const S away = load_lanes<S>(at, lanes) - shift;
      sum = sum + away;
      square = fma(away, away, square);
    });
    store_lanes(load_lanes<S>(mean + i, lanes) + sum, mean + i, lanes);
    store_lanes(square, squares + i, lanes);
  });
  const S share(1.0f / static_cast<float>(pixels));
  for_lanes<S>(c, [&](int64_t i, int lanes) __attribute__((always_inline)) {
    const S sum = load_lanes<S>(mean + i, lanes), away = sum * share;
    store_lanes(away, mean + i, lanes);
    store_lanes(vmax(S(0.0f), load_lanes<S>(squares + i, lanes) - sum * away), squares + i, lanes);
  });
}

template <class S>
void norm_stats(const NormStatsParams& p, int64_t part0, int64_t part1) {
  with_dtype(p.dtype, [&](auto type) {
    const auto* x = static_cast<decltype(type)>(p.x);
    for (int64_t part = part0; part < part1; ++part) {
      const int64_t first = part * p.part;
      norm_stats_part<S>(x + first * p.c, std::min(p.part, p.pixels - first), p.c, p.stats + part * 3 * p.c);
    }
  });
}

// y = view(x) + residual for one part, and the sums of the view. What is absent costs nothing here that memory would
// not have cost: it is asked for at run time.
template <class S, class F, class T>
void norm_part(const NormParams& p, int64_t part, F f) {
  const int64_t c = p.parts.c, offset = p.parts.offset(part);
  const T* x = static_cast<const T*>(p.view.x) + offset;
  const T* residual = p.residual ? static_cast<const T*>(p.residual) + offset : nullptr;
  T* y = p.y ? static_cast<T*>(p.y) + offset : nullptr;
  const float* gate = p.view.gate ? p.view.gate + p.parts.image(part) * c : nullptr;
  float* sums = p.sums ? p.sums + part * c : nullptr;
  if (sums) std::fill(sums, sums + c, 0.0f);
  const auto tile = [&](int64_t pixel, int64_t i, int lanes, auto n) __attribute__((always_inline)) {
    const Affine<S> a(p.view.affine, c, i, lanes);
    const S scale = gate ? load_lanes<S>(gate + i, lanes) : S(1.0f);
    S sum(0.0f);
    repeat(n, [&](int j) __attribute__((always_inline)) {
      const int64_t at = (pixel + j) * c + i, next = at + n * c;
      prefetch<S>(x + next);
      S v = f.apply(a(load_lanes<S>(x + at, lanes))) * scale;
      sum = sum + v;
      if (residual) {
        prefetch<S>(residual + next);
        v = v + load_lanes<S>(residual + at, lanes);
      }
      if (y) store_lanes(v, y + at, lanes);
    });
    if (sums) store_lanes(load_lanes<S>(sums + i, lanes) + sum, sums + i, lanes);
  };
  for_tiles<S, 4>(p.parts.size(part), c, tile);
}

template <class S>
void norm(const NormParams& p, int64_t part0, int64_t part1) {
  with_dtype(p.parts.dtype, [&](auto type) {
    with_activation(p.view.act, [&](auto f) {
      using T = std::remove_const_t<std::remove_pointer_t<decltype(type)>>;
      for (int64_t part = part0; part < part1; ++part) norm_part<S, decltype(f), T>(p, part, f);
    });
  });
}

template <class S>
void norm_grad_sums(const NormGradSumsParams& p, int64_t part0, int64_t part1) {
  with_dtype(p.parts.dtype, [&](auto type) {
    using P = decltype(type);
    const int64_t c = p.parts.c;
    for (int64_t part = part0; part < part1; ++part) {
      const int64_t offset = p.parts.offset(part);
      float* sums = p.sums + part * kGradSums * c;
      std::fill(sums, sums + kGradSums * c, 0.0f);
      add_grad_sums<S>(p.view, c, static_cast<P>(p.grad) + offset, c, static_cast<P>(p.view.x) + offset,
                       p.parts.size(part), 0, c, sums, c);
    }
  });
}

template <class S>
void norm_grad(const NormGradParams& p, int64_t part0, int64_t part1) {
  with_dtype(p.parts.dtype, [&](auto type) {
    using P = decltype(type);
    using T = std::remove_const_t<std::remove_pointer_t<P>>;
    const int64_t c = p.parts.c;
    for (int64_t part = part0; part < part1; ++part) {
      const int64_t offset = p.parts.offset(part), row = p.parts.image(part) * c;
      write_grad<S>(p.view, c, static_cast<P>(p.view.grad) + offset,
                    p.view.u ? static_cast<P>(p.view.u) + offset : nullptr, p.view.gate ? p.view.gate + row : nullptr,
                    p.view.pool_grad ? p.view.pool_grad + row : nullptr, p.parts.size(part), 0, c,
                    static_cast<T*>(p.y) + offset, c);
    }
  });
}

}  // namespace effops
