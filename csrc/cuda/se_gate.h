// The gate MLP of squeeze-excite on a device, and its gradients. Weights of any dtype each, any width; bitwise
// repeatable.
#pragma once

#include "../core/params.h"
#include "heuristics.h"

namespace effops::cuda {

using Stream = void*;

// Dense weights and biases.
struct SeWeights {
  int64_t n, c, r;
  Act act;
  Gate gate;
  VectorView reduce_weight, reduce_bias;  // (r, c); (r) or none
  VectorView expand_weight, expand_bias;  // (c, r); (c) or none
  bool vectors[2];                        // whether rows of these weights can be read 16 bytes at a time
};

struct SeGateArgs {
  SeWeights weights;
  const float* pooled;  // (n, c)
  float* hidden;        // (n, r): working memory
  float* out;           // (n, c)
};

struct SeGateBackwardArgs {
  SeWeights weights;
  const float *grad, *gated, *pooled;  // (n, c)
  float* logits_grad;                  // (n, c): working memory
  float *hidden, *hidden_grad;         // (n, r): working memory
  float* d_pooled;                     // (n, c)
  float *d_reduce_weight, *d_reduce_bias, *d_expand_weight, *d_expand_bias;
};

constexpr int kGateThreads = 512;  // at most
constexpr int kGateTile = 32;      // rows and columns of the weights' gradients that a block computes

// Threads of a block, whole warps: as many as have a few vectors of the weights each.
inline int gate_threads(int64_t c, int64_t r) {
  constexpr int64_t kValues = 32;
  return static_cast<int>(std::min<int64_t>(kGateThreads, std::max<int64_t>(1, ceil_div(c * r, 32 * kValues)) * 32));
}

// Images of a block, which reads the weights once for all of them: more than one where blocks are left even so.
inline int gate_images(int64_t n) { return n >= kBlocksAtOnce / 2 ? 4 : 1; }

void run_se_gate(SeGateArgs args, Stream stream);
void run_se_gate_backward(SeGateBackwardArgs args, Stream stream);

}  // namespace effops::cuda
