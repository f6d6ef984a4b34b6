// Kernel sizes and strides that are compiled in, and how a call finds its own.
#pragma once

#include "../core/params.h"

namespace effops {

// A square kernel without dilation; 0 stands for everything else.
template <int K, int Stride>
struct KernelSize {
  static constexpr int kernel = K, stride = Stride;
};

using AnyKernelSize = KernelSize<0, 0>;

// Calls f with the KernelSize of a convolution.
template <class F>
inline void with_kernel_size(const ConvShape& s, F&& f) {
  const bool square = s.kh == s.kw && s.stride_h == s.stride_w && s.dilation_h == 1 && s.dilation_w == 1;
  const bool known = square && s.stride_w <= 2;
  switch (known ? s.kw * 10 + s.stride_w : 0) {
    case 31:
      return f(KernelSize<3, 1>{});
    case 32:
      return f(KernelSize<3, 2>{});
    case 51:
      return f(KernelSize<5, 1>{});
    case 52:
      return f(KernelSize<5, 2>{});
    case 71:
      return f(KernelSize<7, 1>{});
    case 72:
      return f(KernelSize<7, 2>{});
    default:
      return f(AnyKernelSize{});
  }
}

}  // namespace effops
