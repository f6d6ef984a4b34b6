// Whole ops from the kernels: conversion of small operands, splitting over threads, second stages of
// reductions.
#pragma once

#include "params.h"

namespace effops {

// Runs body(begin, end, context) over a partition of [begin, end) in parallel, or the whole on this thread. There are
// no more ranges than `grain` goes into it. `self` is the Threads' own.
using ParallelBody = void (*)(int64_t begin, int64_t end, void* context);
using ParallelFor = void (*)(void* self, int64_t begin, int64_t end, int64_t grain, ParallelBody body, void* context);

struct Threads {
  ParallelFor parallel_for;
  int64_t count;
  void* self = nullptr;

  void run(int64_t begin, int64_t end, int64_t grain, ParallelBody body, void* context) const {
    parallel_for(self, begin, end, grain, body, context);
  }
};

// Each op comes in two parts. `execute_*` takes weights in the kernels' form. `run_*` takes them as they lie and brings
// them into that form in scratch; but while this thread records a plan (plan.h) it only adds the op to the plan, and
// leaves its results unwritten.

// `params.weight`, `bias` and `row_sums` are filled in here; `pooled` (n, c) receives the mean of y, or is
// null.
void run_depthwise(DepthwiseParams params, const WeightView& weight, const VectorView& bias, float* pooled,
                   const Threads& threads);
// `params.row_sums` is filled in here.
void execute_depthwise(DepthwiseParams params, float* pooled, const Threads& threads);

// mean[c] = sum over parts of sums[part, c] / pixels for the channels [first, last) of c, in the order of the parts:
// the split never matters.
void mean_of_rows(const float* sums, int64_t parts, int64_t c, int64_t pixels, int64_t first, int64_t last,
                  float* mean);
// The same for every channel of n images.
void mean_of_parts(const float* sums, int64_t n, int64_t parts, int64_t c, int64_t pixels, float* mean,
                   const Threads& threads);

// `params.panels` is filled in here.
void run_gemm(GemmParams params, const WeightView& weight, const VectorView& bias, const Threads& threads);
void execute_gemm(const GemmParams& params, const Threads& threads);

struct SeWeights {
  VectorView reduce_weight, reduce_bias, expand_weight, expand_bias;  // the weights row-major and dense
};

// The weights in `params` are filled in here.
void run_se_gate(SeGateParams params, const SeWeights& weights, const Threads& threads);
void execute_se_gate(const SeGateParams& params, const Threads& threads);

// mean (n, c) of x over its pixels.
void run_mean(const ImageParams& params, float* mean, const Threads& threads);
void execute_mean(const ImageParams& params, float* mean, const Threads& threads);

// y = x * scale.
void run_scale(const ImageParams& params, const Threads& threads);
void execute_scale(const ImageParams& params, const Threads& threads);

// y = a + b.
void execute_add(const AddParams& params, const Threads& threads);

// From float32 to bfloat16, or back.
void execute_convert(const ConvertParams& params, const Threads& threads);

}  // namespace effops
