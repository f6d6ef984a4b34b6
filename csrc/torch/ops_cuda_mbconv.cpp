// Whole blocks on CUDA tensors as torch ops: as few kernels as pay (csrc/cuda/mbconv_heuristics.h), else their parts.
#include <tuple>

#include "../cuda/fused_mbconv.h"
#include "../cuda/mbconv.h"
#include "ops_cuda.h"

namespace effops::cuda {
namespace {

// Whether a block runs fused that fits on chip.
bool fuses(bool fits, bool pays) {
#if defined(EFFOPS_CUDA_HOST)
  if (host::fuses_what_fits()) return fits;
#endif
  return fits && pays;
}

int64_t element_bytes(const Tensor& x) { return dtype_of(x, "x") == DType::kFloat32 ? 4 : 2; }

// x is added to y.
void check_residual(const Tensor& x, const ConvShape& s, int64_t out) {
  STD_TORCH_CHECK(x.size(1) == out && s.oh == s.h && s.ow == s.w, "effops: residual must have the shape of the output");
}

void check_projection(const Tensor& weight, int64_t hidden) {
  STD_TORCH_CHECK(weight.size(1) == hidden && weight.numel() == weight.size(0) * hidden && weight.numel() > 0,
                  "effops: the projection's weight must have shape (O, M, 1, 1) for the M expanded channels");
}

Tensor fused_mbconv(Tensor x, Tensor expand_weight, OptionalTensor expand_bias, int64_t stride_h, int64_t stride_w,
                    int64_t pad_h, int64_t pad_w, int64_t dilation_h, int64_t dilation_w, Tensor project_weight,
                    OptionalTensor project_bias, bool residual, int64_t act, int64_t project_act) {
  const ConvShape s = conv_shape(x, expand_weight, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w);
  STD_TORCH_CHECK(expand_weight.size(1) == s.c && s.c > 0 && s.oc > 0,
                  "effops: the expansion's weight must have shape (M, C, kh, kw) with at least one value");
  check_projection(project_weight, s.oc);
  const int64_t out = project_weight.size(0);
  if (residual) check_residual(x, s, out);
  FusedMbconvArgs p{};
  p.tiling = fused_mbconv_tiling(s, out, element_bytes(x));
  if (!fuses(p.tiling.out_tiles != 0, p.tiling.pays)) {
    const Tensor hidden =
        conv_act(x, expand_weight, expand_bias, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, act);
    return pointwise_conv_act(hidden, project_weight, project_bias, std::nullopt,
                              residual ? OptionalTensor(x) : std::nullopt, project_act);
  }
  const OnDeviceOf device(x);
  const Tensor image = channels_last(x, "x");
  Tensor y = new_image(x, s.n, out, s.oh, s.ow);
  OptionalTensor keep[3];
  ProductArgs &expand = p.expand, &project = p.project;
  expand.conv = s;
  expand.m = project.m = s.n * s.oh * s.ow;
  expand.pixels = project.pixels = s.oh * s.ow;
  expand.n = project.k = s.oc, expand.k = s.kh * s.kw * s.c, project.n = out;
  expand.view.x = image.const_data_ptr();
  expand.weight = weight_view(expand_weight, x), project.weight = weight_view(project_weight, x);
  expand.bias = vector_view(expand_bias, "expand_bias", s.oc, keep[0]);
  project.bias = vector_view(project_bias, "project_bias", out, keep[1]);
  expand.act = static_cast<Act>(act), project.act = static_cast<Act>(project_act);
  if (residual) project.residual = image.const_data_ptr();
  project.y = y.mutable_data_ptr();
  float* const memory = workspace(x, prepare_fused_mbconv(p), keep[2]);
  run_fused_mbconv(p, memory, device.stream);
  return y;
}

// act(dwconv(act(W x + bias)) + bias) in one kernel; `pooled` is null, or receives the mean.
Tensor expand_depthwise(const Tensor& x, const Tensor& expand_weight, const OptionalTensor& expand_bias,
                        const Tensor& depthwise_weight, const OptionalTensor& depthwise_bias, const ConvShape& s,
                        const MbconvTiling& tiling, int64_t act, Tensor* pooled) {
  const OnDeviceOf device(x);
  const Tensor image = channels_last(x, "x");
  Tensor y = new_image(x, s.n, s.c, s.oh, s.ow);
  if (pooled) *pooled = new_floats(x, s.n, s.c);
  OptionalTensor keep[3];
  MbconvArgs p{};
  p.tiling = tiling;
  p.expand.pixels = s.h * s.w;
  p.expand.m = s.n * p.expand.pixels, p.expand.n = s.c, p.expand.k = x.size(1);
  p.expand.view.x = image.const_data_ptr();
  p.expand.weight = weight_view(expand_weight, x);
  p.expand.bias = vector_view(expand_bias, "expand_bias", s.c, keep[0]);
  p.depthwise.shape = s;
  p.depthwise.weight = weight_view(depthwise_weight, x);
  p.depthwise.bias = vector_view(depthwise_bias, "depthwise_bias", s.c, keep[1]);
  p.expand.act = p.depthwise.act = static_cast<Act>(act);
  p.depthwise.y = y.mutable_data_ptr();
  float* const memory = workspace(x, prepare_mbconv(p, pooled != nullptr), keep[2]);
  run_mbconv(p, memory, pooled ? floats(*pooled) : nullptr, device.stream);
  return y;
}

Tensor mbconv(Tensor x, OptionalTensor expand_weight, OptionalTensor expand_bias, Tensor depthwise_weight,
              OptionalTensor depthwise_bias, int64_t stride_h, int64_t stride_w, int64_t pad_h, int64_t pad_w,
              int64_t dilation_h, int64_t dilation_w, OptionalTensor reduce_weight, OptionalTensor reduce_bias,
              OptionalTensor excite_weight, OptionalTensor excite_bias, Tensor project_weight,
              OptionalTensor project_bias, bool residual, int64_t act, int64_t se_act, int64_t gate,
              int64_t project_act) {
  ConvShape s = conv_shape(x, depthwise_weight, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w);
  const int64_t channels = s.c;
  s.c = s.oc;
  STD_TORCH_CHECK(
      depthwise_weight.size(1) == 1 && channels > 0 && s.c > 0 &&
          (expand_weight ? expand_weight->size(0) == s.c && expand_weight->numel() == s.c * channels : channels == s.c),
      "effops: the weights of expansion and depthwise convolution do not fit together");
  STD_TORCH_CHECK(!reduce_weight || excite_weight, "effops: reduce_weight needs excite_weight");
  check_projection(project_weight, s.c);
  if (residual) check_residual(x, s, project_weight.size(0));
  Tensor y = x, pooled;
  OptionalTensor scale;
  const MbconvTiling tiling = expand_weight ? mbconv_tiling(s, channels, element_bytes(x)) : MbconvTiling{};
  if (fuses(tiling.groups != 0, tiling.pays)) {
    y = expand_depthwise(x, *expand_weight, expand_bias, depthwise_weight, depthwise_bias, s, tiling, act,
                         reduce_weight ? &pooled : nullptr);
  } else {
    if (expand_weight) y = pointwise_conv_act(x, *expand_weight, expand_bias, std::nullopt, std::nullopt, act);
    if (reduce_weight) {
      std::tie(y, pooled) = depthwise_conv_act_pool(y, depthwise_weight, depthwise_bias, stride_h, stride_w, pad_h,
                                                    pad_w, dilation_h, dilation_w, act);
    } else {
      y = depthwise_conv_act(y, depthwise_weight, depthwise_bias, stride_h, stride_w, pad_h, pad_w, dilation_h,
                             dilation_w, act);
    }
  }
  if (reduce_weight) {
    scale = se_gate(pooled, *reduce_weight, reduce_bias, *excite_weight, excite_bias, se_act, gate);
  }
  return pointwise_conv_act(y, project_weight, project_bias, scale, residual ? OptionalTensor(x) : std::nullopt,
                            project_act);
}

}  // namespace
}  // namespace effops::cuda

EFFOPS_CUDA_LIBRARY(m) {
  m.impl("fused_mbconv", TORCH_BOX(&effops::cuda::fused_mbconv));
  m.impl("mbconv", TORCH_BOX(&effops::cuda::mbconv));
}
