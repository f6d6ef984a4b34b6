#include "cuda/heuristics.h"

#include "cuda/pass.h"
#include "cuda/se_gate.h"

#include "check.h"
#include "cuda/mbconv_heuristics.h"

using effops_test::check;

namespace {

using namespace effops;
using namespace effops::cuda;

ConvShape shape(int64_t n, int64_t c, int64_t size, int64_t kernel, int64_t stride, int64_t dilation = 1) {
  ConvShape s{};
  s.n = n, s.c = s.oc = c, s.h = s.w = size;
  s.oh = s.ow = (size + stride - 1) / stride;
  s.kh = s.kw = kernel;
  s.stride_h = s.stride_w = stride;
  s.dilation_h = s.dilation_w = dilation;
  return s;
}

// What every tiling must hold, whatever it is tuned for.
void check_tiling(const ConvShape& s, bool statistics) {
  const DepthwiseTiling t = depthwise_tiling(s, statistics);
  const std::string what = "tiling of c " + std::to_string(s.c) + ", " + std::to_string(s.oh) + ", k " +
                           std::to_string(s.kh) + ", s " + std::to_string(s.stride_h);
  check(t.threads() >= 1 && t.threads() <= 256, what + ": threads");
  check(t.shared_bytes <= kSharedLimit && t.shared_bytes == depthwise_shared(t), what + ": shared memory");
  check(t.channels % 8 == 0 && t.channels <= 64, what + ": channels");
  check(t.channels * t.channel_tiles >= s.c && t.channels * (t.channel_tiles - 1) < s.c, what + ": channel tiles");
  check(t.rows() * t.tiles_y >= s.oh && t.rows() * (t.tiles_y - 1) < s.oh, what + ": rows");
  check(t.columns() * t.tiles_x >= s.ow && t.columns() * (t.tiles_x - 1) < s.ow, what + ": columns");
  check(t.tiles == s.n * t.tiles_of_image() && t.run >= 1 && t.parts() * t.run >= t.tiles, what + ": parts");
  check(statistics ? t.blocks() <= std::max<int64_t>(2048, t.channel_tiles) : t.run == 1, what + ": blocks");
  check(t.blocks() <= kGridLimit, what + ": grid");
}

void check_pass(int64_t n, int64_t pixels, int64_t c, int lanes, bool few) {
  const PassTiling t = pass_tiling(n, pixels, c, lanes, few);
  const std::string what = "pass over " + std::to_string(n) + " x " + std::to_string(pixels) + " x " +
                           std::to_string(c) + " by " + std::to_string(lanes);
  if (n * pixels * c == 0) return check(t.blocks() == 0, what + ": nothing to do");
  check(t.threads() >= 1 && t.threads() <= kPassThreads && t.vectors <= 32, what + ": threads");
  check(t.slabs * t.vectors * lanes >= c && (t.slabs - 1) * t.vectors * lanes < c, what + ": channels");
  check(t.runs * t.run >= pixels && (t.runs - 1) * t.run < pixels, what + ": pixels");
  check(t.run % t.rows == 0 && t.parts == n * t.runs && t.blocks() == t.parts * t.slabs, what + ": parts");
  check(pixels < kPassSteps * t.rows || t.run >= kPassSteps * t.rows / 2, what + ": pixels of a thread");
  if (few) check(t.blocks() <= 4 * kBlocksAtOnce + t.slabs, what + ": few parts");
}

void check_product(int64_t images, int64_t rows, int64_t columns, int64_t depth) {
  for (const int most_rows : {kProductRows, kGradProductRows}) {
    for (const bool statistics : {false, true}) {
      const ProductTiling t = product_tiling(images, rows, columns, depth, most_rows, statistics);
      const std::string what = "product of " + std::to_string(images) + " x " + std::to_string(rows) + " by " +
                               std::to_string(columns) + ", " + std::to_string(depth) + " deep";
      check(t.rows <= most_rows && t.rows * t.columns >= 64 * 32, what + ": tile");
      check(t.rows * t.row_tiles >= rows && t.rows * (t.row_tiles - 1) < rows, what + ": rows");
      check(t.columns * t.column_tiles >= columns && t.columns * (t.column_tiles - 1) < columns, what + ": columns");
      check(t.tiles() == images * t.row_tiles && t.run >= 1 && t.parts() * t.run >= t.tiles(), what + ": parts");
      check(statistics ? t.blocks() <= std::max<int64_t>(2048, t.column_tiles) : t.run == 1, what + ": blocks");
    }
  }
  const WeightGradTiling t = weight_grad_tiling(images * rows, columns, depth);
  const std::string what = "weight of " + std::to_string(columns) + " x " + std::to_string(depth);
  check(t.parts * t.part_rows >= images * rows && (t.parts == 0 || (t.parts - 1) * t.part_rows < images * rows),
        what + ": parts");
  check(t.parts <= 1024 && (t.parts <= 1 || t.parts * columns * depth <= int64_t{8} << 20), what + ": memory");
}

void check_backward_tiling(const ConvShape& s, int64_t size) {
  const DepthwiseBackwardTiling t = depthwise_backward_tiling(s, size);
  const std::string what = "backward tiling of c " + std::to_string(s.c) + ", " + std::to_string(s.h) + ", k " +
                           std::to_string(s.kh) + ", s " + std::to_string(s.stride_h);
  check(t.threads() >= 1 && t.threads() <= backward_threads(t.kernel), what + ": threads");
  check(t.shared_bytes <= kSharedLimit && t.shared_bytes == depthwise_backward_shared(t, size), what + ": shared");
  check(t.channels % 8 == 0 && t.channels <= 64, what + ": channels");
  check(t.channels * t.channel_tiles >= s.c && t.channels * (t.channel_tiles - 1) < s.c, what + ": channel tiles");
  const int64_t before = t.kernel ? s.pad_top % t.stride : 0;
  check(t.rows() * t.tiles_y >= s.h + before && t.rows() * (t.tiles_y - 1) < s.h + before, what + ": rows");
  check(t.columns() * t.tiles_x >= s.w + before && t.columns() * (t.tiles_x - 1) < s.w + before, what + ": columns");
  check(!t.kernel || (t.rows() % t.stride == 0 && t.columns() % t.stride == 0), what + ": phases");
  check(t.tiles == s.n * t.tiles_of_image() && t.run >= 1 && t.parts() * t.run >= t.tiles, what + ": parts");
  check(t.blocks() <= std::max<int64_t>(4 * kBlocksAtOnce, t.channel_tiles), what + ": blocks");
}

// Whether the input holds what the last output of a tile reads, and whether neighbouring pixels meet in no bank.
void check_input(const InputTile& t, const ConvShape& s, int rows, int columns, int64_t row_bytes,
                 const std::string& what) {
  check((rows - 1) * s.stride_h + (s.kh - 1) * s.dilation_h < t.rows, what + ": input rows");
  check((columns - 1) * s.stride_w + (s.kw - 1) * s.dilation_w < t.columns, what + ": input columns");
  check(t.pitch >= row_bytes && t.pitch % 32 == 16, what + ": pitch");
}

void check_fused(const ConvShape& s, int64_t out, int64_t size) {
  const FusedMbconvTiling t = fused_mbconv_tiling(s, out, size);
  const std::string what = "fused block of c " + std::to_string(s.c) + ", " + std::to_string(s.oc) + ", " +
                           std::to_string(out) + ", at " + std::to_string(s.h) + ", k " + std::to_string(s.kh) +
                           ", size " + std::to_string(size);
  if (t.out_tiles == 0) return check(!t.pays, what + ": what does not fit does not pay");
  check(s.c * size % 16 == 0 && t.out_tiles * kProductColumns >= out && t.out_tiles <= 2, what + ": channels");
  check(t.rows() == 64 || (t.rows() == 128 && size == 2 && t.out_tiles == 1), what + ": an instance");
  check(t.shared_bytes <= kFusedSharedLimit && t.shared_bytes == fused_mbconv_shared(t, s, size), what + ": shared");
  check_input(t.input, s, t.tile_rows, t.tile_columns, s.c * size, what);
  check(t.tile_rows * t.tiles_y >= s.oh && t.tile_rows * (t.tiles_y - 1) < s.oh, what + ": rows");
  check(t.tile_columns * t.tiles_x >= s.ow && t.tile_columns * (t.tiles_x - 1) < s.ow, what + ": columns");
  check(t.tiles == s.n * t.tiles_y * t.tiles_x, what + ": tiles");
}

void check_mbconv(const ConvShape& s, int64_t channels, int64_t size) {
  const MbconvTiling t = mbconv_tiling(s, channels, size);
  const DepthwiseTiling& w = t.depthwise;
  const std::string what = "block of c " + std::to_string(channels) + ", " + std::to_string(s.c) + ", at " +
                           std::to_string(s.h) + ", k " + std::to_string(s.kh) + ", s " + std::to_string(s.stride_h) +
                           ", size " + std::to_string(size);
  if (t.groups == 0) return check(!t.pays, what + ": what does not fit does not pay");
  check(depthwise_is_tuned(s) && w.kernel == s.kh && w.stride == s.stride_h, what + ": an instance");
  check(w.threads() >= 64 && w.threads() <= 256 && w.threads() % 32 == 0, what + ": whole warps");
  check(t.shared_bytes <= kFusedSharedLimit && t.shared_bytes == mbconv_shared(t, channels, size), what + ": shared");
  // Sums of 16 bytes of channels a thread take the place of the expanded tile.
  check(mbconv_floats(t) >= w.threads() * 16 / size, what + ": sums");
  check_input(t.input, s, w.rows(), w.columns(), channels * size, what);
  check(w.rows() * w.tiles_y >= s.oh && w.rows() * (w.tiles_y - 1) < s.oh, what + ": rows");
  check(w.columns() * w.tiles_x >= s.ow && w.columns() * (w.tiles_x - 1) < s.ow, what + ": columns");
  check(t.run * t.groups * kMbconvChannels >= s.c && t.run * (t.groups - 1) * kMbconvChannels < s.c, what + ": groups");
  check(t.blocks() == s.n * w.tiles_y * w.tiles_x * t.groups, what + ": blocks");
}

ConvShape dense(int64_t n, int64_t c, int64_t hidden, int64_t size, int64_t kernel, int64_t stride) {
  ConvShape s = shape(n, c, size, kernel, stride);
  s.oc = hidden;
  return s;
}

void check_blocks() {
  for (const int64_t size : {2, 4}) {
    for (const int64_t n : {0, 1, 128}) {
      for (const int64_t c : {1, 16, 24, 48, 64, 112, 1000}) {
        for (const int64_t pixels : {1, 7, 15, 56, 300}) {
          for (const int64_t kernel : {1, 3, 5, 7, 31}) {
            for (const int64_t stride : {1, 2, 3}) {
              for (const int64_t out : {1, 48, 96, 200})
                check_fused(dense(n, c, 4 * c, pixels, kernel, stride), out, size);
              check_mbconv(shape(n, 6 * c, pixels, kernel, stride), c, size);
              check_mbconv(shape(n, 6 * c, pixels, kernel, stride, 2), c, size);
            }
          }
        }
      }
    }
  }
  const auto fused = [](const ConvShape& s, int64_t out, int64_t size) { return fused_mbconv_tiling(s, out, size); };
  check(fused(dense(128, 48, 192, 96, 3, 1), 48, 2).pays, "the large images of EfficientNetV2 run fused");
  check(fused(dense(128, 32, 256, 112, 3, 1), 32, 2).rows() == 128, "many pixels take large tiles");
  check(!fused(dense(1, 64, 256, 7, 3, 1), 96, 2).pays, "a small image of many channels is cut by channels, too");
  check(fused(dense(1, 13, 29, 9, 3, 1), 13, 2).out_tiles == 0, "pixels of odd channels run as two kernels");
  check(fused(dense(128, 64, 256, 48, 3, 1), 144, 2).out_tiles == 0, "wide outputs run as two kernels");
  check(fused(dense(128, 64, 256, 48, 3, 8), 64, 4).out_tiles == 0, "what does not fit on chip runs as two kernels");
  check(mbconv_tiling(shape(128, 96, 112, 3, 2), 16, 2).pays, "the first block of EfficientNet runs fused");
  check(!mbconv_tiling(shape(128, 1152, 7, 5, 1), 192, 2).pays, "too much of a small image is computed again");
  check(mbconv_tiling(shape(128, 672, 14, 5, 2), 112, 4).groups == 0, "wide inputs in float32 do not fit");
  check(mbconv_tiling(shape(8, 96, 28, 4, 1), 16, 2).groups == 0, "4x4 runs as its parts");
  check(mbconv_tiling(shape(8, 96, 28, 3, 1, 2), 16, 2).groups == 0, "dilation runs as its parts");
  // tests/cuda/test_mbconv.py relies on these.
  check(fused(dense(133, 8, 40, 13, 2, 1), 24, 2).rows() == 128, "tiles of 128 pixels");
  check(fused(dense(1, 16, 72, 13, 3, 1), 72, 2).out_tiles == 2, "two tiles of outputs");
  check(fused(dense(1, 16, 72, 13, 3, 1), 72, 4).out_tiles == 2, "two tiles of outputs in float32");
  check(fused(dense(133, 8, 40, 13, 2, 1), 24, 2).pays, "a batch that pays fused");
  check(mbconv_tiling(shape(2, 70, 33, 3, 1), 20, 2).depthwise.tiles_of_image() > 1, "several tiles of an image");
  check(mbconv_tiling(shape(1056, 64, 1, 3, 1), 8, 2).run > 1, "blocks of several channel tiles");
}

}  // namespace

