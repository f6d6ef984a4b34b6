// The passes of batch norm in training on a device; see effops/ops/reference_training.py. Results are bitwise
// repeatable: sums are cut by shape alone and joined in order.
//
// Each pass is prepared first, with everything set but its working memory: `prepare_...` returns the floats that
// `partial` must point to, null for none.
#pragma once

#include "../core/params.h"
#include "pass.h"

namespace effops::cuda {

using Stream = void*;

struct NormArgs {
  Pass pass;
  View view;
  const void* residual;  // (n, pixels, c) or null
  void* y;               // (n, pixels, c) or null
  float* partial;        // (parts, c) sums of the view
  float partial_scale;   // of what the first stage writes
};

struct NormStatsArgs {
  Pass pass;  // all images as one
  const void* x;
  float* partial;  // (parts, 3, c): count, mean, sum of squared deviations
};

struct NormGradSumsArgs {
  Pass pass;
  View view;
  const void* grad;
  float* partial;  // (kGradSums, parts, c)
};

struct NormGradArgs {
  Pass pass;
  GradView view;
  void* y;  // (n, pixels, c)
};

int64_t prepare_norm(NormArgs& args, bool pooled);
int64_t prepare_norm_stats(NormStatsArgs& args);
int64_t prepare_norm_grad_sums(NormGradSumsArgs& args);
void prepare_norm_grad(NormGradArgs& args);

// y = view(x) + residual where y is not null, and the spatial mean of the view (n, c) where `pooled` is not.
void run_norm(NormArgs args, float* pooled, Stream stream);

// Mean and biased variance (2, c) of x.
void run_norm_stats(const NormStatsArgs& args, float* stats, Stream stream);

// sums (kGradSums, n, c).
void run_norm_grad_sums(NormGradSumsArgs args, float* sums, Stream stream);

// y = what the gradient view stands for.
void run_norm_grad(const NormGradArgs& args, Stream stream);

}  // namespace effops::cuda
