// The passes of batch norm in training and the gate between them, over threads and with the second stages of their
// reductions.
#pragma once

#include "../core/norm_params.h"
#include "run.h"

namespace effops {

// stats (2, c): mean and biased variance over n images of `pixels` pixels; `params.stats` and `params.part` are filled
// in here.
void run_norm_stats(NormStatsParams params, float* stats, const Threads& threads);

// `params.sums` is filled in here; `pooled` (n, c) receives the mean of the view, or is null.
void run_norm(NormParams params, float* pooled, const Threads& threads);

// sums (kGradSums, n, c); `params.sums` is filled in here.
void run_norm_grad_sums(NormGradSumsParams params, float* sums, const Threads& threads);

void run_norm_grad(const NormGradParams& params, const Threads& threads);

// The weights and the working memory in `params` are filled in here.
void run_se_gate_backward(SeBackwardParams params, const SeWeights& weights, const Threads& threads);

}  // namespace effops
