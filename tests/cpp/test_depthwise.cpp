// Depthwise kernels against a loop in double, in guarded memory, with one and two threads.
#include "check.h"
#include "core/shape.h"

using namespace effops;
using namespace effops_test;

namespace {

struct Case {
  int64_t n, c, h, w, k, stride, pad, dilation;
};

ConvShape shape_of(const Case& t) {
  ConvShape s{};
  s.n = t.n, s.c = t.c, s.h = t.h, s.w = t.w, s.oc = t.c, s.kh = s.kw = t.k;
  s.stride_h = s.stride_w = t.stride, s.dilation_h = s.dilation_w = t.dilation;
  s.oh = output_size(t.h, t.k, t.stride, t.pad, t.dilation), s.ow = output_size(t.w, t.k, t.stride, t.pad, t.dilation);
  s.pad_top = pad_before(t.h, t.k, t.stride, t.pad, t.dilation);
  s.pad_left = pad_before(t.w, t.k, t.stride, t.pad, t.dilation);
  return s;
}

std::vector<double> expected(const ConvShape& s, Act act, const Guarded& x, const Guarded& weight,
                             const std::vector<float>& bias, std::vector<double>& mean) {
  std::vector<double> y(static_cast<size_t>(s.n * s.oh * s.ow * s.c));
  mean.assign(static_cast<size_t>(s.n * s.c), 0.0);
  for (int64_t n = 0; n < s.n; ++n)
    for (int64_t oy = 0; oy < s.oh; ++oy)
      for (int64_t ox = 0; ox < s.ow; ++ox)
        for (int64_t c = 0; c < s.c; ++c) {
          double sum = bias[static_cast<size_t>(c)];
          for (int64_t ky = 0; ky < s.kh; ++ky)
            for (int64_t kx = 0; kx < s.kw; ++kx) {
              const int64_t iy = oy * s.stride_h - s.pad_top + ky * s.dilation_h;
              const int64_t ix = ox * s.stride_w - s.pad_left + kx * s.dilation_w;
              if (iy < 0 || iy >= s.h || ix < 0 || ix >= s.w) continue;
              sum +=
                  static_cast<double>(x[((n * s.h + iy) * s.w + ix) * s.c + c]) * weight[(c * s.kh + ky) * s.kw + kx];
            }
          const double v = activate(act, sum);
          y[static_cast<size_t>(((n * s.oh + oy) * s.ow + ox) * s.c + c)] = v;
          mean[static_cast<size_t>(n * s.c + c)] += v / static_cast<double>(s.oh * s.ow);
        }
  return y;
}

void run(const Case& t, const std::string& tier, DType dtype, Act act) {
  const ConvShape s = shape_of(t);
  Guarded x(random_values(s.n * s.c * s.h * s.w, 1), dtype);
  Guarded weight(random_values(s.c * s.kh * s.kw, 2), dtype);
  std::vector<float> bias = random_values(s.c, 3);
  std::vector<double> mean;
  const std::vector<double> want = expected(s, act, x, weight, bias, mean);
  const int64_t outputs = s.n * s.oh * s.ow * s.c;

  DepthwiseParams p{};
  p.shape = s, p.dtype = dtype, p.act = act, p.x = x.data();
  const WeightView view{weight.data(), dtype, s.c, s.kh, s.kw, 1, s.kh * s.kw, s.kw, 1, 0};
  const VectorView bias_view{bias.data(), DType::kFloat32, s.c};
  Guarded y(outputs, dtype), pooled(s.n * s.c, DType::kFloat32);
  p.y = y.data();
  run_depthwise(p, view, bias_view, static_cast<float*>(pooled.data()), kOneThread);
  Guarded y2(outputs, dtype), pooled2(s.n * s.c, DType::kFloat32);
  p.y = y2.data();
  run_depthwise(p, view, bias_view, static_cast<float*>(pooled2.data()), kTwoThreads);

  const std::string name = tier + "n" + std::to_string(t.n) + " c" + std::to_string(t.c) + " " + std::to_string(t.h) +
                           "x" + std::to_string(t.w) + " k" + std::to_string(t.k) + " s" + std::to_string(t.stride) +
                           " p" + std::to_string(t.pad) + " d" + std::to_string(t.dilation) + " act" +
                           std::to_string(static_cast<int>(act));
  const double error = relative_error(y, want), pooled_error = relative_error(pooled, mean);
  check(error < tolerance(dtype), name + ": error " + std::to_string(error));
  check(pooled_error < 4e-6, name + ": error of the mean " + std::to_string(pooled_error));
  check(y.guards_intact() && pooled.guards_intact(), name + ": wrote out of bounds");
  check(y.same_bits(y2) && pooled.same_bits(pooled2), name + ": the number of threads changes the result");
}

// The tiers' own approximations, through a kernel of one tap.
void run_activation(const std::string& tier, Act act) {
  std::vector<float> values = {-1e30f, -1000.0f, -88.5f, -87.0f, -0.0f, 0.0f, 1e-30f, 87.0f, 88.5f, 1000.0f, 1e30f};
  for (float x = -100.0f; x < 100.0f; x += 0.0137f) values.push_back(x);
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  values.push_back(inf), values.push_back(nan);
  const int64_t size = static_cast<int64_t>(values.size());
  std::vector<float> y(values.size());
  DepthwiseParams p{};
  p.shape = shape_of({1, size, 1, 1, 1, 1, 0, 1}), p.dtype = DType::kFloat32, p.act = act;
  const std::vector<float> ones(values.size(), 1.0f);
  p.x = values.data(), p.y = y.data();
  run_depthwise(p, {ones.data(), DType::kFloat32, size, 1, 1, 1, 1, 1, 1, 0}, {}, nullptr, kOneThread);
  const std::string name = tier + "activation " + std::to_string(static_cast<int>(act));
  double error = 0;
  for (size_t i = 0; i < values.size() - 2; ++i) {
    const double x = values[i];
    error = std::max(error, std::fabs(y[i] - activate(act, x)) / std::max(1.0, std::fabs(x)));
  }
  check(error < 3e-7, name + ": error " + std::to_string(error));
  check(y[values.size() - 2] == (act == Act::kRelu6 ? 6.0f : inf), name + " of infinity");
  check(std::isnan(y.back()), name + " of NaN");
}

}  // namespace

