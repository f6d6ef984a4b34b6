// The passes of batch norm in training on CUDA tensors as torch ops; see effops/ops/reference_training.py.
#include <algorithm>
#include <tuple>

#include "../cuda/norm.h"
#include "tensors_cuda.h"

namespace effops::cuda {
namespace {

// The images of one call, dense channels_last, of one shape and dtype.
struct Images {
  Pass pass{};
  int64_t h, w;

  explicit Images(const Tensor& x) {
    STD_TORCH_CHECK(x.dim() == 4, "effops: images must have 4 dimensions, got ", x.dim());
    h = x.size(2), w = x.size(3);
    pass.n = x.size(0), pass.pixels = h * w, pass.c = x.size(1);
    pass.dtype = dtype_of(x, "x");
  }

  Tensor dense_like(const Tensor& t, const char* name) const {
    const Tensor image = channels_last(t, name);
    STD_TORCH_CHECK(t.size(0) == pass.n && t.size(1) == pass.c && t.size(2) == h && t.size(3) == w &&
                        dtype_of(t, name) == pass.dtype,
                    "effops: ", name, " must have the shape and dtype of the other images");
    return image;
  }
  Tensor make(const Tensor& like) const { return new_image(like, pass.n, pass.c, h, w); }
};

Tensor batch_norm_stats(Tensor x) {
  const Images images(x);
  const OnDeviceOf device(x);
  const Tensor image = channels_last(x, "x");
  Tensor stats = new_floats(x, 2, images.pass.c);
  NormStatsArgs p{};
  p.pass = images.pass;
  p.pass.pixels *= p.pass.n;
  p.pass.n = 1;
  p.x = image.const_data_ptr();
  OptionalTensor keep;
  p.partial = workspace(x, prepare_norm_stats(p), keep);
  run_norm_stats(p, floats(stats), device.stream);
  return stats;
}

void forward(const Tensor& x, const Tensor& affine, const OptionalTensor& gate, const OptionalTensor& residual,
             int64_t act, Tensor* y, Tensor* pooled) {
  const Images images(x);
  const OnDeviceOf device(x);
  const Tensor image = channels_last(x, "x");
  OptionalTensor keep_affine, keep_gate, addend, keep_partial;
  NormArgs p{};
  p.pass = images.pass;
  const int64_t n = p.pass.n, c = p.pass.c;
  p.view = {image.const_data_ptr(), optional_rows(affine, "affine", 3, c, keep_affine),
            optional_rows(gate, "gate", n, c, keep_gate), static_cast<Act>(act)};
  if (residual) {
    addend = images.dense_like(*residual, "residual");
    p.residual = addend->const_data_ptr();
  }
  if (y) {
    *y = images.make(x);
    p.y = y->mutable_data_ptr();
  }
  if (pooled) *pooled = new_floats(x, n, c);
  p.partial = workspace(x, prepare_norm(p, pooled), keep_partial);
  run_norm(p, pooled ? floats(*pooled) : nullptr, device.stream);
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
  const OnDeviceOf device(x);
  const Tensor image = channels_last(x, "x"), incoming = images.dense_like(grad, "grad");
  OptionalTensor keep_affine, keep_partial;
  NormGradSumsArgs p{};
  p.pass = images.pass;
  const int64_t n = p.pass.n, c = p.pass.c;
  p.view = {image.const_data_ptr(), optional_rows(affine, "affine", 3, c, keep_affine), nullptr, static_cast<Act>(act)};
  p.grad = incoming.const_data_ptr();
  Tensor sums = new_tensor<3>(x, {kGradSums, n, c}, {std::max<int64_t>(1, n) * c, c, 1}, ScalarType::Float);
  p.partial = workspace(x, prepare_norm_grad_sums(p), keep_partial);
  run_norm_grad_sums(p, floats(sums), device.stream);
  return sums;
}

Tensor batch_norm_grad_apply(Tensor grad, OptionalTensor u, OptionalTensor coef, OptionalTensor gate,
                             OptionalTensor pool_grad, int64_t act) {
  STD_TORCH_CHECK(!coef || u, "effops: coef needs u");
  const Images images(grad);
  const OnDeviceOf device(grad);
  const Tensor incoming = channels_last(grad, "grad");
  OptionalTensor output, keep[3];
  if (coef) output = images.dense_like(*u, "u");
  NormGradArgs p{};
  p.pass = images.pass;
  const int64_t n = p.pass.n, c = p.pass.c;
  p.view = {incoming.const_data_ptr(),
            output ? output->const_data_ptr() : nullptr,
            optional_rows(coef, "coef", 5, c, keep[0]),
            optional_rows(gate, "gate", n, c, keep[1]),
            optional_rows(pool_grad, "pool_grad", n, c, keep[2]),
            static_cast<Act>(act)};
  Tensor y = images.make(grad);
  p.y = y.mutable_data_ptr();
  prepare_norm_grad(p);
  run_norm_grad(p, device.stream);
  return y;
}

}  // namespace
}  // namespace effops::cuda

EFFOPS_CUDA_LIBRARY(m) {
  m.impl("batch_norm_stats", TORCH_BOX(&effops::cuda::batch_norm_stats));
  m.impl("batch_norm_apply", TORCH_BOX(&effops::cuda::batch_norm_apply));
  m.impl("batch_norm_pool", TORCH_BOX(&effops::cuda::batch_norm_pool));
  m.impl("batch_norm_apply_pool", TORCH_BOX(&effops::cuda::batch_norm_apply_pool));
  m.impl("batch_norm_grad_sums", TORCH_BOX(&effops::cuda::batch_norm_grad_sums));
  m.impl("batch_norm_grad_apply", TORCH_BOX(&effops::cuda::batch_norm_grad_apply));
}
