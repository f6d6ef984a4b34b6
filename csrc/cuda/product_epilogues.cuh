// What a product's block does with the sums of a tile in shared memory: tile() once a tile, end() after the last.
#pragma once

#include "../core/activation.h"
#include "product_operands.cuh"
#include "reductions.cuh"

namespace effops::cuda {

// A thread has 16 bytes of columns and every kRowStep-th row of a tile.
template <class Tile>
struct OutputPlace {
  using T = typename Tile::T;
  static constexpr int kVectors = Tile::kColumns / kLanes<T>, kRowStep = kProductThreads / kVectors;

  __device__ static int column() { return threadIdx.x % kVectors * kLanes<T>; }
  __device__ static int first_row() { return threadIdx.x / kVectors; }
};

// Calls f(values, row, byte) for this thread's rows of the tile: four values at the byte and on.
template <class Tile, class Shared, class F>
__device__ __forceinline__ void for_outputs(const ProductPlace& at, Shared& shared, F f) {
  using Place = OutputPlace<Tile>;
  constexpr int kVector = kLanes<typename Tile::T>;
  for (int row = Place::first_row(); row < at.rows; row += Place::kRowStep) {
    const int byte = (row * Tile::kOutPitch + Place::column()) * 4;
    float values[kVector];
#pragma unroll
    for (int i = 0; i < kVector; i += 4) {
      const float4 four = vector_at<float4>(shared, byte + i * 4);
      values[i] = four.x, values[i + 1] = four.y, values[i + 2] = four.z, values[i + 3] = four.w;
    }
    f(values, row, byte);
  }
}

// Stores values at a row of y; they become what has been stored.
template <class T>
__device__ __forceinline__ void store_outputs(const ProductArgs& p, int64_t row, int64_t column,
                                              float (&values)[kLanes<T>]) {
  Packed<T> packed;
#pragma unroll
  for (int i = 0; i < kLanes<T>; ++i) {
    from_float(values[i], packed.v[i]);
    values[i] = to_float(packed.v[i]);
  }
  T* to = static_cast<T*>(p.y) + row * p.n + column;
  if (p.vectors_out) {
    store_packed(to, packed);
  } else {
    store_packed(to, packed, p.n - column);
  }
}

// y = act(sums + bias) + residual.
template <class Tile>
struct StoreOutputs {
  using T = typename Tile::T;
  static constexpr int kSharedBytes = 0;
  int64_t column;
  float bias[kLanes<T>];

  __device__ StoreOutputs(const ProductArgs& p, int64_t n0) : column(n0 + OutputPlace<Tile>::column()) {
#pragma unroll
    for (int i = 0; i < kLanes<T>; ++i) {
      bias[i] = p.bias.data && column + i < p.n ? load_as(p.bias.data, p.bias.dtype, column + i) : 0.0f;
    }
  }

  // One row: the sums' values.
  template <class F>
  __device__ __forceinline__ void row(F f, const ProductArgs& p, int64_t row, float (&values)[kLanes<T>]) const {
    const Packed<T> addend =
        load_chunk<T>(p.residual, row * p.n + column, p.residual ? p.n - column : 0, p.vectors_out);
#pragma unroll
    for (int i = 0; i < kLanes<T>; ++i) {
      values[i] = f.apply(values[i] + bias[i]);
      if (p.residual) values[i] += to_float(addend.v[i]);
    }
    store_outputs<T>(p, row, column, values);
  }
  template <class Shared>
  __device__ __forceinline__ void tile(const ProductArgs& p, const ProductPlace& at, int64_t, Shared& shared) {
    if (column >= p.n) return;
    with_activation(p.act, [&](auto f) {
      for_outputs<Tile>(at, shared,
                        [&](float (&values)[kLanes<T>], int in_tile, int) { row(f, p, at.m0 + in_tile, values); });
    });
  }
  template <class Shared>
  __device__ __forceinline__ void end(const ProductArgs&, int64_t, int64_t, Shared&) {}
};

// y = sums, and the moments of what is stored of every column: (parts, 3, n) of count, mean and sum of squared
// deviations.
template <class Tile>
struct StoreStatistics {
  using T = typename Tile::T;
  static constexpr int kGroups = kProductThreads / Tile::kColumns;  // threads that share a column
  static constexpr int kSharedBytes = 0;
  int64_t column;
  LaneMoments<1> moments;

  __device__ StoreStatistics(const ProductArgs&, int64_t n0) : column(n0 + OutputPlace<Tile>::column()) {}

