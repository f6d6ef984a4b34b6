// The weight of a matrix product in the form that its tiles read.
#pragma once

#include "kernels.h"
#include "parallel.h"
#include "scratch.h"

namespace effops {

// The weight as a (k, n) matrix if it lies like one and reading it in place is as fast as a packed copy: rows whose
// distance is a multiple of 2 KiB would fall on few sets of the cache.
inline const float* row_major(const WeightView& w) {
  const bool rows = w.dtype == DType::kFloat32 && w.stride_n == 1 && (w.c == 1 || w.stride_c == w.n) &&
                    (w.kw == 1 || w.stride_kw == w.c * w.n) && (w.kh == 1 || w.stride_kh == w.kw * w.c * w.n);
  return rows && w.n % 512 != 0 ? static_cast<const float*>(w.data) : nullptr;
}

// Fills in `params.weight` and `params.panels`, which lie in `slot`.
inline void pack(GemmParams& params, const WeightView& weight, const float* bias, const Threads& threads,
                 Slot slot = Slot::kPanels, const Kernels& k = kernels()) {
  const int64_t panels = k.panel_count(params.n);
  float* packed = scratch<float>(slot, k.panel_floats(params.n, params.k, params.dtype));
  params.weight = row_major(weight);
  params.panels = packed;
  parallel(threads, panels, params.weight ? 1 : params.k * params.n / panels, [&](int64_t begin, int64_t end) {
    k.pack_panels(weight, bias, params.dtype, params.weight != nullptr, packed, begin, end);
  });
}

}  // namespace effops
