// Gradients of a depthwise convolution of a view on a device. Bitwise repeatable: sums are cut by shape alone and
// joined in order.
#pragma once

#include "../core/params.h"
#include "heuristics.h"

namespace effops::cuda {

using Stream = void*;

struct DepthwiseBackwardArgs {
  ConvShape shape;
  DepthwiseBackwardTiling tiling;
  WeightView weight;  // (c, 1, kh, kw) of any strides, in the dtype of the images
  GradView grad;      // grad, u (n, oh, ow, c)
  View view;          // x (n, h, w, c)
  bool vectors;       // whether pixels of the images can be read 16 bytes at a time
  void* dx;           // (n, h, w, c) or null
  // What the tiles of an image and the blocks leave for the second stage; or null.
  float* sums;     // (kGradSums, n, tiles of an image, c)
  float* dweight;  // (parts, c, kh * kw)
};

// Fills in `tiling` and `vectors` from the rest.
void prepare_depthwise_backward(DepthwiseBackwardArgs& args);

// Floats of workspace behind `sums` and `dweight`; none where the first stage can write the result.
int64_t sums_workspace(const DepthwiseBackwardArgs& args);
int64_t dweight_workspace(const DepthwiseBackwardArgs& args);

// dx, dweight (c, kh * kw) and sums (kGradSums, n, c) of the stored dx, each unless null.
void run_depthwise_backward(DepthwiseBackwardArgs args, float* dweight, float* sums, Stream stream);

// The kernels; 3x3 and 5x5 are in one file, the others in another.
void launch_depthwise_backward_small(const DepthwiseBackwardArgs& p, Stream stream);
void launch_depthwise_backward_large(const DepthwiseBackwardArgs& p, Stream stream);
void launch_depthwise_backward_general(const DepthwiseBackwardArgs& p, Stream stream);

}  // namespace effops::cuda
