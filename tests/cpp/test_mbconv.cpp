// Blocks depth first, bit for bit what their convolutions are one after the other, on any number of threads.
#include "check.h"
#include "core/shape.h"
#include "cpu/run_mbconv.h"

using namespace effops;
using namespace effops_test;

namespace {

// With squeeze-excite the block's convolutions end before its gate.
struct Case {
  int64_t n, in, c, out, h, w, k, stride, dilation;
  bool expands, squeeze_excite;
};

ConvShape shape_of(const Case& t) {
  ConvShape s{};
  s.n = t.n, s.c = s.oc = t.c, s.h = t.h, s.w = t.w, s.kh = s.kw = t.k;
  s.stride_h = s.stride_w = t.stride, s.dilation_h = s.dilation_w = t.dilation;
  const int64_t pad = t.dilation * (t.k / 2);
  s.oh = output_size(t.h, t.k, t.stride, pad, t.dilation), s.ow = output_size(t.w, t.k, t.stride, pad, t.dilation);
  s.pad_top = s.pad_left = pad;
  return s;
}

// All members' parts on one thread: the first takes the rows of the second too, from above or from below.
void one_after_the_other(void*, int64_t begin, int64_t end, int64_t, ParallelBody body, void* context) {
  for (int64_t i = begin; i < end; ++i) body(i, i + 1, context);
}
void the_last_first(void*, int64_t begin, int64_t end, int64_t, ParallelBody body, void* context) {
  for (int64_t i = end; i > begin; --i) body(i - 1, i, context);
}

void run(const Case& t, const std::string& tier, DType dtype) {
  const ConvShape s = shape_of(t);
  const int64_t pixels = t.n * t.h * t.w, outputs = t.n * s.oh * s.ow, channels = t.expands ? t.in : t.c;
  const bool residual = !t.squeeze_excite && t.stride == 1 && channels == t.out;
  Guarded x(random_values(pixels * channels, 1), dtype), expand(random_values(t.c * t.in, 2), dtype);
  Guarded taps(random_values(t.c * t.k * t.k, 3), dtype), project(random_values(t.out * t.c, 4), dtype);
  const std::vector<float> bias = random_values(t.c, 5);
  const VectorView bias_view{bias.data(), DType::kFloat32, t.c};
  const WeightView expand_view{expand.data(), dtype, t.c, 1, 1, t.in, t.in, 0, 0, 1};
  const WeightView taps_view{taps.data(), dtype, t.c, t.k, t.k, 1, t.k * t.k, t.k, 1, 0};
  const WeightView project_view{project.data(), dtype, t.out, 1, 1, t.c, t.c, 0, 0, 1};

  Guarded expanded(pixels * t.c, dtype), hidden(outputs * t.c, dtype), y(outputs * t.out, dtype);
  Guarded pooled(t.n * t.c, DType::kFloat32);
  if (t.expands) {
    GemmParams p = {};
    p.m = pixels, p.n = t.c, p.k = t.in, p.dtype = dtype, p.act = Act::kHardswish, p.rows_per_image = t.h * t.w;
    p.x = x.data(), p.y = expanded.data();
    run_gemm(p, expand_view, bias_view, kOneThread);
  }
  DepthwiseParams d{};
  d.shape = s, d.dtype = dtype, d.act = Act::kHardswish, d.y = hidden.data();
  d.x = t.expands ? expanded.data() : x.data();
  run_depthwise(d, taps_view, bias_view, static_cast<float*>(pooled.data()), kOneThread);
  GemmParams p{};
  p.m = outputs, p.n = t.out, p.k = t.c, p.dtype = dtype, p.act = Act::kIdentity, p.rows_per_image = s.oh * s.ow;
  p.x = hidden.data(), p.y = y.data(), p.residual = residual ? x.data() : nullptr;
  run_gemm(p, project_view, {}, kOneThread);

  MbconvParams block{};
  block.conv = s, block.in = channels, block.out = t.out, block.expands = t.expands, block.dtype = dtype;
  block.act = Act::kHardswish, block.residual = residual, block.x = x.data();
  MbconvWeights weights{};
  weights.expand = expand_view, weights.depthwise = taps_view, weights.project = project_view;
  weights.expand_bias = weights.depthwise_bias = bias_view;
  const Threads downwards{one_after_the_other, 4}, upwards{the_last_first, 4};
  for (const Threads& threads : {kOneThread, kTwoThreads, kThreeThreads, downwards, upwards}) {
    const std::string what = tier + std::to_string(t.n) + " images of " + std::to_string(t.h) + " x " +
                             std::to_string(t.w) + ", kernel " + std::to_string(t.k) + ", stride " +
                             std::to_string(t.stride) + ", " + std::to_string(threads.count) + " threads";
    Guarded got(outputs * t.out, dtype), got_hidden(outputs * t.c, dtype), mean(t.n * t.c, DType::kFloat32);
    if (t.squeeze_excite) {
      PackedMbconv packed = unpacked_mbconv(block, weights);
      std::vector<float> panels(static_cast<size_t>(kernels().panel_floats(t.c, t.in, dtype)));
      kernels().pack_panels(expand_view, bias.data(), dtype, false, panels.data(), 0, kernels().panel_count(t.c));
      std::vector<float> by_tap(static_cast<size_t>(t.c * t.k * t.k));
      for (int64_t i = 0; i < t.c; ++i) {
        for (int64_t tap = 0; tap < t.k * t.k; ++tap) {
          by_tap[static_cast<size_t>(tap * t.c + i)] = taps[i * t.k * t.k + tap];
        }
      }
      packed.expand.panels = panels.data(), packed.depthwise.weight = by_tap.data();
      packed.depthwise.bias = bias.data();
      block.hidden = got_hidden.data(), block.pooled = static_cast<float*>(mean.data());
      execute_hidden(block, packed, threads);
      check(got_hidden.same_bits(hidden), what + ": what waits for the gate");
      check(mean.same_bits(pooled), what + ": the mean");
    } else {
      block.y = got.data();
      run_mbconv(block, weights, threads);
      check(got.same_bits(y), what + ": the result");
    }
    check(got.guards_intact() && got_hidden.guards_intact() && mean.guards_intact(), what + ": guards");
  }
}

}  // namespace

int main() {
  // Rows of several tiles and of less than one, more rows in a tile than in an image, odd sizes, kernels with gaps, one
  // pixel, many small images, which threads take whole.
  const Case cases[] = {{1, 8, 24, 8, 40, 37, 3, 1, 1, true, false},  {1, 16, 96, 24, 56, 57, 3, 2, 1, true, false},
                        {1, 8, 200, 16, 23, 60, 5, 1, 1, true, true}, {2, 8, 144, 8, 29, 41, 5, 2, 1, true, true},
                        {3, 8, 24, 8, 7, 5, 3, 1, 1, true, false},    {1, 8, 200, 8, 30, 31, 3, 1, 2, true, false},
                        {1, 4, 8, 4, 1, 1, 3, 1, 1, true, false},     {5, 4, 16, 8, 3, 3, 5, 2, 1, true, true},
                        {13, 4, 16, 4, 6, 6, 3, 1, 1, true, false},   {1, 0, 48, 48, 30, 31, 3, 1, 1, false, false},
                        {2, 0, 40, 24, 21, 20, 5, 2, 1, false, false}};
  return for_every_tier([&](const std::string& tier, DType dtype) {
    for (const Case& t : cases) run(t, tier, dtype);
  });
}
