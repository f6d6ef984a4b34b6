// The sums of a tile of a product, in the registers of the threads that compute them: operands come from shared memory.
#pragma once

#include "product_operands.cuh"

namespace effops::cuda {

// Where the rows of a stage lie. place() is that of a chunk of depth, byte() where a thread's i-th row has it.
struct StageRows {
  int stage, row;  // the thread's first row; the others are 16 apart

  __device__ int place(int chunk) const { return stage + swizzled(row, chunk); }
  __device__ int byte(int i, int place) const { return place + i * 16 * kRowBytes; }
};

// Sums of a warp's 16-row by 8-column fragments, over all columns of the tile.
template <class Tile, bool OnTensorCores = sizeof(typename Tile::T) == 2>
struct ProductSumsOf {
  using T = typename Tile::T;
  static constexpr int kRowFragments = Tile::kRows / 64, kColumnFragments = Tile::kColumns / 8;
  static constexpr int kSlots = 2 * kRowFragments,
                       kNeighbours = 2;  // a thread's rows; columns that it has side by side
  SumFragment sums[kRowFragments][kColumnFragments] = {};

  __device__ static int first_row() { return threadIdx.x / 32 * (Tile::kRows / 4); }
  // The first row that this thread names to load_matrices.
  __device__ static int own_row() { return first_row() + threadIdx.x % 16; }
  __device__ static int slot_row(int slot) { return first_row() + slot * 8 + threadIdx.x % 32 / 4; }
  __device__ static int column(int j) { return j * 8 + threadIdx.x % 4 * 2; }

  // Adds the first `chunks` chunks of depth; `columns`: where the others' rows lie, as in a stage.
  template <class Shared, class Rows>
  __device__ __forceinline__ void add(Shared& shared, const Rows& from, int columns, int chunks = kDepthChunks) {
    const int lane = threadIdx.x % 32, column = lane / 16 * 8 + lane % 8;
#pragma unroll
    for (int k = 0; k < Tile::kDepth / 16; ++k) {
      if (2 * k >= chunks) break;
      const int place = from.place(2 * k + lane / 16);
      const int column_byte = columns + swizzled(column, 2 * k + lane / 8 % 2);
      RowFragment rows[Tile::kParts][kRowFragments];
#pragma unroll
      for (int part = 0; part < Tile::kParts; ++part) {
#pragma unroll
        for (int i = 0; i < kRowFragments; ++i) {
          load_matrices(rows[part][i], shared, from.byte(i, place) + part * Tile::kPartBytes);
        }
      }
#pragma unroll
      for (int j = 0; j < kColumnFragments; j += 2) {
        unsigned pair[4];
        load_matrices(pair, shared, column_byte + j * 8 * kRowBytes);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const ColumnFragment own = {pair[2 * half], pair[2 * half + 1]};
#pragma unroll
          for (int part = Tile::kParts - 1; part >= 0; --part) {  // the smaller values first
#pragma unroll
            for (int i = 0; i < kRowFragments; ++i) multiply_add<T>(sums[i][j + half], rows[part][i], own);
          }
        }
      }
    }
  }
  // Calls f(slot, values) for each of this thread's rows: values[j] are those of column(j) and its neighbours.
  template <class F>
  __device__ __forceinline__ void for_rows(F f) const {
#pragma unroll
    for (int slot = 0; slot < kSlots; ++slot) {
      float values[kColumnFragments][kNeighbours];
#pragma unroll
      for (int j = 0; j < kColumnFragments; ++j) {
        values[j][0] = sums[slot / 2][j][slot % 2 * 2], values[j][1] = sums[slot / 2][j][slot % 2 * 2 + 1];
      }
      f(slot, values);
    }
  }
  template <class Shared>
  __device__ __forceinline__ void keep(Shared& shared) const {
    for_rows([&](int slot, const float (&values)[kColumnFragments][kNeighbours]) {
#pragma unroll
      for (int j = 0; j < kColumnFragments; ++j) {
        vector_at<float2>(shared, (slot_row(slot) * Tile::kOutPitch + column(j)) * 4) =
            make_float2(values[j][0], values[j][1]);
      }
    });
  }
};

// In float32 a thread has rows 16 apart and columns 8 apart. Products of kChain values of depth are summed before they
// are added: chains as long as the depth round too much.
template <class Tile>
struct ProductSumsOf<Tile, false> {
  static constexpr int kRowStep = 16, kColumnStep = 8, kChain = 2;  // chunks of four values
  static constexpr int kSlots = Tile::kRows / kRowStep, kColumnFragments = Tile::kColumns / kColumnStep;
  static constexpr int kNeighbours = 1;
  float sums[kSlots][kColumnFragments] = {};

  __device__ static int own_row() { return threadIdx.x / kColumnStep; }
  __device__ static int slot_row(int slot) { return own_row() + slot * kRowStep; }
  __device__ static int column(int j) { return threadIdx.x % kColumnStep + j * kColumnStep; }

  template <class Shared, class Rows>
  __device__ __forceinline__ void add(Shared& shared, const Rows& from, int columns_at, int chunks = kDepthChunks) {
#pragma unroll
    for (int k = 0; k < kDepthChunks; k += kChain) {
      if (k >= chunks) break;
      float4 columns[kColumnFragments][kChain];
      int places[kChain];
#pragma unroll
      for (int l = 0; l < kChain; ++l) places[l] = from.place(k + l);
#pragma unroll
      for (int j = 0; j < kColumnFragments; ++j) {
#pragma unroll
        for (int l = 0; l < kChain; ++l) {
          columns[j][l] =
              vector_at<float4>(shared, columns_at + swizzled(column(0), k + l) + j * kColumnStep * kRowBytes);
        }
      }
#pragma unroll
      for (int i = 0; i < kSlots; ++i) {
        float4 row[kChain];
#pragma unroll
        for (int l = 0; l < kChain; ++l) row[l] = vector_at<float4>(shared, from.byte(i, places[l]));
#pragma unroll
        for (int j = 0; j < kColumnFragments; ++j) {
          float sum = 0.0f;
#pragma unroll
          for (int l = 0; l < kChain; ++l) {
            sum = fmaf(row[l].x, columns[j][l].x, sum);
            sum = fmaf(row[l].y, columns[j][l].y, sum);
            sum = fmaf(row[l].z, columns[j][l].z, sum);
            sum = fmaf(row[l].w, columns[j][l].w, sum);
          }
          sums[i][j] += sum;
        }
      }
    }
  }
  template <class F>
  __device__ __forceinline__ void for_rows(F f) const {
#pragma unroll
    for (int slot = 0; slot < kSlots; ++slot) {
      float values[kColumnFragments][kNeighbours];
#pragma unroll
      for (int j = 0; j < kColumnFragments; ++j) values[j][0] = sums[slot][j];
      f(slot, values);
    }
  }
  template <class Shared>
  __device__ __forceinline__ void keep(Shared& shared) const {
    for_rows([&](int slot, const float (&values)[kColumnFragments][kNeighbours]) {
#pragma unroll
      for (int j = 0; j < kColumnFragments; ++j) {
        vector_at<float>(shared, (slot_row(slot) * Tile::kOutPitch + column(j)) * 4) = values[j][0];
      }
    });
  }
};

}  // namespace effops::cuda
