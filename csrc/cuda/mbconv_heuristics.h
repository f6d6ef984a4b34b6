// Whole blocks of the networks to launch configurations, and whether one kernel pays: by the shape alone, as
// heuristics.h. The weights of the rules are orders of magnitude from the arithmetic of the machine: none was measured.
#pragma once

#include "product_heuristics.h"

namespace effops::cuda {

// What a block of threads can have on every architecture that is compiled for.
constexpr int64_t kFusedSharedLimit = 96 * 1024;

// Multiply-adds that take as long as a byte on its way from or to memory: on tensor cores, and in float32.
constexpr double macs_of_a_byte(int64_t size) { return size == 2 ? 64.0 : 5.0; }
// In bytes from memory: one from the second-level cache, an activation, a value of a patch that is gathered, a launch.
constexpr double kCachedByte = 0.25, kActivationBytes = 2.0, kGatheredBytes = 1.0, kLaunchBytes = 3e6;

// What two kernels pay for a tensor between them, which the second-level cache may hold.
constexpr double bytes_between(double bytes) {
  constexpr double kCache = 32e6;
  return kLaunchBytes + 2.0 * bytes * (bytes < kCache ? kCachedByte : 1.0);
}

// The input under a tile of outputs, in shared memory: a pixel begins an odd number of 16 bytes after the one before,
// so that reads of neighbouring pixels meet in no bank.
struct InputTile {
  int rows = 0, columns = 0, pitch = 0;

  EFFOPS_HD int pixels() const { return rows * columns; }
  EFFOPS_HD int64_t bytes() const { return int64_t{rows} * columns * pitch; }
};

inline InputTile input_tile(const ConvShape& s, int64_t channels, int64_t size, int64_t rows, int64_t columns) {
  InputTile t;
  t.rows = static_cast<int>((rows - 1) * s.stride_h + (s.kh - 1) * s.dilation_h + 1);
  t.columns = static_cast<int>((columns - 1) * s.stride_w + (s.kw - 1) * s.dilation_w + 1);
  t.pitch = static_cast<int>(16 * (ceil_div(channels * size, 16) | 1));
  return t;
}

// How fused_mbconv is cut: a block computes rows() neighbouring output pixels, all channels of them.
struct FusedMbconvTiling {
  int tile_rows = 0, tile_columns = 0;
  int out_tiles = 0;  // of kProductColumns output channels; 0: it does not fit on chip
  InputTile input;
  int64_t tiles_y = 0, tiles_x = 0, tiles = 0;
  int64_t shared_bytes = 0;
  bool pays = false;  // against the two kernels that it replaces

