// How the threads of a block walk over a tile of an image, and what each carries.
#pragma once

#include <type_traits>

#include "instructions.h"

namespace effops::cuda {

// N values that lie together; read and written at once where they are aligned to their size.
template <class T, int N>
struct Slice {
  static_assert(sizeof(T) * N == 16 || sizeof(T) * N == 8 || sizeof(T) * N == 4);
  using Bits = std::conditional_t<sizeof(T) * N == 16, uint4, std::conditional_t<sizeof(T) * N == 8, uint2, unsigned>>;
  T v[N];

  // By value: a copy from a reference to memory would load byte by byte.
  __device__ void from_bits(Bits bits) { memcpy(v, &bits, sizeof bits); }
  __device__ Bits bits() const {
    Bits b;
    memcpy(&b, v, sizeof b);
    return b;
  }
  // The first `count` values one by one unless `aligned`.
  __device__ void load(const T* from, bool aligned, int count) {
    if (aligned) {
      from_bits(*reinterpret_cast<const Bits*>(from));
    } else {
#pragma unroll
      for (int i = 0; i < N; ++i) {
        if (i < count) v[i] = from[i];
      }
    }
  }
  __device__ void store(T* to, bool aligned, int count) const {
    if (aligned) {
      *reinterpret_cast<Bits*>(to) = bits();
    } else {
#pragma unroll
      for (int i = 0; i < N; ++i) {
        if (i < count) to[i] = v[i];
      }
    }
  }
};

// The part of a tile that lies in the image.
struct Window {
  int top, left, bottom, right;

  // Of an image of height x width, seen from this pixel of it.
  __device__ Window(int64_t y, int64_t x, int64_t height, int64_t width) {
    constexpr int64_t kFar = 1 << 30;
    top = static_cast<int>(max(-y, -kFar)), left = static_cast<int>(max(-x, -kFar));
    bottom = static_cast<int>(min(height - y, kFar)), right = static_cast<int>(min(width - x, kFar));
  }
  __device__ bool has_row(int row) const { return row >= top && row < bottom; }
  __device__ bool has(int row, int column) const { return has_row(row) && column >= left && column < right; }
};

// A thread's walk over the pixels of a tile: it keeps its channels.
struct PixelWalk {
  int vector, row, column, width, row_step, column_step;

  __device__ PixelWalk(int vectors, int columns) : width(columns) {
    const int thread = unknown(threadIdx.x), first = thread / vectors, step = unknown(blockDim.x) / vectors;
    vector = thread % vectors;
    row = first / width, column = first % width;
    row_step = step / width, column_step = step % width;
  }
  __device__ int pixel() const { return row * width + column; }
  __device__ void next() {
    row += row_step;
    column += column_step;
    if (column >= width) column -= width, ++row;
  }
};

}  // namespace effops::cuda
