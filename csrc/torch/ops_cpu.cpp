// The folded CPU kernels as torch ops: tensors to params and back. Shapes, dtypes and values were checked in Python
// (effops/ops/checks.py); here only what would corrupt memory is checked again.
#include "ops_cpu.h"

#include "tensors.h"

namespace effops {
namespace {

// `pooled` is null, or receives the mean.
Tensor depthwise_image(const Tensor& x, const Tensor& weight, const OptionalTensor& bias, const ConvShape& s,
                       int64_t act, Tensor* pooled) {
  STD_TORCH_CHECK(weight.size(0) == s.c && weight.size(1) == 1, "effops: weight must have shape (C, 1, kh, kw)");
  const Tensor image = channels_last(x, "x");
  Tensor y = new_image(x, s.n, s.c, s.oh, s.ow);
  if (pooled) *pooled = new_floats(x, s.n, s.c);
  OptionalTensor keep;
  DepthwiseParams p{};
  p.shape = s;
  p.dtype = dtype_of(x, "x");
  p.act = static_cast<Act>(act);
  p.x = image.const_data_ptr();
  p.y = y.mutable_data_ptr();
  run_depthwise(p, weight_view(weight, p.dtype), vector_view(bias, "bias", s.c, keep),
                pooled ? static_cast<float*>(pooled->mutable_data_ptr()) : nullptr, threads());
  return y;
}

}  // namespace

Tensor depthwise_conv_act(Tensor x, Tensor weight, OptionalTensor bias, int64_t stride_h, int64_t stride_w,
                          int64_t pad_h, int64_t pad_w, int64_t dilation_h, int64_t dilation_w, int64_t act) {
  const ConvShape s = conv_shape(x, weight, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w);
  return depthwise_image(x, weight, bias, s, act, nullptr);
}

std::tuple<Tensor, Tensor> depthwise_conv_act_pool(Tensor x, Tensor weight, OptionalTensor bias, int64_t stride_h,
                                                   int64_t stride_w, int64_t pad_h, int64_t pad_w, int64_t dilation_h,
                                                   int64_t dilation_w, int64_t act) {
  const ConvShape s = conv_shape(x, weight, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w);
  Tensor pooled;
  Tensor y = depthwise_image(x, weight, bias, s, act, &pooled);
  return {y, pooled};
}

Tensor conv_act(Tensor x, Tensor weight, OptionalTensor bias, int64_t stride_h, int64_t stride_w, int64_t pad_h,
                int64_t pad_w, int64_t dilation_h, int64_t dilation_w, int64_t act) {
  const ConvShape s = conv_shape(x, weight, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w);
  STD_TORCH_CHECK(weight.size(1) == s.c, "effops: weight must have shape (O, C, kh, kw)");
  Tensor y = new_image(x, s.n, s.oc, s.oh, s.ow);
  OptionalTensor keep;
  GemmParams p{};
  p.m = s.n * s.oh * s.ow, p.n = s.oc, p.k = s.kh * s.kw * s.c;
  p.dtype = dtype_of(x, "x");
  p.act = static_cast<Act>(act);
  p.x = x.const_data_ptr();  // of any strides: patches are gathered
  const auto stride = x.strides();
  p.x_stride_n = stride[0], p.x_stride_c = stride[1], p.x_stride_h = stride[2], p.x_stride_w = stride[3];
  p.conv = &s;
  p.y = y.mutable_data_ptr();
  run_gemm(p, weight_view(weight, p.dtype), vector_view(bias, "bias", s.oc, keep), threads());
  return y;
}

Tensor pointwise_conv_act(Tensor x, Tensor weight, OptionalTensor bias, OptionalTensor gate, OptionalTensor residual,
                          int64_t act) {
  const Tensor image = channels_last(x, "x");
  const int64_t n = x.size(0), c = x.size(1), h = x.size(2), w = x.size(3), out = weight.size(0);
  STD_TORCH_CHECK(weight.size(1) == c && weight.numel() == out * c, "effops: weight must have shape (O, C, 1, 1)");
  Tensor y = new_image(x, n, out, h, w);
  OptionalTensor keep_bias;
  GemmParams p{};
  p.m = n * h * w, p.n = out, p.k = c;
  p.dtype = dtype_of(x, "x");
  p.act = static_cast<Act>(act);
  p.x = image.const_data_ptr();
  Tensor scale = gate ? dense(*gate) : x;
  if (gate) p.gate = float_data(scale, "gate", n, c);
  p.rows_per_image = h * w;
  Tensor addend = residual ? channels_last(*residual, "residual") : x;
  if (residual) {
    STD_TORCH_CHECK(addend.scalar_type() == x.scalar_type() && addend.numel() == p.m * out,
                    "effops: residual must have the shape and dtype of the output");
    p.residual = addend.const_data_ptr();
  }
  p.y = y.mutable_data_ptr();
  run_gemm(p, weight_view(weight, p.dtype), vector_view(bias, "bias", out, keep_bias), threads());
  return y;
}

namespace {

Tensor gate_of(const Tensor& pooled, const Tensor& reduce_weight, const OptionalTensor& reduce_bias,
               const Tensor& expand_weight, const OptionalTensor& expand_bias, int64_t act, int64_t gate) {
  const int64_t n = pooled.size(0), c = pooled.size(1), r = reduce_weight.size(0);
  const Tensor mean = dense(pooled);
  Tensor out = new_floats(pooled, n, c);
  OptionalTensor keep[4];
  SeGateParams p{};
  p.n = n, p.c = c, p.r = r;
  p.act = static_cast<Act>(act);
  p.gate = static_cast<Gate>(gate);
  p.pooled = float_data(mean, "pooled", n, c);
  p.out = static_cast<float*>(out.mutable_data_ptr());
  const SeWeights weights{
      vector_view(reduce_weight, "reduce_weight", r * c, keep[0]), vector_view(reduce_bias, "reduce_bias", r, keep[1]),
      vector_view(expand_weight, "expand_weight", c * r, keep[2]), vector_view(expand_bias, "expand_bias", c, keep[3])};
  run_se_gate(p, weights, threads());
  return out;
}

}  // namespace

Tensor se_gate(Tensor pooled, Tensor reduce_weight, OptionalTensor reduce_bias, Tensor expand_weight,
               OptionalTensor expand_bias, int64_t act, int64_t gate) {
  return gate_of(pooled, reduce_weight, reduce_bias, expand_weight, expand_bias, act, gate);
}

Tensor squeeze_excite(Tensor x, Tensor reduce_weight, OptionalTensor reduce_bias, Tensor expand_weight,
                      OptionalTensor expand_bias, OptionalTensor pooled, int64_t act, int64_t gate) {
  const Tensor image = channels_last(x, "x");
  const int64_t n = x.size(0), c = x.size(1), h = x.size(2), w = x.size(3);
  Tensor y = new_image(x, n, c, h, w);
  ImageParams p{};
  p.n = n, p.pixels = h * w, p.c = c;
  p.dtype = dtype_of(x, "x");
  p.x = image.const_data_ptr();
  p.y = y.mutable_data_ptr();
  Tensor mean = pooled ? *pooled : new_floats(x, n, c);
  if (!pooled) run_mean(p, static_cast<float*>(mean.mutable_data_ptr()), threads());
  const Tensor scale = gate_of(mean, reduce_weight, reduce_bias, expand_weight, expand_bias, act, gate);
  p.scale = float_data(scale, "gate", n, c);
  run_scale(p, threads());
  return y;
}

}  // namespace effops

STABLE_TORCH_LIBRARY_IMPL(effops, CPU, m) {
  m.impl("conv_act", TORCH_BOX(&effops::conv_act));
  m.impl("depthwise_conv_act", TORCH_BOX(&effops::depthwise_conv_act));
  m.impl("depthwise_conv_act_pool", TORCH_BOX(&effops::depthwise_conv_act_pool));
  m.impl("pointwise_conv_act", TORCH_BOX(&effops::pointwise_conv_act));
  m.impl("se_gate", TORCH_BOX(&effops::se_gate));
  m.impl("squeeze_excite", TORCH_BOX(&effops::squeeze_excite));
}
