// Gradients of the gate MLP of squeeze-excite. The hidden layer is computed again: it is cheaper than keeping it.
#pragma once

#include "squeeze_excite.h"
#include "views.h"

namespace effops {

// out (columns) = sum over i of a[i * stride] b[i], b (rows, columns). Long sums are made of chunks' sums, which rounds
// less than one long chain.
template <class S>
void combine_rows(const float* a, int64_t stride, const float* b, int64_t rows, int64_t columns, float* out) {
  constexpr int64_t kChunk = 64;
  const auto block = [&](int64_t j, int lanes, auto vectors) __attribute__((always_inline)) {
    constexpr int V = decltype(vectors)::value;
    S total[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) total[v] = S(0.0f);
    for (int64_t first = 0; first < rows; first += kChunk) {
      const int64_t last = std::min(first + kChunk, rows);
      S sum[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[v] = S(0.0f);
      for (int64_t i = first; i < last; ++i) {
        const S x(a[i * stride]);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
          sum[v] = fma(x, load_lanes<S>(b + i * columns + j + v * S::kLanes, lanes), sum[v]);
        }
      }
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) total[v] = total[v] + sum[v];
    }
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) store_lanes(total[v], out + j + v * S::kLanes, lanes);
  };
  constexpr int64_t kWide = 4 * S::kLanes;
  int64_t j = 0;
  for (; j + kWide <= columns; j += kWide) block(j, S::kLanes, std::integral_constant<int, 4>{});
  for (; j < columns; j += S::kLanes) {
    block(j, static_cast<int>(std::min<int64_t>(S::kLanes, columns - j)), std::integral_constant<int, 1>{});
  }
}

// What belongs to images [n0, n1): the hidden layer and its gradient, those of the logits and of the mean.
template <class S>
void se_gate_backward_images(const SeBackwardParams& p, int64_t n0, int64_t n1) {
  for (int64_t n = n0; n < n1; ++n) {
    float* hidden = p.hidden + n * p.r;
    float* hidden_grad = p.hidden_grad + n * p.r;
    float* logits_grad = p.logits_grad + n * p.c;
    with_gate(p.gate, [&](auto f) {
      for_lanes<S>(p.c, [&](int64_t i, int lanes) __attribute__((always_inline)) {
        const int64_t at = n * p.c + i;
        store_lanes(load_lanes<S>(p.grad + at, lanes) * f.slope_of(load_lanes<S>(p.gated + at, lanes)), logits_grad + i,
                    lanes);
      });
    });
    dense_rows<S, Identity>(p.reduce_weight, p.reduce_bias, p.pooled + n * p.c, 1, p.r, p.c, hidden, 0, p.r);
    combine_rows<S>(logits_grad, 1, p.expand_weight, p.c, p.r, hidden_grad);
    with_activation(p.act, [&](auto f) {
      for_lanes<S>(p.r, [&](int64_t i, int lanes) __attribute__((always_inline)) {
        const auto act = f.both(load_lanes<S>(hidden + i, lanes));
        store_lanes(act.value, hidden + i, lanes);
        store_lanes(load_lanes<S>(hidden_grad + i, lanes) * act.slope, hidden_grad + i, lanes);
      });
    });
    combine_rows<S>(hidden_grad, 1, p.reduce_weight, p.r, p.c, p.d_pooled + n * p.c);
  }
}

inline float column_sum(const float* a, int64_t rows, int64_t columns) {
  double sum = 0.0;
  for (int64_t i = 0; i < rows; ++i) sum += a[i * columns];
  return static_cast<float>(sum);
}

// Rows [row0, row1) of the weights' gradients and their biases': those of the expand weight first.
template <class S>
void se_gate_backward_weights(const SeBackwardParams& p, int64_t row0, int64_t row1) {
  for (int64_t row = row0; row < row1; ++row) {
    if (row < p.c) {
      combine_rows<S>(p.logits_grad + row, p.c, p.hidden, p.n, p.r, p.d_expand_weight + row * p.r);
      p.d_expand_bias[row] = column_sum(p.logits_grad + row, p.n, p.c);
    } else {
      const int64_t r = row - p.c;
      combine_rows<S>(p.hidden_grad + r, p.r, p.pooled, p.n, p.c, p.d_reduce_weight + r * p.c);
      p.d_reduce_bias[r] = column_sum(p.hidden_grad + r, p.n, p.r);
    }
  }
}

}  // namespace effops
