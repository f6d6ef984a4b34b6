// The gradient of a convolution's output from that of its view: scale (g gate + pool_grad) act' + slope (u - mean) +
// offset; without coef g gate + pool_grad.
//
// Moves: g once, u once where there is a coef, the result once. Arithmetic an element: 9 operations and those of the
// activation's derivative.
#pragma once

#include "../core/activation.h"
#include "norm.h"
#include "pass.cuh"

namespace effops::cuda {

template <class Traits>
__global__ void __launch_bounds__(Traits::kThreads, Traits::kBlocks) norm_grad_kernel(const NormGradArgs p) {
  using T = typename Traits::T;
  constexpr int kVector = kLanes<T>;
  const int64_t c = p.pass.c;
  const bool vectors = p.pass.vectors;
  const PassPlace at(p.pass, kVector);
  float gate[kVector], pool_grad[kVector];
  load_row(p.view.gate, at.image * c + at.channel, at.left, vectors, 1.0f, gate);
  load_row(p.view.pool_grad, at.image * c + at.channel, at.left, vectors, 0.0f, pool_grad);
  T* const y = static_cast<T*>(p.y);
  const T* const grad = static_cast<const T*>(p.view.grad);
  if (!p.view.coef) {
    const T* const from[] = {grad};
    for_pixels<Traits::kInFlight>(p.pass, at, from, [&](const Packed<T>(&raw)[1], int64_t offset) {
      Packed<T> packed;
#pragma unroll
      for (int i = 0; i < kVector; ++i) {
        from_float(fmaf(to_float(raw[0].v[i]), gate[i], pool_grad[i]), packed.v[i]);
      }
      store_channels(y + offset, packed, at.left, vectors);
    });
    return;
  }
  float mean[kVector], scale[kVector], shift[kVector], slope[kVector], offsets[kVector];
  load_row(p.view.coef, at.channel, at.left, vectors, 0.0f, mean);
  load_row(p.view.coef + c, at.channel, at.left, vectors, 0.0f, scale);
  load_row(p.view.coef + 2 * c, at.channel, at.left, vectors, 0.0f, shift);
  load_row(p.view.coef + 3 * c, at.channel, at.left, vectors, 0.0f, slope);
  load_row(p.view.coef + 4 * c, at.channel, at.left, vectors, 0.0f, offsets);
  const T* const from[] = {grad, static_cast<const T*>(p.view.u)};
  with_activation(p.view.act, [&](auto f) {
    for_pixels<Traits::kInFlight>(p.pass, at, from, [&](const Packed<T>(&raw)[2], int64_t offset) {
      Packed<T> packed;
#pragma unroll
      for (int i = 0; i < kVector; ++i) {
        const float away = to_float(raw[1].v[i]) - mean[i];
        const float dz =
            fmaf(to_float(raw[0].v[i]), gate[i], pool_grad[i]) * f.both(fmaf(away, scale[i], shift[i])).slope;
        from_float(fmaf(scale[i], dz, fmaf(slope[i], away, offsets[i])), packed.v[i]);
      }
      store_channels(y + offset, packed, at.left, vectors);
    });
  });
}

}  // namespace effops::cuda
