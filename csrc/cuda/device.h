// What every kernel includes first: CUDA's words under nvcc; under a host compiler the same words with the meaning that
// host/block.h gives them, so that the kernels' own source runs in tests without a GPU.
//
// Shared memory is declared by these two macros alone, with trivially copyable types, and read and written by name[i]
// or vector_at<Vector>(name, i):
//   EFFOPS_SHARED(type, name, count);       an array whose size is known when compiling
//   EFFOPS_SHARED_DYNAMIC(type, name);      what the launch asked for, aligned to 16 bytes; one a kernel
// Rules that the host run needs: no return before a barrier; warp operations name their full mask and stand in no
// divergent branch; no inline assembly outside *instructions.h; no atomics, spinning or clocks; small local arrays.
#pragma once

#if defined(__CUDACC__)

#include <cuda_runtime.h>

#define EFFOPS_SHARED(type, name, count) __shared__ __align__(16) type name[count]
#define EFFOPS_SHARED_DYNAMIC(type, name)                                \
  extern __shared__ __align__(16) unsigned char effops_dynamic_shared[]; \
  type* const name = reinterpret_cast<type*>(effops_dynamic_shared)

namespace effops {

template <class Vector, class Array, class Index>
__device__ __forceinline__ Vector& vector_at(Array& shared, Index i) {
  return *reinterpret_cast<Vector*>(&shared[i]);
}

}  // namespace effops

#else

#include "host/block.h"

#endif