int main() {
  check_blocks();
  for (const int64_t images : {0, 1, 256}) {
    for (const int64_t rows : {1, 49, 196, 3136, 12544}) {
      for (const int64_t columns : {1, 16, 24, 40, 112, 320, 1280, 16400}) {
        for (const int64_t depth : {1, 27, 144, 1152}) check_product(images, rows, columns, depth);
      }
    }
  }
  check(product_tiling(1, 802816, 24, 144, kProductRows, false).columns == 32, "few columns take narrow tiles");
  check(product_tiling(1, 802816, 144, 24, kProductRows, false).rows == 128, "many rows and columns take large tiles");
  check(product_tiling(1, 49, 1280, 320, kProductRows, false).rows == 64, "few rows take low tiles");
  check(weight_grad_tiling(802816, 24, 144).parts >= 784, "chains of sums end before they round much");
  for (const int64_t n : {0, 1, 64, 1024}) {
    for (const int64_t c : {1, 3, 16, 24, 144, 257, 1152, 3840}) {
      for (const int64_t pixels : {0, 1, 49, 225, 12544, 360000}) {
        for (const int lanes : {4, 8}) {
          check_pass(n, pixels, c, lanes, false);
          check_pass(1, n * pixels, c, lanes, true);
        }
      }
    }
  }
  check(pass_tiling(64, 49, 1152, 8, false).runs == 1,
        "an image of the last stage is one run: its mean needs one launch");
  for (const int64_t c : {1, 32, 1152, 3840}) {
    for (const int64_t r : {1, 8, 48, 160, 5000}) {
      const int threads = gate_threads(c, r);
      check(threads % 32 == 0 && threads >= 32 && threads <= kGateThreads, "threads of a gate");
    }
  }
  for (const int64_t n : {0, 1, 64, 1024}) {
    for (const int64_t c : {1, 3, 16, 24, 32, 96, 144, 1152, 3840}) {
      for (const int64_t size : {1, 7, 14, 15, 28, 112, 600}) {
        for (const int64_t kernel : {1, 3, 5, 7, 31}) {
          for (const int64_t stride : {1, 2, 3}) {
            check_tiling(shape(n, c, size, kernel, stride), false);
            check_tiling(shape(n, c, size, kernel, stride), true);
            for (const int64_t pad : {0, 1, 3}) {
              ConvShape s = shape(n, c, size, kernel, stride);
              s.pad_top = s.pad_left = pad;
              check_backward_tiling(s, pad == 1 ? 4 : 2);
            }
          }
        }
      }
    }
  }
  check(depthwise_tiling(shape(1, 32, 56, 3, 1), false).kernel == 3, "3x3 is tuned");
  check(depthwise_tiling(shape(1, 32, 56, 5, 2), false).stride == 2, "5x5 by 2 is tuned");
  check(depthwise_tiling(shape(1, 32, 56, 3, 1, 2), false).kernel == 0, "dilation is general");
  check(depthwise_tiling(shape(1, 32, 56, 4, 1), false).kernel == 0, "4x4 is general");
  // An image of the last stage is one tile: its mean needs no second launch.
  check(depthwise_tiling(shape(64, 1152, 7, 5, 1), false).tiles_of_image() == 1, "7x7 is one tile");
  // tests/cuda/test_depthwise.py relies on these to have blocks of several items, and of several tiles.
  for (const int64_t kernel : {3, 4, 5}) {
    for (const int64_t stride : {1, 2}) {
      const ConvShape s = shape(72, 40, 15, kernel, stride);
      const DepthwiseTiling t = depthwise_tiling(s, false), of_statistics = depthwise_tiling(s, true);
      check(std::min(t.items(), of_statistics.items()) > 1 && t.threads() > 32, "blocks of several items");
    }
  }
  check(depthwise_backward_tiling(shape(8, 96, 28, 3, 2, 2), 2).kernel == 0, "dilation is general backward");
  check(depthwise_backward_tiling(shape(8, 96, 28, 5, 2), 2).stride == 2, "5x5 by 2 is tuned backward");
  // tests/cuda/test_depthwise_backward.py relies on these to have blocks of several items, and of several tiles.
  check(depthwise_backward_tiling(shape(40, 48, 15, 3, 1), 2).items() > 1, "blocks of several items backward");
  for (const int64_t kernel : {3, 4, 5, 7}) {
    for (const int64_t stride : {1, 2}) {
      check(depthwise_backward_tiling(shape(230, 320, 3, kernel, stride), 2).run > 1, "several tiles backward");
    }
  }
  check(depthwise_tiling(shape(256, 640, 7, 3, 1), true).run > 1, "blocks of several tiles");
  check(loop_blocks(0) == 0 && loop_blocks(1) == 1 && loop_blocks(257) == 2, "blocks of a loop");
  check(loop_blocks(int64_t{1} << 50) == kGridLimit, "blocks of an endless loop");
  return effops_test::failures != 0;
}