int main() {
  return for_every_tier([](const std::string& tier, DType dtype) {
    for (const Act act : kActs) {
      if (dtype == DType::kFloat32) run_activation(tier, act);
    }
    int i = 0;
    for (const int64_t k : {3, 5, 7})
      for (const int64_t stride : {1, 2})
        for (const int64_t c : {8, 24, 13})
          for (const int64_t size : {1, 4, 7, 15, 22}) {
            run({2, c, size, size + 3, k, stride, i % 2 ? kSame : k / 2, 1}, tier, dtype, kActs[i % 6]);
            ++i;
          }
    // Even kernels, dilation, large strides, no padding, one channel, an empty batch.
    const Case odd[] = {{1, 5, 9, 8, 4, 1, kSame, 1}, {1, 16, 12, 11, 3, 1, 2, 2}, {1, 3, 17, 9, 5, 3, 0, 1},
                        {1, 1, 6, 6, 3, 1, 1, 1},     {1, 33, 6, 6, 1, 1, 0, 1},   {1, 8, 12, 12, 9, 2, 4, 1},
                        {0, 8, 5, 5, 3, 1, 1, 1},     {3, 40, 5, 30, 5, 1, 2, 1}};
    for (const Case& t : odd) run(t, tier, dtype, Act::kSilu);
    // Several strips of channels, more rows than one block of them, tiles inside the image, tiles of eight columns,
    // last tiles that overlap.
    const Case large[] = {{1, 156, 19, 14, 5, 1, 2, 1}, {1, 200, 3, 44, 3, 2, 1, 1}, {1, 72, 5, 45, 7, 2, 3, 1},
                          {2, 24, 8, 8, 5, 1, 2, 1},    {1, 20, 9, 16, 3, 1, 1, 1},  {1, 40, 4, 15, 7, 1, 3, 1},
                          {1, 16, 15, 32, 3, 2, 1, 1},  {1, 24, 7, 9, 3, 1, 1, 1}};
    for (const Case& t : large) run(t, tier, dtype, kActs[i++ % 6]);
  });
}
