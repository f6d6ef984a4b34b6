// The whole depthwise training ops: conversion of the weight, splitting over threads, second stages of the sums.
#pragma once

#include "../core/depthwise_training.h"
#include "run.h"

namespace effops {

// `params.weight`, `split` and `moments` are filled in here; `stats` (2, c) receives mean and biased variance of u.
void run_depthwise_stats(DepthwiseStatsParams params, const WeightView& weight, float* stats, const Threads& threads);

// `params.weight`, `split`, `sums` and `dweight` are filled in here. `dweight` (c, kh, kw) and `sums`
// (kGradSums, n, c) receive what batch_norm_grad_sums and the convolution's backward give, or are null; so is
// `params.dx`, and then `sums` too.
void run_depthwise_backward(DepthwiseBackwardParams params, const WeightView& weight, float* dweight, float* sums,
                            const Threads& threads);

}  // namespace effops
