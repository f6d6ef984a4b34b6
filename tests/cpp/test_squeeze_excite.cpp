// Mean, gate and scaling against loops in double.
#include "check.h"

using namespace effops;
using namespace effops_test;

namespace {

void gate(int64_t n, int64_t c, int64_t r, Act act, Gate gate, const std::string& tier, DType dtype) {
  Guarded pooled(random_values(n * c, 1), DType::kFloat32);
  Guarded w1(random_values(r * c, 2), dtype), w2(random_values(c * r, 3), dtype), b1(random_values(r, 4), dtype);
  std::vector<double> want;
  for (int64_t i = 0; i < n; ++i) {
    std::vector<double> hidden;
    for (int64_t j = 0; j < r; ++j) {
      double sum = b1[j];
      for (int64_t k = 0; k < c; ++k) sum += static_cast<double>(w1[j * c + k]) * pooled[i * c + k];
      hidden.push_back(activate(act, sum));
    }
    for (int64_t k = 0; k < c; ++k) {
      double sum = 0;
      for (int64_t j = 0; j < r; ++j) sum += w2[k * r + j] * hidden[static_cast<size_t>(j)];
      want.push_back(gate == Gate::kSigmoid ? 1 / (1 + std::exp(-sum)) : std::min(std::max(sum + 3, 0.0), 6.0) / 6);
    }
  }
  Guarded out(n * c, DType::kFloat32);
  SeGateParams p{};
  p.n = n, p.c = c, p.r = r, p.act = act, p.gate = gate;
  p.pooled = static_cast<const float*>(pooled.data());
  p.out = static_cast<float*>(out.data());
  const SeWeights weights{{w1.data(), dtype, r * c}, {b1.data(), dtype, r}, {w2.data(), dtype, c * r}, {}};
  run_se_gate(p, weights, kTwoThreads);
  const std::string name = tier + "gate c" + std::to_string(c) + " r" + std::to_string(r);
  const double error = relative_error(out, want);
  check(error < 1e-5, name + ": error " + std::to_string(error));
  check(out.guards_intact(), name + ": wrote out of bounds");
}

void mean_and_scale(int64_t n, int64_t pixels, int64_t c, const std::string& tier, DType dtype) {
  Guarded x(random_values(n * pixels * c, 1), dtype), scale(random_values(n * c, 2), DType::kFloat32);
  std::vector<double> mean(static_cast<size_t>(n * c)), scaled;
  for (int64_t i = 0; i < n * pixels; ++i)
    for (int64_t j = 0; j < c; ++j) {
      const int64_t at = i / pixels * c + j;
      mean[static_cast<size_t>(at)] += static_cast<double>(x[i * c + j]) / static_cast<double>(pixels);
      scaled.push_back(static_cast<double>(x[i * c + j]) * scale[at]);
    }
  Guarded y(n * pixels * c, dtype), out(n * c, DType::kFloat32), one(n * c, DType::kFloat32);
  ImageParams p{n, pixels, c, dtype, x.data(), static_cast<const float*>(scale.data()), y.data()};
  run_mean(p, static_cast<float*>(out.data()), kTwoThreads);
  run_mean(p, static_cast<float*>(one.data()), kOneThread);
  run_scale(p, kTwoThreads);
  const std::string name = tier + "pixels " + std::to_string(pixels) + " c" + std::to_string(c);
  check(relative_error(out, mean) < 1e-5 && out.guards_intact(), name + ": mean");
  check(out.same_bits(one), name + ": the number of threads changes the mean");
  check(relative_error(y, scaled) < tolerance(dtype) && y.guards_intact(), name + ": scale");
}

// To bfloat16 and back: rounded to nearest even, so that what bfloat16 holds comes back as it was.
void conversion(int64_t count, const std::string& tier) {
  std::vector<float> values = random_values(count, 1);
  // Halfway between two values, and what rounds to infinity.
  const float ties[] = {1.00390625f, 1.01171875f, -1.00390625f, 3.4028235e38f};
  for (int64_t i = 0; i < std::min<int64_t>(count, 4); ++i) values[static_cast<size_t>(i)] = ties[i];
  Guarded x(values, DType::kFloat32), rounded(values, DType::kBFloat16);
  Guarded y(count, DType::kBFloat16), back(count, DType::kFloat32);
  execute_convert({count, DType::kFloat32, DType::kBFloat16, x.data(), y.data()}, kTwoThreads);
  execute_convert({count, DType::kBFloat16, DType::kFloat32, y.data(), back.data()}, kTwoThreads);
  bool same = true;
  for (int64_t i = 0; i < count; ++i) same = same && back[i] == rounded[i];
  const std::string name = tier + "conversion of " + std::to_string(count);
  check(y.same_bits(rounded) && same, name);
  check(y.guards_intact() && back.guards_intact(), name + ": wrote out of bounds");
}

}  // namespace

int main() {
  return for_every_tier([](const std::string& tier, DType dtype) {
    for (const int64_t c : {1, 8, 13, 40, 96, 240})
      for (const int64_t r : {1, 4, 10, 48}) {
        gate(3, c, r, Act::kSilu, Gate::kSigmoid, tier, dtype);
        gate(1, c, r, Act::kRelu, Gate::kHardsigmoid, tier, dtype);
      }
    for (const int64_t pixels : {1, 49, 64, 65, 200})
      for (const int64_t c : {1, 8, 19, 64}) mean_and_scale(2, pixels, c, tier, dtype);
    for (const int64_t count : {1, 15, 16, 1000, 100001}) conversion(count, tier);
  });
}
