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

// Whether the depthwise kernels have an instance for this kernel, stride and dilation.
inline bool depthwise_is_tuned(const ConvShape& s) {
  const bool square = s.kh == s.kw && s.stride_h == s.stride_w && s.dilation_h == 1 && s.dilation_w == 1;
  return square && (s.kh == 3 || s.kh == 5 || s.kh == 7) && (s.stride_h == 1 || s.stride_h == 2);
}

// `statistics`: blocks go on over several tiles, so that few parts are left to join.
inline DepthwiseTiling depthwise_tiling(const ConvShape& s, bool statistics) {
  constexpr int kThreadsMost = 256, kBlockCost = 32;
  constexpr int64_t kParts = 2048;
  const bool fixed = depthwise_is_tuned(s);
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

// Columns of one input row that a thread of the depthwise backward computes: of all phases of the stride.
EFFOPS_HD constexpr int backward_columns(int stride) { return stride == 1 ? 7 : 8; }
constexpr int kGeneralColumns = 4;
// Threads of a block at most. 5x5 keeps 50 sums in registers: more for fewer threads; 7x7 has a processor to itself.
EFFOPS_HD constexpr int backward_threads(int kernel) { return kernel == 5 ? 192 : 256; }

// How the depthwise backward cuts its inputs. The tuned kernels count rows and columns with the padding before them,
// from a multiple of the stride on, so that every thread knows the phases of its own; a thread computes `each` groups
// of `stride` rows of its columns for two channels. The general one counts those of the image; a thread has one
// channel.
struct DepthwiseBackwardTiling {
  int kernel = 0, stride = 0;  // 0: the general kernel
  int channels = 0;            // of a block, a multiple of 8
  int row_items = 0, column_items = 0, each = 1;
  int64_t tiles_y = 0, tiles_x = 0, channel_tiles = 0;
  int64_t tiles = 0, run = 1;  // tiles of all images; tiles of a block
  int64_t shared_bytes = 0;

  EFFOPS_HD int rows() const { return row_items * each * (kernel ? stride : 1); }
  EFFOPS_HD int columns() const { return column_items * (kernel ? backward_columns(stride) : kGeneralColumns); }
  EFFOPS_HD int items() const { return row_items * column_items; }
  EFFOPS_HD int threads() const { return (kernel ? channels / 2 : channels) * items(); }
  // Rows and columns of the output's gradient under a tile.
  EFFOPS_HD int grad_rows() const { return rows() / stride + (kernel - 1) / stride; }
  EFFOPS_HD int grad_columns() const { return columns() / stride + (kernel - 1) / stride; }
  EFFOPS_HD int64_t tiles_of_image() const { return tiles_y * tiles_x; }
  EFFOPS_HD int64_t parts() const { return ceil_div(tiles, run); }
  EFFOPS_HD int64_t blocks() const { return parts() * channel_tiles; }
};

// Bytes of shared memory: weights and the view's affine, the gradient under a tile (and in turn what the threads have
// summed) and the input, in its own size.
inline int64_t depthwise_backward_shared(const DepthwiseBackwardTiling& t, int64_t size) {
  if (!t.kernel) return 4 * int64_t{kGradSums} * t.channels * t.items();
  const int64_t under =
      std::max(int64_t{t.grad_rows()} * t.grad_columns(), int64_t{std::max(t.kernel, kGradSums)} * t.items());
  return t.channels * (4 * (t.kernel * t.kernel + 3 + under) + size * t.rows() * t.columns());
}

// `size`: bytes of an element.
inline DepthwiseBackwardTiling depthwise_backward_tiling(const ConvShape& s, int64_t size) {
  constexpr int kBlockCost = 64 * 64;
  constexpr int64_t kBlocks = 4 * kBlocksAtOnce;  // each leaves a part of the weight's gradient
  const bool fixed = depthwise_is_tuned(s);
  DepthwiseBackwardTiling best;
  double least = 0.0;
  for (const int64_t most : {64, 32}) {
    DepthwiseBackwardTiling t;
    t.kernel = fixed ? static_cast<int>(s.kh) : 0;
    t.stride = fixed ? static_cast<int>(s.stride_h) : 0;
    t.channel_tiles = ceil_div(s.c, most);
    t.channels = static_cast<int>(ceil_div(ceil_div(s.c, t.channel_tiles), 8) * 8);
    t.channel_tiles = ceil_div(s.c, t.channels);
    const int64_t height = s.h + (fixed ? s.pad_top % s.stride_h : 0);
    const int64_t width = s.w + (fixed ? s.pad_left % s.stride_w : 0);
    for (t.row_items = 1; t.row_items <= 16; ++t.row_items) {
      for (t.column_items = 1; t.column_items <= 4; t.column_items *= 2) {
        for (t.each = 1; t.each <= (fixed ? 8 : 1); t.each *= 2) {
          t.shared_bytes = depthwise_backward_shared(t, size);
          if (t.threads() > backward_threads(t.kernel) || t.shared_bytes > kSharedLimit) break;
          t.tiles_y = ceil_div(height, t.rows());
          t.tiles_x = ceil_div(width, t.columns());
          t.tiles = s.n * t.tiles_of_image();
          t.run = std::max<int64_t>(1, ceil_div(t.tiles, std::max<int64_t>(1, kBlocks / t.channel_tiles)));
          // Values that a tile moves, its arithmetic in the same unit, and more where few threads hide what they wait
          // for; small launches take as long as one tile.
          const double inputs = static_cast<double>(t.rows()) * t.columns();
          const double under = fixed ? static_cast<double>(t.grad_rows()) * t.grad_columns() : inputs;
          const double taps = static_cast<double>(s.kh * s.kw) / static_cast<double>(s.stride_h * s.stride_w);
          const double tile = t.channels * (2.0 * under + (2.0 + taps / 8.0) * inputs) + kBlockCost;
          const double waits = 1.0 + 64.0 / t.threads();
          const double cost = tile * waits * static_cast<double>(std::max(kBlocksAtOnce, t.tiles * t.channel_tiles));
          if (best.channels == 0 || cost < least) best = t, least = cost;
        }
      }
    }
  }
  return best;
}

// Threads of one block for loops over `work` elements, and its number of blocks.
constexpr int kLoopThreads = 256;
inline int64_t loop_blocks(int64_t work) { return std::min(ceil_div(work, kLoopThreads), kGridLimit); }

}  // namespace effops::cuda
