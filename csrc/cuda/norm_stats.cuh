// Mean and sum of squared deviations of every channel over runs of pixels.
//
// Moves: x once. Arithmetic: 3 operations an element. Sums are those of deviations from the mean of the block's first
// pixels, as large as the deviations however far from zero the values lie.
#pragma once

#include "norm.h"
#include "pass.cuh"

namespace effops::cuda {

template <class Traits>
__global__ void __launch_bounds__(Traits::kThreads, Traits::kBlocks) norm_stats_kernel(const NormStatsArgs p) {
  using T = typename Traits::T;
  constexpr int kVector = kLanes<T>, kNear = 8;
  EFFOPS_SHARED(float, shared, 2 * Traits::kThreads * kVector);
  EFFOPS_SHARED(float, origins, kPassVectors* kVector);
  const PassPlace at(p.pass, kVector);
  const int64_t c = p.pass.c, start = at.part * p.pass.tiling.run;
  const T* const from[] = {static_cast<const T*>(p.x)};
  const int64_t pixels = min(p.pass.tiling.run, p.pass.pixels - start);
  const int near = static_cast<int>(min(pixels, int64_t{kNear}));
  float origin[kVector] = {};
  for (int pixel = 0; pixel < near && at.left > 0; ++pixel) {
    const Packed<T> first = load_channels(from[0] + (start + pixel) * c + at.channel, at.left, p.pass.vectors);
#pragma unroll
    for (int i = 0; i < kVector; ++i) origin[i] += to_float(first.v[i]) / static_cast<float>(near);
  }
  if (static_cast<int>(threadIdx.x) < p.pass.tiling.vectors) {
#pragma unroll
    for (int i = 0; i < kVector; ++i) origins[static_cast<int>(threadIdx.x) * kVector + i] = origin[i];
  }
  float sums[2][kVector] = {};
  for_pixels<Traits::kInFlight>(p.pass, at, from, [&](const Packed<T>(&raw)[1], int64_t) {
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      const float away = to_float(raw[0].v[i]) - origin[i];
      sums[0][i] += away;
      sums[1][i] = fmaf(away, away, sums[1][i]);
    }
  });
  const float count = static_cast<float>(pixels);
  for_block_sums(p.pass, at, shared, sums, [&](int64_t channel, const float (&total)[2]) {
    const float away = total[0] / count;
    float* to = p.partial + at.part * 3 * c + channel;
    to[0] = count;
    to[c] = origins[channel - at.slab] + away;
    to[2 * c] = vmax(0.0f, fmaf(-away, total[0], total[1]));
  });
}

}  // namespace effops::cuda
