// Views of images and of gradients (csrc/core/params.h) on neighbouring channels.
#pragma once

#include "../core/activation.h"
#include "instructions.h"

namespace effops::cuda {

// `rows` rows of c channels: those of the channels [first, first + N); `otherwise` where there are none.
template <int N>
__device__ __forceinline__ void load_row(const float* rows, int64_t row, int64_t c, int64_t first, float otherwise,
                                         float (&to)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) to[i] = rows && first + i < c ? rows[row * c + first + i] : otherwise;
}

// The parameters of act((x - mean) * scale + shift) * gate for some channels.
template <int N>
struct ViewChannels {
  float mean[N], scale[N], shift[N];

  __device__ ViewChannels(const float* affine, int64_t c, int64_t first) {
    load_row(affine, 0, c, first, 0.0f, mean);
    load_row(affine, 1, c, first, 1.0f, scale);
    load_row(affine, 2, c, first, 0.0f, shift);
  }
  __device__ float normalised(float x, int i) const { return fmaf(x - mean[i], scale[i], shift[i]); }
};

// The row of an image, where there are rows.
__device__ inline const float* image_row(const float* rows, int64_t image, int64_t c) {
  return rows ? rows + image * c : nullptr;
}

// view(x) in float32. `gate`: the row of the image, or null.
template <class F, class T, int N>
__device__ __forceinline__ void apply_view(F f, const ViewChannels<N>& channels, const T* x, const float* gate,
                                           int64_t c, int64_t first, float (&to)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const float value = f.apply(channels.normalised(to_float(x[i]), i));
    to[i] = gate && first + i < c ? value * gate[first + i] : value;
  }
}

// The same of a gradient with its five rows of coefficients.
template <int N>
struct GradChannels {
  ViewChannels<N> view;
  float slope[N], offset[N];

  __device__ GradChannels(const float* coef, int64_t c, int64_t first) : view(coef, c, first) {
    load_row(coef, 3, c, first, 0.0f, slope);
    load_row(coef, 4, c, first, 0.0f, offset);
  }
};

template <class F, class T, int N>
__device__ __forceinline__ void apply_grad(F, const GradView& v, const GradChannels<N>& channels, const T* grad,
                                           const T* u, const float* gate, const float* pool_grad, int64_t c,
                                           int64_t first, float (&to)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) {
    float g = to_float(grad[i]);
    const bool there = first + i < c;
    if (gate && there) g *= gate[first + i];
    if (pool_grad && there) g += pool_grad[first + i];
    if (v.coef) {
      const float x = to_float(u[i]);
      g *= F::both(channels.view.normalised(x, i)).slope;
      g = fmaf(channels.slope[i], x - channels.view.mean[i], fmaf(channels.view.scale[i], g, channels.offset[i]));
    }
    to[i] = g;
  }
}

}  // namespace effops::cuda
