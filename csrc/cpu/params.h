// What the CPU kernels take beside csrc/core/params.h.
#pragma once

#include "../core/params.h"

namespace effops {

constexpr int64_t bytes_of(DType dtype) { return dtype == DType::kFloat32 ? 4 : 2; }

// Channels [first, last) of an image, and how many values lie from one of its pixels to the next: as many as it has
// channels or, of an image that holds only these, fewer.
struct Channels {
  int64_t first, last, pitch;
};

// The gate with both weights as they lie: in float32, or in bfloat16 behind the same pointers.
struct SeGateParams : SeParams {
  DType weights = DType::kFloat32;
};

// y = a + b, value by value.
struct AddParams {
  int64_t count;
  DType dtype;
  const void *a, *b;
  void* y;
};

// y = x in another type, value by value.
struct ConvertParams {
  int64_t count;
  DType from, to;
  const void* x;
  void* y;
};

}  // namespace effops
