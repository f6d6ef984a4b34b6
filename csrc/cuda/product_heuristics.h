// Matrix products to launch configurations: by the shape alone, as heuristics.h.
#pragma once

#include "heuristics.h"

namespace effops::cuda {

constexpr int kProductThreads = 128;
// The larger of the two tiles that a product can be made of; where each row is read from two tensors, a lower one, as
// what is on its way takes the registers of sums.
constexpr int kProductRows = 128, kGradProductRows = 64, kProductColumns = 64;
constexpr int kSmallRows = 64, kSmallColumns = 32;

// How a product of `rows` x `depth` and `depth` x `columns` is cut: a block computes tiles of one column of tiles,
// `run` of them one after another. With `images`, no tile reaches into a second image.
struct ProductTiling {
  int rows = 0, columns = 0;
  int64_t images = 1, image_rows = 0;
  int64_t row_tiles = 0, column_tiles = 0;  // row tiles of an image
  int64_t run = 1;

  EFFOPS_HD int64_t tiles() const { return images * row_tiles; }
  // Blocks that share a column, each with one partial result of the statistics.
  EFFOPS_HD int64_t parts() const { return ceil_div(tiles(), run); }
  EFFOPS_HD int64_t blocks() const { return parts() * column_tiles; }
};

// `statistics`: blocks go on over several tiles, so that few parts are left to join.
inline ProductTiling product_tiling(int64_t images, int64_t image_rows, int64_t columns, int64_t depth, int most_rows,
                                    bool statistics) {
  constexpr int64_t kParts = 2048;
  ProductTiling best;
  double least = 0.0;
  for (const bool large : {true, false}) {
    ProductTiling t;
    t.rows = large ? most_rows : kSmallRows;
    t.columns = large ? kProductColumns : kSmallColumns;
    t.images = images, t.image_rows = image_rows;
    t.row_tiles = ceil_div(image_rows, t.rows);
    t.column_tiles = ceil_div(columns, t.columns);
    if (statistics) {
      t.run = std::max<int64_t>(
          1, ceil_div(t.tiles(), std::max<int64_t>(1, kParts / std::max<int64_t>(1, t.column_tiles))));
    }
    // Values that a tile reads and writes; small launches take as long as one tile of them.
    const double tile =
        static_cast<double>(t.rows + t.columns) * static_cast<double>(depth) + static_cast<double>(t.rows * t.columns);
    const double cost = tile * static_cast<double>(std::max(kBlocksAtOnce, t.tiles() * t.column_tiles));
    if (large || cost < least) best = t, least = cost;
  }
  return best;
}

// How the gradient of a weight is cut: tiles of 64 x 64 of it, and the pixels into parts of `part_rows`.
struct WeightGradTiling {
  static constexpr int kTile = 64;

  int64_t row_tiles = 0, column_tiles = 0, part_rows = 0, parts = 0;

  EFFOPS_HD int64_t blocks() const { return row_tiles * column_tiles * parts; }
};

inline WeightGradTiling weight_grad_tiling(int64_t rows, int64_t out, int64_t c) {
  // Chains of sums end before they round much; parts take little memory, and each is read in far more time than its
  // sums take to be written.
  constexpr int64_t kRows = 1024, kParts = 1024, kFloats = int64_t{8} << 20;
  WeightGradTiling t;
  t.row_tiles = ceil_div(out, t.kTile);
  t.column_tiles = ceil_div(c, t.kTile);
  const int64_t tiles = t.row_tiles * t.column_tiles;
  const int64_t fitting = std::max<int64_t>(1, std::min(kParts, kFloats / std::max<int64_t>(1, out * c)));
  const int64_t busy = std::min(ceil_div(rows, 128), ceil_div(kBlocksAtOnce, std::max<int64_t>(1, tiles)));
  const int64_t parts = std::max<int64_t>(1, std::min(fitting, std::max(busy, ceil_div(rows, kRows))));
  t.part_rows = std::max<int64_t>(1, ceil_div(rows, parts));
  t.parts = ceil_div(rows, t.part_rows);
  return t;
}

}  // namespace effops::cuda
