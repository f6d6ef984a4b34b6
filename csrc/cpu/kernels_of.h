// Fills the kernel table from one SIMD vector type. Included by the kernels_<isa>.cpp files alone.
#pragma once

#include "depthwise.h"
#include "depthwise_backward.h"
#include "depthwise_training.h"
#include "gemm.h"
#include "norm.h"
#include "panels.h"
#include "pointwise_training.h"
#include "se_gate_backward.h"
#include "squeeze_excite.h"

namespace effops {

template <class S>
constexpr Kernels kernels_of(const char* isa) {
  Kernels k{isa, depthwise<S>, panel_count<S>, panel_column<S>, panel_floats<S>, pack_panels<S>, gemm<S>, se_reduce<S>,
            se_expand<S>, pixel_sums<S>, scale<S>, add<S>, convert<S>,
            // training
            nullptr, nullptr, depthwise_stats<S>, depthwise_backward<S>, norm_stats<S>, norm<S>, norm_grad_sums<S>,
            norm_grad<S>, se_gate_backward_images<S>, se_gate_backward_weights<S>};
  // Where panels are pairs of bfloat16, the tier below has these.
  if constexpr (!S::kBf16Dot) k.pointwise_stats = pointwise_stats<S>, k.pointwise_backward = pointwise_backward<S>;
  return k;
}

}  // namespace effops
