// Gradients of a depthwise convolution of a view: for the view, for the weight, and the sums for what lies below.
//
// Moves: grad, u and x once from memory (grad and u again from the second-level cache where tiles overlap), dx once to
// it. Arithmetic: 4 kh kw operations an output, twice the activation and its slope an input, and du.
//
// A block computes tiles of inputs. The gradient of the outputs that a tile met is turned into du once an element and
// put into shared memory as float32, x beside it as it is: both by loads of 8 or 16 bytes, several in flight a thread.
// A thread then computes the columns of one input row after another for two channels: dx slides over the rows of du,
// and each value of du that it reads serves the weight's gradient too, which stays in registers for all tiles of the
// block. dx takes the place of x in shared memory and is stored from there 16 bytes at a time.
//
// With the padding counted, input row q of phase a = q % stride meets the taps kh = a + stride t at output row
// q / stride - t. So all taps are known when compiling; columns likewise.
#pragma once

#include "depthwise_backward.h"
#include "grad_view.cuh"
#include "launch.h"
#include "tile_walk.cuh"

namespace effops::cuda {

template <class Element, int Kernel, int Stride>
struct BackwardTraits {
  using T = Element;
  static constexpr int kKernel = Kernel, kStride = Stride;
  static constexpr int kReach = (Kernel - 1) / Stride;  // rows of du that a row of inputs meets, less one
  static constexpr int kColumns = backward_columns(Stride);
  static constexpr int kThreads = backward_threads(Kernel), kBlocks = Kernel == 7 ? 1 : 2;
  // Loads of a thread in flight: of x, and of each of grad and u, where every channel takes seven registers more.
  static constexpr int kInputLoads = 4, kLoad = 4, kGradLoads = Kernel == 3 && sizeof(T) == 2 ? 4 : 2;
};

// A block's first channel, and the part of the tiles that it has. They, what follows from a place and the layout are
// computed where they are asked for: kept for all of a tile, they would take the registers of sums.
__device__ __forceinline__ int64_t first_channel(const DepthwiseBackwardTiling& t) {
  return int64_t{unknown(blockIdx.x) % static_cast<int>(t.channel_tiles)} * t.channels;
}
__device__ __forceinline__ int64_t part_of(const DepthwiseBackwardTiling& t) {
  return unknown(blockIdx.x) / static_cast<int>(t.channel_tiles);
}

// Where a thread stands in a tile.
template <class Traits>
struct BackwardPlace {
  int pair, row_item, column_item;
  int64_t n;           // image
  int tile_y, tile_x;  // of the tiles of an image

  __device__ BackwardPlace(const DepthwiseBackwardTiling& t, int64_t tile) {
    const int thread = unknown(threadIdx.x), pairs = t.channels / 2, item = thread / pairs;
    pair = thread % pairs;
    row_item = item / t.column_items, column_item = item % t.column_items;
    n = tile / t.tiles_of_image();
    const int64_t in_image = tile % t.tiles_of_image();
    tile_y = static_cast<int>(in_image / t.tiles_x), tile_x = static_cast<int>(in_image % t.tiles_x);
  }
  // The first input of the tile, with the padding counted.
  __device__ int64_t q_row(const DepthwiseBackwardArgs& p) const {
    return p.shape.pad_top / Traits::kStride * Traits::kStride + int64_t{unknown(tile_y)} * p.tiling.rows();
  }
  __device__ int64_t q_column(const DepthwiseBackwardArgs& p) const {
    return p.shape.pad_left / Traits::kStride * Traits::kStride + int64_t{unknown(tile_x)} * p.tiling.columns();
  }
};

// Where things lie in shared memory, in floats: weights from 0 on, then mean, scale and shift of the view.
template <class Traits>
struct BackwardLayout {
  int affine, du, x;