  template <class Shared>
  __device__ __forceinline__ void tile(const ProductArgs& p, const ProductPlace& at, int64_t, Shared& shared) {
    for_outputs<Tile>(at, shared, [&](float (&values)[kLanes<T>], int row, int byte) {
      if (column < p.n) store_outputs<T>(p, at.m0 + row, column, values);
#pragma unroll
      for (int i = 0; i < kLanes<T>; i += 4) {
        vector_at<float4>(shared, byte + i * 4) = make_float4(values[i], values[i + 1], values[i + 2], values[i + 3]);
      }
    });
    __syncthreads();
    // In two passes: deviations from a mean that is near.
    const int group = threadIdx.x / Tile::kColumns, first = threadIdx.x % Tile::kColumns;
    if (group >= at.rows) return;
    const auto value = [&](int row) { return vector_at<float>(shared, (row * Tile::kOutPitch + first) * 4); };
    const float count = static_cast<float>((at.rows - group + kGroups - 1) / kGroups);
    float near = 0.0f, sum = 0.0f, squares = 0.0f;
#pragma unroll 4
    for (int row = group; row < at.rows; row += kGroups) near += value(row);
    near /= count;
#pragma unroll 4
    for (int row = group; row < at.rows; row += kGroups) {
      const float away = value(row) - near;
      sum += away;
      squares = fmaf(away, away, squares);
    }
    const float mean = sum / count;
    const float own_mean[1] = {near + mean}, own_m2[1] = {vmax(0.0f, squares - sum * mean)};
    moments.join(count, own_mean, own_m2);
  }
  template <class Shared>
  __device__ __forceinline__ void end(const ProductArgs& p, int64_t part, int64_t n0, Shared& shared) {
    const float own[3] = {moments.count, moments.mean[0], moments.m2[0]};
    for (int i = 0; i < 3; ++i) vector_at<float>(shared, (i * kProductThreads + threadIdx.x) * 4) = own[i];
    __syncthreads();
    if (threadIdx.x >= Tile::kColumns || n0 + threadIdx.x >= p.n) return;
    const Moments total = joined(kGroups, [&](int group) {
      const int at = (group * Tile::kColumns + threadIdx.x) * 4;
      return Moments{vector_at<float>(shared, at), vector_at<float>(shared, at + kProductThreads * 4),
                     vector_at<float>(shared, at + 2 * kProductThreads * 4)};
    });
    float* to = p.partial + part * 3 * p.n + n0 + threadIdx.x;
    to[0] = total.count;
    to[p.n] = total.mean;
    to[2 * p.n] = total.m2;
  }
};

// y = sums, and with g what is stored, z, act and act' of the view of x (m, n): the sums over the tile of g act, g
// act', act', g act' (x - mean), act' (x - mean), as (kGradSums, tiles, n).
template <class Tile>
struct StoreGradSums {
  using T = typename Tile::T;
  using Place = OutputPlace<Tile>;
  static constexpr int kSharedBytes = Place::kRowStep * kGradSums * Tile::kColumns * 4;
  int64_t column;

  __device__ StoreGradSums(const ProductArgs&, int64_t n0) : column(n0 + Place::column()) {}

  template <class Shared>
  __device__ __forceinline__ void tile(const ProductArgs& p, const ProductPlace& at, int64_t tile, Shared& shared) {
    constexpr int kVector = kLanes<T>;
    float sums[kGradSums][kVector] = {};
    if (column < p.n) {
      const ViewChannels<kVector> channels(p.view.affine, p.n, column);
      with_activation(p.view.act, [&](auto f) {
        for_outputs<Tile>(at, shared, [&](float (&values)[kVector], int row, int) {
          const Packed<T> raw = load_chunk<T>(p.view.x, (at.m0 + row) * p.n + column, p.n - column, p.vectors_out);
          store_outputs<T>(p, at.m0 + row, column, values);
#pragma unroll
          for (int i = 0; i < kVector; ++i) {
            const float x = to_float(raw.v[i]), away = x - channels.mean[i];
            const auto [value, slope] = f.both(channels.normalised(x, i));
            const float passed = values[i] * slope;
            sums[0][i] = fmaf(values[i], value, sums[0][i]);
            sums[1][i] += passed;
            sums[2][i] += slope;
            sums[3][i] = fmaf(passed, away, sums[3][i]);
            sums[4][i] = fmaf(slope, away, sums[4][i]);
          }
        });
      });
    }
    __syncthreads();  // all have read the outputs: their sums take the place
#pragma unroll
    for (int j = 0; j < kGradSums; ++j) {
#pragma unroll
      for (int i = 0; i < kVector; i += 4) {
        const int to = (Place::first_row() * kGradSums + j) * Tile::kColumns + Place::column() + i;
        vector_at<float4>(shared, to * 4) = make_float4(sums[j][i], sums[j][i + 1], sums[j][i + 2], sums[j][i + 3]);
      }
    }
    __syncthreads();
    const int64_t n0 = column - Place::column();
    for (int i = threadIdx.x; i < kGradSums * Tile::kColumns; i += kProductThreads) {
      const int64_t c = n0 + i % Tile::kColumns;
      if (c >= p.n) continue;
      float total = 0.0f;
      for (int group = 0; group < Place::kRowStep; ++group) {
        total += vector_at<float>(shared, (group * kGradSums * Tile::kColumns + i) * 4);
      }
      p.partial[(i / Tile::kColumns * p.tiling.tiles() + tile) * p.n + c] = total;
    }
  }
  template <class Shared>
  __device__ __forceinline__ void end(const ProductArgs&, int64_t, int64_t, Shared&) {}
};

}  // namespace effops::cuda
