// The depthwise convolution of training and its backward as torch ops.
#include <algorithm>
#include <tuple>

#include "../cpu/run_depthwise_training.h"
#include "tensors.h"

namespace effops {
namespace {

// A (rows, columns) float32 tensor, dense: `keep` holds its copy until the call ends.
const float* optional_floats(const OptionalTensor& t, const char* name, int64_t rows, int64_t columns,
                             OptionalTensor& keep) {
  if (!t) return nullptr;
  keep = dense(*t);
  return float_data(*keep, name, rows, columns);
}

// An image of the output's shape, channels_last.
Tensor output_image(const Tensor& t, const char* name, const ConvShape& s, DType dtype) {
  Tensor image = channels_last(t, name);
  STD_TORCH_CHECK(
      t.size(0) == s.n && t.size(1) == s.c && t.size(2) == s.oh && t.size(3) == s.ow && dtype_of(t, name) == dtype,
      "effops: ", name, " must have the shape of the convolution's output (", s.n, ", ", s.c, ", ", s.oh, ", ", s.ow,
      ") and the dtype of x");
  return image;
}

void check_weight(const Tensor& weight, const ConvShape& s) {
  STD_TORCH_CHECK(weight.size(0) == s.c && weight.size(1) == 1, "effops: weight must have shape (C, 1, kh, kw)");
}

float* floats_of(Tensor& t) { return static_cast<float*>(t.mutable_data_ptr()); }

std::tuple<Tensor, Tensor> depthwise_conv_stats(Tensor x, OptionalTensor affine, Tensor weight, int64_t stride_h,
                                                int64_t stride_w, int64_t pad_h, int64_t pad_w, int64_t dilation_h,
                                                int64_t dilation_w, int64_t act) {
  const ConvShape s = conv_shape(x, weight, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w);
  check_weight(weight, s);
  const Tensor image = channels_last(x, "x");
  Tensor u = new_image(x, s.n, s.c, s.oh, s.ow), stats = new_floats(x, 2, s.c);
  OptionalTensor keep;
  DepthwiseStatsParams p{};
  p.shape = s;
  p.dtype = dtype_of(x, "x");
  p.view = {image.const_data_ptr(), optional_floats(affine, "affine", 3, s.c, keep), nullptr, static_cast<Act>(act)};
  p.u = u.mutable_data_ptr();
  run_depthwise_stats(p, weight_view(weight, p.dtype), floats_of(stats), threads());
  return {u, stats};
}

std::tuple<Tensor, Tensor, Tensor> depthwise_conv_backward(Tensor grad, OptionalTensor u, OptionalTensor coef,
                                                           OptionalTensor u_gate, OptionalTensor pool_grad,
                                                           int64_t u_act, Tensor x, OptionalTensor affine, int64_t act,
                                                           Tensor weight, int64_t stride_h, int64_t stride_w,
                                                           int64_t pad_h, int64_t pad_w, int64_t dilation_h,
                                                           int64_t dilation_w, bool need_x, bool need_weight) {
  const ConvShape s = conv_shape(x, weight, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w);
  check_weight(weight, s);
  STD_TORCH_CHECK(!coef || u, "effops: coef needs u");
  OptionalTensor keep[4];
  DepthwiseBackwardParams p{};
  p.shape = s;
  p.dtype = dtype_of(x, "x");
  const Tensor image = channels_last(x, "x");
  const Tensor gradient = output_image(grad, "grad", s, p.dtype);
  const Tensor output = coef ? output_image(*u, "u", s, p.dtype) : gradient;
  p.grad = {gradient.const_data_ptr(),
            output.const_data_ptr(),
            optional_floats(coef, "coef", 5, s.c, keep[0]),
            optional_floats(u_gate, "u_gate", s.n, s.c, keep[1]),
            optional_floats(pool_grad, "pool_grad", s.n, s.c, keep[2]),
            static_cast<Act>(u_act)};
  p.view = {image.const_data_ptr(), optional_floats(affine, "affine", 3, s.c, keep[3]), nullptr, static_cast<Act>(act)};
  const ScalarType dtype = x.scalar_type();
  const bool need_sums = need_x && affine;
  Tensor dx = need_x ? new_image(x, s.n, s.c, s.h, s.w) : new_strided<1>(x, {0}, {1}, dtype);
  Tensor dweight = need_weight
                       ? new_strided<4>(x, {s.c, 1, s.kh, s.kw}, {s.kh * s.kw, s.kh * s.kw, s.kw, 1}, ScalarType::Float)
                       : new_strided<1>(x, {0}, {1}, ScalarType::Float);
  Tensor sums =
      need_sums ? new_strided<3>(x, {kGradSums, s.n, s.c}, {std::max<int64_t>(1, s.n) * s.c, s.c, 1}, ScalarType::Float)
                : new_strided<1>(x, {0}, {1}, ScalarType::Float);
  if (need_x) p.dx = dx.mutable_data_ptr();
  if (need_x || need_weight) {
    run_depthwise_backward(p, weight_view(weight, p.dtype), need_weight ? floats_of(dweight) : nullptr,
                           need_sums ? floats_of(sums) : nullptr, threads());
  }
  return {dx, dweight, sums};
}

}  // namespace
}  // namespace effops

STABLE_TORCH_LIBRARY_IMPL(effops, CPU, m) {
  m.impl("depthwise_conv_stats", TORCH_BOX(&effops::depthwise_conv_stats));
  m.impl("depthwise_conv_backward", TORCH_BOX(&effops::depthwise_conv_backward));
}
