// Sizes of convolutions, the twin of effops/ops/shape.py.
#pragma once

#include <cstdint>

namespace effops {

// Padding code for TensorFlow's SAME.
constexpr int64_t kSame = -1;

inline int64_t output_size(int64_t size, int64_t kernel, int64_t stride, int64_t padding, int64_t dilation) {
  if (padding == kSame) return (size + stride - 1) / stride;
  return (size + 2 * padding - dilation * (kernel - 1) - 1) / stride + 1;
}

// Zeros before the first element. SAME puts the odd one after, as TensorFlow does.
inline int64_t pad_before(int64_t size, int64_t kernel, int64_t stride, int64_t padding, int64_t dilation) {
  if (padding != kSame) return padding;
  const int64_t out = output_size(size, kernel, stride, kSame, dilation);
  const int64_t total = (out - 1) * stride + dilation * (kernel - 1) + 1 - size;
  return total > 0 ? total / 2 : 0;
}

}  // namespace effops
