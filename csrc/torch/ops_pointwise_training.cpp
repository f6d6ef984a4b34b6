// The CPU kernels of 1x1 convolutions in training as torch ops.
#include <algorithm>
#include <tuple>

#include "../cpu/run_pointwise_training.h"
#include "tensors.h"

namespace effops {
namespace {

// A float32 operand of any strides; `keep` holds the dense copy until the call ends.
const float* floats(const OptionalTensor& t, const char* name, int64_t rows, int64_t columns, OptionalTensor& keep) {
  if (!t) return nullptr;
  keep = dense(*t);
  return float_data(*keep, name, rows, columns);
}

// A channels_last image that must have the dtype of x.
const void* image_data(const Tensor& t, const char* name, const PointwiseShape& s, int64_t channels,
                       OptionalTensor& keep) {
  keep = channels_last(t, name);
  STD_TORCH_CHECK(dtype_of(t, name) == s.dtype && t.numel() == s.images * s.pixels * channels, "effops: ", name,
                  " must have the dtype of x and ", channels, " channels for each of its pixels");
  return keep->const_data_ptr();
}

// Operands of one call and the copies that keep them.
struct Operands {
  PointwiseShape shape;
  View view;
  WeightView weight;
  OptionalTensor keep[8];

  Operands(const Tensor& x, const OptionalTensor& affine, const OptionalTensor& gate, const Tensor& kernel,
           int64_t act) {
    STD_TORCH_CHECK(x.dim() == 4, "effops: x must have 4 dimensions, got ", x.dim());
    const auto size = x.sizes();
    shape = {size[0], size[2] * size[3], size[1], kernel.size(0), dtype_of(x, "x")};
    STD_TORCH_CHECK(kernel.dim() >= 2 && kernel.size(1) == shape.c && kernel.numel() == shape.out * shape.c,
                    "effops: weight must have shape (O, C, 1, 1)");
    weight = weight_view(kernel, shape.dtype);
    view.x = image_data(x, "x", shape, shape.c, keep[0]);
    view.affine = floats(affine, "affine", 3, shape.c, keep[1]);
    view.gate = floats(gate, "gate", shape.images, shape.c, keep[2]);
    view.act = static_cast<Act>(act);
  }

  GradView grad_view(const Tensor& grad, const OptionalTensor& u, const OptionalTensor& coef,
                     const OptionalTensor& gate, const OptionalTensor& pool_grad, int64_t act) {
    STD_TORCH_CHECK(!coef || u, "effops: coef needs u");
    GradView v{};
    v.grad = image_data(grad, "grad", shape, shape.out, keep[3]);
    if (coef) v.u = image_data(*u, "u", shape, shape.out, keep[4]);
    v.coef = floats(coef, "coef", 5, shape.out, keep[5]);
    v.gate = floats(gate, "u_gate", shape.images, shape.out, keep[6]);
    v.pool_grad = floats(pool_grad, "pool_grad", shape.images, shape.out, keep[7]);
    v.act = coef ? static_cast<Act>(act) : Act::kIdentity;
    return v;
  }
};

float* float_out(Tensor& t) { return static_cast<float*>(t.mutable_data_ptr()); }

Tensor none(const Tensor& like, ScalarType dtype) { return new_strided<1>(like, {0}, {1}, dtype); }

std::tuple<Tensor, Tensor> pointwise_conv_stats(Tensor x, OptionalTensor affine, OptionalTensor gate, Tensor weight,
                                                int64_t act) {
  const Operands in(x, affine, gate, weight, act);
  const PointwiseShape& s = in.shape;
  Tensor u = new_image(x, s.images, s.out, x.size(2), x.size(3));
  Tensor statistics = new_floats(x, 2, s.out);
  run_pointwise_stats(s, in.view, in.weight, u.mutable_data_ptr(), float_out(statistics), threads());
  return {u, statistics};
}

std::tuple<Tensor, Tensor, Tensor> pointwise_conv_backward(Tensor grad, OptionalTensor u, OptionalTensor coef,
                                                           OptionalTensor u_gate, OptionalTensor pool_grad,
                                                           int64_t u_act, Tensor x, OptionalTensor affine,
                                                           OptionalTensor gate, int64_t act, Tensor weight, bool need_x,
                                                           bool need_weight) {
  Operands in(x, affine, gate, weight, act);
  const PointwiseShape& s = in.shape;
  const GradView grad_view = in.grad_view(grad, u, coef, u_gate, pool_grad, u_act);
  const bool need_sums = need_x && (affine || gate);
  Tensor dx = need_x ? new_image(x, s.images, s.c, x.size(2), x.size(3)) : none(x, x.scalar_type());
  Tensor dweight = none(x, ScalarType::Float), sums = dweight;
  if (need_weight && weight.dim() == 2) dweight = new_floats(x, s.out, s.c);
  if (need_weight && weight.dim() == 4) {
    dweight = new_strided<4>(x, {s.out, s.c, 1, 1}, {s.c, 1, 1, 1}, ScalarType::Float);
  }
  if (need_sums) {
    sums = new_strided<3>(x, {kGradSums, s.images, s.c}, {std::max<int64_t>(1, s.images) * s.c, s.c, 1},
                          ScalarType::Float);
  }
  run_pointwise_backward(s, grad_view, in.view, in.weight, need_x ? dx.mutable_data_ptr() : nullptr,
                         need_weight ? float_out(dweight) : nullptr, need_sums ? float_out(sums) : nullptr, threads());
  return {dx, dweight, sums};
}

}  // namespace
}  // namespace effops

STABLE_TORCH_LIBRARY_IMPL(effops, CPU, m) {
  m.impl("pointwise_conv_stats", TORCH_BOX(&effops::pointwise_conv_stats));
  m.impl("pointwise_conv_backward", TORCH_BOX(&effops::pointwise_conv_backward));
}
