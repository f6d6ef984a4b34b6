// The five sums over the pixels of an image from which batch norm's and squeeze-excite's gradients follow.
//
// Moves: x and its view's gradient once. Arithmetic an element: 2 operations of the affine, those of the activation
// with its derivative, 10 of the sums.
#pragma once

#include "../core/activation.h"
#include "norm.h"
#include "pass.cuh"

namespace effops::cuda {

template <class Traits>
__global__ void __launch_bounds__(Traits::kThreads, Traits::kBlocks) norm_grad_sums_kernel(const NormGradSumsArgs p) {
  using T = typename Traits::T;
  constexpr int kVector = kLanes<T>;
  EFFOPS_SHARED(float, shared, kGradSums* Traits::kThreads* kVector);
  const int64_t c = p.pass.c;
  const PassPlace at(p.pass, kVector);
  float mean[kVector], scale[kVector], shift[kVector], sums[kGradSums][kVector] = {};
  const float* affine = p.view.affine;
  load_row(affine, at.channel, at.left, p.pass.vectors, 0.0f, mean);
  load_row(affine ? affine + c : nullptr, at.channel, at.left, p.pass.vectors, 1.0f, scale);
  load_row(affine ? affine + 2 * c : nullptr, at.channel, at.left, p.pass.vectors, 0.0f, shift);
  const T* const from[] = {static_cast<const T*>(p.grad), static_cast<const T*>(p.view.x)};
  with_activation(p.view.act, [&](auto f) {
    for_pixels<Traits::kInFlight>(p.pass, at, from, [&](const Packed<T>(&raw)[2], int64_t) {
#pragma unroll
      for (int i = 0; i < kVector; ++i) {
        const float g = to_float(raw[0].v[i]), away = to_float(raw[1].v[i]) - mean[i];
        const auto act = f.both(fmaf(away, scale[i], shift[i]));
        const float dz = g * act.slope;
        sums[0][i] = fmaf(g, act.value, sums[0][i]);
        sums[1][i] += dz;
        sums[2][i] += act.slope;
        sums[3][i] = fmaf(dz, away, sums[3][i]);
        sums[4][i] = fmaf(act.slope, away, sums[4][i]);
      }
    });
  });
  for_block_sums(p.pass, at, shared, sums, [&](int64_t channel, const float (&totals)[kGradSums]) {
#pragma unroll
    for (int j = 0; j < kGradSums; ++j) p.partial[(j * p.pass.tiling.parts + at.part) * c + channel] = totals[j];
  });
}

}  // namespace effops::cuda
