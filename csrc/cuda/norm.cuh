// view(x) + residual, its spatial sums, or both, in one pass.
//
// Moves: x once, the residual once where there is one, y once where it is wanted. Arithmetic an element: 2 operations
// of the affine, those of the activation, 3 of gate, residual and sum. What is absent is asked for at run time, by
// branches that a whole launch takes alike; but a residual takes registers and has its own instances.
#pragma once

#include "../core/activation.h"
#include "norm.h"
#include "pass.cuh"

namespace effops::cuda {

template <class T, bool Residual>
struct NormTraits : PassTraits<T, Residual ? 2 : 4> {
  static constexpr int kTensors = Residual ? 2 : 1;
};

template <class Traits>
__global__ void __launch_bounds__(Traits::kThreads, Traits::kBlocks) norm_kernel(const NormArgs p) {
  using T = typename Traits::T;
  constexpr int kVector = kLanes<T>;
  EFFOPS_SHARED(float, shared, Traits::kThreads* kVector);
  const int64_t c = p.pass.c;
  const bool vectors = p.pass.vectors;
  const PassPlace at(p.pass, kVector);
  float mean[kVector], scale[kVector], shift[kVector], gate[kVector], sums[1][kVector] = {};
  const float* affine = p.view.affine;
  load_row(affine, at.channel, at.left, vectors, 0.0f, mean);
  load_row(affine ? affine + c : nullptr, at.channel, at.left, vectors, 1.0f, scale);
  load_row(affine ? affine + 2 * c : nullptr, at.channel, at.left, vectors, 0.0f, shift);
  load_row(p.view.gate, at.image * c + at.channel, at.left, vectors, 1.0f, gate);
  const T* from[Traits::kTensors];
  from[0] = static_cast<const T*>(p.view.x);
  if constexpr (Traits::kTensors == 2) from[1] = static_cast<const T*>(p.residual);
  T* const y = static_cast<T*>(p.y);
  with_activation(p.view.act, [&](auto f) {
    for_pixels<Traits::kInFlight>(p.pass, at, from, [&](const Packed<T>(&raw)[Traits::kTensors], int64_t offset) {
      Packed<T> packed;
#pragma unroll
      for (int i = 0; i < kVector; ++i) {
        float value = f.apply(fmaf(to_float(raw[0].v[i]) - mean[i], scale[i], shift[i])) * gate[i];
        sums[0][i] += value;
        if constexpr (Traits::kTensors == 2) value += to_float(raw[1].v[i]);
        from_float(value, packed.v[i]);
      }
      if (y) store_channels(y + offset, packed, at.left, vectors);
    });
  });
  if (!p.partial) return;
  for_block_sums(p.pass, at, shared, sums, [&](int64_t channel, const float (&total)[1]) {
    p.partial[at.part * c + channel] = total[0] * p.partial_scale;
  });
}

}  // namespace effops::cuda
