// The depthwise convolutions on a device. Results are bitwise repeatable: sums are cut by shape alone and joined in
// order.
#pragma once

#include "../core/params.h"
#include "heuristics.h"

namespace effops::cuda {

using Stream = void*;

struct DepthwiseArgs {
  ConvShape shape;
  DepthwiseTiling tiling;
  WeightView weight;  // (c, 1, kh, kw) of any strides, in the dtype of x
  View view;          // x (n, h, w, c); read through the rest by the statistics alone
  VectorView bias;    // (c) or none
  Act act;
  void* y;              // (n, oh, ow, c)
  bool vectors;         // whether pixels of x can be read 16 bytes at a time
  float* partial;       // workspace: one row or three (count, mean, m2) of c a part; or null
  float partial_scale;  // of what the first stage writes
};

// Fills in `tiling` and `vectors` from the rest; returns the floats of workspace that `partial` must point to.
int64_t prepare_depthwise(DepthwiseArgs& args, bool statistics);

// y = act(dwconv(x) + bias) and, unless it is null, the spatial mean of y (n, c).
void run_depthwise(DepthwiseArgs args, float* pooled, Stream stream);

// y = dwconv(view(x)) and mean and biased variance (2, c) of the stored y.
void run_depthwise_stats(DepthwiseArgs args, float* stats, Stream stream);

}  // namespace effops::cuda
