// The fused inverted residual, depth first, against loops in double, in guarded memory, with one and two threads, and
// as a step of a plan.
#include "check.h"
#include "core/shape.h"
#include "cpu/plan.h"
#include "cpu/run_fused_mbconv.h"

using namespace effops;
using namespace effops_test;

namespace {

struct Case {
  int64_t n, c, h, w, hidden, out, kernel, stride, pad, dilation;
  bool channels_last, residual;
  Act act, project_act;
};

ConvShape shape_of(const Case& t) {
  ConvShape s{};
  s.n = t.n, s.c = t.c, s.h = t.h, s.w = t.w, s.oc = t.hidden, s.kh = s.kw = t.kernel;
  s.stride_h = s.stride_w = t.stride, s.dilation_h = s.dilation_w = t.dilation;
  s.oh = output_size(s.h, t.kernel, t.stride, t.pad, t.dilation);
  s.ow = output_size(s.w, t.kernel, t.stride, t.pad, t.dilation);
  s.pad_top = pad_before(s.h, t.kernel, t.stride, t.pad, t.dilation);
  s.pad_left = pad_before(s.w, t.kernel, t.stride, t.pad, t.dilation);
  return s;
}

// A weight for sums of this many terms: what comes out is as large as what goes in.
std::vector<float> random_weight(int64_t columns, int64_t terms, unsigned seed) {
  std::vector<float> values = random_values(columns * terms, seed);
  for (float& v : values) v /= std::sqrt(static_cast<float>(terms));
  return values;
}

// The hidden values of one output pixel.
std::vector<double> expanded(const FusedMbconvParams& p, const Guarded& x, const Guarded& weight, const Guarded& bias,
                             int64_t n, int64_t oy, int64_t ox) {
  const ConvShape& s = p.conv;
  std::vector<double> found;
  for (int64_t o = 0; o < s.oc; ++o) {
    double sum = bias[o];
    for (int64_t ky = 0; ky < s.kh; ++ky)
      for (int64_t kx = 0; kx < s.kw; ++kx) {
        const int64_t iy = oy * s.stride_h - s.pad_top + ky * s.dilation_h;
        const int64_t ix = ox * s.stride_w - s.pad_left + kx * s.dilation_w;
        if (iy < 0 || iy >= s.h || ix < 0 || ix >= s.w) continue;
        const int64_t pixel = n * p.x_stride_n + iy * p.x_stride_h + ix * p.x_stride_w;
        for (int64_t i = 0; i < s.c; ++i)
          sum += static_cast<double>(x[pixel + i * p.x_stride_c]) * weight[((o * s.c + i) * s.kh + ky) * s.kw + kx];
      }
    found.push_back(activate(p.act, sum));
  }
  return found;
}

void check_block(const Case& t, const std::string& tier, DType dtype) {
  const ConvShape s = shape_of(t);
  const std::string name = tier + std::to_string(t.c) + "-" + std::to_string(t.hidden) + "-" + std::to_string(t.out) +
                           " at " + std::to_string(t.h) + "x" + std::to_string(t.w) + " k" + std::to_string(t.kernel);
  const int64_t taps = t.kernel * t.kernel * t.c;
  Guarded bias(random_values(t.hidden, 3), DType::kFloat32), project_bias(random_values(t.out, 5), dtype);
  Guarded x(random_values(s.n * s.c * s.h * s.w, 1), dtype), weight(random_weight(t.hidden, taps, 2), dtype);
  Guarded project(random_weight(t.out, t.hidden, 4), dtype), add(random_values(s.n * s.oh * s.ow * t.out, 6), dtype);
  FusedMbconvParams p{};
  p.conv = s, p.out = t.out, p.dtype = dtype, p.act = t.act, p.project_act = t.project_act;
  p.x = x.data(), p.residual = t.residual ? add.data() : nullptr;
  p.x_stride_n = s.c * s.h * s.w, p.x_stride_c = t.channels_last ? 1 : s.h * s.w;
  p.x_stride_h = s.w * (t.channels_last ? s.c : 1), p.x_stride_w = t.channels_last ? s.c : 1;
  const int64_t k = t.kernel;
  const FusedMbconvWeights weights{{weight.data(), dtype, t.hidden, k, k, t.c, taps, k, 1, k * k},
                                   {project.data(), dtype, t.out, 1, 1, t.hidden, t.hidden, 0, 0, 1},
                                   {bias.data(), DType::kFloat32, t.hidden},
                                   {project_bias.data(), dtype, t.out}};
  std::vector<double> want;
  for (int64_t pixel = 0; pixel < s.n * s.oh * s.ow; ++pixel) {
    const std::vector<double> hidden =
        expanded(p, x, weight, bias, pixel / (s.oh * s.ow), pixel / s.ow % s.oh, pixel % s.ow);
    for (int64_t o = 0; o < t.out; ++o) {
      double sum = project_bias[o];
      for (int64_t i = 0; i < t.hidden; ++i) sum += hidden[static_cast<size_t>(i)] * project[o * t.hidden + i];
      want.push_back(activate(p.project_act, sum) + (t.residual ? add[pixel * t.out + o] : 0.0f));
    }
  }
  const int64_t size = s.n * s.oh * s.ow * t.out;
  Guarded y(size, dtype), y2(size, dtype), again(size, dtype);
  Plan plan(std::make_shared<WeightStore>());
  p.y = y.data();
  record_into(&plan);
  run_fused_mbconv(p, weights, kOneThread);
  record_into(nullptr);
  check(y.same_bits(again), name + ": a recording computes something");
  run_fused_mbconv(p, weights, kOneThread);
  p.y = y2.data();
  run_fused_mbconv(p, weights, kTwoThreads);
  const double error = relative_error(y, want);
  // In bfloat16 the hidden values are rounded once more, as layer by layer.
  check(error < tolerance(dtype) * (dtype == DType::kBFloat16 ? 2 : 1), name + ": error " + std::to_string(error));
  check(y.guards_intact(), name + ": wrote out of bounds");
  check(y.same_bits(y2), name + ": the number of threads changes the result");
  if (s.n == 0) return check(plan.steps().empty(), name + ": nothing to record");
  const int64_t bytes = bytes_of(dtype);
  plan.finish({{p.x, x.size() * bytes}, {p.residual, add.size() * bytes}, {y.data(), size * bytes}});
  void* const outside[] = {x.data(), add.data(), again.data()};
  plan.run(outside, kTwoThreads);
  check(plan.steps() == std::vector<std::string>{"fused_mbconv"} && plan.arena_bytes(1) == 0,
        name + ": the plan's step");
  check(again.same_bits(y), name + ": the plan changes the result");
}

}  // namespace