  EFFOPS_HD int rows() const { return tile_rows * tile_columns; }
};

// Depth of one stage of a product in shared memory, in bytes of a row.
constexpr int64_t kStageRowBytes = 64;

// Bytes of shared memory: the input, where its chunks of depth lie, 16 zeros; two stages of the expansion's weight, the
// expanded columns and the projection's weight for them. The outputs take the place of all.
inline int64_t fused_mbconv_shared(const FusedMbconvTiling& t, const ConvShape& s, int64_t size) {
  const int64_t chunks = ceil_div(s.kh * s.kw * s.c * size, kStageRowBytes) * (kStageRowBytes / 16);
  const int64_t slabs = kProductColumns * size / kStageRowBytes;
  const int64_t stages = kStageRowBytes * (2 * kProductColumns + slabs * (t.rows() + t.out_tiles * kProductColumns));
  return std::max<int64_t>(t.input.bytes() + chunks * 4 + 16 + stages, int64_t{t.rows()} * (kProductColumns + 8) * 4);
}

// `s`: the dense convolution, whose s.oc channels are the expanded ones; `out` channels follow. Pixels of x must be
// whole 16 bytes, up to 128 output channels stay in registers, and the input under a tile must fit. It pays where the
// expanded tensor's way through memory takes longer than what tiles compute beside the image, the weights' way to
// every block, and the loss where there are few blocks.
inline FusedMbconvTiling fused_mbconv_tiling(const ConvShape& s, int64_t out, int64_t size) {
  constexpr int64_t kMostOut = 2 * kProductColumns;
  FusedMbconvTiling best;
  if (s.c * size % 16 != 0 || out > kMostOut) return best;
  const double macs = macs_of_a_byte(size), bytes = static_cast<double>(size);
  const auto d = [](int64_t i) { return static_cast<double>(i); };
  const int64_t depth = s.kh * s.kw * s.c;
  double least = 0.0;
  for (const int rows : {128, 64}) {
    if (rows == 128 && (size != 2 || out > kProductColumns)) continue;  // sums that registers hold
    for (int columns = 4; columns <= 32; columns *= 2) {
      FusedMbconvTiling t;
      t.tile_rows = rows / columns, t.tile_columns = columns;
      t.out_tiles = static_cast<int>(ceil_div(out, kProductColumns));
      t.input = input_tile(s, s.c, size, t.tile_rows, t.tile_columns);
      t.shared_bytes = fused_mbconv_shared(t, s, size);
      if (t.shared_bytes > kFusedSharedLimit) continue;
      t.tiles_y = ceil_div(s.oh, t.tile_rows), t.tiles_x = ceil_div(s.ow, t.tile_columns);
      t.tiles = s.n * t.tiles_y * t.tiles_x;
      const int64_t hidden = ceil_div(s.oc, kProductColumns) * kProductColumns;
      const double computed = d(rows * hidden) * d(depth + t.out_tiles * kProductColumns) / macs;
      const double moved = (d(t.input.pixels() * s.c) + d(rows * out) + d(s.oc * (depth + out)) * kCachedByte) * bytes;
      const double cost = (computed + moved) * d(std::max(kBlocksAtOnce, t.tiles));
      if (best.out_tiles == 0 || cost < least) best = t, least = cost;
    }
  }
  if (best.out_tiles == 0) return best;
  const int64_t pixels = s.n * s.oh * s.ow;
  double parts = d(s.n * s.h * s.w * s.c + pixels * out) * bytes + bytes_between(d(pixels * s.oc) * bytes);
  for (const bool first : {true, false}) {
    const int64_t columns = first ? s.oc : out, deep = first ? depth : s.oc;
    const ProductTiling p = product_tiling(1, pixels, columns, deep, kProductRows, false);
    const double tile = d(p.rows * p.columns * deep) / macs + d((p.rows + p.columns) * deep) * bytes * kCachedByte +
                        (first ? d(p.rows * deep) * kGatheredBytes : 0.0);
    parts += tile * d(std::max(kBlocksAtOnce, p.blocks()));
  }
  best.pays = least < parts;
  return best;
}

// How expansion and depthwise convolution are cut in one kernel: a block computes the outputs of a tile for `run`
// groups of kMbconvChannels channels, one after another.
constexpr int kMbconvChannels = 32;

struct MbconvTiling {
  DepthwiseTiling depthwise;
  InputTile input;
  int64_t run = 1;     // channel tiles of a block
  int64_t groups = 0;  // blocks that share a tile; 0: there is no such kernel, or it does not fit on chip
  int64_t shared_bytes = 0;
  bool pays = false;  // against the two kernels that it replaces

