// Shapes to launch configurations: host code without CUDA, by the shape alone, so that results repeat on every device.
#pragma once

#include <algorithm>
#include <cstdint>

#include "../core/params.h"
#include "../core/scalar.h"

namespace effops::cuda {

EFFOPS_HD constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Blocks that a large GPU holds at one time, by order of magnitude: what smaller launches leave idle.
constexpr int64_t kBlocksAtOnce = 264;
constexpr int64_t kSharedLimit = 48 * 1024;  // what every device gives a block without asking
constexpr int64_t kGridLimit = 0x7fffffff;   // of x; y and z are not used

// A thread of the depthwise kernels computes this many output rows and columns of two channels.
constexpr int kThreadRows = 2;
constexpr int kThreadColumns = 7;  // 112, 56, 28, 14 and 7 are multiples of it

// How depthwise kernels cut their outputs: a block computes tiles of rows x columns x channels, `run` of them one after
// another. Threads: (channels / 2) of neighbouring channels for each of row_items x column_items places of a tile.
struct DepthwiseTiling {
  int kernel = 0, stride = 0;  // 0: the general kernel, which reads its inputs in place
  int channels = 0;            // of a block, a multiple of 8
  int row_items = 0, column_items = 0;
  int64_t tiles_y = 0, tiles_x = 0, channel_tiles = 0;
  int64_t tiles = 0, run = 1;  // tiles of all images; tiles of a block
  int64_t shared_bytes = 0;

  EFFOPS_HD int rows() const { return row_items * kThreadRows; }
  EFFOPS_HD int columns() const { return column_items * kThreadColumns; }
  EFFOPS_HD int items() const { return row_items * column_items; }
  EFFOPS_HD int threads() const { return channels / 2 * items(); }
  EFFOPS_HD int64_t tiles_of_image() const { return tiles_y * tiles_x; }
  // Blocks that share a channel, each with one partial result of the statistics.
  EFFOPS_HD int64_t parts() const { return ceil_div(tiles, run); }
  EFFOPS_HD int64_t blocks() const { return parts() * channel_tiles; }
};

// Bytes of shared memory: weights, and in turn the input under a tile, its outputs, and what the threads have summed.
inline int64_t depthwise_shared(const DepthwiseTiling& t) {
  const int64_t height = t.kernel ? (t.rows() - 1) * t.stride + t.kernel : t.rows();
  const int64_t width = t.kernel ? (t.columns() - 1) * t.stride + t.kernel : t.columns();
  const int64_t groups = 4 * int64_t{t.items()};  // threads over 16 bytes of channels, with two bytes a channel
  return 4 * std::max((height * width + t.kernel * t.kernel) * t.channels, (2 * int64_t{t.channels} + 1) * groups);
}

// `statistics`: blocks go on over several tiles, so that few parts are left to join.
inline DepthwiseTiling depthwise_tiling(const ConvShape& s, bool statistics) {
  constexpr int kThreadsMost = 256, kBlockCost = 32;
  constexpr int64_t kParts = 2048;
  const bool square = s.kh == s.kw && s.stride_h == s.stride_w && s.dilation_h == 1 && s.dilation_w == 1;
  const bool fixed = square && (s.kh == 3 || s.kh == 5 || s.kh == 7) && (s.stride_h == 1 || s.stride_h == 2);
  DepthwiseTiling best;
  double least = 0.0;
  for (const int64_t most : {64, 32}) {  // 16-bit channels of one cache line, or of half a line
    DepthwiseTiling t;
    t.kernel = fixed ? static_cast<int>(s.kh) : 0;
    t.stride = fixed ? static_cast<int>(s.stride_h) : 0;
    t.channel_tiles = ceil_div(s.c, most);
    t.channels = static_cast<int>(ceil_div(ceil_div(s.c, t.channel_tiles), 8) * 8);
    t.channel_tiles = ceil_div(s.c, t.channels);
    for (t.row_items = 1; t.row_items <= 16; t.row_items *= 2) {
      for (t.column_items = 1; t.column_items <= 16; t.column_items *= 2) {
        t.shared_bytes = depthwise_shared(t);
        if (t.threads() > kThreadsMost || t.shared_bytes > kSharedLimit) break;
        t.tiles_y = ceil_div(s.oh, t.rows());
        t.tiles_x = ceil_div(s.ow, t.columns());
        t.tiles = s.n * t.tiles_of_image();
        t.run =
            statistics ? std::max<int64_t>(1, ceil_div(t.tiles, std::max<int64_t>(1, kParts / t.channel_tiles))) : 1;
        // Pixels that a block reads and writes; small launches take as long as one block of them.
        const int64_t read = (t.shared_bytes / 4 / t.channels);
        const double block =
            static_cast<double>(t.channels) * static_cast<double>(read + t.rows() * t.columns()) + kBlockCost * 64.0;
        const double cost = block * static_cast<double>(std::max(kBlocksAtOnce, t.tiles * t.channel_tiles));
        if (best.channels == 0 || cost < least) best = t, least = cost;
      }
    }
  }
  return best;
}

// Threads of one block for loops over `work` elements, and its number of blocks.
constexpr int kLoopThreads = 256;
inline int64_t loop_blocks(int64_t work) { return std::min(ceil_div(work, kLoopThreads), kGridLimit); }

}  // namespace effops::cuda
