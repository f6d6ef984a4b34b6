// The fused inverted residual as one torch op on CPU tensors.
#include "../cpu/run_fused_mbconv.h"
#include "ops_cpu.h"
#include "tensors.h"

namespace effops {
namespace {

Tensor fused_mbconv(Tensor x, Tensor expand_weight, OptionalTensor expand_bias, int64_t stride_h, int64_t stride_w,
                    int64_t pad_h, int64_t pad_w, int64_t dilation_h, int64_t dilation_w, Tensor project_weight,
                    OptionalTensor project_bias, bool residual, int64_t act, int64_t project_act) {
  FusedMbconvParams p{};
  p.conv = conv_shape(x, expand_weight, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w);
  const ConvShape& s = p.conv;
  p.out = project_weight.size(0);
  p.dtype = dtype_of(x, "x");
  p.act = static_cast<Act>(act), p.project_act = static_cast<Act>(project_act);
  STD_TORCH_CHECK(
      expand_weight.size(1) == s.c && project_weight.size(1) == s.oc && project_weight.numel() == p.out * s.oc,
      "effops: the weights of expansion and projection do not fit together");
  STD_TORCH_CHECK(!residual || (p.out == s.c && s.oh == s.h && s.ow == s.w),
                  "effops: residual must have the shape of the output");
  // Without a residual x may have any strides: patches are gathered.
  const Tensor image = residual ? channels_last(x, "x") : x;
  if (!pays_depth_first(p, threads().count)) {
    const Tensor hidden =
        conv_act(image, expand_weight, expand_bias, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, act);
    const OptionalTensor added = residual ? OptionalTensor(image) : std::nullopt;
    return pointwise_conv_act(hidden, project_weight, project_bias, std::nullopt, added, project_act);
  }
  Tensor y = new_image(x, s.n, p.out, s.oh, s.ow);
  const auto stride = image.strides();
  p.x_stride_n = stride[0], p.x_stride_c = stride[1], p.x_stride_h = stride[2], p.x_stride_w = stride[3];
  p.x = image.const_data_ptr(), p.y = y.mutable_data_ptr();
  p.residual = residual ? p.x : nullptr;
  OptionalTensor keep[2];
  run_fused_mbconv(p,
                   {weight_view(expand_weight, p.dtype), weight_view(project_weight, p.dtype),
                    vector_view(expand_bias, "expand_bias", s.oc, keep[0]),
                    vector_view(project_bias, "project_bias", p.out, keep[1])},
                   threads());
  return y;
}

}  // namespace
}  // namespace effops

STABLE_TORCH_LIBRARY_IMPL(effops, CPU, m) { m.impl("fused_mbconv", TORCH_BOX(&effops::fused_mbconv)); }
