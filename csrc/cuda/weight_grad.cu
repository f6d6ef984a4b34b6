// dweight (out, c) = du^T view(x), summed over all pixels.
//
// Moves: x, and what du is read through, once from memory (again from the second-level cache for every further tile of
// the weight, whose blocks are neighbours), and the parts' sums to memory and back. Arithmetic: 2 rows out c operations
// and those of the views, in float32 throughout: the result is a float32 sum, and 16-bit operands of a tensor core
// would round du and the view before it.
//
// A block sums one tile of 64 x 64 over one part of the pixels, 16 at a time: these come through registers into one of
// two stages of shared memory while the other is computed on. A thread keeps its channels, and so the parameters of
// both views, and sums 8 x 4 products. Parts are joined in double, in a fixed order.
#include <stdexcept>

#include "launch.h"
#include "product.h"
#include "views.cuh"

namespace effops::cuda {
namespace {

constexpr int kThreads = 128, kTile = WeightGradTiling::kTile, kPixels = 16;
constexpr int kPitch = kTile + 4;  // floats: rows of eight threads fall into different banks
constexpr int kStage = kPixels * kPitch;

template <class Element>
struct WeightGradTraits {
  using T = Element;
  static constexpr int kVectors = kTile / kLanes<T>;  // threads over the channels of a pixel
  static constexpr int kStep = kThreads / kVectors;   // pixels that all threads bring at a time
  static constexpr int kRows = kPixels / kStep;       // pixels of a thread
  static constexpr int kBlocks = 2;                   // 64 sums a thread and the parameters of the views

  __device__ static int column() { return threadIdx.x % kVectors * kLanes<T>; }
  __device__ static int pixel(int i) { return threadIdx.x / kVectors + i * kStep; }
};

template <class T>
__device__ __forceinline__ Packed<T> load_pixel(const void* data, int64_t row, int64_t c, int64_t first, bool there,
                                                bool vectors) {
  if (!there || first >= c) return Packed<T>{};
  const T* from = static_cast<const T*>(data) + row * c + first;
  return vectors ? load_packed(from) : load_packed(from, c - first);
}

template <class Shared, int N>
__device__ __forceinline__ void put_floats(Shared& shared, int at, const float (&values)[N]) {
#pragma unroll
  for (int i = 0; i < N; i += 4) {
    vector_at<float4>(shared, at + i) = make_float4(values[i], values[i + 1], values[i + 2], values[i + 3]);
  }
}

// The two operands of a stage on their way from memory.
template <class Traits>
struct PixelRows {
  using T = typename Traits::T;
  static constexpr int kVector = kLanes<T>;
  const int64_t out0, c0;
  const GradChannels<kVector> grad_channels;
  const ViewChannels<kVector> view_channels;
  Packed<T> grad[Traits::kRows], u[Traits::kRows], x[Traits::kRows];

  __device__ PixelRows(const WeightGradArgs& p, int64_t first_out, int64_t first_c)
      : out0(first_out + Traits::column()),
        c0(first_c + Traits::column()),
        grad_channels(p.grad.coef, p.out, out0),
        view_channels(p.view.affine, p.c, c0) {}

