// Products of rows and a weight: 1x1 convolutions and, through patches, dense ones.
//
// Moves: the rows and what their view reads once from memory (again from the second-level cache for every further tile
// of columns, whose blocks are neighbours), the weight from the caches, y once to memory. Arithmetic: 2 m n k
// operations, twice that for a 16-bit view in two parts, in 16-bit types on tensor cores with float32 sums, in float32
// by fused multiply-adds; and those of the view and of the epilogue.
//
// Shared memory holds two stages of 64 bytes of depth: while one is computed on, the next is on its way, by cp.async
// where no view has to pass over the values, else through registers. The sums of a tile then go to shared memory, from
// where the epilogue works on 16 bytes of columns a thread.
#pragma once

#include <stdexcept>

#include "launch.h"
#include "product_epilogues.cuh"
#include "product_sums.cuh"

namespace effops::cuda {

template <class Element, int Rows, int Columns, template <class> class RowOperand, template <class> class End,
          int Parts>
struct ProductTraits {
  using T = Element;
  using Tile = ProductTile<Element, Rows, Columns, Parts>;
  using Operand = RowOperand<Tile>;
  using Epilogue = End<Tile>;
  static constexpr int kSharedBytes =
      std::max({2 * Tile::kStageBytes, Rows * Tile::kOutPitch * 4, Epilogue::kSharedBytes});
  // Registers for up to 64 sums a thread, the rows on their way and the parameters of their view.
  static constexpr bool k16Bit = sizeof(T) == 2;
  static constexpr int kBlocks = Operand::kOnTheWay == 2 ? (k16Bit ? 2 : 3)
                                 : Rows == kProductRows  ? (k16Bit && Operand::kOnTheWay == 0 ? 3 : 2)
                                                         : (Operand::kOnTheWay == 0 ? 4 : 3);
};

// The tile's sums, in shared memory.
template <class Traits, class Shared>
__device__ __forceinline__ void multiply_tile(const ProductArgs& p, const ProductPlace& at, Shared& shared) {
  using Tile = typename Traits::Tile;
  ProductSumsOf<Tile> sums;
  typename Traits::Operand rows(p, at);
  const WeightRows<Tile> columns(p, at.n0);
  const auto issue = [&](int64_t k0, int stage) {
    columns.issue(p, k0, shared, stage);
    rows.issue(p, k0, shared, stage);
  };
  issue(0, 0);
  rows.finish(p, 0, shared, 0);
  int stage = 0;
  for (int64_t k0 = 0; k0 < p.k; k0 += Tile::kDepth) {
    const int64_t next = k0 + Tile::kDepth;
    const int other = Tile::kStageBytes - stage;
    wait_for_copies();
    __syncthreads();  // this stage is there, and all have done with the other
    if (next < p.k) issue(next, other);
    sums.add(shared, StageRows{stage, ProductSumsOf<Tile>::own_row()}, stage + Tile::kColumnsAt);
    if (next < p.k) rows.finish(p, next, shared, other);
    stage = other;
  }
  __syncthreads();  // before the sums take the stages' place
  sums.keep(shared);
  __syncthreads();
}

// A block's first column, and the part of the tiles that it has: computed where they are asked for, as registers that
// kept them for the whole kernel are those of sums.
template <class Traits>
__device__ __forceinline__ int64_t first_column(const ProductTiling& t) {
  return int64_t{unknown(blockIdx.x) % static_cast<int>(t.column_tiles)} * Traits::Tile::kColumns;
}
__device__ __forceinline__ int64_t part_of(const ProductTiling& t) {
  return unknown(blockIdx.x) / static_cast<int>(t.column_tiles);
}

template <class Traits>
__global__ void __launch_bounds__(kProductThreads, Traits::kBlocks) product_kernel(const ProductArgs p) {
  EFFOPS_SHARED_DYNAMIC(unsigned char, shared);
  const ProductTiling& t = p.tiling;
  typename Traits::Epilogue epilogue(p, first_column<Traits>(t));
  for (int k = 0; k < t.run; ++k) {
    const int64_t tile = part_of(t) * t.run + k;
    if (tile >= t.tiles()) break;
    ProductPlace at{};
    at.n0 = first_column<Traits>(t);
    at.image = tile / t.row_tiles;
    const int64_t in_image = tile % t.row_tiles * Traits::Tile::kRows;
    at.m0 = at.image * t.image_rows + in_image;
    at.rows = static_cast<int>(min(t.image_rows - in_image, int64_t{Traits::Tile::kRows}));
    multiply_tile<Traits>(p, at, shared);
    epilogue.tile(p, at, tile, shared);
    __syncthreads();  // before the next tile or the last sums
  }
  epilogue.end(p, part_of(t), first_column<Traits>(t), shared);
}

// Of product.cu: brings the weight into the form that kernels read, and finds the partial sums' place.
void start_product(ProductArgs& p, float* workspace, Stream stream);

// Whether rows come into shared memory as they lie.
inline bool is_copied(const ProductArgs& p) {
  return p.vectors && !p.view.affine && !p.view.gate && p.view.act == Act::kIdentity;
}

// Of product_patches.cu.
void launch_patches(const ProductArgs& p, Stream stream);

template <template <class> class RowOperand>
constexpr int kMostRows = kProductRows;
template <>
inline constexpr int kMostRows<GradRows> = kGradProductRows;

// `Parts`: of a 16-bit row's values in shared memory.
template <template <class> class RowOperand, template <class> class Epilogue, int Parts>
void launch_product(const ProductArgs& p, Stream stream) {
  const ProductTiling& t = p.tiling;
  if (t.blocks() == 0) return;
  if (t.blocks() > kGridLimit) throw std::runtime_error("effops: a product of this size needs too many blocks");
  const auto run = [&](auto traits) {
    using Traits = decltype(traits);
    launch(product_kernel<Traits>, dim3(static_cast<unsigned>(t.blocks())), dim3(kProductThreads), Traits::kSharedBytes,
           stream, p);
  };
  with_dtype(p.weight.dtype, [&](auto element) {
    using T = decltype(element);
    if (t.columns == kProductColumns) {
      run(ProductTraits<T, kMostRows<RowOperand>, kProductColumns, RowOperand, Epilogue, Parts>{});
    } else {
      run(ProductTraits<T, kSmallRows, kSmallColumns, RowOperand, Epilogue, Parts>{});
    }
  });
}

}  // namespace effops::cuda
