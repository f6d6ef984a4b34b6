// Second stages: what blocks left in (parts, c) rows, joined in the order of the parts.
#pragma once

#include "device.h"
#include "heuristics.h"
#include "launch.h"

namespace effops::cuda {

// Count, mean and sum of squared deviations of some values.
struct Moments {
  float count = 0.0f, mean = 0.0f, m2 = 0.0f;
};

// Those of neighbouring channels, with equal counts.
template <int N>
struct LaneMoments {
  float count = 0.0f, mean[N] = {}, m2[N] = {};

  // Chan, Golub and LeVeque, The American Statistician 37, 1983. other_count > 0.
  __device__ void join(float other_count, const float (&other_mean)[N], const float (&other_m2)[N]) {
    const float before = count;
    count += other_count;
    const float share = other_count / count;
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const float away = other_mean[i] - mean[i];
      m2[i] += fmaf(away * away, before * share, other_m2[i]);
      mean[i] = fmaf(away, share, mean[i]);
    }
  }
};

// part(0) ... part(count - 1) joined, by way of deviations from a part's mean, which cancel little. In double: so few
// additions cost nothing, and in float32 they would be what rounds most.
template <class Part>
__device__ __forceinline__ Moments joined(int count, Part part) {
  double values = 0.0, sum = 0.0, m2 = 0.0;
  float shift = 0.0f;
  for (int i = 0; i < count; ++i) {
    const Moments own = part(i);
    if (own.count == 0.0f) continue;
    if (values == 0.0) shift = own.mean;
    values += own.count;
    sum += static_cast<double>(own.mean - shift) * own.count;
  }
  if (values == 0.0) return {};
  const double mean = shift + sum / values;
  for (int i = 0; i < count; ++i) {
    const Moments own = part(i);
    if (own.count == 0.0f) continue;
    const double away = own.mean - mean;
    m2 += away * away * own.count + own.m2;
  }
  return {static_cast<float>(values), static_cast<float>(mean), static_cast<float>(m2)};
}

// out (n, c) = scale * sum over parts of partial (n, parts, c).
void sum_parts(const float* partial, int64_t n, int64_t parts, int64_t c, float scale, float* out, Stream stream);

// stats (2, c): mean and biased variance, from partial (parts, 3, c): count, mean and sum of squared deviations.
void join_parts(const float* partial, int64_t parts, int64_t c, float* stats, Stream stream);

}  // namespace effops::cuda