  __device__ explicit BackwardLayout(const DepthwiseBackwardTiling& t) {
    const int channels = unknown(t.channels);
    affine = Traits::kKernel * Traits::kKernel * channels;
    du = affine + 3 * channels;
    x = du + max(t.grad_rows() * t.grad_columns(), max(Traits::kKernel, kGradSums) * t.items()) * channels;
  }
};

// Weights and the affine of the view, once a block.
template <class Traits, class Shared>
__device__ __forceinline__ void load_constants(const DepthwiseBackwardArgs& p, const Shared& shared) {
  using T = typename Traits::T;
  const BackwardLayout<Traits> layout(p.tiling);
  const int64_t c0 = first_channel(p.tiling);
  constexpr int kTaps = Traits::kKernel * Traits::kKernel;
  const int channels = p.tiling.channels;
  const WeightView& w = p.weight;
  for (int i = threadIdx.x; i < kTaps * channels; i += blockDim.x) {
    const int64_t c = c0 + i / kTaps;
    const int tap = i % kTaps;
    const int64_t from = c * w.stride_n + tap / Traits::kKernel * w.stride_kh + tap % Traits::kKernel * w.stride_kw;
    shared[tap * channels + i / kTaps] = c < p.shape.c ? to_float(static_cast<const T*>(w.data)[from]) : 0.0f;
  }
  for (int i = threadIdx.x; i < 3 * channels; i += blockDim.x) {
    const int64_t c = c0 + i % channels;
    const bool present = p.view.affine && c < p.shape.c;
    shared[layout.affine + i] = present ? p.view.affine[i / channels * p.shape.c + c] : i / channels == 1 ? 1.0f : 0.0f;
  }
}

// The inputs of the tile as they are; zeros outside the image.
template <class Traits, class Shared>
__device__ __forceinline__ void load_inputs(const DepthwiseBackwardArgs& p, const BackwardPlace<Traits>& at,
                                            const Shared& shared) {
  using T = typename Traits::T;
  const BackwardLayout<Traits> layout(p.tiling);
  constexpr int kInFlight = Traits::kInputLoads, kVector = kLanes<T>;
  const ConvShape& s = p.shape;
  const int channels = p.tiling.channels, height = p.tiling.rows();
  PixelWalk walk(channels / kVector, p.tiling.columns());
  const int64_t c = first_channel(p.tiling) + walk.vector * kVector;
  const int left = static_cast<int>(min(s.c - c, int64_t{kVector}));
  const int64_t iy0 = at.q_row(p) - s.pad_top, ix0 = at.q_column(p) - s.pad_left;
  const Window window(iy0, ix0, s.h, s.w);
  const T* from = static_cast<const T*>(p.view.x) + ((at.n * s.h + iy0) * s.w + ix0) * s.c + c;
  while (walk.row < height) {
    Slice<T, kVector> raw[kInFlight];
    int to[kInFlight];
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      to[i] = walk.row < height ? (walk.pixel() * channels + walk.vector * kVector) / (4 / int{sizeof(T)}) : -1;
      raw[i] = {};
      if (to[i] >= 0 && window.has(walk.row, walk.column) && left > 0) {
        raw[i].load(from + (walk.row * s.w + walk.column) * s.c, p.vectors, left);
      }
      walk.next();
    }
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      if (to[i] >= 0) vector_at<uint4>(shared, layout.x + to[i]) = raw[i].bits();
    }
  }
}

