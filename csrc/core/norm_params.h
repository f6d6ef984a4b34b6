// What the passes of batch norm in training take: forward views with their sums, and gradients.
#pragma once

#include <algorithm>

#include "params.h"

namespace effops {

// Images whose pixels are read in parts, each within one image. The parts depend on the shape alone, so that sums over
// them do not depend on the number of threads.
struct Parts {
  static constexpr int64_t kPixels = 128;

  int64_t n, pixels, c;
  DType dtype;

  int64_t per_image() const { return (pixels + kPixels - 1) / kPixels; }
  int64_t count() const { return n * per_image(); }
  int64_t image(int64_t part) const { return part / per_image(); }
  int64_t first(int64_t part) const { return part % per_image() * kPixels; }  // pixel of its image
  int64_t size(int64_t part) const { return std::min(kPixels, pixels - first(part)); }
  // The first element of a part in a tensor of n images.
  int64_t offset(int64_t part) const { return (image(part) * pixels + first(part)) * c; }
};

// y = view(x) + residual, and the sums of the view without a residual.
struct NormParams {
  Parts parts;
  View view;
  const void* residual;  // (n, pixels, c) or null
  void* y;               // (n, pixels, c) or null
  float* sums;           // (parts, c) or null
};

struct NormGradSumsParams {
  Parts parts;
  View view;
  const void* grad;  // (n, pixels, c)
  float* sums;       // (parts, kGradSums, c)
};

struct NormGradParams {
  Parts parts;
  GradView view;
  void* y;  // (n, pixels, c)
};

// Shift, mean less the shift and sum of squared deviations of every channel over runs of `part` pixels; images follow
// each other.
struct NormStatsParams {
  int64_t pixels, c, part;
  DType dtype;
  const void* x;  // (pixels, c)
  float* stats;   // (parts, 3, c)
};

}  // namespace effops
