// Gradients of the gate MLP, with the hidden layer computed again: what belongs to an image by a block a group of
// images, then those of the weights and biases, sums over images, by a block a tile.
//
// Moves: in the first kernel both weights once or twice a block, from the second-level cache after the first; in the
// second (n, c) and (n, r) vectors twice, once for every 32 columns, and the weights' gradients once. Arithmetic: 6 r c
// operations an image, then 4 r c.
#pragma once

#include "se_gate.cuh"

namespace effops::cuda {

template <int Images>
__global__ void __launch_bounds__(kGateThreads) se_gate_backward_kernel(const SeGateBackwardArgs p) {
  EFFOPS_SHARED(float, shared, kGateThreads* kLanes<bf16>);
  const SeWeights& w = p.weights;
  const ImageGroup<Images> images(w.n);
  with_gate(w.gate, [&](auto f) {
    for (int i = 0; i < images.count; ++i) {
      for (int64_t c = threadIdx.x; c < w.c; c += blockDim.x) {
        const int64_t at = (int64_t{blockIdx.x} * Images + i) * w.c + c;
        p.logits_grad[at] = p.grad[at] * f.slope_of(p.gated[at]);
      }
    }
  });
  with_element(w.reduce_weight.dtype, [&](auto element) {
    rows_times(elements<decltype(element)>(w.reduce_weight), w.r, w.c, w.vectors[0], p.pooled, images,
               [&](int i, int64_t row, float sum) {
                 p.hidden[images.index[i] * w.r + row] = sum + bias_at(w.reduce_bias, row);
               });
  });
  __syncthreads();
  with_element(w.expand_weight.dtype, [&](auto element) {
    columns_times(elements<decltype(element)>(w.expand_weight), w.c, w.r, w.vectors[1], p.logits_grad, images, shared,
                  [&](int i, int64_t column, float sum) {
                    const int64_t at = images.index[i] * w.r + column;
                    with_activation(w.act, [&](auto f) {
                      const auto act = f.both(p.hidden[at]);
                      p.hidden[at] = act.value;
                      p.hidden_grad[at] = sum * act.slope;
                    });
                  });
  });
  with_element(w.reduce_weight.dtype, [&](auto element) {
    columns_times(elements<decltype(element)>(w.reduce_weight), w.r, w.c, w.vectors[0], p.hidden_grad, images, shared,
                  [&](int i, int64_t column, float sum) { p.d_pooled[images.index[i] * w.c + column] = sum; });
  });
}

// out (rows, columns) = sum over images of a (n, rows) b (n, columns), and sums (rows) = that of a.
struct OuterProducts {
  const float *a, *b;
  int64_t rows, columns;
  float *out, *sums;

  EFFOPS_HD int64_t across() const { return ceil_div(columns, kGateTile); }
  EFFOPS_HD int64_t tiles() const { return ceil_div(rows, kGateTile) * across(); }
};

struct SeGateWeightsGradArgs {
  int64_t n;
  OuterProducts expand, reduce;
};

constexpr int kTileThreads = 256;

// A thread computes 2 x 2 values of a tile, 16 apart. Sums of 32 images each are added up: shorter chains round less.
__global__ void __launch_bounds__(kTileThreads) se_gate_weights_grad_kernel(const SeGateWeightsGradArgs p) {
  constexpr int kTile = kGateTile, kSide = 16;
  EFFOPS_SHARED(float, a, kTile* kTile);
  EFFOPS_SHARED(float, b, kTile* kTile);
  const bool second = blockIdx.x >= p.expand.tiles();
  const OuterProducts o = second ? p.reduce : p.expand;
  const int64_t tile = blockIdx.x - (second ? p.expand.tiles() : 0);
  const int64_t row0 = tile / o.across() * kTile, column0 = tile % o.across() * kTile;
  const int x = threadIdx.x % kSide, y = threadIdx.x / kSide;
  float totals[2][2] = {}, row_totals[2] = {};
  for (int64_t n0 = 0; n0 < p.n; n0 += kTile) {
    for (int i = threadIdx.x; i < kTile * kTile; i += kTileThreads) {
      const int64_t n = n0 + i / kTile, row = row0 + i % kTile, column = column0 + i % kTile;
      a[i] = n < p.n && row < o.rows ? o.a[n * o.rows + row] : 0.0f;
      b[i] = n < p.n && column < o.columns ? o.b[n * o.columns + column] : 0.0f;
    }
    __syncthreads();
    float sums[2][2] = {}, row_sums[2] = {};
    const int images = static_cast<int>(min(p.n - n0, int64_t{kTile}));
    for (int n = 0; n < images; ++n) {
      const float down[2] = {a[n * kTile + y], a[n * kTile + kSide + y]};
      const float along[2] = {b[n * kTile + x], b[n * kTile + kSide + x]};
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        row_sums[i] += down[i];
#pragma unroll
        for (int j = 0; j < 2; ++j) sums[i][j] = fmaf(down[i], along[j], sums[i][j]);
      }
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      row_totals[i] += row_sums[i];
#pragma unroll
      for (int j = 0; j < 2; ++j) totals[i][j] += sums[i][j];
    }
    __syncthreads();  // before the next images' values take their place
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int64_t row = row0 + i * kSide + y;
    if (row >= o.rows) continue;
    if (column0 + x == 0) o.sums[row] = row_totals[i];
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const int64_t column = column0 + j * kSide + x;
      if (column < o.columns) o.out[row * o.columns + column] = totals[i][j];
    }
  }
}

}  // namespace effops::cuda
