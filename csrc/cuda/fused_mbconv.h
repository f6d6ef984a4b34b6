// Fused inverted residual on a device: dense convolution, activation and projection in one kernel.
#pragma once

#include "mbconv_heuristics.h"
#include "product.h"

namespace effops::cuda {

struct FusedMbconvArgs {
  FusedMbconvTiling tiling;
  ProductArgs expand;   // of patches of view.x (n, h, w, c), by its conv: m, n, k, weight, bias and act
  ProductArgs project;  // of what is expanded: n, k, weight, bias, residual, act and y
};

// Returns the floats of workspace that run_fused_mbconv must be given. The tiling is there already.
int64_t prepare_fused_mbconv(FusedMbconvArgs& p);

void run_fused_mbconv(FusedMbconvArgs p, float* workspace, Stream stream);

}  // namespace effops::cuda