int main() {
  return for_every_tier([](const std::string& tier, DType dtype) {
    const Case cases[] = {
        // Several tiles an image; then several tiles of one row each.
        {2, 6, 23, 31, 256, 24, 3, 1, 1, 1, true, true, Act::kSilu, Act::kIdentity},
        {1, 4, 18, 61, 500, 9, 3, 2, kSame, 1, true, false, Act::kRelu, Act::kRelu6},
        {1, 2, 4, 66, 1024, 16, 3, 1, 1, 1, false, false, Act::kHardswish, Act::kIdentity},
        // Narrow, strided and dilated ones, and nothing at all.
        {3, 5, 9, 7, 19, 5, 3, 1, kSame, 1, false, true, Act::kGelu, Act::kRelu},
        {2, 3, 17, 40, 33, 8, 5, 2, 2, 1, false, false, Act::kRelu6, Act::kIdentity},
        {1, 4, 12, 30, 24, 7, 3, 1, 2, 2, true, true, Act::kIdentity, Act::kSilu},
        {2, 3, 5, 1, 9, 4, 2, 11, 3, 1, true, false, Act::kSilu, Act::kIdentity},
        {1, 7, 1, 1, 8, 3, 3, 1, 1, 1, true, false, Act::kSilu, Act::kIdentity},
        {0, 8, 6, 6, 16, 8, 3, 1, 1, 1, true, true, Act::kSilu, Act::kIdentity},
    };
    for (const Case& t : cases) check_block(t, tier, dtype);
  });
}