// du under the tile; zeros outside the image.
template <class Traits, class F, class Shared>
__device__ __forceinline__ void load_grad(const DepthwiseBackwardArgs& p, const BackwardPlace<Traits>& at,
                                          const Shared& shared, F f) {
  using T = typename Traits::T;
  const BackwardLayout<Traits> layout(p.tiling);
  constexpr int kLoad = Traits::kLoad, kInFlight = Traits::kGradLoads;
  const ConvShape& s = p.shape;
  const int channels = p.tiling.channels, height = p.tiling.grad_rows();
  PixelWalk walk(channels / kLoad, p.tiling.grad_columns());
  const int64_t c = first_channel(p.tiling) + walk.vector * kLoad;
  const int left = static_cast<int>(min(s.c - c, int64_t{kLoad}));
  const int64_t oy0 = at.q_row(p) / Traits::kStride - Traits::kReach;
  const int64_t ox0 = at.q_column(p) / Traits::kStride - Traits::kReach;
  const Window window(oy0, ox0, s.oh, s.ow);
  const int64_t from = ((at.n * s.oh + oy0) * s.ow + ox0) * s.c + c;
  const GradCoef<kLoad> coef(p.grad, at.n, s.c, c);
  while (walk.row < height) {
    Slice<T, kLoad> grad[kInFlight], u[kInFlight];
    int to[kInFlight];
    bool inside[kInFlight];
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      to[i] = walk.row < height ? walk.pixel() * channels + walk.vector * kLoad : -1;
      inside[i] = to[i] >= 0 && window.has(walk.row, walk.column) && left > 0;
      grad[i] = {}, u[i] = {};
      if (inside[i]) {
        const int64_t pixel = from + (walk.row * s.ow + walk.column) * s.c;
        grad[i].load(static_cast<const T*>(p.grad.grad) + pixel, p.vectors, left);
        if (p.grad.coef) u[i].load(static_cast<const T*>(p.grad.u) + pixel, p.vectors, left);
      }
      walk.next();
    }
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      if (to[i] < 0) continue;
#pragma unroll
      for (int j = 0; j < kLoad; j += 4) {
        float4 four = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (inside[i]) {
          const auto du = [&](int k) { return coef.du(f, to_float(grad[i].v[k]), to_float(u[i].v[k]), k); };
          four = make_float4(du(j), du(j + 1), du(j + 2), du(j + 3));
        }
        vector_at<float4>(shared, layout.du + to[i] + j) = four;
      }
    }
  }
}

// A thread's view of the place of two channels of its inputs in shared memory.
template <class T, class Shared>
__device__ __forceinline__ float2 input_pair(const Shared& shared, int at) {
  Slice<T, 2> pair;
  pair.from_bits(vector_at<typename Slice<T, 2>::Bits>(shared, at));
  return make_float2(to_float(pair.v[0]), to_float(pair.v[1]));
}

template <class Traits>
using WeightGrad = float[Traits::kKernel][Traits::kKernel][2];

