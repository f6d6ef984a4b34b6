// The table of kernels that every instruction set fills, and its choice at run time.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "../core/depthwise_training.h"
#include "../core/norm_params.h"
#include "../core/pointwise_training.h"
#include "params.h"

namespace effops {

// Each entry computes a range of independent units, so that a caller splits the range over threads as it
// likes; the result does not depend on the split.
struct Kernels {
  const char* isa;
  // Output rows [row0, row1) of n * oh, these channels of them; how x lies, not y. The first and the last channel are
  // the edges of panels.
  void (*depthwise)(const DepthwiseParams&, int64_t row0, int64_t row1, const Channels&);
  // Panels that a weight of n columns is packed into, the column that one begins with, and the floats that all take.
  int64_t (*panel_count)(int64_t n);
  int64_t (*panel_column)(int64_t n, int64_t panel);
  int64_t (*panel_floats)(int64_t n, int64_t k, DType dtype);
  // Packs panels [panel0, panel1) of a weight and its bias (or null) for images of this dtype. The weights of panels
  // without columns beyond n are left out where they are read as they lie.
  void (*pack_panels)(const WeightView&, const float* bias, DType dtype, bool in_place, float* panels, int64_t panel0,
                      int64_t panel1);
  // Rows [m0, m1) and panels [panel0, panel1) of the output, whose rows lie `pitch` apart.
  void (*gemm)(const GemmParams&, int64_t m0, int64_t m1, int64_t panel0, int64_t panel1, int64_t pitch);
  // The two layers of the gate: rows [row0, row1) of their weights, for all images.
  void (*se_reduce)(const SeGateParams&, float* hidden, int64_t row0, int64_t row1);
  void (*se_expand)(const SeGateParams&, const float* hidden, int64_t row0, int64_t row1);
  // Sums over chunks [chunk0, chunk1) of `chunk` pixels, each a row of c floats; every image has ceil(pixels
  // / chunk).
  void (*pixel_sums)(const ImageParams&, int64_t chunk, float* sums, int64_t chunk0, int64_t chunk1);
  // y = x * scale for pixels [p0, p1) of n * pixels.
  void (*scale)(const ImageParams&, int64_t p0, int64_t p1);
  // Values [i0, i1).
  void (*add)(const AddParams&, int64_t i0, int64_t i1);
  void (*convert)(const ConvertParams&, int64_t i0, int64_t i1);
  // Parts [part0, part1) of the rows; null where product_training_kernels() are others.
  void (*pointwise_stats)(const PointwiseStatsParams&, int64_t part0, int64_t part1);
  void (*pointwise_backward)(const PointwiseBackwardParams&, int64_t part0, int64_t part1);
  // Units [unit0, unit1) of the params' split.
  void (*depthwise_stats)(const DepthwiseStatsParams&, int64_t unit0, int64_t unit1);
  void (*depthwise_backward)(const DepthwiseBackwardParams&, int64_t unit0, int64_t unit1);
  // Parts [part0, part1).
  void (*norm_stats)(const NormStatsParams&, int64_t part0, int64_t part1);
  void (*norm)(const NormParams&, int64_t part0, int64_t part1);
  void (*norm_grad_sums)(const NormGradSumsParams&, int64_t part0, int64_t part1);
  void (*norm_grad)(const NormGradParams&, int64_t part0, int64_t part1);
  // Images [n0, n1), then rows [row0, row1) of the c + r of both weights.
  void (*se_gate_backward_images)(const SeBackwardParams&, int64_t n0, int64_t n1);
  void (*se_gate_backward_weights)(const SeBackwardParams&, int64_t row0, int64_t row1);
};

// Tiers that this build has and this processor runs, slowest first.
std::vector<std::string> available_isas();

// The kernels in use: the fastest tier unless set_isa chose another.
const Kernels& kernels();

// Those that have pointwise_stats and pointwise_backward, and pack for them: of the tier below where the kernels in use
// have none.
const Kernels& product_training_kernels();

// Chooses a tier by name for the whole process; false when it is not available.
bool set_isa(const std::string& name);

// What the processor and the operating system offer, by the names of the instruction sets.
std::vector<std::pair<std::string, bool>> cpu_features();

}  // namespace effops
