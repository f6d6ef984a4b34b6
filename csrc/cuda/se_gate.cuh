// gate(W2 act(W1 pooled + b1) + b2), a block a group of images.
//
// Moves: both weights once a block, from the second-level cache after the first; vectors of an image once. Arithmetic:
// 4 r c operations an image. The hidden layer goes through memory, which the block reads back from its cache: so any
// width fits.
#pragma once

#include "../core/activation.h"
#include "launch.h"
#include "matvec.cuh"
#include "se_gate.h"

namespace effops::cuda {

__device__ inline float bias_at(const VectorView& bias, int64_t i) {
  return bias.data ? load_as(bias.data, bias.dtype, i) : 0.0f;
}

template <class T>
__device__ const T* elements(const VectorView& v) {
  return static_cast<const T*>(v.data);
}

template <int Images>
__global__ void __launch_bounds__(kGateThreads) se_gate_kernel(const SeGateArgs p) {
  const SeWeights& w = p.weights;
  const ImageGroup<Images> images(w.n);
  with_element(w.reduce_weight.dtype, [&](auto element) {
    rows_times(elements<decltype(element)>(w.reduce_weight), w.r, w.c, w.vectors[0], p.pooled, images,
               [&](int i, int64_t row, float sum) {
                 with_activation(w.act, [&](auto f) {
                   p.hidden[images.index[i] * w.r + row] = f.apply(sum + bias_at(w.reduce_bias, row));
                 });
               });
  });
  __syncthreads();
  with_element(w.expand_weight.dtype, [&](auto element) {
    rows_times(elements<decltype(element)>(w.expand_weight), w.c, w.r, w.vectors[1], p.hidden, images,
               [&](int i, int64_t row, float sum) {
                 with_gate(w.gate, [&](auto f) {
                   p.out[images.index[i] * w.c + row] = f.apply(sum + bias_at(w.expand_bias, row));
                 });
               });
  });
}

// Tells how the weights can be read beside vectors of these.
inline void prepare_gate(SeWeights& w, const float* pooled, const float* hidden) {
  const auto aligned = [](const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; };
  const auto whole = [&](const VectorView& v, int64_t columns) {
    return columns % (v.dtype == DType::kFloat32 ? 4 : 8) == 0 && aligned(v.data);
  };
  w.vectors[0] = whole(w.reduce_weight, w.c) && aligned(pooled);
  w.vectors[1] = whole(w.expand_weight, w.r) && aligned(hidden);
}

// Launches the kernel for one image or that for four a block.
template <class Args>
void launch_gate(const Args& p, Stream stream, void (*one)(Args), void (*four)(Args)) {
  const int images = gate_images(p.weights.n);
  const int64_t blocks = ceil_div(p.weights.n, images);
  if (blocks == 0) return;
  launch(images == 1 ? one : four, dim3(static_cast<unsigned>(blocks)), dim3(gate_threads(p.weights.c, p.weights.r)), 0,
         stream, p);
}

}  // namespace effops::cuda
