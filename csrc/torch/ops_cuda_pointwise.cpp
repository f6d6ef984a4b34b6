// The 1x1 convolutions on CUDA tensors as torch ops.
#include <algorithm>
#include <tuple>
#include <utility>

#include "../cuda/product.h"
#include "ops_cuda.h"

namespace effops::cuda {
namespace {

// A channels_last image that must have the dtype of x and these channels; `keep` holds it until the call ends.
const void* image_data(const Tensor& t, const char* name, const Tensor& x, int64_t channels, OptionalTensor& keep) {
  keep = channels_last(t, name);
  STD_TORCH_CHECK(t.scalar_type() == x.scalar_type() && t.numel() == x.size(0) * x.size(2) * x.size(3) * channels,
                  "effops: ", name, " must have the dtype of x and ", channels, " channels for each of its pixels");
  return keep->const_data_ptr();
}

// Of y = W x: the product's shape and x.
ProductArgs forward_arguments(const Tensor& x, const Tensor& weight, OptionalTensor& keep) {
  STD_TORCH_CHECK(x.dim() == 4, "effops: x must have 4 dimensions, got ", x.dim());
  const int64_t c = x.size(1), out = weight.size(0);
  STD_TORCH_CHECK(weight.dim() >= 2 && weight.size(1) == c && weight.numel() == out * c && out > 0 && c > 0,
                  "effops: weight must have shape (O, C, 1, 1) with at least one value");
  ProductArgs p{};
  p.pixels = x.size(2) * x.size(3);
  p.m = x.size(0) * p.pixels, p.n = out, p.k = c;
  p.view.x = image_data(x, "x", x, c, keep);
  p.weight = weight_view(weight, x);
  return p;
}

}  // namespace

Tensor pointwise_conv_act(Tensor x, Tensor weight, OptionalTensor bias, OptionalTensor gate, OptionalTensor residual,
                          int64_t act) {
  const OnDeviceOf device(x);
  OptionalTensor keep[5];
  ProductArgs p = forward_arguments(x, weight, keep[0]);
  Tensor y = new_image(x, x.size(0), p.n, x.size(2), x.size(3));
  p.view.gate = optional_rows(gate, "gate", x.size(0), p.k, keep[1]);
  p.bias = vector_view(bias, "bias", p.n, keep[2]);
  if (residual) p.residual = image_data(*residual, "residual", x, p.n, keep[3]);
  p.act = static_cast<Act>(act);
  p.y = y.mutable_data_ptr();
  float* const memory = workspace(x, prepare_product(p, ProductSums::kNone), keep[4]);
  run_product(p, memory, device.stream);
  return y;
}

namespace {

std::tuple<Tensor, Tensor> pointwise_conv_stats(Tensor x, OptionalTensor affine, OptionalTensor gate, Tensor weight,
                                                int64_t act) {
  const OnDeviceOf device(x);
  OptionalTensor keep[4];
  ProductArgs p = forward_arguments(x, weight, keep[0]);
  Tensor u = new_image(x, x.size(0), p.n, x.size(2), x.size(3)), stats = new_floats(x, 2, p.n);
  p.view.affine = optional_rows(affine, "affine", 3, p.k, keep[1]);
  p.view.gate = optional_rows(gate, "gate", x.size(0), p.k, keep[2]);
  p.view.act = static_cast<Act>(act);
  p.y = u.mutable_data_ptr();
  float* const memory = workspace(x, prepare_product(p, ProductSums::kStatistics), keep[3]);
  run_product_stats(p, memory, floats(stats), device.stream);
  return {u, stats};
}

Tensor weight_grad_like(const Tensor& weight, bool needed) {
  const int64_t out = weight.size(0), c = weight.size(1);
  if (!needed) return new_tensor<1>(weight, {0}, {1}, ScalarType::Float);
  if (weight.dim() == 2) return new_floats(weight, out, c);
  return new_tensor<4>(weight, {out, c, 1, 1}, {c, 1, 1, 1}, ScalarType::Float);
}

std::tuple<Tensor, Tensor, Tensor> pointwise_conv_backward(Tensor grad, OptionalTensor u, OptionalTensor coef,
                                                           OptionalTensor u_gate, OptionalTensor pool_grad,
                                                           int64_t u_act, Tensor x, OptionalTensor affine,
                                                           OptionalTensor gate, int64_t act, Tensor weight, bool need_x,
                                                           bool need_weight) {
  const OnDeviceOf device(x);
  OptionalTensor keep[9], keep_memory[2];
  const ProductArgs forward = forward_arguments(x, weight, keep[0]);
  const int64_t images = x.size(0), c = forward.k, out = forward.n;
  View view = forward.view;
  view.affine = optional_rows(affine, "affine", 3, c, keep[1]);
  view.gate = optional_rows(gate, "gate", images, c, keep[2]);
  view.act = static_cast<Act>(act);
  STD_TORCH_CHECK(!coef || u, "effops: coef needs u");
  GradView du{};
  du.grad = image_data(grad, "grad", x, out, keep[3]);
  if (coef) du.u = image_data(*u, "u", x, out, keep[4]);
  du.coef = optional_rows(coef, "coef", 5, out, keep[5]);
  du.gate = optional_rows(u_gate, "u_gate", images, out, keep[6]);
  du.pool_grad = optional_rows(pool_grad, "pool_grad", images, out, keep[7]);
  du.act = coef ? static_cast<Act>(u_act) : Act::kIdentity;

  const bool need_sums = need_x && (affine || gate);
  Tensor dx = need_x ? new_image(x, images, c, x.size(2), x.size(3)) : new_tensor<1>(x, {0}, {1}, x.scalar_type());
  Tensor dweight = weight_grad_like(weight, need_weight), sums = new_tensor<1>(x, {0}, {1}, ScalarType::Float);
  if (need_sums) {
    sums = new_tensor<3>(x, {kGradSums, images, c}, {std::max<int64_t>(1, images) * c, c, 1}, ScalarType::Float);
  }
  if (need_x) {
    ProductArgs p = forward;
    p.n = c, p.k = out;
    std::swap(p.weight.n, p.weight.c);
    std::swap(p.weight.stride_n, p.weight.stride_c);
    p.grad = du;
    p.view = view;
    p.y = dx.mutable_data_ptr();
    const ProductSums kind = need_sums ? ProductSums::kGradSums : ProductSums::kNone;
    float* const memory = workspace(x, prepare_product(p, kind), keep_memory[0]);
    run_product_grad(p, memory, need_sums ? floats(sums) : nullptr, device.stream);
  }
  if (need_weight) {
    WeightGradArgs p{};
    p.rows = forward.m, p.pixels = forward.pixels, p.out = out, p.c = c;
    p.dtype = forward.weight.dtype;
    p.grad = du;
    p.view = view;
    p.partial = workspace(x, prepare_weight_grad(p), keep_memory[1]);
    run_weight_grad(p, floats(dweight), device.stream);
  }
  return {dx, dweight, sums};
}

}  // namespace
}  // namespace effops::cuda

EFFOPS_CUDA_LIBRARY(m) {
  m.impl("pointwise_conv_act", TORCH_BOX(&effops::cuda::pointwise_conv_act));
  m.impl("pointwise_conv_stats", TORCH_BOX(&effops::cuda::pointwise_conv_stats));
  m.impl("pointwise_conv_backward", TORCH_BOX(&effops::cuda::pointwise_conv_backward));
}