  __device__ __forceinline__ void issue(const WeightGradArgs& p, int64_t row0, int64_t end) {
#pragma unroll
    for (int i = 0; i < Traits::kRows; ++i) {
      const int64_t row = row0 + Traits::pixel(i);
      const bool there = row < end;
      grad[i] = load_pixel<T>(p.grad.grad, row, p.out, out0, there, p.grad_vectors);
      u[i] = load_pixel<T>(p.grad.u, row, p.out, out0, there && p.grad.coef, p.grad_vectors);
      x[i] = load_pixel<T>(p.view.x, row, p.c, c0, there, p.view_vectors);
    }
  }
  // Zeros for pixels after the last.
  template <class Shared>
  __device__ __forceinline__ void finish(const WeightGradArgs& p, int64_t row0, int64_t end, Shared& shared,
                                         int stage) const {
    const bool by_image = p.grad.gate || p.grad.pool_grad || p.view.gate;
    const auto put = [&](int i, int which, float (&values)[kVector]) {
      if (row0 + Traits::pixel(i) >= end) {
#pragma unroll
        for (float& value : values) value = 0.0f;
      }
      put_floats(shared, stage + which * kStage + Traits::pixel(i) * kPitch + Traits::column(), values);
    };
    const auto image = [&](int i) { return by_image ? min(row0 + Traits::pixel(i), end - 1) / p.pixels : int64_t{0}; };
    with_activation(p.grad.act, [&](auto f) {
#pragma unroll
      for (int i = 0; i < Traits::kRows; ++i) {
        float values[kVector];
        apply_grad(f, p.grad, grad_channels, grad[i].v, u[i].v, image_row(p.grad.gate, image(i), p.out),
                   image_row(p.grad.pool_grad, image(i), p.out), p.out, out0, values);
        put(i, 0, values);
      }
    });
    with_activation(p.view.act, [&](auto f) {
#pragma unroll
      for (int i = 0; i < Traits::kRows; ++i) {
        float values[kVector];
        apply_view(f, view_channels, x[i].v, image_row(p.view.gate, image(i), p.c), p.c, c0, values);
        put(i, 1, values);
      }
    });
  }
};

template <class Traits>
__global__ void __launch_bounds__(kThreads, Traits::kBlocks) weight_grad_kernel(const WeightGradArgs p) {
  EFFOPS_SHARED(float, shared, 4 * kStage);
  const WeightGradTiling& t = p.tiling;
  const int64_t tiles = t.row_tiles * t.column_tiles, tile = blockIdx.x % tiles, part = blockIdx.x / tiles;
  const int64_t out0 = tile / t.column_tiles * kTile, c0 = tile % t.column_tiles * kTile;
  const int64_t begin = part * t.part_rows, end = min(p.rows, begin + t.part_rows);
  const int row = threadIdx.x / 16 * 4, column = threadIdx.x % 16 * 4;  // rows: these four and those 32 further on
  float sums[8][4] = {};
  PixelRows<Traits> rows(p, out0, c0);
  rows.issue(p, begin, end);
  rows.finish(p, begin, end, shared, 0);
  int stage = 0;
  for (int64_t at = begin; at < end; at += kPixels) {
    const int other = 2 * kStage - stage;
    const bool more = at + kPixels < end;
    __syncthreads();  // this stage is there, and all have done with the other
    if (more) rows.issue(p, at + kPixels, end);
    float own[8][4] = {};  // of these pixels: chains over all of them would round too much
#pragma unroll
    for (int k = 0; k < kPixels; ++k) {
      const float4 low = vector_at<float4>(shared, stage + k * kPitch + row);
      const float4 high = vector_at<float4>(shared, stage + k * kPitch + row + kTile / 2);
      const float4 right = vector_at<float4>(shared, stage + kStage + k * kPitch + column);
      const float left[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        own[i][0] = fmaf(left[i], right.x, own[i][0]);
        own[i][1] = fmaf(left[i], right.y, own[i][1]);
        own[i][2] = fmaf(left[i], right.z, own[i][2]);
        own[i][3] = fmaf(left[i], right.w, own[i][3]);
      }
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) sums[i][j] += own[i][j];
    }
    if (more) rows.finish(p, at + kPixels, end, shared, other);
    stage = other;
  }
  float* to = p.partial + part * p.out * p.c;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int64_t out = out0 + row + i % 4 + i / 4 * (kTile / 2);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int64_t c = c0 + column + j;
      if (out < p.out && c < p.c) to[out * p.c + c] = sums[i][j];
    }
  }
}

constexpr int kSumColumns = 32, kSumSlices = 8;

// to[i] = sum over parts of from (parts, size): every eighth part by one slice of the block's threads.
__global__ void __launch_bounds__(kSumColumns* kSumSlices)
    weight_sum_kernel(const float* from, int64_t parts, int64_t size, float* to) {
  EFFOPS_SHARED(double, slices, kSumColumns* kSumSlices);
  const int lane = threadIdx.x % kSumColumns, slice = threadIdx.x / kSumColumns;
  for (int64_t first = int64_t{blockIdx.x} * kSumColumns; first < size; first += int64_t{gridDim.x} * kSumColumns) {
    double sum = 0.0;
    if (first + lane < size) {
#pragma unroll 4
      for (int64_t part = slice; part < parts; part += kSumSlices) sum += from[part * size + first + lane];
    }
    slices[threadIdx.x] = sum;
    __syncthreads();
    if (slice == 0 && first + lane < size) {
      for (int i = 1; i < kSumSlices; ++i) sum += slices[i * kSumColumns + lane];
      to[first + lane] = static_cast<float>(sum);
    }
    __syncthreads();
  }
}

bool can_load(const void* data, int64_t c, int64_t lanes) {
  return c % lanes == 0 && reinterpret_cast<uintptr_t>(data) % 16 == 0;
}

}  // namespace

int64_t prepare_weight_grad(WeightGradArgs& p) {
  const int64_t lanes = p.dtype == DType::kFloat32 ? 4 : 8;
  p.tiling = weight_grad_tiling(p.rows, p.out, p.c);
  p.grad_vectors = can_load(p.grad.grad, p.out, lanes) && (!p.grad.coef || can_load(p.grad.u, p.out, lanes));
  p.view_vectors = can_load(p.view.x, p.c, lanes);
  return p.tiling.parts > 1 ? p.tiling.parts * p.out * p.c : 0;
}

void run_weight_grad(WeightGradArgs p, float* dweight, Stream stream) {
  const WeightGradTiling& t = p.tiling;
  if (t.parts == 1) p.partial = dweight;
  if (t.blocks() > kGridLimit) throw std::runtime_error("effops: a weight of this size needs too many blocks");
  if (t.blocks() > 0) {
    with_dtype(p.dtype, [&](auto element) {
      launch(weight_grad_kernel<WeightGradTraits<decltype(element)>>, dim3(static_cast<unsigned>(t.blocks())),
             dim3(kThreads), 0, stream, p);
    });
  }
  const int64_t size = p.out * p.c;
  if (t.parts == 1 || size == 0) return;
  const int64_t blocks = std::min(ceil_div(size, kSumColumns), kGridLimit);
  launch(weight_sum_kernel, dim3(static_cast<unsigned>(blocks)), dim3(kSumColumns * kSumSlices), 0, stream, p.partial,
         t.parts, size, dweight);
}

}  // namespace effops::cuda
