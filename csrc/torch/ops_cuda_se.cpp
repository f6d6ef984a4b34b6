// Squeeze-excite on CUDA tensors as torch ops.
#include "../cuda/norm.h"
#include "../cuda/se_gate.h"
#include "ops_cuda.h"

namespace effops::cuda {
namespace {

SeWeights weights_of(int64_t n, int64_t c, const Tensor& reduce_weight, const OptionalTensor& reduce_bias,
                     const Tensor& expand_weight, const OptionalTensor& expand_bias, int64_t act, int64_t gate,
                     OptionalTensor (&keep)[4]) {
  SeWeights w{};
  w.n = n, w.c = c, w.r = reduce_weight.size(0);
  w.act = static_cast<Act>(act), w.gate = static_cast<Gate>(gate);
  w.reduce_weight = vector_view(reduce_weight, "reduce_weight", w.r * c, keep[0]);
  w.reduce_bias = vector_view(reduce_bias, "reduce_bias", w.r, keep[1]);
  w.expand_weight = vector_view(expand_weight, "expand_weight", c * w.r, keep[2]);
  w.expand_bias = vector_view(expand_bias, "expand_bias", c, keep[3]);
  return w;
}

}  // namespace

Tensor se_gate(Tensor pooled, Tensor reduce_weight, OptionalTensor reduce_bias, Tensor expand_weight,
               OptionalTensor expand_bias, int64_t act, int64_t gate) {
  STD_TORCH_CHECK(pooled.dim() == 2, "effops: pooled must have 2 dimensions, got ", pooled.dim());
  const OnDeviceOf device(pooled);
  const int64_t n = pooled.size(0), c = pooled.size(1);
  OptionalTensor keep[4], keep_pooled, keep_hidden;
  SeGateArgs p{};
  p.weights = weights_of(n, c, reduce_weight, reduce_bias, expand_weight, expand_bias, act, gate, keep);
  Tensor out = new_floats(pooled, n, c);
  p.pooled = optional_rows(pooled, "pooled", n, c, keep_pooled);
  p.hidden = workspace(pooled, n * p.weights.r, keep_hidden);
  p.out = floats(out);
  run_se_gate(p, device.stream);
  return out;
}

namespace {

// y = x gate, or where there is no gate the spatial mean of x.
void pass(const Tensor& x, const Tensor& image, const Tensor* gate, Tensor& out) {
  const OnDeviceOf device(x);
  NormArgs p{};
  p.pass.n = x.size(0), p.pass.pixels = x.size(2) * x.size(3), p.pass.c = x.size(1);
  p.pass.dtype = dtype_of(x, "x");
  p.view.x = image.const_data_ptr();
  p.view.act = Act::kIdentity;
  if (gate) {
    p.view.gate = float_data(*gate, "gate", p.pass.n, p.pass.c);
    p.y = out.mutable_data_ptr();
  }
  OptionalTensor keep;
  p.partial = workspace(x, prepare_norm(p, !gate), keep);
  run_norm(p, gate ? nullptr : floats(out), device.stream);
}

Tensor squeeze_excite(Tensor x, Tensor reduce_weight, OptionalTensor reduce_bias, Tensor expand_weight,
                      OptionalTensor expand_bias, OptionalTensor pooled, int64_t act, int64_t gate) {
  const OnDeviceOf device(x);
  const Tensor image = channels_last(x, "x");
  const int64_t n = x.size(0), c = x.size(1);
  Tensor mean = pooled ? *pooled : new_floats(x, n, c);
  if (!pooled) pass(x, image, nullptr, mean);
  const Tensor scale = se_gate(mean, reduce_weight, reduce_bias, expand_weight, expand_bias, act, gate);
  Tensor y = new_image(x, n, c, x.size(2), x.size(3));
  pass(x, image, &scale, y);
  return y;
}

// A dense float32 tensor of the weight's shape.
Tensor grad_of(const Tensor& weight, int64_t rows, int64_t columns) {
  return weight.dim() == 2 ? new_floats(weight, rows, columns)
                           : new_tensor<4>(weight, {rows, columns, 1, 1}, {columns, 1, 1, 1}, ScalarType::Float);
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> se_gate_backward(Tensor grad, Tensor gated, Tensor pooled,
                                                                    Tensor reduce_weight, OptionalTensor reduce_bias,
                                                                    Tensor expand_weight, OptionalTensor expand_bias,
                                                                    int64_t act, int64_t gate) {
  STD_TORCH_CHECK(pooled.dim() == 2, "effops: pooled must have 2 dimensions, got ", pooled.dim());
  const OnDeviceOf device(pooled);
  const int64_t n = pooled.size(0), c = pooled.size(1);
  OptionalTensor keep[4], keep_rows[3], keep_work[3];
  SeGateBackwardArgs p{};
  p.weights = weights_of(n, c, reduce_weight, reduce_bias, expand_weight, expand_bias, act, gate, keep);
  const int64_t r = p.weights.r;
  p.grad = optional_rows(grad, "grad", n, c, keep_rows[0]);
  p.gated = optional_rows(gated, "gated", n, c, keep_rows[1]);
  p.pooled = optional_rows(pooled, "pooled", n, c, keep_rows[2]);
  p.logits_grad = workspace(pooled, n * c, keep_work[0]);
  p.hidden = workspace(pooled, n * r, keep_work[1]);
  p.hidden_grad = workspace(pooled, n * r, keep_work[2]);
  Tensor d_pooled = new_floats(pooled, n, c);
  Tensor d_reduce_weight = grad_of(reduce_weight, r, c), d_expand_weight = grad_of(expand_weight, c, r);
  Tensor d_reduce_bias = new_tensor<1>(pooled, {r}, {1}, ScalarType::Float);
  Tensor d_expand_bias = new_tensor<1>(pooled, {c}, {1}, ScalarType::Float);
  p.d_pooled = floats(d_pooled);
  p.d_reduce_weight = floats(d_reduce_weight), p.d_reduce_bias = floats(d_reduce_bias);
  p.d_expand_weight = floats(d_expand_weight), p.d_expand_bias = floats(d_expand_bias);
  run_se_gate_backward(p, device.stream);
  return {d_pooled, d_reduce_weight, d_reduce_bias, d_expand_weight, d_expand_bias};
}

}  // namespace
}  // namespace effops::cuda

EFFOPS_CUDA_LIBRARY(m) {
  m.impl("se_gate", TORCH_BOX(&effops::cuda::se_gate));
  m.impl("se_gate_backward", TORCH_BOX(&effops::cuda::se_gate_backward));
  m.impl("squeeze_excite", TORCH_BOX(&effops::cuda::squeeze_excite));
}