// One row of a thread, of this phase: dx in place of x, and what it adds to the weight's gradient and to the sums.
template <class Traits, int Phase, class Shared>
__device__ __forceinline__ void backward_row(const DepthwiseBackwardArgs& p, const BackwardPlace<Traits>& at,
                                             const Shared& shared, int row, WeightGrad<Traits>& dw,
                                             float (&sums)[2][kGradSums]) {
  using T = typename Traits::T;
  const BackwardLayout<Traits> layout(p.tiling);
  constexpr int kKernel = Traits::kKernel, kStride = Traits::kStride, kReach = Traits::kReach;
  constexpr int kColumns = Traits::kColumns;
  const ConvShape& s = p.shape;
  const int channels = unknown(p.tiling.channels), width = p.tiling.columns(), grad_width = p.tiling.grad_columns();
  const int column0 = at.column_item * kColumns;
  const Window window(at.q_row(p) + row - s.pad_top, at.q_column(p) + column0 - s.pad_left, s.h, s.w);
  const int left = window.has_row(0) ? window.left : window.right;
  const auto inside = [&](int j) { return j >= left && j < window.right; };
  const int x_step = channels * int{sizeof(T)} / 4;
  const int x_at = layout.x + (row * width + column0) * x_step + at.pair * int{sizeof(T)} / 2;
  const float2 mean = vector_at<float2>(shared, layout.affine + at.pair * 2);
  const float2 scale = vector_at<float2>(shared, layout.affine + channels + at.pair * 2);
  const float2 shift = vector_at<float2>(shared, layout.affine + 2 * channels + at.pair * 2);
  float view[kColumns][2] = {}, dx[kColumns][2] = {};
  with_activation(p.view.act, [&](auto f) {
#pragma unroll
    for (int j = 0; j < kColumns; ++j) {
      const float2 x = input_pair<T>(shared, x_at + j * x_step);
      view[j][0] = inside(j) ? f.apply(fmaf(x.x - mean.x, scale.x, shift.x)) : 0.0f;
      view[j][1] = inside(j) ? f.apply(fmaf(x.y - mean.y, scale.y, shift.y)) : 0.0f;
    }
  });
#pragma unroll
  for (int kh = Phase; kh < kKernel; kh += kStride) {
    const int grad_row = row / kStride - kh / kStride + kReach;
    const int du_at = layout.du + (grad_row * grad_width + column0 / kStride) * channels + at.pair * 2;
    float2 weights[kKernel];
#pragma unroll
    for (int kw = 0; kw < kKernel; ++kw) {
      weights[kw] = vector_at<float2>(shared, (kh * kKernel + kw) * channels + at.pair * 2);
    }
#pragma unroll
    for (int j = 0; j < kColumns / kStride + kReach; ++j) {
      const float2 du = vector_at<float2>(shared, du_at + j * channels);
#pragma unroll
      for (int i = 0; i < kColumns; ++i) {
        const int t = i / kStride + kReach - j, kw = i % kStride + kStride * t;
        if (t < 0 || kw >= kKernel) continue;
        dx[i][0] = fmaf(du.x, weights[kw].x, dx[i][0]);
        dx[i][1] = fmaf(du.y, weights[kw].y, dx[i][1]);
        dw[kh][kw][0] = fmaf(du.x, view[i][0], dw[kh][kw][0]);
        dw[kh][kw][1] = fmaf(du.y, view[i][1], dw[kh][kw][1]);
      }
    }
  }
  if (!p.dx) return;
  const auto finish = [&](auto add) {
#pragma unroll
    for (int j = 0; j < kColumns; ++j) {
      Slice<T, 2> stored;
      from_float(dx[j][0], stored.v[0]);
      from_float(dx[j][1], stored.v[1]);
      add(j, to_float(stored.v[0]), to_float(stored.v[1]));
      vector_at<typename Slice<T, 2>::Bits>(shared, x_at + j * x_step) = stored.bits();
    }
  };
  if (!p.sums) return finish([](int, float, float) {});
  with_activation(p.view.act, [&](auto f) {
    finish([&](int j, float dx0, float dx1) {
      if (!inside(j)) return;
      const float2 x = input_pair<T>(shared, x_at + j * x_step);
      const float away0 = x.x - mean.x, away1 = x.y - mean.y;
      add_grad_sums(dx0, f.both(fmaf(away0, scale.x, shift.x)), away0, sums[0]);
      add_grad_sums(dx1, f.both(fmaf(away1, scale.y, shift.y)), away1, sums[1]);
    });
  });
}

// From shared memory, 16 bytes a thread.
template <class Traits, class Shared>
__device__ __forceinline__ void store_dx(const DepthwiseBackwardArgs& p, const BackwardPlace<Traits>& at,
                                         const Shared& shared) {
  using T = typename Traits::T;
  const BackwardLayout<Traits> layout(p.tiling);
  constexpr int kVector = kLanes<T>;
  const ConvShape& s = p.shape;
  const int channels = p.tiling.channels, height = p.tiling.rows();
  PixelWalk walk(channels / kVector, p.tiling.columns());
  const int64_t c = first_channel(p.tiling) + walk.vector * kVector;
  const int left = static_cast<int>(min(s.c - c, int64_t{kVector}));
  const int64_t iy0 = at.q_row(p) - s.pad_top, ix0 = at.q_column(p) - s.pad_left;
  const Window window(iy0, ix0, s.h, s.w);
  T* to = static_cast<T*>(p.dx) + ((at.n * s.h + iy0) * s.w + ix0) * s.c + c;
  for (; walk.row < height; walk.next()) {
    if (!window.has(walk.row, walk.column) || left <= 0) continue;
    Slice<T, kVector> values;
    const int from = (walk.pixel() * channels + walk.vector * kVector) / (4 / int{sizeof(T)});
    values.from_bits(vector_at<uint4>(shared, layout.x + from));
    values.store(to + (walk.row * s.w + walk.column) * s.c, s.c % kVector == 0, left);
  }
}

