// The fused inverted residual, depth first: no expanded tensor in memory.
#pragma once

#include "run.h"

namespace effops {

struct FusedMbconvParams {
  ConvShape conv;  // the dense convolution: oc are the hidden channels
  int64_t out;     // channels of y
  DType dtype;
  Act act;  // after the dense convolution
  Act project_act;
  const void* x;                                           // (n, h, w, c)
  int64_t x_stride_n, x_stride_h, x_stride_w, x_stride_c;  // of x, in elements: any
  const void* residual;                                    // (n, oh, ow, out) or null
  void* y;                                                 // (n, oh, ow, out)
};

struct FusedMbconvWeights {
  WeightView expand, project;
  VectorView expand_bias, project_bias;
};

// Whether depth first beats layer by layer: wherever there are rows enough to share out evenly.
bool pays_depth_first(const FusedMbconvParams& params, int64_t threads);

// The block's products, with their weights in the kernels' form; pointers into images are set tile by tile.
struct PackedFusedMbconv {
  GemmParams expand, project;
};

// All but the weights.
PackedFusedMbconv unpacked_fused_mbconv(const FusedMbconvParams& params);

void run_fused_mbconv(const FusedMbconvParams& params, const FusedMbconvWeights& weights, const Threads& threads);
void execute_fused_mbconv(const FusedMbconvParams& params, const PackedFusedMbconv& packed, const Threads& threads);

}  // namespace effops
