// Rows of float32, one value a channel, read beside vectors of channels.
#pragma once

#include "instructions.h"

namespace effops::cuda {

// N values from row[first]; `fallback` in place of an absent row, zeros after the first `left`. `vectors`: all N are
// there and lie on a boundary of 16 bytes.
template <int N>
__device__ __forceinline__ void load_row(const float* row, int64_t first, int64_t left, bool vectors, float fallback,
                                         float (&out)[N]) {
  if (!row) {
#pragma unroll
    for (int i = 0; i < N; ++i) out[i] = fallback;
  } else if (vectors) {
#pragma unroll
    for (int i = 0; i < N; i += 4) {
      const float4 four = *reinterpret_cast<const float4*>(row + first + i);
      out[i] = four.x, out[i + 1] = four.y, out[i + 2] = four.z, out[i + 3] = four.w;
    }
  } else {
#pragma unroll
    for (int i = 0; i < N; ++i) out[i] = i < left ? row[first + i] : 0.0f;
  }
}

// 16 bytes of channels, or those of them that are there.
template <class T>
__device__ __forceinline__ Packed<T> load_channels(const T* at, int64_t left, bool vectors) {
  return vectors ? load_packed(at) : load_packed(at, left);
}

template <class T>
__device__ __forceinline__ void store_channels(T* at, const Packed<T>& p, int64_t left, bool vectors) {
  if (vectors) {
    store_packed(at, p);
  } else {
    store_packed(at, p, left);
  }
}

}  // namespace effops::cuda
