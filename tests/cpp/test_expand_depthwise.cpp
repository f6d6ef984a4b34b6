// A pointwise and a depthwise convolution in one step of a plan, bit for bit what they are as two, in guarded memory.
#include "check.h"
#include "core/shape.h"
#include "cpu/packing.h"
#include "cpu/record.h"

using namespace effops;
using namespace effops_test;

namespace {

struct Case {
  int64_t n, in, c, h, w, k, stride;
};

ConvShape shape_of(const Case& t) {
  ConvShape s{};
  s.n = t.n, s.c = s.oc = t.c, s.h = t.h, s.w = t.w, s.kh = s.kw = t.k;
  s.stride_h = s.stride_w = t.stride, s.dilation_h = s.dilation_w = 1;
  const int64_t pad = t.k / 2;
  s.oh = output_size(t.h, t.k, t.stride, pad, 1), s.ow = output_size(t.w, t.k, t.stride, pad, 1);
  s.pad_top = s.pad_left = pad;
  return s;
}

void run(const Case& t, const std::string& tier, DType dtype, bool pools) {
  const ConvShape s = shape_of(t);
  const int64_t pixels = t.n * t.h * t.w, outputs = t.n * s.oh * s.ow * t.c, means = t.n * t.c;
  Guarded x(random_values(pixels * t.in, 1), dtype), weight(random_values(t.c * t.in, 2), dtype);
  Guarded taps(random_values(t.c * t.k * t.k, 3), dtype), expanded(pixels * t.c, dtype);
  const std::vector<float> bias = random_values(t.c, 4);
  const VectorView bias_view{bias.data(), DType::kFloat32, t.c};
  Guarded y(outputs, dtype), pooled(means, DType::kFloat32), got_y(outputs, dtype), got_pooled(means, DType::kFloat32);

  Plan plan(std::make_shared<WeightStore>());
  for (Plan* into : {&plan, static_cast<Plan*>(nullptr)}) {  // recorded, then run
    record_into(into);
    GemmParams p{};
    p.m = pixels, p.n = t.c, p.k = t.in, p.dtype = dtype, p.act = Act::kSilu, p.rows_per_image = t.h * t.w;
    p.x = x.data(), p.y = expanded.data();
    run_gemm(p, {weight.data(), dtype, t.c, 1, 1, t.in, t.in, 0, 0, 1}, bias_view, kTwoThreads);
    DepthwiseParams d{};
    d.shape = s, d.dtype = dtype, d.act = Act::kHardswish, d.x = expanded.data(), d.y = y.data();
    run_depthwise(d, {taps.data(), dtype, t.c, t.k, t.k, 1, t.k * t.k, t.k, 1, 0}, bias_view,
                  pools ? static_cast<float*>(pooled.data()) : nullptr, kTwoThreads);
  }
  const int64_t value = dtype == DType::kFloat32 ? 4 : 2;
  plan.finish({{x.data(), pixels * t.in * value}, {y.data(), outputs * value}, {pooled.data(), means * 4}});
  const std::string what = tier + "c " + std::to_string(t.c) + ", " + std::to_string(t.h) + " x " +
                           std::to_string(t.w) + ", kernel " + std::to_string(t.k);
  check(plan.steps() == std::vector<std::string>{"expand_depthwise"}, what + ": one step");
  check(plan.arena_bytes(1) == 0, what + ": no expanded tensor");
  for (const Threads& threads : {kOneThread, kTwoThreads}) {
    void* places[] = {x.data(), got_y.data(), got_pooled.data()};
    plan.run(places, threads);
    check(got_y.same_bits(y), what + ": the result on " + std::to_string(threads.count) + " threads");
    check(!pools || got_pooled.same_bits(pooled), what + ": the mean on " + std::to_string(threads.count) + " threads");
    check(got_y.guards_intact() && got_pooled.guards_intact(), what + ": guards");
  }
}

// Where a panel of channels is large, or several images have next to no pixels, nothing is merged.
void others_stay_two_steps() {
  ExpandDepthwise block{};
  block.expand.dtype = DType::kFloat32;
  block.depthwise.shape = shape_of({1, 16, 64, 14, 14, 3, 1});
  check(pays_by_channels(block), "14 x 14 pixels by channels");
  block.depthwise.shape = shape_of({1, 16, 64, 112, 112, 3, 1});
  check(!pays_by_channels(block), "112 x 112 pixels by channels");
  block.depthwise.shape = shape_of({1, 16, 64, 1, 1, 3, 1});
  check(pays_by_channels(block), "one pixel by channels");
  block.depthwise.shape = shape_of({8, 16, 64, 2, 2, 3, 1});
  check(!pays_by_channels(block), "4 pixels of many images by channels");
}

}  // namespace

int main() {
  others_stay_two_steps();
  // Fewer channels than a vector, odd numbers of them, one pixel, several groups a thread, kernels without a tile.
  const Case cases[] = {{1, 5, 3, 6, 5, 3, 1},   {2, 8, 19, 7, 7, 5, 1},     {3, 12, 40, 7, 7, 3, 2},
                        {1, 9, 67, 1, 1, 3, 1},  {1, 20, 201, 14, 13, 5, 2}, {2, 16, 168, 10, 10, 3, 1},
                        {1, 7, 33, 5, 9, 11, 3}, {1, 24, 64, 8, 8, 5, 1}};
  return for_every_tier([&](const std::string& tier, DType dtype) {
    for (const Case& t : cases) run(t, tier, dtype, t.n != 3);
  });
}
