// Depthwise convolutions in training against loops in double, in guarded memory, with one and two threads.
#include "check.h"
#include "core/shape.h"
#include "cpu/run_depthwise_training.h"

using namespace effops;
using namespace effops_test;

namespace {

struct Case {
  int64_t n, c, h, w, k, stride, pad, dilation;
  Act act, u_act;
  bool affine, coef, excited;  // excited: the gate and pool_grad of squeeze-excite

  ConvShape shape() const {
    ConvShape s{};
    s.n = n, s.c = s.oc = c, s.h = h, s.w = w, s.kh = s.kw = k;
    s.stride_h = s.stride_w = stride, s.dilation_h = s.dilation_w = dilation;
    s.oh = output_size(h, k, stride, pad, dilation), s.ow = output_size(w, k, stride, pad, dilation);
    s.pad_top = pad_before(h, k, stride, pad, dilation), s.pad_left = pad_before(w, k, stride, pad, dilation);
    return s;
  }
  std::string name(const std::string& tier) const {
    std::string name = tier;
    for (const int64_t i : {n, c, h, w, k, stride, pad, dilation}) name += std::to_string(i) + " ";
    return name + "act" + std::to_string(static_cast<int>(act));
  }
};

size_t index(int64_t i) { return static_cast<size_t>(i); }
float* out_data(Guarded& g) { return static_cast<float*>(g.data()); }

// Inputs of a case, and what the ops read from them in double.
struct Problem {
  const Case& in;
  ConvShape s;
  DType dtype;
  Guarded x, weight, affine, grad, u, coef, gate, pool_grad;
  std::vector<double> view, du;

  Problem(const Case& in, DType dtype)
      : in(in),
        s(in.shape()),
        dtype(dtype),
        x(random_values(s.n * s.h * s.w * s.c, 1), dtype),
        weight(random_values(s.c * s.kh * s.kw, 2), dtype),
        affine(random_values(3 * s.c, 3), DType::kFloat32),
        grad(random_values(s.n * s.oh * s.ow * s.c, 4), dtype),
        u(random_values(s.n * s.oh * s.ow * s.c, 5), dtype),
        coef(random_values(5 * s.c, 6), DType::kFloat32),
        gate(random_values(s.n * s.c, 7), DType::kFloat32),
        pool_grad(random_values(s.n * s.c, 8), DType::kFloat32) {
    for (int64_t i = 0; i < x.size(); ++i) view.push_back(activate(in.act, normalised(i)));
    for (int64_t i = 0; i < grad.size(); ++i) {
      const int64_t c = i % s.c, of_image = i / (s.oh * s.ow * s.c) * s.c + c;
      double g = grad[i];
      if (in.excited) g = g * gate[of_image] + pool_grad[of_image];
      if (in.coef) {
        const double away = static_cast<double>(u[i]) - coef[c], scale = coef[s.c + c];
        g = scale * g * slope(in.u_act, away * scale + coef[2 * s.c + c]) + coef[3 * s.c + c] * away +
            coef[4 * s.c + c];
      }
      du.push_back(g);
    }
  }
  double away(int64_t i) const { return in.affine ? static_cast<double>(x[i]) - affine[i % s.c] : x[i]; }
  double normalised(int64_t i) const {
    return in.affine ? away(i) * affine[s.c + i % s.c] + affine[2 * s.c + i % s.c] : x[i];
  }
  WeightView weight_view() { return {weight.data(), dtype, s.c, s.kh, s.kw, 1, s.kh * s.kw, s.kw, 1, 0}; }
  View read() { return {x.data(), in.affine ? floats(affine) : nullptr, nullptr, in.act}; }
  GradView read_grad() {
    return {grad.data(),
            in.coef ? u.data() : nullptr,
            in.coef ? floats(coef) : nullptr,
            in.excited ? floats(gate) : nullptr,
            in.excited ? floats(pool_grad) : nullptr,
            in.u_act};
  }
  static const float* floats(Guarded& g) { return static_cast<const float*>(g.data()); }

