#include "run_fused_mbconv.h"

#include <algorithm>

#include "depth_first.h"
#include "kernels.h"
#include "operands.h"
#include "packing.h"
#include "parallel.h"
#include "record.h"
#include "scratch.h"

namespace effops {
namespace {

// Output rows of a tile: as many as fit, and tiles share no expanded row, so that one may begin anywhere.
int64_t rows_of_tile(const FusedMbconvParams& p) {
  return std::max<int64_t>(1, kTileBytes / (p.conv.ow * p.conv.oc * bytes_of(p.dtype)));
}

// Output rows [begin, end) of n * oh.
void run_rows(const FusedMbconvParams& p, PackedFusedMbconv c, int64_t begin, int64_t end) {
  const Kernels& k = kernels();
  const ConvShape& s = p.conv;
  const int64_t expand_panels = k.panel_count(s.oc), project_panels = k.panel_count(p.out);
  const int64_t most = std::min(rows_of_tile(p), end - begin), value = bytes_of(p.dtype);
  char* const hidden = scratch<char>(Slot::kHiddenRows, most * s.ow * s.oc * value);
  c.expand.m = s.n * s.oh * s.ow, c.expand.conv = &s, c.expand.x = p.x, c.project.x = hidden;
  c.expand.x_stride_n = p.x_stride_n, c.expand.x_stride_c = p.x_stride_c;
  c.expand.x_stride_h = p.x_stride_h, c.expand.x_stride_w = p.x_stride_w;
  for (int64_t row = begin; row < end; row += most) {
    const int64_t pixel = row * s.ow, pixels = std::min(most, end - row) * s.ow;
    // The product counts the pixels of all images; where their first would lie is no address in the scratch.
    c.expand.y = reinterpret_cast<void*>(reinterpret_cast<intptr_t>(hidden) - pixel * s.oc * value);
    k.gemm(c.expand, pixel, pixel + pixels, 0, expand_panels, s.oc);
    c.project.m = pixels;
    c.project.y = at(p.y, pixel * p.out, p.dtype);
    c.project.residual = p.residual ? at(p.residual, pixel * p.out, p.dtype) : nullptr;
    k.gemm(c.project, 0, pixels, 0, project_panels, p.out);
  }
}

}  // namespace

bool pays_depth_first(const FusedMbconvParams& p, int64_t threads) {
  // Neither size nor weights matter: these are read as often layer by layer, where a dense convolution passes over them
  // for every few rows, too.
  return p.conv.n * p.conv.oh >= 4 * threads;
}

PackedFusedMbconv unpacked_fused_mbconv(const FusedMbconvParams& p) {
  const ConvShape& s = p.conv;
  return {product(s.oc, s.kh * s.kw * s.c, p.dtype, p.act), product(p.out, s.oc, p.dtype, p.project_act)};
}

void run_fused_mbconv(const FusedMbconvParams& p, const FusedMbconvWeights& weights, const Threads& threads) {
  if (p.conv.n == 0) return;
  if (Plan* plan = recording()) return record_fused_mbconv(*plan, p, weights);
  PackedFusedMbconv c = unpacked_fused_mbconv(p);
  pack(c.expand, weights.expand, as_floats(weights.expand_bias, Slot::kBias), threads);
  pack(c.project, weights.project, as_floats(weights.project_bias, Slot::kBias), threads, Slot::kProjectPanels);
  execute_fused_mbconv(p, c, threads);
}

void execute_fused_mbconv(const FusedMbconvParams& p, const PackedFusedMbconv& packed, const Threads& threads) {
  const ConvShape& s = p.conv;
  parallel(threads, s.n * s.oh, s.ow * s.oc * (packed.expand.k + p.out),
           [&](int64_t begin, int64_t end) { run_rows(p, packed, begin, end); });
}

}  // namespace effops
