// The backward of the depthwise convolution on CUDA tensors as a torch op.
#include <algorithm>
#include <tuple>

#include "../cuda/depthwise_backward.h"
#include "tensors_cuda.h"

namespace effops::cuda {
namespace {

// An image of the output's shape, channels_last.
Tensor output_image(const Tensor& t, const char* name, const ConvShape& s, const Tensor& x) {
  Tensor image = channels_last(t, name);
  STD_TORCH_CHECK(t.size(0) == s.n && t.size(1) == s.c && t.size(2) == s.oh && t.size(3) == s.ow &&
                      t.scalar_type() == x.scalar_type(),
                  "effops: ", name, " must have the shape of the convolution's output (", s.n, ", ", s.c, ", ", s.oh,
                  ", ", s.ow, ") and the dtype of x");
  return image;
}

Tensor nothing(const Tensor& x, ScalarType dtype) { return new_tensor<1>(x, {0}, {1}, dtype); }

std::tuple<Tensor, Tensor, Tensor> depthwise_conv_backward(Tensor grad, OptionalTensor u, OptionalTensor coef,
                                                           OptionalTensor u_gate, OptionalTensor pool_grad,
                                                           int64_t u_act, Tensor x, OptionalTensor affine, int64_t act,
                                                           Tensor weight, int64_t stride_h, int64_t stride_w,
                                                           int64_t pad_h, int64_t pad_w, int64_t dilation_h,
                                                           int64_t dilation_w, bool need_x, bool need_weight) {
  const ConvShape s = conv_shape(x, weight, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w);
  STD_TORCH_CHECK(weight.size(0) == s.c && weight.size(1) == 1 && s.c > 0,
                  "effops: weight must have shape (C, 1, kh, kw) with at least one channel");
  STD_TORCH_CHECK(!coef || u, "effops: coef needs u");
  const OnDeviceOf device(x);
  const Tensor image = channels_last(x, "x"), gradient = output_image(grad, "grad", s, x);
  OptionalTensor output, keep_coef, keep_gate, keep_pool, keep_affine, keep_sums, keep_dweight;
  DepthwiseBackwardArgs p{};
  p.shape = s;
  p.weight = weight_view(weight, x);
  p.grad.grad = gradient.const_data_ptr();
  if (coef) {
    output = output_image(*u, "u", s, x);
    p.grad.u = output->const_data_ptr();
  }
  p.grad.coef = optional_rows(coef, "coef", 5, s.c, keep_coef);
  p.grad.gate = optional_rows(u_gate, "u_gate", s.n, s.c, keep_gate);
  p.grad.pool_grad = optional_rows(pool_grad, "pool_grad", s.n, s.c, keep_pool);
  p.grad.act = static_cast<Act>(u_act);
  p.view.x = image.const_data_ptr();
  p.view.affine = optional_rows(affine, "affine", 3, s.c, keep_affine);
  p.view.act = static_cast<Act>(act);
  const bool need_sums = need_x && affine;
  Tensor dx = need_x ? new_image(x, s.n, s.c, s.h, s.w) : nothing(x, x.scalar_type());
  Tensor dweight = need_weight
                       ? new_tensor<4>(x, {s.c, 1, s.kh, s.kw}, {s.kh * s.kw, s.kh * s.kw, s.kw, 1}, ScalarType::Float)
                       : nothing(x, ScalarType::Float);
  Tensor sums =
      need_sums ? new_tensor<3>(x, {kGradSums, s.n, s.c}, {std::max<int64_t>(1, s.n) * s.c, s.c, 1}, ScalarType::Float)
                : nothing(x, ScalarType::Float);
  if (!need_x && !need_weight) return {dx, dweight, sums};
  if (need_x) p.dx = dx.mutable_data_ptr();
  prepare_depthwise_backward(p);
  if (need_sums) p.sums = workspace(x, sums_workspace(p), keep_sums);
  if (need_weight) p.dweight = workspace(x, dweight_workspace(p), keep_dweight);
  run_depthwise_backward(p, need_weight ? floats(dweight) : nullptr, need_sums ? floats(sums) : nullptr, device.stream);
  return {dx, dweight, sums};
}

}  // namespace
}  // namespace effops::cuda

EFFOPS_CUDA_LIBRARY(m) { m.impl("depthwise_conv_backward", TORCH_BOX(&effops::cuda::depthwise_conv_backward)); }
