// An activation at the end of a kernel.
#pragma once

#include <type_traits>

#include "../core/activation.h"

namespace effops {

// f(x), as precise as what it is stored as.
template <class T, class F, class V>
inline __attribute__((always_inline)) V activate(F f, V x) {
  if constexpr (std::is_same_v<T, bf16> && std::is_same_v<F, Silu> && V::kBf16Dot) {
    return coarse_silu(x);
  } else {
    return f.apply(x);
  }
}

}  // namespace effops
