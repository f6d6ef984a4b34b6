// A pointwise convolution and the depthwise one behind it on small images, a few channels at a time: what the first
// makes of them is read by the second out of the nearest cache, and never lies in memory as a whole.
#pragma once

#include "run.h"

namespace effops {

struct ExpandDepthwise {
  GemmParams expand;  // no gate, no residual
  DepthwiseParams depthwise;
};

// Whether that beats one after the other: where an image of one panel's channels is small enough, and has pixels enough
// for products of its own.
bool pays_by_channels(const ExpandDepthwise& block);

// `block.depthwise.row_sums` is filled in here; `pooled` (n, c) receives the mean of y, or is null.
void execute_by_channels(ExpandDepthwise block, float* pooled, const Threads& threads);

}  // namespace effops
