// Fills the kernel table from one SIMD vector type. Included by the kernels_<isa>.cpp files alone.
#pragma once

#include "depthwise.h"
#include "gemm.h"
#include "norm.h"
#include "panels.h"
#include "se_gate_backward.h"
#include "squeeze_excite.h"

namespace effops {

template <class S>
constexpr Kernels kernels_of(const char* isa) {
  return Kernels{
      isa, depthwise<S>, panel_count<S>, panel_floats<S>, pack_panels<S>, gemm<S>, se_gate<S>, pixel_sums<S>, scale<S>,
      // training
      norm_stats<S>, norm<S>, norm_grad_sums<S>, norm_grad<S>, se_gate_backward_images<S>, se_gate_backward_weights<S>};
}

}  // namespace effops
