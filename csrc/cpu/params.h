// What the CPU kernels take beside csrc/core/params.h.
#pragma once

#include "../core/params.h"

namespace effops {

constexpr int64_t bytes_of(DType dtype) { return dtype == DType::kFloat32 ? 4 : 2; }

// y = a + b, value by value.
struct AddParams {
  int64_t count;
  DType dtype;
  const void *a, *b;
  void* y;
};

}  // namespace effops
