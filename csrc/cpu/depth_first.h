// What the blocks that run depth first have in common.
#pragma once

#include "params.h"

namespace effops {

// What a tile's rows may take of the second-level cache, beside weights and x.
constexpr int64_t kTileBytes = 224 * 1024;

// The address of an element of an image.
inline const void* at(const void* data, int64_t element, DType dtype) {
  return static_cast<const char*>(data) + element * bytes_of(dtype);
}
inline void* at(void* data, int64_t element, DType dtype) {
  return static_cast<char*>(data) + element * bytes_of(dtype);
}

// A product by a weight of n columns and k rows; images and weights are still to come.
inline GemmParams product(int64_t n, int64_t k, DType dtype, Act act) {
  GemmParams p{};
  p.n = n, p.k = k, p.dtype = dtype, p.act = act;
  return p;
}

}  // namespace effops
