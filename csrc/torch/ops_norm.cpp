// The passes of batch norm in training and the gate between them as torch ops; see effops/ops/reference_training.py.
#include <algorithm>
#include <tuple>

#include "../cpu/run_norm.h"
#include "tensors.h"

namespace effops {
namespace {

// The images of one call, dense channels_last, of one shape and dtype.
struct Images {
  Parts parts;
  int64_t h, w;

  explicit Images(const Tensor& x) {
    STD_TORCH_CHECK(x.dim() == 4, "effops: images must have 4 dimensions, got ", x.dim());
    h = x.size(2), w = x.size(3);
    parts = {x.size(0), h * w, x.size(1), dtype_of(x, "x")};
  }

  Tensor dense_like(const Tensor& t, const char* name) const {
    const Tensor image = channels_last(t, name);
    STD_TORCH_CHECK(t.size(0) == parts.n && t.size(1) == parts.c && t.size(2) == h && t.size(3) == w &&
                        dtype_of(t, name) == parts.dtype,
                    "effops: ", name, " must have the shape and dtype of the other images");
    return image;
  }
  Tensor make(const Tensor& like) const { return new_image(like, parts.n, parts.c, h, w); }
};

// `keep` holds the dense copy of strided rows until the call ends.
const float* rows(const OptionalTensor& t, const char* name, int64_t count, int64_t c, OptionalTensor& keep) {
  if (!t) return nullptr;
  keep = dense(*t);
  return float_data(*keep, name, count, c);
}

float* floats(Tensor& t) { return static_cast<float*>(t.mutable_data_ptr()); }

Tensor batch_norm_stats(Tensor x) {
  const Images images(x);
  const Tensor image = channels_last(x, "x");
  Tensor stats = new_floats(x, 2, images.parts.c);
  const Parts& parts = images.parts;
  run_norm_stats({parts.n * parts.pixels, parts.c, 0, parts.dtype, image.const_data_ptr(), nullptr}, floats(stats),
                 threads());
  return stats;
}

void forward(const Tensor& x, const Tensor& affine, const OptionalTensor& gate, const OptionalTensor& residual,
             int64_t act, Tensor* y, Tensor* pooled) {
  const Images images(x);
  const Tensor image = channels_last(x, "x");
  OptionalTensor keep_affine, keep_gate, addend;
  NormParams p{};
  p.parts = images.parts;
  p.view = {image.const_data_ptr(), rows(affine, "affine", 3, p.parts.c, keep_affine),
            rows(gate, "gate", p.parts.n, p.parts.c, keep_gate), static_cast<Act>(act)};
  if (residual) {
    addend = images.dense_like(*residual, "residual");
    p.residual = addend->const_data_ptr();
  }
  if (y) {
    *y = images.make(x);
    p.y = y->mutable_data_ptr();
  }
  if (pooled) *pooled = new_floats(x, p.parts.n, p.parts.c);
  run_norm(p, pooled ? floats(*pooled) : nullptr, threads());
}

Tensor batch_norm_apply(Tensor x, Tensor affine, OptionalTensor gate, OptionalTensor residual, int64_t act) {
  Tensor y;
  forward(x, affine, gate, residual, act, &y, nullptr);
  return y;
}

Tensor batch_norm_pool(Tensor x, Tensor affine, int64_t act) {
  Tensor pooled;
  forward(x, affine, {}, {}, act, nullptr, &pooled);
  return pooled;
}

std::tuple<Tensor, Tensor> batch_norm_apply_pool(Tensor x, Tensor affine, int64_t act) {
  Tensor y, pooled;
  forward(x, affine, {}, {}, act, &y, &pooled);
  return {y, pooled};
}

Tensor batch_norm_grad_sums(Tensor grad, Tensor x, OptionalTensor affine, int64_t act) {
  const Images images(x);
  const Tensor image = channels_last(x, "x"), incoming = images.dense_like(grad, "grad");
  OptionalTensor keep;
  NormGradSumsParams p{};
  p.parts = images.parts;
  const int64_t n = p.parts.n, c = p.parts.c;
  p.view = {image.const_data_ptr(), rows(affine, "affine", 3, c, keep), nullptr, static_cast<Act>(act)};
  p.grad = incoming.const_data_ptr();
  Tensor sums = new_strided<3>(x, {kGradSums, n, c}, {std::max<int64_t>(1, n) * c, c, 1}, ScalarType::Float);
  run_norm_grad_sums(p, floats(sums), threads());
  return sums;
}

Tensor batch_norm_grad_apply(Tensor grad, OptionalTensor u, OptionalTensor coef, OptionalTensor gate,
                             OptionalTensor pool_grad, int64_t act) {
  STD_TORCH_CHECK(!coef || u, "effops: coef needs u");
  const Images images(grad);
  const Tensor incoming = channels_last(grad, "grad");
  OptionalTensor output, keep[3];
  if (coef) output = images.dense_like(*u, "u");
  NormGradParams p{};
  p.parts = images.parts;
  const int64_t n = p.parts.n, c = p.parts.c;
  p.view = {
      incoming.const_data_ptr(),         output ? output->const_data_ptr() : nullptr, rows(coef, "coef", 5, c, keep[0]),
      rows(gate, "gate", n, c, keep[1]), rows(pool_grad, "pool_grad", n, c, keep[2]), static_cast<Act>(act)};
  Tensor y = images.make(grad);
  p.y = y.mutable_data_ptr();
  run_norm_grad(p, threads());
  return y;
}

// A dense float32 tensor of the weight's shape.
Tensor grad_of(const Tensor& weight, int64_t rows, int64_t columns) {
  return weight.dim() == 2 ? new_floats(weight, rows, columns)
                           : new_strided<4>(weight, {rows, columns, 1, 1}, {columns, 1, 1, 1}, ScalarType::Float);
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> se_gate_backward(Tensor grad, Tensor gated, Tensor pooled,
                                                                    Tensor reduce_weight, OptionalTensor reduce_bias,
                                                                    Tensor expand_weight,
                                                                    OptionalTensor /*expand_bias*/, int64_t act,
                                                                    int64_t gate) {
  STD_TORCH_CHECK(pooled.dim() == 2, "effops: pooled must have 2 dimensions, got ", pooled.dim());
  const int64_t n = pooled.size(0), c = pooled.size(1), r = reduce_weight.size(0);
  OptionalTensor keep[6];
  SeBackwardParams p{};
  p.n = n, p.c = c, p.r = r;
  p.act = static_cast<Act>(act), p.gate = static_cast<Gate>(gate);
  p.grad = rows(grad, "grad", n, c, keep[0]);
  p.gated = rows(gated, "gated", n, c, keep[1]);
  p.pooled = rows(pooled, "pooled", n, c, keep[2]);
  const SeWeights weights{vector_view(reduce_weight, "reduce_weight", r * c, keep[3]),
                          vector_view(reduce_bias, "reduce_bias", r, keep[4]),
                          vector_view(expand_weight, "expand_weight", c * r, keep[5]),
                          {}};
  Tensor d_pooled = new_floats(pooled, n, c);
  Tensor d_reduce_weight = grad_of(reduce_weight, r, c), d_expand_weight = grad_of(expand_weight, c, r);
  Tensor d_reduce_bias = new_strided<1>(pooled, {r}, {1}, ScalarType::Float);
  Tensor d_expand_bias = new_strided<1>(pooled, {c}, {1}, ScalarType::Float);
  p.d_pooled = floats(d_pooled);
  p.d_reduce_weight = floats(d_reduce_weight), p.d_reduce_bias = floats(d_reduce_bias);
  p.d_expand_weight = floats(d_expand_weight), p.d_expand_bias = floats(d_expand_bias);
  run_se_gate_backward(p, weights, threads());
  return {d_pooled, d_reduce_weight, d_reduce_bias, d_expand_weight, d_expand_bias};
}

}  // namespace
}  // namespace effops

STABLE_TORCH_LIBRARY_IMPL(effops, CPU, m) {
  m.impl("batch_norm_stats", TORCH_BOX(&effops::batch_norm_stats));
  m.impl("batch_norm_apply", TORCH_BOX(&effops::batch_norm_apply));
  m.impl("batch_norm_pool", TORCH_BOX(&effops::batch_norm_pool));
  m.impl("batch_norm_apply_pool", TORCH_BOX(&effops::batch_norm_apply_pool));
  m.impl("batch_norm_grad_sums", TORCH_BOX(&effops::batch_norm_grad_sums));
  m.impl("batch_norm_grad_apply", TORCH_BOX(&effops::batch_norm_grad_apply));
  m.impl("se_gate_backward", TORCH_BOX(&effops::se_gate_backward));
}
