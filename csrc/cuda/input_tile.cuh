// The input under a tile of outputs, as it lies in memory, in shared memory; and its pixels as rows of a product.
#pragma once

#include "mbconv_heuristics.h"
#include "product_operands.cuh"
#include "tile_walk.cuh"

namespace effops::cuda {

// Pixels (rows, columns) of image n of x (n, h, w, channels) from row y0 and column x0 on, in `channels` values rounded
// up to 16 bytes, with zeros outside of the image. `vectors`: pixels of x are whole 16 bytes, aligned.
template <class T, class Shared>
__device__ __forceinline__ void load_input(const InputTile& t, const void* x, const ConvShape& s, int64_t channels,
                                           int64_t n, int64_t y0, int64_t x0, bool vectors, Shared& shared, int byte) {
  const int chunks = static_cast<int>(ceil_div(channels, kLanes<T>));
  const Window window(y0, x0, s.h, s.w);
  const T* image = static_cast<const T*>(x) + ((n * s.h + y0) * s.w + x0) * channels;
  for (int i = threadIdx.x; i < t.pixels() * chunks; i += blockDim.x) {
    const int pixel = i / chunks, chunk = i % chunks, row = pixel / t.columns, column = pixel % t.columns;
    const bool there = window.has(row, column);
    const int64_t from = (row * s.w + column) * channels + chunk * kLanes<T>;
    const int to = byte + pixel * t.pitch + chunk * 16;
    if (vectors) {
      copy_async(shared, to, there ? image + from : x, there);
    } else {
      put_packed(shared, to, there ? load_packed(image + from, channels - chunk * kLanes<T>) : Packed<T>{});
    }
  }
}

}  // namespace effops::cuda
