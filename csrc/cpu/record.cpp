#include "record.h"

#include <any>
#include <optional>
#include <utility>
#include <vector>

#include "kernels.h"
#include "operands.h"

namespace effops {
namespace {

int64_t float_bytes(int64_t count) { return count * static_cast<int64_t>(sizeof(float)); }

// Of the images that a convolution reads and writes.
int64_t input_bytes(const ConvShape& s, DType dtype) { return s.n * s.h * s.w * s.c * bytes_of(dtype); }
int64_t output_bytes(const ConvShape& s, int64_t channels, DType dtype) {
  return s.n * s.oh * s.ow * channels * bytes_of(dtype);
}

int64_t image_bytes(const ImageParams& p) { return p.n * p.pixels * p.c * bytes_of(p.dtype); }

// Of what a product reads: rows or, for a convolution over n images, these with any strides.
int64_t read_bytes(const GemmParams& p, int64_t n) {
  return (p.conv ? n * p.x_stride_n : p.m * p.k) * bytes_of(p.dtype);
}

const float* kept(Plan& plan, const VectorView& v) { return plan.keep(as_floats(v, Slot::kBias), float_bytes(v.size)); }

const float* kept_taps(Plan& plan, const WeightView& w) {
  return plan.keep(tap_major(w), float_bytes(w.kh * w.kw * w.n));
}

// Packed whole, whatever the weight's layout: panels that lie in one piece are read from memory at full speed.
void keep_panels(Plan& plan, GemmParams& p, const WeightView& weight, const VectorView& bias) {
  const Kernels& k = kernels();
  p.weight = nullptr;
  p.panels = plan.keep(k.panel_floats(p.n, p.k, p.dtype), [&](float* panels) {
    k.pack_panels(weight, as_floats(bias, Slot::kBias), p.dtype, false, panels, 0, k.panel_count(p.n));
  });
}

// A dense or pointwise convolution without gate and residual, as the step after it may find it.
struct Convolution {
  GemmParams gemm;
  ConvShape shape;  // if gemm.conv is set
};

// The depthwise convolution that starts `params` with the dense one that made its images in place of an expansion:
// pays and what it takes; or nothing.
std::optional<std::pair<MbconvParams, PackedMbconv>> with_stem(const std::any& before, MbconvParams params,
                                                               PackedMbconv packed) {
  const Convolution* dense = std::any_cast<Convolution>(&before);
  if (!dense || !dense->gemm.conv || dense->gemm.y != params.x || params.expands) return std::nullopt;
  // With squeeze-excite the residual would be gone when the gate is there.
  if (params.residual && params.hidden) return std::nullopt;
  params.expands = true, params.in = dense->gemm.k, params.x = dense->gemm.x;
  packed.expand = dense->gemm, packed.stem = dense->shape;
  if (!pays_depth_first(params, params.hidden != nullptr)) return std::nullopt;
  return std::pair(params, packed);
}

void keep_gate(Plan& plan, SeGateParams& p, const SeWeights& weights) {
  set_gate(p, weights);
  const int64_t bytes = p.c * p.r * bytes_of(p.weights);
  p.reduce_weight = plan.keep(p.reduce_weight, bytes);
  p.expand_weight = plan.keep(p.expand_weight, bytes);
  p.reduce_bias = plan.keep(p.reduce_bias, float_bytes(p.r));
  p.expand_bias = plan.keep(p.expand_bias, float_bytes(p.c));
}

}  // namespace

void record_depthwise(Plan& plan, const DepthwiseParams& params, const WeightView& weight, const VectorView& bias,
                      float* pooled) {
  DepthwiseParams p = params;
  p.weight = kept_taps(plan, weight);
  p.bias = kept(plan, bias);
  const ConvShape& s = p.shape;
  const Operand y = writes(p.y, output_bytes(s, s.c, p.dtype)), mean = writes(pooled, float_bytes(s.n * s.c));
  const std::any before = plan.last_form();
  plan.add("depthwise", s.n, {reads(p.x, input_bytes(s, p.dtype)), y, mean},
           [p](void* const* at, const Slice& part, const Threads& threads) {
             DepthwiseParams q = p;
             q.x = at[0], q.y = at[1], q.shape.n = part(p.shape.n);
             execute_depthwise(q, static_cast<float*>(at[2]), threads);
           });
  MbconvParams alone{};
  alone.conv = s, alone.dtype = p.dtype, alone.x = p.x, alone.hidden = p.y, alone.pooled = pooled;
  PackedMbconv packed{};
  packed.depthwise = p;
  if (const auto found = with_stem(before, alone, packed)) {
    plan.offer("dense_depthwise", s.n, {reads(found->first.x, read_bytes(found->second.expand, s.n)), y, mean},
               [found](void* const* at, const Slice& part, const Threads& threads) {
                 MbconvParams q = found->first;
                 q.x = at[0], q.hidden = at[1], q.pooled = static_cast<float*>(at[2]), q.conv.n = part(q.conv.n);
                 execute_hidden(q, found->second, threads);
               });
  }
  const Convolution* expand = std::any_cast<Convolution>(&before);
  if (!expand || expand->gemm.conv || expand->gemm.y != p.x || expand->gemm.dtype != p.dtype) return;
  if (expand->gemm.n != s.c || expand->gemm.m != s.n * s.h * s.w) return;
  const ExpandDepthwise block{expand->gemm, p};
  if (!pays_by_channels(block)) return;
  plan.offer("expand_depthwise", s.n, {reads(block.expand.x, read_bytes(block.expand, s.n)), y, mean},
             [block](void* const* at, const Slice& part, const Threads& threads) {
               ExpandDepthwise q = block;
               q.expand.x = at[0], q.depthwise.y = at[1];
               q.expand.m = part(q.expand.m), q.depthwise.shape.n = part(q.depthwise.shape.n);
               execute_by_channels(q, static_cast<float*>(at[2]), threads);
             });
}

void record_gemm(Plan& plan, const GemmParams& params, const WeightView& weight, const VectorView& bias) {
  GemmParams p = params;
  keep_panels(plan, p, weight, bias);
  const ConvShape shape = p.conv ? *p.conv : ConvShape{};
  const int64_t gated = p.gate ? p.m / p.rows_per_image : 0, bytes = p.m * p.n * bytes_of(p.dtype);
  plan.add(
      p.conv ? "dense" : "pointwise", p.conv ? shape.n : (p.gate ? gated : p.m),
      {reads(p.x, read_bytes(p, shape.n)), reads(p.gate, float_bytes(gated * p.k)), reads(p.residual, bytes),
       writes(p.y, bytes)},
      [p, shape](void* const* at, const Slice& part, const Threads& threads) {
        GemmParams q = p;
        ConvShape s = shape;
        s.n = part(s.n), q.m = part(q.m);
        if (q.conv) q.conv = &s;
        q.x = at[0], q.gate = static_cast<const float*>(at[1]), q.residual = at[2], q.y = at[3];
        execute_gemm(q, threads);
      },
      p.gate || p.residual ? std::any() : std::any(Convolution{p, shape}));
}

void record_se_gate(Plan& plan, const SeGateParams& params, const SeWeights& weights) {
  SeGateParams p = params;
  keep_gate(plan, p, weights);
  const int64_t bytes = float_bytes(p.n * p.c);
  plan.add("se_gate", p.n, {reads(p.pooled, bytes), writes(p.out, bytes)},
           [p](void* const* at, const Slice& part, const Threads& threads) {
             SeGateParams q = p;
             q.n = part(q.n);
             q.pooled = static_cast<const float*>(at[0]), q.out = static_cast<float*>(at[1]);
             execute_se_gate(q, threads);
           });
}

void record_mean(Plan& plan, const ImageParams& p, float* mean) {
  plan.add("mean", p.n, {reads(p.x, image_bytes(p)), writes(mean, float_bytes(p.n * p.c))},
           [p](void* const* at, const Slice& part, const Threads& threads) {
             ImageParams q = p;
             q.x = at[0], q.n = part(q.n);
             execute_mean(q, static_cast<float*>(at[1]), threads);
           });
}

void record_rounded_mean(Plan& plan, const ImageParams& p) {
  plan.add("mean", p.n, {reads(p.x, image_bytes(p)), writes(p.y, p.n * p.c * bytes_of(DType::kBFloat16))},
           [p](void* const* at, const Slice& part, const Threads& threads) {
             ImageParams q = p;
             q.x = at[0], q.n = part(q.n);
             const int64_t count = q.n * q.c;
             float* mean = scratch<float>(Slot::kHidden, count);
             execute_mean(q, mean, threads);
             execute_convert({count, DType::kFloat32, DType::kBFloat16, mean, at[1]}, threads);
           });
}

void record_scale(Plan& plan, const ImageParams& p) {
  const int64_t bytes = image_bytes(p);
  plan.add("scale", p.n, {reads(p.x, bytes), reads(p.scale, float_bytes(p.n * p.c)), writes(p.y, bytes)},
           [p](void* const* at, const Slice& part, const Threads& threads) {
             ImageParams q = p;
             q.x = at[0], q.scale = static_cast<const float*>(at[1]), q.y = at[2], q.n = part(q.n);
             execute_scale(q, threads);
           });
}

void record_add(Plan& plan, const AddParams& p) {
  const int64_t bytes = p.count * bytes_of(p.dtype);
  plan.add("add", p.count, {reads(p.a, bytes), reads(p.b, bytes), writes(p.y, bytes)},
           [p](void* const* at, const Slice& part, const Threads& threads) {
             AddParams q = p;
             q.a = at[0], q.b = at[1], q.y = at[2], q.count = part(q.count);
             execute_add(q, threads);
           });
}

void record_convert(Plan& plan, const ConvertParams& p) {
  plan.add("convert", p.count, {reads(p.x, p.count * bytes_of(p.from)), writes(p.y, p.count * bytes_of(p.to))},
           [p](void* const* at, const Slice& part, const Threads& threads) {
             ConvertParams q = p;
             q.x = at[0], q.y = at[1], q.count = part(q.count);
             execute_convert(q, threads);
           });
}

void record_mbconv(Plan& plan, const MbconvParams& params, const MbconvWeights& weights) {
  PackedMbconv packed = unpacked_mbconv(params, weights);
  if (params.expands) keep_panels(plan, packed.expand, weights.expand, weights.expand_bias);
  keep_panels(plan, packed.project, weights.project, weights.project_bias);
  packed.depthwise.weight = kept_taps(plan, weights.depthwise);
  packed.depthwise.bias = kept(plan, weights.depthwise_bias);
  if (params.hidden) keep_gate(plan, packed.se, weights.squeeze_excite);
  const ConvShape s = params.conv;
  const int64_t x = s.n * s.h * s.w * params.in * bytes_of(params.dtype), hidden = output_bytes(s, s.c, params.dtype);
  const int64_t y = output_bytes(s, params.out, params.dtype), gate = float_bytes(s.n * s.c);
  const auto kernel = [](const MbconvParams& p, const PackedMbconv& c) {
    return [p, c](void* const* at, const Slice& part, const Threads& threads) {
      MbconvParams q = p;
      q.x = at[0], q.hidden = at[1], q.y = at[4], q.conv.n = part(q.conv.n);
      q.pooled = static_cast<float*>(at[2]), q.gate = static_cast<float*>(at[3]);
      execute_mbconv(q, c, threads);
    };
  };
  const auto operands = [&](const MbconvParams& p, int64_t bytes) {
    return std::vector<Operand>{reads(p.x, bytes), writes(p.hidden, hidden), writes(p.pooled, gate),
                                writes(p.gate, gate), writes(p.y, y)};
  };
  const std::any before = plan.last_form();
  plan.add("mbconv", s.n, operands(params, x), kernel(params, packed));
  if (const auto found = with_stem(before, params, packed)) {
    const auto& [block, convolutions] = *found;
    plan.offer("dense_mbconv", s.n, operands(block, read_bytes(convolutions.expand, s.n)), kernel(block, convolutions));
  }
}

void record_fused_mbconv(Plan& plan, const FusedMbconvParams& params, const FusedMbconvWeights& weights) {
  PackedFusedMbconv packed = unpacked_fused_mbconv(params);
  keep_panels(plan, packed.expand, weights.expand, weights.expand_bias);
  keep_panels(plan, packed.project, weights.project, weights.project_bias);
  const ConvShape& s = params.conv;
  const int64_t x = s.n * params.x_stride_n * bytes_of(params.dtype), y = output_bytes(s, params.out, params.dtype);
  plan.add("fused_mbconv", s.n, {reads(params.x, x), reads(params.residual, y), writes(params.y, y)},
           [params, packed](void* const* at, const Slice& part, const Threads& threads) {
             FusedMbconvParams q = params;
             q.conv.n = part(q.conv.n), q.x = at[0], q.residual = at[1], q.y = at[2];
             execute_fused_mbconv(q, packed, threads);
           });
}

}  // namespace effops
