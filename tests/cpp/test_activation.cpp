// The approximations behind the activations, against the library's functions in double.
#include "core/activation.h"

#include "check.h"

using effops_test::check;
using V = effops::Portable<1>;

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
    });
  }
  return effops_test::failures != 0;
}
