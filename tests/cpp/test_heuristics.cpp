#include "cuda/heuristics.h"

#include "cuda/pass.h"
#include "cuda/se_gate.h"

#include "check.h"
#include "cuda/product_heuristics.h"

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

}  // namespace

int main() {
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
