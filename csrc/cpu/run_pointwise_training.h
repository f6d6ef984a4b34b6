// The ops of 1x1 convolutions in training, from the kernels.
#pragma once

#include "../core/params.h"
#include "run.h"

namespace effops {

// A 1x1 convolution of view(x), an image of (images, pixels, c).
struct PointwiseShape {
  int64_t images, pixels, c, out;
  DType dtype;
};

// u (images, pixels, out), and its mean and biased variance (2, out).
void run_pointwise_stats(const PointwiseShape& shape, const View& view, const WeightView& weight, void* u,
                         float* statistics, const Threads& threads);

// dx (images, pixels, c), dweight (out, c) and grad_sums (kGradSums, images, c); each may be null, sums are taken of
// dx.
void run_pointwise_backward(const PointwiseShape& shape, const GradView& grad, const View& view,
                            const WeightView& weight, void* dx, float* dweight, float* grad_sums,
                            const Threads& threads);

}  // namespace effops
