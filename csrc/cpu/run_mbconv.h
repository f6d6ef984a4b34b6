// The inverted residual and the depthwise separable block, depth first: no expanded tensor in memory. In the place of
// the expansion there may be a dense convolution: the stem before the first block.
#pragma once

#include "run.h"

namespace effops {

struct MbconvParams {
  ConvShape conv;   // the depthwise convolution, over the hidden channels
  int64_t in, out;  // channels of x and y
  bool expands;     // else x has the hidden channels already
  DType dtype;
  Act act;  // after expansion and depthwise convolution
  Act project_act;
  bool residual;         // add x, or what the dense convolution in the place of the expansion makes of it
  const void* x;         // (n, h, w, in)
  void* hidden;          // (n, oh, ow, c): with squeeze-excite what waits for the gate, else null
  float *pooled, *gate;  // (n, c), with squeeze-excite
  void* y;               // (n, oh, ow, out)
};

struct MbconvWeights {
  WeightView expand, depthwise, project;
  VectorView expand_bias, depthwise_bias, project_bias;
  SeWeights squeeze_excite;
  int64_t reduced;  // width of the squeeze-excite, 0 for none
  Act reduced_act;
  Gate gate;
};

// Whether depth first beats layer by layer: where the expanded tensor leaves the second-level cache.
bool pays_depth_first(const MbconvParams& params, bool squeeze_excite);

// The block's convolutions, with their weights in the kernels' form; pointers into images are set tile by tile.
struct PackedMbconv {
  GemmParams expand, project;
  ConvShape stem;  // of the dense convolution that expands, if expand.conv is set
  DepthwiseParams depthwise;
  SeGateParams se;
};

// All but the weights.
PackedMbconv unpacked_mbconv(const MbconvParams& params, const MbconvWeights& weights);

void run_mbconv(const MbconvParams& params, const MbconvWeights& weights, const Threads& threads);
void execute_mbconv(const MbconvParams& params, PackedMbconv packed, const Threads& threads);
// Expansion and depthwise convolution alone, into params.hidden and, unless that is null, params.pooled.
void execute_hidden(const MbconvParams& params, PackedMbconv packed, const Threads& threads);

}  // namespace effops
