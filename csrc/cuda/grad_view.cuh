// What a depthwise backward reads in place of its inputs: du for the output's gradient, and the sums of the gradient.
#pragma once

#include "../core/activation.h"
#include "instructions.h"

namespace effops::cuda {

// GradView for N neighbouring channels of one image.
template <int N>
struct GradCoef {
  float mean[N], scale[N], shift[N], slope[N], offset[N], gate[N], pool[N];

  __device__ GradCoef(const GradView& g, int64_t n, int64_t c, int64_t first) {
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const int64_t at = first + i;
      const bool present = at < c, coef = present && g.coef;
      mean[i] = coef ? g.coef[at] : 0.0f;
      scale[i] = coef ? g.coef[c + at] : 1.0f;
      shift[i] = coef ? g.coef[2 * c + at] : 0.0f;
      slope[i] = coef ? g.coef[3 * c + at] : 0.0f;
      offset[i] = coef ? g.coef[4 * c + at] : 0.0f;
      gate[i] = present && g.gate ? g.gate[n * c + at] : 1.0f;
      pool[i] = present && g.pool_grad ? g.pool_grad[n * c + at] : 0.0f;
    }
  }

  // f: the activation, the identity without coef.
  template <class F>
  __device__ float du(F f, float grad, float u, int i) const {
    const float away = u - mean[i];
    const float dz = fmaf(grad, gate[i], pool[i]) * f.both(fmaf(away, scale[i], shift[i])).slope;
    return fmaf(scale[i], dz, fmaf(slope[i], away, offset[i]));
  }
};

// Adds one value's terms to the sums of the gradient: dx as it is stored, the view's value and slope, x - mean.
__device__ __forceinline__ void add_grad_sums(float dx, ValueAndSlope<float> view, float away, float (&sums)[5]) {
  const float dz = dx * view.slope;
  sums[0] = fmaf(dx, view.value, sums[0]);
  sums[1] += dz;
  sums[2] += view.slope;
  sums[3] = fmaf(dz, away, sums[3]);
  sums[4] = fmaf(view.slope, away, sums[4]);
}

}  // namespace effops::cuda
