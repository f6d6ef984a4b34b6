// Products of a weight matrix with vectors of several images, by one block: what the gate of squeeze-excite is made of.
#pragma once

#include "rows.cuh"

namespace effops::cuda {

// The vectors of `Images` images. The last block's images past the end stand for the last one again: they are read,
// never written.
template <int Images>
struct ImageGroup {
  int64_t index[Images];
  int count;

  __device__ explicit ImageGroup(int64_t n) {
    const int64_t first = int64_t{blockIdx.x} * Images;
    count = static_cast<int>(min(n - first, int64_t{Images}));
#pragma unroll
    for (int i = 0; i < Images; ++i) index[i] = min(first + i, n - 1);
  }
};

// Device code: calls f with a value of the element type of a dtype.
template <class F>
__device__ __forceinline__ void with_element(DType dtype, F f) {
  switch (dtype) {
    case DType::kFloat32:
      return f(float{});
    case DType::kBFloat16:
      return f(bf16{});
    case DType::kFloat16:
      return f(fp16{});
  }
}

// Calls f(i, row, sum) with sum = weight (rows, columns) row `row` times in[image i], for all rows and images. Groups
// of as many lanes as a row has vectors, at most a warp, take four rows at a time.
template <int Images, class T, class F>
__device__ __forceinline__ void rows_times(const T* weight, int64_t rows, int64_t columns, bool vectors,
                                           const float* in, const ImageGroup<Images>& images, F f) {
  constexpr int kRows = 4, kVector = kLanes<T>;
  int lanes = 1;
  while (lanes < 32 && lanes * kVector < columns) lanes *= 2;
  const int lane = threadIdx.x % lanes, group = threadIdx.x / lanes, groups = blockDim.x / lanes;
  for (int64_t first = 0; first < rows; first += kRows * groups) {  // all lanes of a warp together
    float sums[kRows][Images] = {};
    for (int64_t j = lane * kVector; j < columns; j += lanes * kVector) {
      Packed<T> w[kRows];
#pragma unroll
      for (int k = 0; k < kRows; ++k) {
        const int64_t row = first + k * groups + group;
        w[k] = Packed<T>{};
        if (row < rows) w[k] = load_channels(weight + row * columns + j, columns - j, vectors);
      }
#pragma unroll
      for (int i = 0; i < Images; ++i) {
        float x[kVector];
        load_row(in + images.index[i] * columns, j, columns - j, vectors, 0.0f, x);
#pragma unroll
        for (int k = 0; k < kRows; ++k) {
#pragma unroll
          for (int l = 0; l < kVector; ++l) sums[k][i] = fmaf(to_float(w[k].v[l]), x[l], sums[k][i]);
        }
      }
    }
#pragma unroll
    for (int k = 0; k < kRows; ++k) {
      const int64_t row = first + k * groups + group;
#pragma unroll
      for (int i = 0; i < Images; ++i) {
        float sum = sums[k][i];
        for (int apart = lanes / 2; apart > 0; apart /= 2) sum += __shfl_xor_sync(~0u, sum, apart);
        if (lane == 0 && row < rows && i < images.count) f(i, row, sum);
      }
    }
  }
}

// Calls f(i, column, sum) with sum = in[image i] times column `column` of weight (rows, columns), for all columns and
// images. A thread adds up 16 bytes of columns over every so many rows; `shared` holds blockDim.x of them as floats.
// Ends with a barrier.
template <int Images, class T, class Shared, class F>
__device__ __forceinline__ void columns_times(const T* weight, int64_t rows, int64_t columns, bool vectors,
                                              const float* in, const ImageGroup<Images>& images, Shared& shared, F f) {
  constexpr int kVector = kLanes<T>;
  const int64_t all = (columns + kVector - 1) / kVector;
  for (int64_t v0 = 0; v0 < all; v0 += blockDim.x) {
    const int width = static_cast<int>(min(all - v0, int64_t{blockDim.x}));
    const int groups = blockDim.x / width, group = threadIdx.x / width;
    const int64_t j = (v0 + threadIdx.x % width) * kVector;
    float sums[Images][kVector] = {};
    if (group < groups) {
#pragma unroll 4
      for (int64_t row = group; row < rows; row += groups) {
        const Packed<T> w = load_channels(weight + row * columns + j, columns - j, vectors);
#pragma unroll
        for (int i = 0; i < Images; ++i) {
          const float x = in[images.index[i] * rows + row];
#pragma unroll
          for (int l = 0; l < kVector; ++l) sums[i][l] = fmaf(x, to_float(w.v[l]), sums[i][l]);
        }
      }
    }
#pragma unroll
    for (int i = 0; i < Images; ++i) {
#pragma unroll
      for (int l = 0; l < kVector; l += 4) {
        vector_at<float4>(shared, static_cast<int>(threadIdx.x) * kVector + l) =
            make_float4(sums[i][l], sums[i][l + 1], sums[i][l + 2], sums[i][l + 3]);
      }
      __syncthreads();
      for (int k = threadIdx.x; k < width * kVector && v0 * kVector + k < columns; k += blockDim.x) {
        float sum = 0.0f;
        for (int g = 0; g < groups; ++g) sum += shared[g * width * kVector + k];
        if (i < images.count) f(i, v0 * kVector + k, sum);
      }
      __syncthreads();
    }
  }
}

}  // namespace effops::cuda
