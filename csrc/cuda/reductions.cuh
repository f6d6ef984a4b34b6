// Second stages: what blocks left in (parts, c) rows, joined in the order of the parts.
#pragma once

#include "device.h"
#include "heuristics.h"
#include "launch.h"

namespace effops::cuda {

// Count, mean and sum of squared deviations of some values.
struct Moments {
  float count = 0.0f, mean = 0.0f, m2 = 0.0f;

  // Chan, Golub and LeVeque, The American Statistician 37, 1983.
  __device__ void join(const Moments& other) {
    if (other.count == 0.0f) return;
    const float total = count + other.count, away = other.mean - mean, share = other.count / total;
    m2 += other.m2 + away * away * count * share;
    mean += away * share;
    count = total;
  }
};

// out (n, c) = scale * sum over parts of partial (n, parts, c).
void sum_parts(const float* partial, int64_t n, int64_t parts, int64_t c, float scale, float* out, Stream stream);

// stats (2, c): mean and biased variance, from partial (parts, 3, c): count, mean and sum of squared deviations.
void join_parts(const float* partial, int64_t parts, int64_t c, float* stats, Stream stream);

}  // namespace effops::cuda
