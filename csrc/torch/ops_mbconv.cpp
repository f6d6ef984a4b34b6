// The inverted residual as one torch op on CPU tensors.
#include "../cpu/run_mbconv.h"
#include "ops_cpu.h"
#include "tensors.h"

namespace effops {
namespace {

// The weights of a squeeze-excite, all of them or none.
struct GateWeights {
  OptionalTensor reduce_weight, reduce_bias, excite_weight, excite_bias;

  explicit operator bool() const { return reduce_weight.has_value(); }
};

Tensor by_parts(const Tensor& x, const OptionalTensor& expand_weight, const OptionalTensor& expand_bias,
                const Tensor& depthwise_weight, const OptionalTensor& depthwise_bias, const int64_t (&geometry)[6],
                const GateWeights& se, const Tensor& project_weight, const OptionalTensor& project_bias, bool residual,
                int64_t act, int64_t se_act, int64_t gate, int64_t project_act) {
  Tensor y = x, pooled;
  if (expand_weight) y = pointwise_conv_act(x, *expand_weight, expand_bias, std::nullopt, std::nullopt, act);
  OptionalTensor scale;
  const auto& [sh, sw, ph, pw, dh, dw] = geometry;
  if (se) {
    std::tie(y, pooled) = depthwise_conv_act_pool(y, depthwise_weight, depthwise_bias, sh, sw, ph, pw, dh, dw, act);
    scale = se_gate(pooled, *se.reduce_weight, se.reduce_bias, *se.excite_weight, se.excite_bias, se_act, gate);
  } else {
    y = depthwise_conv_act(y, depthwise_weight, depthwise_bias, sh, sw, ph, pw, dh, dw, act);
  }
  const OptionalTensor added = residual ? OptionalTensor(x) : std::nullopt;
  return pointwise_conv_act(y, project_weight, project_bias, scale, added, project_act);
}

Tensor mbconv(Tensor x, OptionalTensor expand_weight, OptionalTensor expand_bias, Tensor depthwise_weight,
              OptionalTensor depthwise_bias, int64_t stride_h, int64_t stride_w, int64_t pad_h, int64_t pad_w,
              int64_t dilation_h, int64_t dilation_w, OptionalTensor reduce_weight, OptionalTensor reduce_bias,
              OptionalTensor excite_weight, OptionalTensor excite_bias, Tensor project_weight,
              OptionalTensor project_bias, bool residual, int64_t act, int64_t se_act, int64_t gate,
              int64_t project_act) {
  const GateWeights se{reduce_weight, reduce_bias, excite_weight, excite_bias};
  MbconvParams p{};
  // The expanded tensor's shape follows from x's and the depthwise weight's.
  p.conv = conv_shape(x, depthwise_weight, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w);
  p.in = x.size(1), p.out = project_weight.size(0);
  p.conv.c = depthwise_weight.size(0);
  p.expands = expand_weight.has_value();
  p.dtype = dtype_of(x, "x");
  p.act = static_cast<Act>(act), p.project_act = static_cast<Act>(project_act);
  p.residual = residual;
  const ConvShape& s = p.conv;
  STD_TORCH_CHECK(depthwise_weight.size(1) == 1 && project_weight.size(1) == s.c &&
                      project_weight.numel() == p.out * s.c &&
                      (p.expands ? expand_weight->size(0) == s.c && expand_weight->numel() == s.c * p.in : p.in == s.c),
                  "effops: the weights of expansion, depthwise convolution and projection do not fit together");
  STD_TORCH_CHECK(!residual || (p.out == p.in && s.oh == s.h && s.ow == s.w),
                  "effops: residual must have the shape of the output");
  if (!pays_depth_first(p, se ? true : false)) {
    const int64_t geometry[6] = {stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w};
    return by_parts(x, expand_weight, expand_bias, depthwise_weight, depthwise_bias, geometry, se, project_weight,
                    project_bias, residual, act, se_act, gate, project_act);
  }
  const Tensor image = channels_last(x, "x");
  Tensor y = new_image(x, s.n, p.out, s.oh, s.ow), hidden, pooled, scale;
  OptionalTensor keep[7];
  MbconvWeights weights{};
  if (se) {
    hidden = new_image(x, s.n, s.c, s.oh, s.ow);
    pooled = new_floats(x, s.n, s.c), scale = new_floats(x, s.n, s.c);
    p.hidden = hidden.mutable_data_ptr();
    p.pooled = static_cast<float*>(pooled.mutable_data_ptr());
    p.gate = static_cast<float*>(scale.mutable_data_ptr());
    const int64_t r = se.reduce_weight->size(0);
    weights.reduced = r, weights.reduced_act = static_cast<Act>(se_act), weights.gate = static_cast<Gate>(gate);
    weights.squeeze_excite = {vector_view(se.reduce_weight, "reduce_weight", r * s.c, keep[0]),
                              vector_view(se.reduce_bias, "reduce_bias", r, keep[1]),
                              vector_view(se.excite_weight, "excite_weight", s.c * r, keep[2]),
                              vector_view(se.excite_bias, "excite_bias", s.c, keep[3])};
  }
  if (p.expands) {
    weights.expand = weight_view(*expand_weight, p.dtype);
    weights.expand_bias = vector_view(expand_bias, "expand_bias", s.c, keep[4]);
  }
  weights.depthwise = weight_view(depthwise_weight, p.dtype);
  weights.depthwise_bias = vector_view(depthwise_bias, "depthwise_bias", s.c, keep[5]);
  weights.project = weight_view(project_weight, p.dtype);
  weights.project_bias = vector_view(project_bias, "project_bias", p.out, keep[6]);
  p.x = image.const_data_ptr(), p.y = y.mutable_data_ptr();
  run_mbconv(p, weights, threads());
  return y;
}

}  // namespace
}  // namespace effops

STABLE_TORCH_LIBRARY_IMPL(effops, CPU, m) { m.impl("mbconv", TORCH_BOX(&effops::mbconv)); }
