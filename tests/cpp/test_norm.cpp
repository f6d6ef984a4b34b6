// The passes of batch norm in training and the gate's gradients against loops in double.
#include "cpu/run_norm.h"

#include "check.h"

using namespace effops;
using namespace effops_test;

namespace {

struct Case {
  Parts parts;
  std::string name;
  int64_t size() const { return parts.n * parts.pixels * parts.c; }
};

const float* floats(Guarded& g) { return static_cast<const float*>(g.data()); }
float* out_floats(Guarded& g) { return static_cast<float*>(g.data()); }

// The mean lies far from zero, measured in deviations.
void stats(const Case& t, float offset) {
  const int64_t pixels = t.parts.n * t.parts.pixels, c = t.parts.c;
  std::vector<float> values = random_values(t.size(), 1);
  for (float& v : values) v += offset;
  Guarded x(values, t.parts.dtype);
  std::vector<double> want(static_cast<size_t>(2 * c));
  for (int64_t i = 0; i < c; ++i) {
    double mean = 0, squares = 0;
    for (int64_t p = 0; p < pixels; ++p) mean += x[p * c + i] / static_cast<double>(pixels);
    for (int64_t p = 0; p < pixels; ++p) squares += (x[p * c + i] - mean) * (x[p * c + i] - mean);
    want[static_cast<size_t>(i)] = mean;
    want[static_cast<size_t>(c + i)] = squares / static_cast<double>(pixels);
  }
  Guarded out(2 * c, DType::kFloat32), one(2 * c, DType::kFloat32);
  const NormStatsParams p{pixels, c, 0, t.parts.dtype, x.data(), nullptr};
  run_norm_stats(p, out_floats(out), kTwoThreads);
  run_norm_stats(p, out_floats(one), kOneThread);
  for (int64_t i = 0; i < 2 * c; ++i) {
    const double w = want[static_cast<size_t>(i)];
    check(std::fabs(out[i] - w) <= 2e-6 * std::fabs(w) + 1e-6, t.name + " statistics " + std::to_string(offset));
  }
  check(out.guards_intact() && out.same_bits(one), t.name + " statistics: bounds or threads");
}

void forward(const Case& t, Act act) {
  const int64_t n = t.parts.n, pixels = t.parts.pixels, c = t.parts.c;
  Guarded x(random_values(t.size(), 1), t.parts.dtype), residual(random_values(t.size(), 2), t.parts.dtype);
  Guarded affine(random_values(3 * c, 3), DType::kFloat32), gate(random_values(n * c, 4), DType::kFloat32);
  std::vector<double> view, full, mean(static_cast<size_t>(n * c));
  for (int64_t i = 0; i < t.size(); ++i) {
    const int64_t j = i % c, row = i / (pixels * c) * c + j;
    const double y = activate(act, (static_cast<double>(x[i]) - affine[j]) * affine[c + j] + affine[2 * c + j]);
    view.push_back(y);
    full.push_back(y * gate[row] + residual[i]);
    mean[static_cast<size_t>(row)] += y / static_cast<double>(pixels);
  }
  Guarded y(t.size(), t.parts.dtype), y_only(t.size(), t.parts.dtype);
  Guarded pooled(n * c, DType::kFloat32), one(n * c, DType::kFloat32);
  const View read{x.data(), floats(affine), nullptr, act};
  NormParams p{t.parts, read, nullptr, y_only.data(), nullptr};
  run_norm(p, out_floats(pooled), kTwoThreads);
  check(relative_error(y_only, view) < tolerance(t.parts.dtype) && y_only.guards_intact(), t.name + " view");
  check(relative_error(pooled, mean) < 1e-5 && pooled.guards_intact(), t.name + " pooled");
  p.y = nullptr;
  run_norm(p, out_floats(one), kOneThread);
  check(pooled.same_bits(one), t.name + ": threads or the output change the mean");
  p = {t.parts, {x.data(), floats(affine), floats(gate), act}, residual.data(), y.data(), nullptr};
  run_norm(p, nullptr, kTwoThreads);
  check(relative_error(y, full) < tolerance(t.parts.dtype) && y.guards_intact(), t.name + " gated view and residual");
}

void backward(const Case& t, Act act) {
  const int64_t n = t.parts.n, pixels = t.parts.pixels, c = t.parts.c;
  Guarded x(random_values(t.size(), 1), t.parts.dtype), grad(random_values(t.size(), 2), t.parts.dtype);
  Guarded coef(random_values(5 * c, 3), DType::kFloat32);
  Guarded gate(random_values(n * c, 4), DType::kFloat32), pool_grad(random_values(n * c, 5), DType::kFloat32);
  std::vector<double> du, sums(static_cast<size_t>(kGradSums * n * c));
  for (int64_t i = 0; i < t.size(); ++i) {
    const int64_t j = i % c, row = i / (pixels * c) * c + j;
    const double g = grad[i], away = static_cast<double>(x[i]) - coef[j], z = away * coef[c + j] + coef[2 * c + j];
    const double terms[] = {g * activate(act, z), g * slope(act, z), slope(act, z), g * slope(act, z) * away,
                            slope(act, z) * away};
    for (int64_t k = 0; k < kGradSums; ++k) sums[static_cast<size_t>(k * n * c + row)] += terms[k];
    du.push_back(coef[c + j] * (g * gate[row] + pool_grad[row]) * slope(act, z) + coef[3 * c + j] * away +
                 coef[4 * c + j]);
  }
  Guarded out(kGradSums * n * c, DType::kFloat32), one(kGradSums * n * c, DType::kFloat32);
  const NormGradSumsParams s{t.parts, {x.data(), floats(coef), nullptr, act}, grad.data(), nullptr};
  run_norm_grad_sums(s, out_floats(out), kTwoThreads);
  run_norm_grad_sums(s, out_floats(one), kOneThread);
  check(relative_error(out, sums) < 1e-5 && out.guards_intact(), t.name + " sums");
  check(out.same_bits(one), t.name + ": the number of threads changes the sums");
  Guarded y(t.size(), t.parts.dtype);
  const GradView view{grad.data(), x.data(), floats(coef), floats(gate), floats(pool_grad), act};
  run_norm_grad({t.parts, view, y.data()}, kTwoThreads);
  check(relative_error(y, du) < std::max(1e-5, tolerance(t.parts.dtype)) && y.guards_intact(), t.name + " gradient");
}

void gate(int64_t n, int64_t c, int64_t r, const std::string& tier, DType dtype) {
  Guarded grad(random_values(n * c, 1), DType::kFloat32), pooled(random_values(n * c, 2), DType::kFloat32);
  std::vector<float> values = random_values(n * c, 3);
  for (float& v : values) v = 1 / (1 + std::exp(-v));
  Guarded gated(values, DType::kFloat32);
  Guarded w1(random_values(r * c, 4), dtype), w2(random_values(c * r, 5), dtype), b1(random_values(r, 6), dtype);
  const auto at = [](int64_t i) { return static_cast<size_t>(i); };
  std::vector<double> d_pooled(at(n * c)), d_w1(at(r * c)), d_b1(at(r)), d_w2(at(c * r)), d_b2(at(c));
  for (int64_t i = 0; i < n; ++i) {
    const auto d_logit = [&](int64_t k) {
      const double y = gated[i * c + k];
      return grad[i * c + k] * y * (1 - y);
    };
    for (int64_t k = 0; k < c; ++k) d_b2[at(k)] += d_logit(k);
    for (int64_t j = 0; j < r; ++j) {
      double hidden = b1[j], d_hidden = 0;
      for (int64_t k = 0; k < c; ++k) hidden += static_cast<double>(w1[j * c + k]) * pooled[i * c + k];
      for (int64_t k = 0; k < c; ++k) d_hidden += d_logit(k) * w2[k * r + j];
      d_hidden *= slope(Act::kSilu, hidden);
      d_b1[at(j)] += d_hidden;
      for (int64_t k = 0; k < c; ++k) {
        d_w1[at(j * c + k)] += d_hidden * pooled[i * c + k];
        d_w2[at(k * r + j)] += d_logit(k) * activate(Act::kSilu, hidden);
        d_pooled[at(i * c + k)] += d_hidden * w1[j * c + k];
      }
    }
  }
  const auto run = [&](const Threads& threads) {
    std::vector<Guarded> out;
    for (const int64_t size : {n * c, r * c, r, c * r, c}) out.emplace_back(size, DType::kFloat32);
    SeBackwardParams p{};
    p.n = n, p.c = c, p.r = r, p.act = Act::kSilu, p.gate = Gate::kSigmoid;
    p.grad = floats(grad), p.gated = floats(gated), p.pooled = floats(pooled);
    p.d_pooled = out_floats(out[0]), p.d_reduce_weight = out_floats(out[1]), p.d_reduce_bias = out_floats(out[2]);
    p.d_expand_weight = out_floats(out[3]), p.d_expand_bias = out_floats(out[4]);
    run_se_gate_backward(p, {{w1.data(), dtype, r * c}, {b1.data(), dtype, r}, {w2.data(), dtype, c * r}, {}}, threads);
    return out;
  };
  const auto two = run(kTwoThreads), one = run(kOneThread);
  const std::vector<double>* want[] = {&d_pooled, &d_w1, &d_b1, &d_w2, &d_b2};
  for (size_t i = 0; i < two.size(); ++i) {
    const std::string name = tier + "gate c" + std::to_string(c) + " r" + std::to_string(r) + " " + std::to_string(i);
    const double error = relative_error(two[i], *want[i]);
    check(error < 2e-5, name + ": error " + std::to_string(error));
    check(two[i].guards_intact() && two[i].same_bits(one[i]), name + ": bounds or threads");
  }
}

}  // namespace

int main() {
  return for_every_tier([](const std::string& tier, DType dtype) {
    for (const int64_t pixels : {1, 49, 130, 300})
      for (const int64_t c : {1, 8, 19, 40, 96}) {
        const Case t{{2, pixels, c, dtype}, tier + std::to_string(pixels) + " pixels c" + std::to_string(c)};
        stats(t, 0.0f);
        if (dtype == DType::kFloat32) stats(t, 1e4f);
        for (const Act act : kActs) {
          forward(t, act);
          backward(t, act);
        }
      }
    gate(3, 96, 4, tier, dtype);
    gate(70, 40, 10, tier, dtype);
    gate(2, 13, 1, tier, dtype);
    gate(1, 240, 48, tier, dtype);
  });
}
