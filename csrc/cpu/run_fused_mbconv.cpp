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

// The input rows of a tile with the padding in them, so that all of its patches lie inside: an image of its own.
ConvShape padded_shape(const ConvShape& s, int64_t rows) {
  ConvShape tile = s;
  tile.n = 1, tile.oh = rows, tile.pad_top = tile.pad_left = 0;
  tile.h = (rows - 1) * s.stride_h + (s.kh - 1) * s.dilation_h + 1;
  tile.w = (s.ow - 1) * s.stride_w + (s.kw - 1) * s.dilation_w + 1;
  return tile;
}

// Writes the tile that begins with output row oy of an image. T is an integer as wide as the values.
template <class T>
void copy_padded(const FusedMbconvParams& p, int64_t n, int64_t oy, const ConvShape& tile, T* to) {
  const ConvShape& s = p.conv;
  const T* x = static_cast<const T*>(p.x) + n * p.x_stride_n;
  const bool dense = p.x_stride_c == 1 && p.x_stride_w == s.c;
  // Columns [left, right) of the tile lie over the image.
  const int64_t left = std::clamp<int64_t>(s.pad_left, 0, tile.w);
  const int64_t right = std::clamp<int64_t>(s.pad_left + s.w, left, tile.w);
  for (int64_t i = 0; i < tile.h; ++i, to += tile.w * s.c) {
    const int64_t iy = oy * s.stride_h - s.pad_top + i;
    if (iy < 0 || iy >= s.h) {
      std::fill(to, to + tile.w * s.c, T{0});
      continue;
    }
    std::fill(to, to + left * s.c, T{0});
    std::fill(to + right * s.c, to + tile.w * s.c, T{0});
    const T* row = x + iy * p.x_stride_h + (left - s.pad_left) * p.x_stride_w;
    if (dense) {
      std::copy(row, row + (right - left) * s.c, to + left * s.c);
      continue;
    }
    for (int64_t j = left; j < right; ++j, row += p.x_stride_w) {
      for (int64_t c = 0; c < s.c; ++c) to[j * s.c + c] = row[c * p.x_stride_c];
    }
  }
}

// Output rows [begin, end) of n * oh.
void run_rows(const FusedMbconvParams& p, PackedFusedMbconv c, int64_t begin, int64_t end) {
  const Kernels& k = kernels();
  const ConvShape& s = p.conv;
  const int64_t expand_panels = k.panel_count(s.oc), project_panels = k.panel_count(p.out);
  const int64_t most = std::min(rows_of_tile(p), s.oh);
  ConvShape tile = padded_shape(s, most);
  void* x = scratch<char>(Slot::kExpandedRows, tile.h * tile.w * s.c * bytes_of(p.dtype));
  void* hidden = scratch<char>(Slot::kHiddenRows, most * s.ow * s.oc * bytes_of(p.dtype));
  c.expand.conv = &tile;
  c.expand.x = x, c.expand.y = hidden, c.project.x = hidden;
  c.expand.x_stride_h = tile.w * s.c, c.expand.x_stride_w = s.c, c.expand.x_stride_c = 1;
  for (int64_t row = begin; row < end; row += tile.oh) {
    const int64_t n = row / s.oh, oy = row % s.oh;
    tile = padded_shape(s, std::min({most, s.oh - oy, end - row}));
    if (p.dtype == DType::kFloat32) {
      copy_padded(p, n, oy, tile, static_cast<uint32_t*>(x));
    } else {
      copy_padded(p, n, oy, tile, static_cast<uint16_t*>(x));
    }
    c.expand.m = c.project.m = tile.oh * s.ow;
    k.gemm(c.expand, 0, c.expand.m, 0, expand_panels, s.oc);
    c.project.y = at(p.y, row * s.ow * p.out, p.dtype);
    c.project.residual = p.residual ? at(p.residual, row * s.ow * p.out, p.dtype) : nullptr;
    k.gemm(c.project, 0, c.project.m, 0, project_panels, p.out);
  }
}

}  // namespace

bool pays_depth_first(const FusedMbconvParams& p, int64_t threads) {
  // Neither size nor weights matter. That no patch hangs over wins more than the cache does, and the weights are read
  // as often layer by layer, where a dense convolution passes over them for every few rows, too.
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