  // Calls f(index of the input, of the output, of the weight) for every product of the convolution.
  template <class F>
  void for_products(F f) const {
    for (int64_t at = 0; at < grad.size(); ++at)
      for (int64_t tap = 0; tap < s.kh * s.kw; ++tap) {
        const int64_t c = at % s.c, ox = at / s.c % s.ow, oy = at / (s.c * s.ow) % s.oh, n = at / (s.c * s.ow * s.oh);
        const int64_t iy = oy * s.stride_h - s.pad_top + tap / s.kw * s.dilation_h;
        const int64_t ix = ox * s.stride_w - s.pad_left + tap % s.kw * s.dilation_w;
        if (iy < 0 || iy >= s.h || ix < 0 || ix >= s.w) continue;
        f(((n * s.h + iy) * s.w + ix) * s.c + c, at, c * s.kh * s.kw + tap);
      }
  }
};

void expect(const Guarded& one, const Guarded& two, const std::vector<double>& want, const std::string& name,
            double allowed) {
  const double error = relative_error(one, want);
  check(error < allowed, name + ": error " + std::to_string(error));
  check(one.guards_intact(), name + ": wrote out of bounds");
  check(one.same_bits(two), name + ": the number of threads changes the result");
}

void run_stats(Problem& p, Guarded& u, Guarded& stats, const Threads& threads) {
  DepthwiseStatsParams params{};
  params.shape = p.s, params.dtype = p.dtype, params.view = p.read(), params.u = u.data();
  run_depthwise_stats(params, p.weight_view(), out_data(stats), threads);
}

// Mean and variance of u as it was stored; the error of the mean counts in deviations too.
void check_stats(const ConvShape& s, const Guarded& u, const Guarded& stats, const std::string& name) {
  const int64_t pixels = s.n * s.oh * s.ow;
  for (int64_t c = 0; c < s.c; ++c) {
    double mean = 0, square = 0;
    for (int64_t i = 0; i < pixels; ++i) mean += u[i * s.c + c] / static_cast<double>(pixels);
    for (int64_t i = 0; i < pixels; ++i) square += std::pow(u[i * s.c + c] - mean, 2);
    if (pixels) square /= static_cast<double>(pixels);
    const double mean_error = std::fabs(stats[c] - mean) / (std::fabs(mean) + std::sqrt(square) + 1e-30);
    const double variance_error = std::fabs(stats[s.c + c] - square) / (square + 1e-30);
    check(mean_error < 1e-6, name + " mean: error " + std::to_string(mean_error));
    check(square < 1e-20 || variance_error < 1e-5, name + " variance: error " + std::to_string(variance_error));
  }
}

void forward(const Case& in, const std::string& tier, DType dtype) {
  Problem p(in, dtype);
  const int64_t outputs = p.grad.size();
  Guarded u(outputs, dtype), u2(outputs, dtype), stats(2 * in.c, DType::kFloat32), stats2(2 * in.c, DType::kFloat32);
  run_stats(p, u, stats, kOneThread);
  run_stats(p, u2, stats2, kTwoThreads);
  std::vector<double> want(index(outputs));
  p.for_products([&](int64_t x, int64_t y, int64_t w) { want[index(y)] += p.view[index(x)] * p.weight[w]; });
  expect(u, u2, want, in.name(tier) + " u", tolerance(dtype));
  check(stats.guards_intact() && stats.same_bits(stats2), in.name(tier) + ": statistics depend on the threads");
  check_stats(p.s, u, stats, in.name(tier));
}

void backward(const Case& in, bool need_x, bool need_weight, const std::string& tier, DType dtype) {
  Problem p(in, dtype);
  const ConvShape& s = p.s;
  const int64_t inputs = p.x.size(), weights = p.weight.size(), sums_size = kGradSums * s.n * s.c;
  const bool need_sums = need_x && in.affine;
  Guarded dx(inputs, dtype), dx2(inputs, dtype), dw(weights, DType::kFloat32), dw2(weights, DType::kFloat32),
      sums(sums_size, DType::kFloat32), sums2(sums_size, DType::kFloat32);
  const auto run = [&](Guarded& x, Guarded& w, Guarded& sum, const Threads& threads) {
    DepthwiseBackwardParams params{};
    params.shape = s, params.dtype = dtype, params.grad = p.read_grad(), params.view = p.read();
    params.dx = need_x ? x.data() : nullptr;
    run_depthwise_backward(params, p.weight_view(), need_weight ? out_data(w) : nullptr,
                           need_sums ? out_data(sum) : nullptr, threads);
  };
  run(dx, dw, sums, kOneThread);
  run(dx2, dw2, sums2, kTwoThreads);
  std::vector<double> want_x(index(inputs)), want_w(index(weights)), want_sums(index(sums_size));
  p.for_products([&](int64_t x, int64_t y, int64_t w) {
    want_x[index(x)] += p.du[index(y)] * p.weight[w];
    want_w[index(w)] += p.du[index(y)] * p.view[index(x)];
  });
  const std::string name = in.name(tier);
  if (need_x) expect(dx, dx2, want_x, name + " dx", tolerance(dtype));
  if (need_weight) expect(dw, dw2, want_w, name + " dweight", 4e-6);
  if (!need_sums) return;
  for (int64_t i = 0; i < inputs; ++i) {
    const int64_t at = i / (s.h * s.w * s.c) * s.c + i % s.c;
    const double g = dx[i], d = slope(in.act, p.normalised(i)), away = p.away(i);
    const double terms[kGradSums] = {g * p.view[index(i)], g * d, d, g * d * away, d * away};
    for (int j = 0; j < kGradSums; ++j) want_sums[index(j * s.n * s.c + at)] += terms[j];
  }
  expect(sums, sums2, want_sums, name + " sums", 4e-6);
}

// Of an output whose mean is ten thousand deviations: sums of squares would lose every digit.
void far_from_zero(const std::string& tier) {
  const Case in{3, 20, 30, 31, 1, 1, 0, 1, Act::kIdentity, Act::kIdentity, false, false, false};
  Problem p(in, DType::kFloat32);
  std::vector<float> values = random_values(p.x.size(), 1);
  for (float& v : values) v += 1e4f;
  p.x = Guarded(values, DType::kFloat32);
  Guarded u(p.grad.size(), DType::kFloat32), stats(2 * in.c, DType::kFloat32);
  run_stats(p, u, stats, kOneThread);
  check_stats(p.s, u, stats, tier + "far from zero");
}

}  // namespace

