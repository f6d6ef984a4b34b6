#include "run_pointwise_training.h"

#include <algorithm>

#include "kernels.h"
#include "packing.h"
#include "parallel.h"
#include "reduce.h"
#include "scratch.h"

namespace effops {
namespace {

// Parts are many enough for the threads of a large machine, and high enough for full tiles: every height of a tile
// divides kTileRows.
constexpr int64_t kParts = 64, kTileRows = 48;
// The sums of a weight's gradient, one a part: what they take in all, and the rows of a part that pay for their
// traffic.
constexpr int64_t kWeightSumBytes = 16 << 20, kWeightRows = 196;

GemmParams product(int64_t m, int64_t n, int64_t k, DType dtype, void* y) {
  GemmParams p{};
  p.m = m, p.n = n, p.k = k, p.dtype = dtype, p.act = Act::kIdentity, p.y = y;
  return p;
}

}  // namespace

void run_pointwise_stats(const PointwiseShape& shape, const View& view, const WeightView& weight, void* u,
                         float* statistics, const Threads& threads) {
  const int64_t rows = shape.images * shape.pixels, n = shape.out;
  if (rows == 0) {
    std::fill(statistics, statistics + 2 * n, 0.0f);
    return;
  }
  const int64_t part_rows = (std::max(2 * kTileRows, rows / kParts) + kTileRows - 1) / kTileRows * kTileRows;
  const int64_t parts = (rows + part_rows - 1) / part_rows;
  PointwiseStatsParams p{product(rows, n, shape.c, shape.dtype, u), view, part_rows,
                         scratch<double>(Slot::kSums, parts * 2 * n)};
  p.product.rows_per_image = shape.pixels;
  const Kernels& k = product_training_kernels();
  pack(p.product, weight, nullptr, threads, Slot::kPanels, k);
  parallel(threads, parts, part_rows * n * shape.c,
           [&](int64_t begin, int64_t end) { k.pointwise_stats(p, begin, end); });
  const auto count = [&](int64_t part) { return std::min(part_rows, rows - part * part_rows); };
  const auto moments = [&](int64_t part, int64_t c) {
    const double* at = p.statistics + part * 2 * n + c;
    return Moments{at[0], at[n]};
  };
  join_statistics(parts, n, count, moments, statistics, threads);
}

void run_pointwise_backward(const PointwiseShape& shape, const GradView& grad, const View& view,
                            const WeightView& weight, void* dx, float* dweight, float* grad_sums,
                            const Threads& threads) {
  const int64_t images = shape.images, rows = images * shape.pixels, c = shape.c, size = shape.out * c;
  if (rows == 0) {
    if (dweight) std::fill(dweight, dweight + size, 0.0f);
    if (grad_sums) std::fill(grad_sums, grad_sums + kGradSums * images * c, 0.0f);
    return;
  }
  int64_t rows_of_part = std::max(2 * kTileRows, rows / kParts);
  if (dweight) {
    const int64_t most = std::max<int64_t>(1, kWeightSumBytes / (size * static_cast<int64_t>(sizeof(float))));
    rows_of_part = std::max({rows_of_part, kWeightRows, (rows + most - 1) / most});
  }
  PointwiseBackwardParams p{product(rows, c, shape.out, shape.dtype, dx), grad,    view,
                            RowParts(images, shape.pixels, rows_of_part), nullptr, nullptr};
  const RowParts& parts = p.parts;
  const Kernels& k = product_training_kernels();
  if (dx) {
    const WeightView transposed{weight.data, weight.dtype, c, 1, 1, shape.out, weight.stride_c, 0, 0, weight.stride_n};
    pack(p.product, transposed, nullptr, threads, Slot::kPanels, k);
  }
  if (grad_sums) p.grad_sums = scratch<float>(Slot::kSums, images * parts.per_image * kGradSums * c);
  if (dweight) p.weight_sums = scratch<float>(Slot::kWeightSums, parts.count * size);
  parallel(threads, parts.count, rows / parts.count * size,
           [&](int64_t begin, int64_t end) { k.pointwise_backward(p, begin, end); });
  if (dweight) {
    parallel(threads, size, parts.count, [&](int64_t begin, int64_t end) {
      sum_parts(p.weight_sums, parts.count, size, begin, end,
                [&](int64_t i, double sum) { dweight[i] = static_cast<float>(sum); });
    });
  }
  if (grad_sums) join_grad_sums(p.grad_sums, images, parts.per_image, c, grad_sums, threads);
}

}  // namespace effops
