// The gate MLP of squeeze-excite, the spatial sums in front of it and the scaling behind it.
#pragma once

#include <algorithm>

#include "../core/activation.h"
#include "kernels.h"
#include "scratch.h"

namespace effops {

template <class S>
inline float dot(const float* a, const float* b, int64_t size) {
  S sum0(0.0f), sum1(0.0f);
  int64_t i = 0;
  for (; i + 2 * S::kLanes <= size; i += 2 * S::kLanes) {
    sum0 = fma(S::load(a + i), S::load(b + i), sum0);
    sum1 = fma(S::load(a + i + S::kLanes), S::load(b + i + S::kLanes), sum1);
  }
  for (; i < size; i += S::kLanes) {
    const int lanes = static_cast<int>(std::min<int64_t>(S::kLanes, size - i));
    sum0 = fma(S::load(a + i, lanes), S::load(b + i, lanes), sum0);
  }
  return (sum0 + sum1).sum();
}

// out = f(W in + bias), W (rows, columns).
template <class S, class F>
inline void dense(const float* weight, const float* bias, const float* in, int64_t rows, int64_t columns, float* out) {
  for (int64_t r = 0; r < rows; ++r) out[r] = dot<S>(weight + r * columns, in, columns) + (bias ? bias[r] : 0.0f);
  for (int64_t r = 0; r < rows; r += S::kLanes) {
    const int lanes = static_cast<int>(std::min<int64_t>(S::kLanes, rows - r));
    F::apply(S::load(out + r, lanes)).store(out + r, lanes);
  }
}

template <class S>
void se_gate(const SeParams& p, int64_t n0, int64_t n1) {
  float* hidden = scratch<float>(Slot::kRows, p.r);
  for (int64_t n = n0; n < n1; ++n) {
    with_activation(p.act, [&](auto f) {
      dense<S, decltype(f)>(p.reduce_weight, p.reduce_bias, p.pooled + n * p.c, p.r, p.c, hidden);
    });
    with_gate(p.gate, [&](auto f) {
      dense<S, decltype(f)>(p.expand_weight, p.expand_bias, hidden, p.c, p.r, p.out + n * p.c);
    });
  }
}

template <class S, class T>
void pixel_sums_of(const ImageParams& p, int64_t chunk, float* sums, int64_t chunk0, int64_t chunk1) {
  const int64_t chunks = (p.pixels + chunk - 1) / chunk;
  for (int64_t i = chunk0; i < chunk1; ++i) {
    const int64_t first = i % chunks * chunk;
    const int64_t last = std::min(first + chunk, p.pixels);
    const T* image = static_cast<const T*>(p.x) + i / chunks * p.pixels * p.c;
    float* out = sums + i * p.c;
    std::fill(out, out + p.c, 0.0f);
    for (int64_t pixel = first; pixel < last; ++pixel) {
      const T* x = image + pixel * p.c;
      for (int64_t c = 0; c < p.c; c += S::kLanes) {
        const int lanes = static_cast<int>(std::min<int64_t>(S::kLanes, p.c - c));
        (S::load(out + c, lanes) + S::load(x + c, lanes)).store(out + c, lanes);
      }
    }
  }
}

template <class S>
void pixel_sums(const ImageParams& p, int64_t chunk, float* sums, int64_t chunk0, int64_t chunk1) {
  if (p.dtype == DType::kFloat32) {
    pixel_sums_of<S, float>(p, chunk, sums, chunk0, chunk1);
  } else {
    pixel_sums_of<S, bf16>(p, chunk, sums, chunk0, chunk1);
  }
}

template <class S, class T>
void scale_of(const ImageParams& p, int64_t p0, int64_t p1) {
  for (int64_t pixel = p0; pixel < p1; ++pixel) {
    const T* x = static_cast<const T*>(p.x) + pixel * p.c;
    const float* scale = p.scale + pixel / p.pixels * p.c;
    T* y = static_cast<T*>(p.y) + pixel * p.c;
    for (int64_t c = 0; c < p.c; c += S::kLanes) {
      const int lanes = static_cast<int>(std::min<int64_t>(S::kLanes, p.c - c));
      (S::load(x + c, lanes) * S::load(scale + c, lanes)).store(y + c, lanes);
    }
  }
}

template <class S>
void scale(const ImageParams& p, int64_t p0, int64_t p1) {
  if (p.dtype == DType::kFloat32) {
    scale_of<S, float>(p, p0, p1);
  } else {
    scale_of<S, bf16>(p, p0, p1);
  }
}

}  // namespace effops
