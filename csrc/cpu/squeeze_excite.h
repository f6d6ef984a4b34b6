// The gate MLP of squeeze-excite, the spatial sums in front of it and the scaling behind it; sums of two images and
// conversions.
#pragma once

#include <algorithm>
#include <type_traits>

#include "../core/activation.h"
#include "kernels.h"
#include "lanes.h"
#include "scratch.h"

namespace effops {

// out[r] = row r of W (rows, columns) times in, for R rows side by side. Every row is summed in the same order, however
// many there are.
template <class S, int R, class W>
inline void dots(const W* weight, const float* in, int64_t columns, float* out) {
  S sum0[R], sum1[R];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) sum0[r] = sum1[r] = S(0.0f);
  int64_t i = 0;
  for (; i + 2 * S::kLanes <= columns; i += 2 * S::kLanes) {
    const S in0 = S::load(in + i), in1 = S::load(in + i + S::kLanes);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      sum0[r] = fma(S::load(weight + r * columns + i), in0, sum0[r]);
      sum1[r] = fma(S::load(weight + r * columns + i + S::kLanes), in1, sum1[r]);
    }
  }
  for (; i < columns; i += S::kLanes) {
    const int lanes = static_cast<int>(std::min<int64_t>(S::kLanes, columns - i));
    const S in0 = S::load(in + i, lanes);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) sum0[r] = fma(S::load(weight + r * columns + i, lanes), in0, sum0[r]);
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) out[r] = (sum0[r] + sum1[r]).sum();
}

// Rows [row0, row1) of W (rows, columns): their values of out (n, rows) = f(W in + bias) for vectors in (n, columns). A
// few rows of W stay in the L1 cache while all vectors pass.
template <class S, class F, class W>
void dense_rows(const W* weight, const float* bias, const float* in, int64_t n, int64_t rows, int64_t columns,
                float* out, int64_t row0, int64_t row1) {
  constexpr int64_t kRows = 4;
  for (int64_t row = row0; row < row1; row += kRows) {
    const int count = static_cast<int>(std::min(kRows, row1 - row));
    const auto all = [&](const auto* some) {
      for (int64_t i = 0; i < n; ++i) {
        float sums[kRows];
        if (count == kRows) {
          dots<S, kRows>(some, in + i * columns, columns, sums);
        } else {
          for (int r = 0; r < count; ++r) dots<S, 1>(some + r * columns, in + i * columns, columns, sums + r);
        }
        std::copy(sums, sums + count, out + i * rows + row);
      }
    };
    const W* some = weight + row * columns;
    if (std::is_same_v<W, float> || n == 1) {
      all(some);
    } else {
      // Widened once for all vectors.
      float* wide = scratch<float>(Slot::kRows, kRows * columns);
      for_lanes<S>(count * columns,
                   [&](int64_t i, int lanes) { store_lanes(load_lanes<S>(some + i, lanes), wide + i, lanes); });
      all(static_cast<const float*>(wide));
    }
  }
  for (int64_t i = 0; i < n; ++i) {
    float* values = out + i * rows + row0;
    for_lanes<S>(row1 - row0, [&](int64_t j, int lanes) {
      const S sum = load_lanes<S>(values + j, lanes);
      store_lanes(F::apply(bias ? sum + load_lanes<S>(bias + row0 + j, lanes) : sum), values + j, lanes);
    });
  }
}

// Calls f with a weight of the gate in its type.
template <class F>
void with_weight(const SeGateParams& p, const float* weight, F f) {
  p.weights == DType::kFloat32 ? f(weight) : f(reinterpret_cast<const bf16*>(weight));
}

template <class S>
void se_reduce(const SeGateParams& p, float* hidden, int64_t row0, int64_t row1) {
  with_activation(p.act, [&](auto f) {
    with_weight(p, p.reduce_weight, [&](const auto* weight) {
      dense_rows<S, decltype(f)>(weight, p.reduce_bias, p.pooled, p.n, p.r, p.c, hidden, row0, row1);
    });
  });
}

template <class S>
void se_expand(const SeGateParams& p, const float* hidden, int64_t row0, int64_t row1) {
  with_gate(p.gate, [&](auto f) {
    with_weight(p, p.expand_weight, [&](const auto* weight) {
      dense_rows<S, decltype(f)>(weight, p.expand_bias, hidden, p.n, p.c, p.r, p.out, row0, row1);
    });
  });
}

// The sums of V vectors of channels stay in registers over all pixels of a chunk.
template <class S, class T, int V>
void sum_pixels(const T* x, int64_t stride, int64_t pixels, int lanes, float* out) {
  S sum[V];
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) sum[v] = S(0.0f);
  for (int64_t pixel = 0; pixel < pixels; ++pixel, x += stride) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      sum[v] = sum[v] + (V > 1 ? S::load(x + v * S::kLanes) : S::load(x, lanes));
    }
  }
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) {
    if (V > 1) {
      sum[v].store(out + v * S::kLanes);
    } else {
      sum[v].store(out, lanes);
    }
  }
}

template <class S, class T>
void pixel_sums_of(const ImageParams& p, int64_t chunk, float* sums, int64_t chunk0, int64_t chunk1) {
  constexpr int64_t kWide = 4 * S::kLanes;
  const int64_t chunks = (p.pixels + chunk - 1) / chunk;
  for (int64_t i = chunk0; i < chunk1; ++i) {
    const int64_t first = i % chunks * chunk, count = std::min(chunk, p.pixels - first);
    const T* x = static_cast<const T*>(p.x) + (i / chunks * p.pixels + first) * p.c;
    float* out = sums + i * p.c;
    int64_t c = 0;
    for (; c + kWide <= p.c; c += kWide) sum_pixels<S, T, 4>(x + c, p.c, count, S::kLanes, out + c);
    for (; c < p.c; c += S::kLanes) {
      const int lanes = static_cast<int>(std::min<int64_t>(S::kLanes, p.c - c));
      sum_pixels<S, T, 1>(x + c, p.c, count, lanes, out + c);
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
    for_lanes<S>(p.c, [&](int64_t c, int lanes) {
      store_lanes(load_lanes<S>(x + c, lanes) * load_lanes<S>(scale + c, lanes), y + c, lanes);
    });
  }
}

template <class S, class T>
void add_of(const AddParams& p, int64_t i0, int64_t i1) {
  const T *a = static_cast<const T*>(p.a), *b = static_cast<const T*>(p.b);
  T* y = static_cast<T*>(p.y);
  for_lanes<S>(i1 - i0, [&](int64_t i, int lanes) {
    store_lanes(load_lanes<S>(a + i0 + i, lanes) + load_lanes<S>(b + i0 + i, lanes), y + i0 + i, lanes);
  });
}

template <class S>
void add(const AddParams& p, int64_t i0, int64_t i1) {
  if (p.dtype == DType::kFloat32) {
    add_of<S, float>(p, i0, i1);
  } else {
    add_of<S, bf16>(p, i0, i1);
  }
}

template <class S, class From, class To>
void convert_of(const ConvertParams& p, int64_t i0, int64_t i1) {
  const From* x = static_cast<const From*>(p.x) + i0;
  To* y = static_cast<To*>(p.y) + i0;
  for_lanes<S>(i1 - i0, [&](int64_t i, int lanes) { store_lanes(load_lanes<S>(x + i, lanes), y + i, lanes); });
}

template <class S>
void convert(const ConvertParams& p, int64_t i0, int64_t i1) {
  const bool narrows = p.from == DType::kFloat32;
  (narrows ? convert_of<S, float, bf16> : convert_of<S, bf16, float>)(p, i0, i1);
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
