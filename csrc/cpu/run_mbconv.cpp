#include "run_mbconv.h"

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

// The block's output rows are made tile by tile. The expanded rows that a tile shares with the next stay where they
// are: expanded row i lies at i % ring.
struct Tiles {
  int64_t rows, ring;

  explicit Tiles(const MbconvParams& p) {
    const ConvShape& s = p.conv;
    const int64_t reach = (s.kh - 1) * s.dilation_h + 1;
    const int64_t expanded = p.expands ? s.w * s.c * bytes_of(p.dtype) : 0;
    const int64_t hidden = p.hidden ? 0 : s.ow * s.c * bytes_of(p.dtype);
    const int64_t more = std::max<int64_t>(1, s.stride_h * expanded + hidden);
    rows = std::clamp<int64_t>(1 + (kTileBytes - reach * expanded - hidden) / more, 1, s.oh);
    ring = (rows - 1) * s.stride_h + reach;
  }
};

// Output rows [begin, end) of n * oh.
void run_tiles(const MbconvParams& p, const PackedMbconv& given, const Tiles& tiles, int64_t begin, int64_t end) {
  const Kernels& k = kernels();
  const ConvShape& s = p.conv;
  const int64_t reach = (s.kh - 1) * s.dilation_h + 1;
  PackedMbconv c = given;
  char* ring = p.expands ? scratch<char>(Slot::kExpandedRows, tiles.ring * s.w * s.c * bytes_of(p.dtype)) : nullptr;
  if (p.expands) c.expand.x = p.x, c.depthwise.x = ring, c.depthwise.x_rows = tiles.ring;
  if (!p.hidden) c.depthwise.y = scratch<char>(Slot::kHiddenRows, tiles.rows * s.ow * s.c * bytes_of(p.dtype));
  const int64_t expand_panels = p.expands ? k.panel_count(s.c) : 0, project_panels = k.panel_count(p.out);
  int64_t done = 0, rows;  // input rows of the image that are expanded; output rows of this tile
  for (int64_t first = begin; first < end; first += rows) {
    const int64_t n = first / s.oh, row0 = first % s.oh, row1 = std::min({row0 + tiles.rows, s.oh, row0 + end - first});
    rows = row1 - row0;
    if (row0 == 0) done = 0;
    if (p.expands) {
      const int64_t bottom = std::min(s.h, (row1 - 1) * s.stride_h - s.pad_top + reach);
      for (int64_t row = std::max({done, int64_t{0}, row0 * s.stride_h - s.pad_top}); row < bottom;) {
        const int64_t slot = row % tiles.ring, count = std::min(bottom - row, tiles.ring - slot);
        // The product counts the pixels of all images; where their first would lie is no address in the ring.
        const int64_t pixel = (n * s.h + row) * s.w;
        c.expand.y =
            reinterpret_cast<void*>(reinterpret_cast<intptr_t>(ring) + (slot * s.w - pixel) * s.c * bytes_of(p.dtype));
        k.gemm(c.expand, pixel, pixel + count * s.w, 0, expand_panels, s.c);
        row += count;
      }
      done = std::max(done, bottom);
    }
    if (!p.hidden) c.depthwise.y_row0 = first;
    k.depthwise(c.depthwise, first, first + rows, {0, s.c, s.c});
    if (p.hidden) continue;
    const auto project = [&](int64_t row, int64_t count, const void* residual) {
      c.project.x = at(c.depthwise.y, (row - row0) * s.ow * s.c, p.dtype);
      c.project.y = at(p.y, (n * s.oh + row) * s.ow * p.out, p.dtype);
      c.project.residual = residual;
      c.project.m = count * s.ow;
      k.gemm(c.project, 0, c.project.m, 0, project_panels, p.out);
    };
    if (!p.residual) {
      project(row0, rows, nullptr);
    } else if (!c.expand.conv) {
      project(row0, rows, at(p.x, first * s.ow * p.in, p.dtype));
    } else {
      // The dense convolution's own rows, in as many pieces as they lie in.
      for (int64_t row = row0, count; row < row1; row += count) {
        const int64_t slot = row % tiles.ring;
        count = std::min(row1 - row, tiles.ring - slot);
        project(row, count, at(ring, slot * s.w * s.c, p.dtype));
      }
    }
  }
}

}  // namespace