int main() {
  return for_every_tier([](const std::string& tier, DType dtype) {
    int i = 0;
    for (const int64_t k : {3, 5, 7})
      for (const int64_t stride : {1, 2})
        for (const int64_t c : {13, 80})
          for (const int64_t size : {1, 6, 15}) {
            const Case in{2,
                          c,
                          size,
                          size + 3,
                          k,
                          stride,
                          i % 2 ? kSame : k / 2,
                          1,
                          kActs[i % 6],
                          kActs[(i + 3) % 6],
                          i % 4 > 0,
                          i % 3 > 0,
                          i % 2 > 0};
            forward(in, tier, dtype);
            backward(in, true, true, tier, dtype);
            backward(in, i % 2 == 0, i % 2 == 1, tier, dtype);
            ++i;
          }
    // Even kernels, dilation, large strides, no padding, more than the kernel, one channel, an empty batch, many rows.
    const Act silu = Act::kSilu;
    const Case odd[] = {{1, 5, 9, 8, 4, 1, kSame, 1, silu, silu, true, true, false},
                        {1, 16, 12, 11, 3, 1, 2, 2, silu, silu, true, true, true},
                        {1, 3, 17, 9, 5, 3, 0, 1, silu, silu, true, true, false},
                        {1, 1, 6, 6, 3, 1, 1, 1, silu, silu, true, true, false},
                        {1, 33, 6, 6, 1, 1, 0, 1, silu, silu, true, true, false},
                        {1, 8, 12, 12, 9, 2, 4, 1, silu, silu, true, true, false},
                        {1, 8, 9, 9, 3, 1, 5, 1, silu, silu, true, true, false},
                        {0, 8, 5, 5, 3, 1, 1, 1, silu, silu, true, true, false},
                        {1, 24, 50, 9, 5, 2, 2, 1, silu, silu, true, true, true},
                        {33, 300, 3, 4, 3, 1, 1, 1, silu, silu, true, true, false}};
    for (const Case& in : odd) {
      forward(in, tier, dtype);
      backward(in, true, true, tier, dtype);
    }
    if (dtype == DType::kFloat32) far_from_zero(tier);
  });
}