  EFFOPS_HD int64_t blocks() const { return depthwise.tiles * groups; }
};

// Floats of shared memory for what is expanded of a tile, and in turn for its outputs.
EFFOPS_HD inline int mbconv_floats(const MbconvTiling& t) {
  const int inputs = t.input.rows * t.input.columns, outputs = t.depthwise.rows() * t.depthwise.columns();
  return (inputs > outputs ? inputs : outputs) * kMbconvChannels;
}

// Bytes of shared memory: the depthwise weights and the above, the input, 16 zeros, and the expansion's weight.
inline int64_t mbconv_shared(const MbconvTiling& t, int64_t channels, int64_t size) {
  const int64_t taps = int64_t{t.depthwise.kernel} * t.depthwise.kernel;
  return 4 * (taps * kMbconvChannels + mbconv_floats(t)) + t.input.bytes() + 16 +
         ceil_div(channels * size, kStageRowBytes) * kStageRowBytes * kMbconvChannels;
}

// `s`: the depthwise convolution of s.c channels, which are expanded from `channels`. The depthwise kernel must have
// an instance for it, and what a tile needs must fit. It pays where the expanded tensor's way through memory takes
// longer than what tiles compute and read again where they overlap, and the loss where there are few blocks.
inline MbconvTiling mbconv_tiling(const ConvShape& s, int64_t channels, int64_t size) {
  constexpr int64_t kBusyBlocks = 4 * kBlocksAtOnce, kBusyThreads = 512, kBusyShared = 2 * kFusedSharedLimit;
  MbconvTiling best;
  if (!depthwise_is_tuned(s)) return best;
  const double macs = macs_of_a_byte(size), bytes = static_cast<double>(size);
  const auto d = [](int64_t i) { return static_cast<double>(i); };
  const double expand = d(channels) / macs + kActivationBytes;  // a pixel and channel
  double least = 0.0;
  for (int items = 4; items <= 16; items *= 2) {
    for (int columns = 1; columns <= items; columns *= 2) {
      MbconvTiling t;
      DepthwiseTiling& w = t.depthwise;
      w.kernel = static_cast<int>(s.kh), w.stride = static_cast<int>(s.stride_h);
      w.channels = kMbconvChannels, w.channel_tiles = ceil_div(s.c, kMbconvChannels);
      w.row_items = items / columns, w.column_items = columns;
      w.tiles_y = ceil_div(s.oh, w.rows()), w.tiles_x = ceil_div(s.ow, w.columns());
      w.tiles = s.n * w.tiles_of_image();
      t.input = input_tile(s, channels, size, w.rows(), w.columns());
      t.shared_bytes = mbconv_shared(t, channels, size);
      if (t.shared_bytes > kFusedSharedLimit) continue;
      w.shared_bytes = t.shared_bytes;
      t.run = std::min(w.channel_tiles, std::max<int64_t>(1, w.tiles * w.channel_tiles / kBusyBlocks));
      t.groups = ceil_div(w.channel_tiles, t.run);
      const double under = d(std::min<int64_t>(t.input.rows, s.h) * t.input.columns);  // rows beside it are zeros
      const double hidden = d(t.run * kMbconvChannels), again = kCachedByte * d(t.groups - 1) / d(t.groups);
      const double moved = under * d(channels) * (1.0 / d(t.groups) + again) +
                           hidden * (d(w.rows() * w.columns()) + kCachedByte * d(channels));
      const double taps = d(w.rows() * w.columns() * s.kh * s.kw) / 8.0;
      // More where few threads, of those that fit beside each other, hide what they wait for.
      const double waits =
          0.75 + 128.0 / d(std::min<int64_t>(kBusyThreads, kBusyShared / t.shared_bytes * w.threads()));
      const double cost =
          (moved * bytes + hidden * (under * expand + taps)) * waits * d(std::max(kBlocksAtOnce, t.blocks()));
      if (best.groups == 0 || cost < least) best = t, least = cost;
    }
  }
  if (best.groups == 0) return best;
  const int64_t in = s.n * s.h * s.w, outputs = s.n * s.oh * s.ow;
  const double parts = d(in * channels + outputs * s.c) * bytes + bytes_between(d(in * s.c) * bytes) +
                       d(in * s.c) * expand + d(outputs * s.c * s.kh * s.kw) / 8.0;
  best.pays = least < parts;
  return best;
}

}  // namespace effops::cuda
