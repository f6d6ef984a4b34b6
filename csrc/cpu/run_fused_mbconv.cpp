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
  const int64_t most = std::min(rows_of_tile(p), s.oh);
  void* hidden = scratch<char>(Slot::kHiddenRows, most * s.ow * s.oc * bytes_of(p.dtype));
  ConvShape tile = s;
  tile.n = 1;
  c.expand.conv = &tile;
  c.expand.y = hidden, c.project.x = hidden;
  for (int64_t row = begin; row < end; row += tile.oh) {
    const int64_t n = row / s.oh, oy = row % s.oh;
    // To the convolution a tile is an image of its own, with oy rows fewer above.
    tile.oh = std::min({most, s.oh - oy, end - row});
    tile.pad_top = s.pad_top - oy * s.stride_h;
    c.expand.x = at(p.x, n * p.x_stride_n, p.dtype);
    c.expand.m = c.project.m = tile.oh * s.ow;
    k.gemm(c.expand, 0, c.expand.m, 0, expand_panels);
    c.project.y = at(p.y, row * s.ow * p.out, p.dtype);
    c.project.residual = p.residual ? at(p.residual, row * s.ow * p.out, p.dtype) : nullptr;
    k.gemm(c.project, 0, c.project.m, 0, project_panels);
  }
}

}  // namespace

bool pays_depth_first(const FusedMbconvParams& p, int64_t threads) {
  const ConvShape& s = p.conv;
  // Smaller ones wait in the caches of the threads that made them. Weights do not matter: a dense convolution reads
  // them again for every few rows anyway.
  return 2 * s.n * s.oh * s.ow * s.oc * bytes_of(p.dtype) > 3 * kCacheBytes * threads;
}

PackedFusedMbconv unpacked_fused_mbconv(const FusedMbconvParams& p) {
  const ConvShape& s = p.conv;
  PackedFusedMbconv c{product(s.oc, s.kh * s.kw * s.c, p.dtype, p.act), product(p.out, s.oc, p.dtype, p.project_act)};
  c.expand.x_stride_n = p.x_stride_n, c.expand.x_stride_h = p.x_stride_h;
  c.expand.x_stride_w = p.x_stride_w, c.expand.x_stride_c = p.x_stride_c;
  return c;
}

void run_fused_mbconv(const FusedMbconvParams& p, const FusedMbconvWeights& weights, const Threads& threads) {
  if (p.conv.n == 0) return;
  if (Plan* plan = recording()) record_fused_mbconv(*plan, p, weights);
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
