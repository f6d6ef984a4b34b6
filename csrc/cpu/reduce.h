// Second stages: the partial results of the parts of an image, joined in the order of the parts and in double, so that
// nothing depends on the number of threads.
#pragma once

#include <algorithm>
#include <cstdint>

#include "../core/depthwise_training.h"
#include "parallel.h"

namespace effops {

// Calls out(i, sum over parts of sums[part * pitch + i]) for i in [begin, end).
template <class F>
void sum_parts(const float* sums, int64_t parts, int64_t pitch, int64_t begin, int64_t end, F out) {
  constexpr int64_t kStrip = 128;
  double total[kStrip];
  for (int64_t i = begin; i < end; i += kStrip) {
    const int64_t size = std::min(kStrip, end - i);
    std::fill(total, total + size, 0.0);
    for (int64_t part = 0; part < parts; ++part) {
      const float* at = sums + part * pitch + i;
      for (int64_t j = 0; j < size; ++j) total[j] += at[j];
    }
    for (int64_t j = 0; j < size; ++j) out(i + j, total[j]);
  }
}

// sums (kGradSums, images, c) from those of `per_image` parts of every image, (images, per_image, kGradSums, c).
inline void join_grad_sums(const float* parts, int64_t images, int64_t per_image, int64_t c, float* sums,
                           const Threads& threads) {
  parallel(threads, images * kGradSums, per_image * c, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t image = i / kGradSums, j = i % kGradSums;
      float* out = sums + (j * images + image) * c;
      sum_parts(parts + (image * per_image * kGradSums + j) * c, per_image, kGradSums * c, 0, c,
                [&](int64_t at, double sum) { out[at] = static_cast<float>(sum); });
    }
  });
}

struct Moments {
  double mean, m2;  // m2: sum of squared deviations
};

// stats (2, channels): mean and biased variance of every channel, from of(part, channel) of parts of count(part)
// values.
template <class Count, class Of>
void join_statistics(int64_t parts, int64_t channels, Count count, Of of, float* stats, const Threads& threads) {
  parallel(threads, channels, parts * 8, [&](int64_t begin, int64_t end) {
    constexpr int64_t kStrip = 64;
    double mean[kStrip], m2[kStrip];
    for (int64_t c0 = begin; c0 < end; c0 += kStrip) {
      const int64_t size = std::min(kStrip, end - c0);
      std::fill(mean, mean + size, 0.0);
      std::fill(m2, m2 + size, 0.0);
      double before = 0.0;
      for (int64_t part = 0; part < parts; ++part) {
        const double more = static_cast<double>(count(part)), share = more / (before + more);
        for (int64_t j = 0; j < size; ++j) {
          const Moments found = of(part, c0 + j);
          join_moments(found.mean, found.m2, before, share, mean[j], m2[j]);
        }
        before += more;
      }
      for (int64_t j = 0; j < size; ++j) {
        stats[c0 + j] = static_cast<float>(mean[j]);
        stats[channels + c0 + j] = before > 0.0 ? static_cast<float>(m2[j] / before) : 0.0f;
      }
    }
  });
}

}  // namespace effops
