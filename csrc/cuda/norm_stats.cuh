// Mean and sum of squared deviations of every channel over runs of pixels.
//
// Moves: x once. Arithmetic: 3 operations an element. Sums are those of deviations from the block's first pixel, as
// large as the deviations however far from zero the values lie.
#pragma once

#include "norm.h"
#include "pass.cuh"

namespace effops::cuda {

template <class Traits>
__global__ void __launch_bounds__(Traits::kThreads, Traits::kBlocks) norm_stats_kernel(const NormStatsArgs p) {
  using T = typename Traits::T;
  constexpr int kVector = kLanes<T>;
  EFFOPS_SHARED(float, shared, 2 * Traits::kThreads * kVector);
  const PassPlace at(p.pass, kVector);
  const int64_t c = p.pass.c, start = at.part * p.pass.tiling.run;
  const T* const from[] = {static_cast<const T*>(p.x)};
  Packed<T> origin{};
  if (at.left > 0) origin = load_channels(from[0] + start * c + at.channel, at.left, p.pass.vectors);
  float sums[2][kVector] = {};
  for_pixels<Traits::kInFlight>(p.pass, at, from, [&](const Packed<T>(&raw)[1], int64_t) {
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      const float away = to_float(raw[0].v[i]) - to_float(origin.v[i]);
      sums[0][i] += away;
      sums[1][i] = fmaf(away, away, sums[1][i]);
    }
  });
  const float count = static_cast<float>(min(p.pass.tiling.run, p.pass.pixels - start));
  for_block_sums(p.pass, at, shared, sums, [&](int64_t channel, const float (&total)[2]) {
    const float away = total[0] / count;
    float* to = p.partial + at.part * 3 * c + channel;
    to[0] = count;
    to[c] = to_float(from[0][start * c + channel]) + away;
    to[2 * c] = vmax(0.0f, fmaf(-away, total[0], total[1]));
  });
}

}  // namespace effops::cuda
