// What a block does with a tile of a depthwise convolution in shared memory: brings the weights there, computes the
// outputs from the input under the tile, and stores them. The input's place there is its caller's affair.
//
// A thread computes 2 x 7 outputs of two channels: every input row in shared memory is read once for both output rows,
// every weight once for seven columns. The sums go back to shared memory, so that bias, activation, reduction and store
// work on 16 bytes of channels a thread again.
#pragma once

#include "../core/activation.h"
#include "depthwise.h"
#include "instructions.h"

namespace effops::cuda {

// Kernel = 0: any size, stride and dilation, with the input read in place.
template <class Element, int Kernel, int Stride, bool Statistics>
struct DepthwiseTraits {
  using T = Element;
  static constexpr int kKernel = Kernel, kStride = Stride;
  static constexpr bool kStatistics = Statistics;
  // Registers for 28 sums, the weights of two rows and loads in flight.
  static constexpr int kThreads = 256, kBlocks = Kernel ? 2 : 1;
};

// Where a block and its threads stand.
struct DepthwisePlace {
  int pair, item;    // of this thread: two channels, and outputs of the tile
  int64_t c0, n;     // first channel of the block; image
  int64_t oy0, ox0;  // first output of the tile
};

template <class Traits, class Shared>
__device__ __forceinline__ void load_weights(const DepthwiseArgs& p, const DepthwisePlace& at, const Shared& shared) {
  using T = typename Traits::T;
  constexpr int kTaps = Traits::kKernel * Traits::kKernel;
  const WeightView& w = p.weight;
  const int channels = p.tiling.channels;
  // Neighbouring threads read neighbouring weights, whichever way these lie.
  const bool by_channel = w.stride_n == 1;
  for (int i = threadIdx.x; i < kTaps * channels; i += blockDim.x) {
    const int tap = by_channel ? i / channels : i % kTaps, c = by_channel ? i % channels : i / kTaps;
    const int64_t from =
        (at.c0 + c) * w.stride_n + tap / Traits::kKernel * w.stride_kh + tap % Traits::kKernel * w.stride_kw;
    shared[tap * channels + c] = at.c0 + c < p.shape.c ? to_float(static_cast<const T*>(w.data)[from]) : 0.0f;
  }
}

using Outputs = float[kThreadRows][kThreadColumns][2];

template <class Traits, class Shared>
__device__ __forceinline__ void convolve_tile(const DepthwiseArgs& p, const DepthwisePlace& at, const Shared& shared,
                                              int offset, Outputs& out) {
  constexpr int kKernel = Traits::kKernel, kStride = Traits::kStride;
  const DepthwiseTiling& t = p.tiling;
  const int channels = t.channels, width = (t.columns() - 1) * kStride + kKernel;
  const int row = at.item / t.column_items * kThreadRows * kStride;
  const int column = at.item % t.column_items * kThreadColumns * kStride;
  const int first = offset + (row * width + column) * channels + at.pair * 2;
#pragma unroll
  for (int i = 0; i < kKernel + (kThreadRows - 1) * kStride; ++i) {
    float2 weights[kThreadRows][kKernel];
#pragma unroll
    for (int r = 0; r < kThreadRows; ++r) {
      const int kh = i - r * kStride;
      if (kh < 0 || kh >= kKernel) continue;
#pragma unroll
      for (int kw = 0; kw < kKernel; ++kw) {
        weights[r][kw] = vector_at<float2>(shared, (kh * kKernel + kw) * channels + at.pair * 2);
      }
    }
#pragma unroll
    for (int j = 0; j < (kThreadColumns - 1) * kStride + kKernel; ++j) {
      const float2 x = vector_at<float2>(shared, first + (i * width + j) * channels);
#pragma unroll
      for (int r = 0; r < kThreadRows; ++r) {
        const int kh = i - r * kStride;
        if (kh < 0 || kh >= kKernel) continue;
#pragma unroll
        for (int kw = 0; kw < kKernel; ++kw) {
          const int away = j - kw;
          if (away < 0 || away % kStride || away / kStride >= kThreadColumns) continue;
          float* sum = out[r][away / kStride];
          sum[0] = fmaf(x.x, weights[r][kw].x, sum[0]);
          sum[1] = fmaf(x.y, weights[r][kw].y, sum[1]);
        }
      }
    }
  }
}

// Calls f(values, oy, ox) for every output pixel of the tile in shared memory that is this thread's: values of 16 bytes
// of channels.
template <class T, class Shared, class F>
__device__ __forceinline__ void for_pixels(const DepthwiseArgs& p, const DepthwisePlace& at, const Shared& shared,
                                           int offset, F f) {
  const DepthwiseTiling& t = p.tiling;
  const int vectors = t.channels / kLanes<T>, step = blockDim.x / vectors;
  const int from = offset + threadIdx.x % vectors * kLanes<T>;
  if (at.c0 + threadIdx.x % vectors * kLanes<T> >= p.shape.c) return;
  for (int pixel = threadIdx.x / vectors; pixel < t.rows() * t.columns(); pixel += step) {
    const int64_t oy = at.oy0 + pixel / t.columns(), ox = at.ox0 + pixel % t.columns();
    if (oy >= p.shape.oh || ox >= p.shape.ow) continue;
    float values[kLanes<T>];
#pragma unroll
    for (int i = 0; i < kLanes<T>; i += 4) {
      const float4 four = vector_at<float4>(shared, from + pixel * t.channels + i);
      values[i] = four.x, values[i + 1] = four.y, values[i + 2] = four.z, values[i + 3] = four.w;
    }
    f(values, oy, ox);
  }
}

template <class Traits, class Shared>
__device__ __forceinline__ void keep_outputs(const DepthwiseArgs& p, const DepthwisePlace& at, const Shared& shared,
                                             int offset, const Outputs& out) {
  const DepthwiseTiling& t = p.tiling;
  const int row = at.item / t.column_items * kThreadRows, column = at.item % t.column_items * kThreadColumns;
  const int first = offset + (row * t.columns() + column) * t.channels + at.pair * 2;
#pragma unroll
  for (int r = 0; r < kThreadRows; ++r) {
#pragma unroll
    for (int i = 0; i < kThreadColumns; ++i) {
      vector_at<float2>(shared, first + (r * t.columns() + i) * t.channels) = make_float2(out[r][i][0], out[r][i][1]);
    }
  }
}

// Stores function(x + bias) and adds it to the sums: as it is, or Rounded, as it is stored. Returns the pixels.
template <class T, class Function, bool Rounded, class Shared>
__device__ __forceinline__ int store_tile(const DepthwiseArgs& p, const DepthwisePlace& at, const Shared& shared,
                                          int offset, float (&sums)[kLanes<T>]) {
  constexpr int kVector = kLanes<T>;
  const ConvShape& s = p.shape;
  const int64_t c = at.c0 + threadIdx.x % (p.tiling.channels / kVector) * kVector, left = s.c - c;
  float bias[kVector];
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    bias[i] = p.bias.data && i < left ? load_as(p.bias.data, p.bias.dtype, c + i) : 0.0f;
  }
  T* y = static_cast<T*>(p.y) + c;
  int pixels = 0;
  for_pixels<T>(p, at, shared, offset, [&](const float* values, int64_t oy, int64_t ox) {
    Packed<T> packed;
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      // The bias last: a chain that starts from a large bias rounds worse.
      const float value = Function::apply(values[i] + bias[i]);
      from_float(value, packed.v[i]);
      sums[i] += Rounded ? to_float(packed.v[i]) : value;
    }
    ++pixels;
    T* to = y + ((at.n * s.oh + oy) * s.ow + ox) * s.c;
    if (s.c % kVector == 0) {
      store_packed(to, packed);
    } else {
      store_packed(to, packed, left);
    }
  });
  return pixels;
}

}  // namespace effops::cuda
