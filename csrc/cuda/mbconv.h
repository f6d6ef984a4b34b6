// Expansion and depthwise convolution of an inverted residual on a device, in one kernel.
#pragma once

#include "depthwise.h"
#include "mbconv_heuristics.h"
#include "product.h"

namespace effops::cuda {

struct MbconvArgs {
  MbconvTiling tiling;
  ProductArgs expand;       // of the pixels of view.x (n, h, w, k): m, n, k, weight, bias and act
  DepthwiseArgs depthwise;  // of what is expanded: shape, weight, bias, act and y; and partial sums of y
};

// Returns the floats of workspace that run_mbconv must be given; `pool`: with the mean. The tiling is there already.
int64_t prepare_mbconv(MbconvArgs& p, bool pool);

// y = act(dwconv(act(W x + bias)) + bias) and, unless it is null, the spatial mean of y (n, c).
void run_mbconv(MbconvArgs p, float* workspace, float* pooled, Stream stream);

}  // namespace effops::cuda
