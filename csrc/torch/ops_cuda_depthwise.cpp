// The depthwise convolutions on CUDA tensors as torch ops.
#include "../cuda/depthwise.h"
#include "ops_cuda.h"

namespace effops::cuda {
namespace {

DepthwiseArgs arguments(const Tensor& x, const Tensor& image, const Tensor& weight, const ConvShape& s) {
  STD_TORCH_CHECK(weight.size(0) == s.c && weight.size(1) == 1 && s.c > 0,
                  "effops: weight must have shape (C, 1, kh, kw) with at least one channel");
  DepthwiseArgs p{};
  p.shape = s;
  p.weight = weight_view(weight, x);
  p.view.x = image.const_data_ptr();
  return p;
}

// `pooled` is null, or receives the mean.
Tensor forward(const Tensor& x, const Tensor& weight, const OptionalTensor& bias, const ConvShape& s, int64_t act,
               Tensor* pooled) {
  const OnDeviceOf device(x);
  const Tensor image = channels_last(x, "x");
  DepthwiseArgs p = arguments(x, image, weight, s);
  Tensor y = new_image(x, s.n, s.c, s.oh, s.ow);
  if (pooled) *pooled = new_floats(x, s.n, s.c);
  OptionalTensor keep_bias, keep_partial;
  p.bias = vector_view(bias, "bias", s.c, keep_bias);
  p.act = static_cast<Act>(act);
  p.y = y.mutable_data_ptr();
  const int64_t floats_needed = prepare_depthwise(p, false);
  if (pooled) p.partial = workspace(x, floats_needed, keep_partial);
  run_depthwise(p, pooled ? floats(*pooled) : nullptr, device.stream);
  return y;
}

}  // namespace

Tensor depthwise_conv_act(Tensor x, Tensor weight, OptionalTensor bias, int64_t stride_h, int64_t stride_w,
                          int64_t pad_h, int64_t pad_w, int64_t dilation_h, int64_t dilation_w, int64_t act) {
  const ConvShape s = conv_shape(x, weight, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w);
  return forward(x, weight, bias, s, act, nullptr);
}

std::tuple<Tensor, Tensor> depthwise_conv_act_pool(Tensor x, Tensor weight, OptionalTensor bias, int64_t stride_h,
                                                   int64_t stride_w, int64_t pad_h, int64_t pad_w, int64_t dilation_h,
                                                   int64_t dilation_w, int64_t act) {
  const ConvShape s = conv_shape(x, weight, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w);
  Tensor pooled;
  Tensor y = forward(x, weight, bias, s, act, &pooled);
  return {y, pooled};
}

namespace {

std::tuple<Tensor, Tensor> depthwise_conv_stats(Tensor x, OptionalTensor affine, Tensor weight, int64_t stride_h,
                                                int64_t stride_w, int64_t pad_h, int64_t pad_w, int64_t dilation_h,
                                                int64_t dilation_w, int64_t act) {
  const ConvShape s = conv_shape(x, weight, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w);
  const OnDeviceOf device(x);
  const Tensor image = channels_last(x, "x");
  DepthwiseArgs p = arguments(x, image, weight, s);
  Tensor u = new_image(x, s.n, s.c, s.oh, s.ow), stats = new_floats(x, 2, s.c);
  OptionalTensor keep_affine, keep_partial;
  p.view.affine = optional_rows(affine, "affine", 3, s.c, keep_affine);
  p.view.act = static_cast<Act>(act);
  p.y = u.mutable_data_ptr();
  const int64_t floats_needed = prepare_depthwise(p, true);
  p.partial = workspace(x, floats_needed, keep_partial);
  run_depthwise_stats(p, floats(stats), device.stream);
  return {u, stats};
}

}  // namespace
}  // namespace effops::cuda

EFFOPS_CUDA_LIBRARY(m) {
  m.impl("depthwise_conv_act", TORCH_BOX(&effops::cuda::depthwise_conv_act));
  m.impl("depthwise_conv_act_pool", TORCH_BOX(&effops::cuda::depthwise_conv_act_pool));
  m.impl("depthwise_conv_stats", TORCH_BOX(&effops::cuda::depthwise_conv_stats));
}