// Sums own(row, lane), of two channels, over the items of a block in their order: out(row, channel, sum).
template <int Rows, class Shared, class Own, class Out>
__device__ __forceinline__ void sum_items(const DepthwiseBackwardTiling& t, const Shared& shared, int offset, Own own,
                                          Out out) {
  const int pairs = t.channels / 2, pair = threadIdx.x % pairs, item = threadIdx.x / pairs;
#pragma unroll
  for (int row = 0; row < Rows; ++row) {
    vector_at<float2>(shared, offset + (item * Rows + row) * t.channels + pair * 2) =
        make_float2(own(row, 0), own(row, 1));
  }
  __syncthreads();
  for (int i = threadIdx.x; i < Rows * t.channels; i += blockDim.x) {
    float sum = 0.0f;
    for (int k = 0; k < t.items(); ++k) sum += shared[offset + k * Rows * t.channels + i];
    out(i / t.channels, i % t.channels, sum);
  }
  __syncthreads();
}

template <class Traits>
__global__ void __launch_bounds__(Traits::kThreads, Traits::kBlocks)
    depthwise_backward_kernel(const DepthwiseBackwardArgs p) {
  constexpr int kKernel = Traits::kKernel, kStride = Traits::kStride;
  EFFOPS_SHARED_DYNAMIC(float, shared);
  const ConvShape& s = p.shape;
  const DepthwiseBackwardTiling& t = p.tiling;
  load_constants<Traits>(p, shared);
  WeightGrad<Traits> dw = {};
  for (int k = 0; k < t.run; ++k) {
    const int64_t tile = part_of(t) * t.run + k;
    if (tile >= t.tiles) break;
    const BackwardPlace<Traits> at(t, tile);
    load_inputs<Traits>(p, at, shared);
    with_activation(p.grad.act, [&](auto f) { load_grad<Traits>(p, at, shared, f); });
    __syncthreads();
    float sums[2][kGradSums] = {};
    for (int i = 0; i < t.each; ++i) {
      const int row = (at.row_item * t.each + i) * kStride;
      backward_row<Traits, 0>(p, at, shared, row, dw, sums);
      if constexpr (kStride == 2) backward_row<Traits, 1>(p, at, shared, row + 1, dw, sums);
    }
    __syncthreads();
    if (p.dx) store_dx<Traits>(p, at, shared);
    if (p.sums) {
      const int64_t c0 = first_channel(t);
      sum_items<kGradSums>(
          t, shared, BackwardLayout<Traits>(t).du, [&](int row, int lane) { return sums[lane][row]; },
          [&](int row, int channel, float sum) {
            const int64_t to = (row * s.n + at.n) * t.tiles_of_image() + at.tile_y * t.tiles_x + at.tile_x;
            if (c0 + channel < s.c) p.sums[to * s.c + c0 + channel] = sum;
          });
    } else {
      __syncthreads();  // before the next tile takes the place
    }
  }
  if (!p.dweight) return;
  const int64_t part = part_of(t), c0 = first_channel(t);
#pragma unroll
  for (int kh = 0; kh < kKernel; ++kh) {
    sum_items<kKernel>(
        t, shared, BackwardLayout<Traits>(t).du, [&](int kw, int lane) { return dw[kh][kw][lane]; },
        [&](int kw, int channel, float sum) {
          const int64_t to = (part * s.c + c0 + channel) * kKernel * kKernel + kh * kKernel + kw;
          if (c0 + channel < s.c) p.dweight[to] = sum;
        });
  }
}

template <class T, int Kernel, int Stride>
void launch_depthwise_backward(const DepthwiseBackwardArgs& p, Stream stream) {
  const DepthwiseBackwardTiling& t = p.tiling;
  launch(depthwise_backward_kernel<BackwardTraits<T, Kernel, Stride>>, dim3(static_cast<unsigned>(t.blocks())),
         dim3(t.threads()), t.shared_bytes, stream, p);
}

}  // namespace effops::cuda
