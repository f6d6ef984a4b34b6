// 1x1 convolutions in training against loops in double, in guarded memory, with one and two threads.
#include "check.h"
#include "cpu/run_pointwise_training.h"

using namespace effops;
using namespace effops_test;

namespace {

double slope(Act act, double x) {
  const double step = 1e-5;
  return (activate(act, x + step) - activate(act, x - step)) / (2 * step);
}

struct Case {
  int64_t images, pixels, c, out;
  Act act, u_act;
  bool affine, gate, coef, u_gate, pool_grad;

  std::string name(const std::string& tier) const {
    return tier + "n" + std::to_string(images) + " p" + std::to_string(pixels) + " c" + std::to_string(c) + " o" +
           std::to_string(out);
  }
};

// Inputs of a case, and what the ops make of them in double.
struct Problem {
  const Case& in;
  DType dtype;
  int64_t rows;
  Guarded x, weight, affine, gate, grad, u, coef, u_gate, pool_grad;
  std::vector<double> view, du;

  Problem(const Case& in, DType dtype)
      : in(in),
        dtype(dtype),
        rows(in.images * in.pixels),
        x(random_values(rows * in.c, 1), dtype),
        weight(random_values(in.out * in.c, 2), dtype),
        affine(random_values(3 * in.c, 3), DType::kFloat32),
        gate(random_values(in.images * in.c, 4), DType::kFloat32),
        grad(random_values(rows * in.out, 5), dtype),
        u(random_values(rows * in.out, 6), dtype),
        coef(random_values(5 * in.out, 7), DType::kFloat32),
        u_gate(random_values(in.images * in.out, 8), DType::kFloat32),
        pool_grad(random_values(in.images * in.out, 9), DType::kFloat32) {
    for (int64_t m = 0; m < rows; ++m)
      for (int64_t i = 0; i < in.c; ++i)
        view.push_back(activate(in.act, normalised(m, i)) * (in.gate ? gate[m / in.pixels * in.c + i] : 1.0f));
    for (int64_t m = 0; m < rows; ++m)
      for (int64_t o = 0; o < in.out; ++o) {
        const int64_t at = m * in.out + o, of_image = m / in.pixels * in.out + o;
        double g = grad[at] * (in.u_gate ? static_cast<double>(u_gate[of_image]) : 1.0);
        if (in.pool_grad) g += pool_grad[of_image];
        if (in.coef) {
          const double away = static_cast<double>(u[at]) - coef[o];
          g = coef[in.out + o] * g * slope(in.u_act, away * coef[in.out + o] + coef[2 * in.out + o]) +
              coef[3 * in.out + o] * away + coef[4 * in.out + o];
        }
        du.push_back(g);
      }
  }
  double normalised(int64_t m, int64_t i) const {
    const double v = x[m * in.c + i];
    return in.affine ? (v - affine[i]) * affine[in.c + i] + affine[2 * in.c + i] : v;
  }
  PointwiseShape shape() const { return {in.images, in.pixels, in.c, in.out, dtype}; }
  WeightView weight_view() { return {weight.data(), dtype, in.out, 1, 1, in.c, in.c, 0, 0, 1}; }
  View read() { return {x.data(), in.affine ? floats(affine) : nullptr, in.gate ? floats(gate) : nullptr, in.act}; }
  GradView read_grad() {
    return {grad.data(),
            in.coef ? u.data() : nullptr,
            in.coef ? floats(coef) : nullptr,
            in.u_gate ? floats(u_gate) : nullptr,
            in.pool_grad ? floats(pool_grad) : nullptr,
            in.u_act};
  }
  static const float* floats(Guarded& g) { return static_cast<const float*>(g.data()); }
};

float* out_data(Guarded& g) { return static_cast<float*>(g.data()); }

void expect(const Guarded& one, const Guarded& two, const std::vector<double>& want, const std::string& name,
            double allowed) {
  const double error = relative_error(one, want);
  check(error < allowed, name + ": error " + std::to_string(error));
  check(one.guards_intact(), name + ": wrote out of bounds");
  check(one.same_bits(two), name + ": the number of threads changes the result");
}

void forward(const Case& in, const std::string& tier, DType dtype) {
  Problem p(in, dtype);
  Guarded u(p.rows * in.out, dtype), u2(p.rows * in.out, dtype);
  Guarded statistics(2 * in.out, DType::kFloat32), statistics2(2 * in.out, DType::kFloat32);
  run_pointwise_stats(p.shape(), p.read(), p.weight_view(), u.data(), out_data(statistics), kOneThread);
  run_pointwise_stats(p.shape(), p.read(), p.weight_view(), u2.data(), out_data(statistics2), kTwoThreads);
  std::vector<double> want, moments(static_cast<size_t>(2 * in.out));
  for (int64_t m = 0; m < p.rows; ++m)
    for (int64_t o = 0; o < in.out; ++o) {
      double sum = 0;
      for (int64_t i = 0; i < in.c; ++i) sum += p.view[static_cast<size_t>(m * in.c + i)] * p.weight[o * in.c + i];
      want.push_back(sum);
    }
  // The statistics are those of the rounded output.
  for (int64_t o = 0; o < in.out && p.rows; ++o) {
    double mean = 0, square = 0;
    for (int64_t m = 0; m < p.rows; ++m) mean += u[m * in.out + o] / static_cast<double>(p.rows);
    for (int64_t m = 0; m < p.rows; ++m) square += std::pow(u[m * in.out + o] - mean, 2);
    moments[static_cast<size_t>(o)] = mean;
    moments[static_cast<size_t>(in.out + o)] = square / static_cast<double>(p.rows);
  }
  expect(u, u2, want, in.name(tier) + " u", tolerance(dtype));
  expect(statistics, statistics2, moments, in.name(tier) + " statistics", 1e-6);
}

void backward(const Case& in, bool need_x, bool need_weight, const std::string& tier, DType dtype) {
  Problem p(in, dtype);
  const int64_t c = in.c, sums_size = kGradSums * in.images * c;
  const bool need_sums = need_x && (in.affine || in.gate);
  Guarded dx(p.rows * c, dtype), dx2(p.rows * c, dtype), dw(in.out * c, DType::kFloat32),
      dw2(in.out * c, DType::kFloat32), sums(sums_size, DType::kFloat32), sums2(sums_size, DType::kFloat32);
  run_pointwise_backward(p.shape(), p.read_grad(), p.read(), p.weight_view(), need_x ? dx.data() : nullptr,
                         need_weight ? out_data(dw) : nullptr, need_sums ? out_data(sums) : nullptr, kOneThread);
  run_pointwise_backward(p.shape(), p.read_grad(), p.read(), p.weight_view(), need_x ? dx2.data() : nullptr,
                         need_weight ? out_data(dw2) : nullptr, need_sums ? out_data(sums2) : nullptr, kTwoThreads);
  std::vector<double> want_dx, want_dw(static_cast<size_t>(in.out * c)), want_sums(static_cast<size_t>(sums_size));
  for (int64_t m = 0; m < p.rows; ++m) {
    const double* du = p.du.data() + m * in.out;
    for (int64_t i = 0; i < c; ++i) {
      double g = 0;
      for (int64_t o = 0; o < in.out; ++o) {
        g += du[o] * p.weight[o * c + i];
        want_dw[static_cast<size_t>(o * c + i)] += du[o] * p.view[static_cast<size_t>(m * c + i)];
      }
      want_dx.push_back(g);
      // The sums are those of the rounded dx.
      const double z = p.normalised(m, i), stored = dx[m * c + i], a = slope(in.act, z);
      const double away = static_cast<double>(p.x[m * c + i]) - (in.affine ? p.affine[i] : 0.0f);
      const double terms[kGradSums] = {stored * activate(in.act, z), stored * a, a, stored * a * away, a * away};
      for (int64_t j = 0; j < kGradSums; ++j) {
        want_sums[static_cast<size_t>((j * in.images + m / in.pixels) * c + i)] += terms[j];
      }
    }
  }
  const std::string name = in.name(tier);
  if (need_x) expect(dx, dx2, want_dx, name + " dx", tolerance(dtype));
  if (need_weight) expect(dw, dw2, want_dw, name + " dweight", 4e-6);
  if (need_sums) expect(sums, sums2, want_sums, name + " sums", 4e-6);
}

// Deviations of 1 around a mean of 1e4: what squares lose, the statistics must not.
void far_mean(const std::string& tier) {
  const int64_t rows = 5000, c = 2, out = 3;
  std::vector<float> values = random_values(rows * c, 11);
  for (int64_t m = 0; m < rows; ++m) values[static_cast<size_t>(m * c)] = 1e4f;
  Guarded x(values, DType::kFloat32), weight({1, 1, 1, 2, -1, 1}, DType::kFloat32);
  Guarded u(rows * out, DType::kFloat32), statistics(2 * out, DType::kFloat32);
  const WeightView view{weight.data(), DType::kFloat32, out, 1, 1, c, c, 0, 0, 1};
  run_pointwise_stats({1, rows, c, out, DType::kFloat32}, {x.data(), nullptr, nullptr, Act::kIdentity}, view, u.data(),
                      out_data(statistics), kOneThread);
  for (int64_t o = 0; o < out; ++o) {
    double mean = 0, square = 0;
    for (int64_t m = 0; m < rows; ++m) mean += u[m * out + o] / static_cast<double>(rows);
    for (int64_t m = 0; m < rows; ++m) square += std::pow(u[m * out + o] - mean, 2) / static_cast<double>(rows);
    check(std::fabs(statistics[o] / mean - 1) < 1e-7, tier + "mean far from zero");
    check(std::fabs(statistics[out + o] / square - 1) < 1e-6, tier + "variance around a mean far from zero");
  }
}

}  // namespace