bool pays_depth_first(const MbconvParams& p, bool squeeze_excite) {
  const ConvShape& s = p.conv;
  constexpr int64_t kCacheBytes = 384 * 1024;
  const int64_t reach = (s.kh - 1) * s.dilation_h + 1;
  const int64_t row = s.w * s.c * bytes_of(p.dtype);
  const int64_t weights = (p.expands ? p.in * s.c : 0) + (squeeze_excite ? 0 : s.c * p.out);
  // Smaller images of the expanded tensor are in the cache anyway. Rows too wide for it, or weights that every tile
  // would have to fetch again, leave nothing to win.
  return (p.expands || !squeeze_excite) && 2 * s.h * row > 3 * kCacheBytes && reach * row <= kCacheBytes &&
         weights * 4 <= kCacheBytes / 2;
}

PackedMbconv unpacked_mbconv(const MbconvParams& p, const MbconvWeights& weights) {
  const ConvShape& s = p.conv;
  PackedMbconv c{};
  if (p.expands) c.expand = product(s.c, p.in, p.dtype, p.act);
  c.project = product(p.out, s.c, p.dtype, p.project_act);
  c.depthwise.shape = s, c.depthwise.dtype = p.dtype, c.depthwise.act = p.act;
  c.se.c = s.c, c.se.r = weights.reduced, c.se.act = weights.reduced_act, c.se.gate = weights.gate;
  return c;
}

void run_mbconv(const MbconvParams& p, const MbconvWeights& weights, const Threads& threads) {
  if (p.conv.n == 0) return;
  if (Plan* plan = recording()) return record_mbconv(*plan, p, weights);
  PackedMbconv c = unpacked_mbconv(p, weights);
  if (p.expands) pack(c.expand, weights.expand, as_floats(weights.expand_bias, Slot::kBias), threads);
  pack(c.project, weights.project, as_floats(weights.project_bias, Slot::kBias), threads, Slot::kProjectPanels);
  c.depthwise.weight = tap_major(weights.depthwise);
  c.depthwise.bias = as_floats(weights.depthwise_bias, Slot::kBias);
  if (p.hidden) {
    const SeWeights& se = weights.squeeze_excite;
    c.se.reduce_weight = as_floats(se.reduce_weight, Slot::kReduceWeight);
    c.se.reduce_bias = as_floats(se.reduce_bias, Slot::kReduceBias);
    c.se.expand_weight = as_floats(se.expand_weight, Slot::kExpandWeight);
    c.se.expand_bias = as_floats(se.expand_bias, Slot::kExpandBias);
  }
  execute_mbconv(p, c, threads);
}

void execute_hidden(const MbconvParams& p, PackedMbconv c, const Threads& threads) {
  const ConvShape& s = p.conv;
  if (c.expand.conv) c.expand.conv = &c.stem;
  c.depthwise.x = p.x, c.depthwise.y = p.hidden;
  c.depthwise.row_sums = p.pooled ? scratch<float>(Slot::kSums, s.n * s.oh * s.c) : nullptr;
  const Tiles tiles(p);
  const int64_t work = (p.expands ? s.w * s.stride_h * p.in : 0) + s.ow * (s.kh * s.kw + (p.hidden ? 0 : p.out));
  const auto rows = [&](int64_t begin, int64_t end) { run_tiles(p, c, tiles, begin, end); };
  const auto images = [&](int64_t begin, int64_t end) { run_tiles(p, c, tiles, begin * s.oh, end * s.oh); };
  if (!p.expands) {
    parallel(threads, s.n * s.oh, work * s.c, rows);
  } else if (s.n >= 4 * threads.count) {
    parallel(threads, s.n, s.oh * work * s.c, images);
  } else {
    // Where a range begins within an image, rows are expanded that the range before has, too.
    parallel_in_few(threads, s.n * s.oh, rows);
  }
  if (p.pooled) mean_of_parts(c.depthwise.row_sums, s.n, s.oh, s.c, s.oh * s.ow, p.pooled, threads);
}

void execute_mbconv(const MbconvParams& p, PackedMbconv c, const Threads& threads) {
  const ConvShape& s = p.conv;
  execute_hidden(p, c, threads);
  if (!p.hidden) return;
  c.se.n = s.n, c.se.pooled = p.pooled, c.se.out = p.gate;
  execute_se_gate(c.se, threads);
  c.project.m = s.n * s.oh * s.ow, c.project.rows_per_image = s.oh * s.ow;
  c.project.x = p.hidden, c.project.gate = p.gate, c.project.y = p.y;
  c.project.residual = p.residual ? p.x : nullptr;
  execute_gemm(c.project, threads);
}

}  // namespace effops
