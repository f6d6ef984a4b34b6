#include "se_gate_backward.cuh"

namespace effops::cuda {

void run_se_gate_backward(SeGateBackwardArgs p, Stream stream) {
  prepare_gate(p.weights, p.pooled, p.hidden);
  launch_gate(p, stream, se_gate_backward_kernel<1>, se_gate_backward_kernel<4>);
  const SeWeights& w = p.weights;
  const SeGateWeightsGradArgs q{w.n,
                                {p.logits_grad, p.hidden, w.c, w.r, p.d_expand_weight, p.d_expand_bias},
                                {p.hidden_grad, p.pooled, w.r, w.c, p.d_reduce_weight, p.d_reduce_bias}};
  const int64_t tiles = q.expand.tiles() + q.reduce.tiles();
  if (tiles == 0) return;
  launch(se_gate_weights_grad_kernel, dim3(static_cast<unsigned>(tiles)), dim3(kTileThreads), 0, stream, q);
}

}  // namespace effops::cuda