int main() {
  return for_every_tier([](const std::string& tier, DType dtype) {
    // Kinks are left out: a difference quotient has no slope there.
    constexpr Act kSmooth[] = {Act::kSilu, Act::kIdentity, Act::kGelu};
    int i = 0;
    for (const int64_t c : {1, 3, 8, 24, 65, 150})
      for (const int64_t out : {1, 6, 16, 33, 112}) {
        for (const int64_t pixels : {1, 5, 49}) {
          const Case in{2,          pixels,    c,          out,        kSmooth[i % 3], kSmooth[i / 3 % 3],
                        i % 4 != 0, i % 5 < 2, i % 3 != 0, i % 7 == 0, i % 5 == 0};
          forward(in, tier, dtype);
          backward(in, i % 6 != 1, i % 6 != 2, tier, dtype);
          ++i;
        }
      }
    const Case plain{1, 700, 16, 24, Act::kIdentity, Act::kIdentity, false, false, false, false, false};
    const Case pieces{2, 420, 24, 16, Act::kSilu, Act::kSilu, true, true, true, true, true};
    const Case wide{3, 60, 200, 530, Act::kSilu, Act::kIdentity, true, false, true, false, false};
    const Case empty{0, 49, 8, 16, Act::kSilu, Act::kSilu, true, true, true, true, true};
    for (const Case& in : {plain, pieces, wide, empty}) {
      forward(in, tier, dtype);
      backward(in, true, true, tier, dtype);
    }
    if (dtype == DType::kFloat32) far_mean(tier);
  });
}
