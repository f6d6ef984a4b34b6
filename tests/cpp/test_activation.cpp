// The approximations behind the activations, against the library's functions in double.
#include "core/activation.h"

#include <type_traits>

#include "check.h"

using effops_test::check;
using V = effops::Portable<1>;

namespace {

template <class F>
void value_and_slope(F f, effops::Act act, const std::string& name) {
  const auto at = [&](float x) { return f.both(V(x)); };
  double value_error = 0, slope_error = 0;
  for (float x = -12.0f; x < 12.0f; x += 0.00137f) {
    const double gap = std::fabs(at(x).value.v[0] - f.apply(V(x)).v[0]);
    value_error = std::max(value_error, gap / std::max(1.0, std::fabs(static_cast<double>(x))));
    slope_error = std::max(slope_error, std::fabs(at(x).slope.v[0] - effops_test::slope(act, x)));
  }
  std::printf("%s: slope, absolute error %.3g\n", name.c_str(), slope_error);
  check(value_error < 3e-7, name + ": both has another value than apply");
  check(slope_error < 2e-6, name + ": slope");
  for (const float x : {-1e30f, -1000.0f, -100.0f, -88.5f, -3.0f, -0.0f, 0.0f, 1e-30f, 3.0f, 6.0f, 100.0f, 1e30f}) {
    check(std::fabs(at(x).slope.v[0] - effops_test::slope(act, x)) <= 2e-7, name + ": slope at " + std::to_string(x));
  }
  const float nan = std::numeric_limits<float>::quiet_NaN();
  check(std::isnan(at(nan).value.v[0]), name + ": value of NaN");
  const bool smooth = act == effops::Act::kSilu || act == effops::Act::kGelu;
  check(std::isnan(at(nan).slope.v[0]) == smooth, name + ": slope at NaN");
}

// A gate's derivative, which is read off its value.
template <class F>
void gate_slope(F f, const std::string& name) {
  for (float x = -10.0f; x < 10.0f; x += 0.0137f) {
    const double step = 1e-3, value = f.apply(V(x)).v[0];
    const auto exact = [&](double at) {
      return std::is_same_v<F, effops::Sigmoid> ? 1 / (1 + std::exp(-at)) : std::min(std::max(at + 3, 0.0), 6.0) / 6;
    };
    if (std::fabs(std::fabs(x) - 3) < 2 * step) continue;
    const double want = (exact(x + step) - exact(x - step)) / (2 * step);
    check(std::fabs(f.slope_of(V(static_cast<float>(value))).v[0] - want) < 1e-6, name + ": slope");
  }
}

}  // namespace

int main() {
  double exp_error = 0, erf_error = 0;
  for (float x = -87.0f; x < 88.0f; x += 0.00371f) {
    exp_error =
        std::max(exp_error, std::fabs(effops::Exp<V>(V(x)).value().v[0] / std::exp(static_cast<double>(x)) - 1));
  }
  for (float x = -6.0f; x < 6.0f; x += 0.00113f) {
    erf_error = std::max(erf_error, std::fabs(effops::erf_approx(V(x)).v[0] - std::erf(static_cast<double>(x))));
  }
  std::printf("exp: relative error %.3g; erf: absolute error %.3g\n", exp_error, erf_error);
  check(exp_error < 2e-7, "exp");
  check(erf_error < 4e-7, "erf");

  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  for (const effops::Act act : effops_test::kActs) {
    effops::with_activation(act, [&](auto f) {
      const std::string name = "activation " + std::to_string(static_cast<int>(act));
      check(std::isnan(f.apply(V(nan)).v[0]), name + " of NaN");
      for (const float x : {-1e30f, -100.0f, -3.0f, -0.0f, 0.0f, 1e-30f, 3.0f, 100.0f, 1e30f}) {
        const double want = effops_test::activate(act, x);
        check(std::fabs(f.apply(V(x)).v[0] - want) <= 1e-6 * std::max(1.0, std::fabs(want)),
              name + " of " + std::to_string(x));
      }
      const float top = act == effops::Act::kRelu6 ? 6.0f : inf;
      check(f.apply(V(inf)).v[0] == top, name + " of infinity");
      value_and_slope(f, act, name);
    });
  }
  gate_slope(effops::Sigmoid{}, "sigmoid");
  gate_slope(effops::Hardsigmoid{}, "hardsigmoid");
  return effops_test::failures != 0;
}
