// Depthwise convolution over NHWC with bias and activation, or of a view with statistics.
//
// Moves: x once from memory (again from the second-level cache where tiles overlap), y once to it. Arithmetic:
// 2 kh kw operations an output, and those of the activation.
//
// A block brings the input under a tile of outputs into shared memory by 16-byte loads, four of them in flight a
// thread, as float32 after the view, and goes on as depthwise_tile.cuh tells. While one block loads, others on the
// same processor compute.
#pragma once

#include "depthwise_tile.cuh"
#include "launch.h"
#include "reductions.cuh"

namespace effops::cuda {

template <class T>
struct Affine {
  float mean[kLanes<T>], scale[kLanes<T>], shift[kLanes<T>];

  __device__ Affine(const float* rows, int64_t c, int64_t first) {
#pragma unroll
    for (int i = 0; i < kLanes<T>; ++i) {
      const bool present = rows && first + i < c;
      mean[i] = present ? rows[first + i] : 0.0f;
      scale[i] = present ? rows[c + first + i] : 1.0f;
      shift[i] = present ? rows[2 * c + first + i] : 0.0f;
    }
  }
};

// The input under a tile, through `value(x, i)` for lane i of a vector, as float32; zeros outside the image.
template <class Traits, class Shared, class Value>
__device__ __forceinline__ void load_tile(const DepthwiseArgs& p, const DepthwisePlace& at, const Shared& shared,
                                          int offset, Value value) {
  using T = typename Traits::T;
  constexpr int kInFlight = 4, kVector = kLanes<T>;
  const ConvShape& s = p.shape;
  const int channels = p.tiling.channels, vectors = channels / kVector;
  const int height = (p.tiling.rows() - 1) * Traits::kStride + Traits::kKernel;
  const int width = (p.tiling.columns() - 1) * Traits::kStride + Traits::kKernel;
  // Each thread keeps its channels and steps over pixels.
  const int vector = threadIdx.x % vectors, first = threadIdx.x / vectors, step = blockDim.x / vectors;
  const int row_step = step / width, column_step = step % width;
  const int64_t c = at.c0 + vector * kVector, left = s.c - c;
  const int64_t iy0 = at.oy0 * Traits::kStride - s.pad_top, ix0 = at.ox0 * Traits::kStride - s.pad_left;
  const T* image = static_cast<const T*>(p.view.x) + at.n * s.h * s.w * s.c + c;
  int row = first / width, column = first % width;
  while (row < height) {
    Packed<T> raw[kInFlight];
    int to[kInFlight];
    bool inside[kInFlight];
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      const int64_t iy = iy0 + row, ix = ix0 + column;
      to[i] = row < height ? (row * width + column) * channels + vector * kVector : -1;
      inside[i] = to[i] >= 0 && iy >= 0 && iy < s.h && ix >= 0 && ix < s.w && left > 0;
      raw[i] = Packed<T>{};
      if (inside[i]) {
        const T* from = image + (iy * s.w + ix) * s.c;
        raw[i] = p.vectors ? load_packed(from) : load_packed(from, left);
      }
      row += row_step;
      column += column_step;
      if (column >= width) column -= width, ++row;
    }
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      if (to[i] < 0) continue;
#pragma unroll
      for (int j = 0; j < kVector; j += 4) {
        float4 four = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (inside[i]) {
          four = make_float4(value(to_float(raw[i].v[j]), j), value(to_float(raw[i].v[j + 1]), j + 1),
                             value(to_float(raw[i].v[j + 2]), j + 2), value(to_float(raw[i].v[j + 3]), j + 3));
        }
        vector_at<float4>(shared, offset + to[i] + j) = four;
      }
    }
  }
}

// The general kernel: 28 independent loads a tap.
template <class Traits, class Value>
__device__ __forceinline__ void convolve_in_place(const DepthwiseArgs& p, int64_t n, int64_t oy, int64_t ox, int64_t c,
                                                  Value value, Outputs& out) {
  using T = typename Traits::T;
  const ConvShape& s = p.shape;
  const WeightView& w = p.weight;
  if (c >= s.c) return;
  const bool both = c + 1 < s.c;
  const T* image = static_cast<const T*>(p.view.x) + n * s.h * s.w * s.c + c;
  const T* weight = static_cast<const T*>(w.data) + c * w.stride_n;
  for (int64_t kh = 0; kh < s.kh; ++kh) {
    for (int64_t kw = 0; kw < s.kw; ++kw) {
      const T* tap = weight + kh * w.stride_kh + kw * w.stride_kw;
      const float w0 = to_float(tap[0]), w1 = both ? to_float(tap[w.stride_n]) : 0.0f;
#pragma unroll
      for (int r = 0; r < kThreadRows; ++r) {
        const int64_t iy = (oy + r) * s.stride_h - s.pad_top + kh * s.dilation_h;
#pragma unroll
        for (int i = 0; i < kThreadColumns; ++i) {
          const int64_t ix = (ox + i) * s.stride_w - s.pad_left + kw * s.dilation_w;
          if (iy < 0 || iy >= s.h || ix < 0 || ix >= s.w) continue;
          const T* from = image + (iy * s.w + ix) * s.c;
          out[r][i][0] = fmaf(value(to_float(from[0]), 0), w0, out[r][i][0]);
          if (both) out[r][i][1] = fmaf(value(to_float(from[1]), 1), w1, out[r][i][1]);
        }
      }
    }
  }
}

template <class Traits, class Shared>
__device__ __forceinline__ void convolve(const DepthwiseArgs& p, const DepthwisePlace& at, const Shared& shared,
                                         int offset, Outputs& out) {
  using T = typename Traits::T;
  if constexpr (Traits::kKernel == 0) {
    const int64_t c = at.c0 + at.pair * 2;
    const int64_t oy = at.oy0 + at.item / p.tiling.column_items * kThreadRows;
    const int64_t ox = at.ox0 + at.item % p.tiling.column_items * kThreadColumns;
    if constexpr (Traits::kStatistics) {
      const Affine<T> a(p.view.affine, p.shape.c, c);
      with_activation(p.view.act, [&](auto f) {
        convolve_in_place<Traits>(
            p, at.n, oy, ox, c, [&](float x, int i) { return f.apply(fmaf(x - a.mean[i], a.scale[i], a.shift[i])); },
            out);
      });
    } else {
      convolve_in_place<Traits>(p, at.n, oy, ox, c, [](float x, int) { return x; }, out);
    }
  } else {
    if constexpr (Traits::kStatistics) {
      const int vectors = p.tiling.channels / kLanes<T>;
      const Affine<T> a(p.view.affine, p.shape.c, at.c0 + threadIdx.x % vectors * kLanes<T>);
      with_activation(p.view.act, [&](auto f) {
        load_tile<Traits>(p, at, shared, offset,
                          [&](float x, int i) { return f.apply(fmaf(x - a.mean[i], a.scale[i], a.shift[i])); });
      });
    } else {
      load_tile<Traits>(p, at, shared, offset, [](float x, int) { return x; });
    }
    __syncthreads();
    convolve_tile<Traits>(p, at, shared, offset, out);
  }
}

// Stores the tile and adds the moments of what was stored, in two passes: deviations from a mean that is near.
template <class T, class Shared>
__device__ __forceinline__ void store_with_moments(const DepthwiseArgs& p, const DepthwisePlace& at,
                                                   const Shared& shared, int offset, LaneMoments<kLanes<T>>& total) {
  float near[kLanes<T>] = {}, sums[kLanes<T>] = {}, squares[kLanes<T>] = {};
  const float count = static_cast<float>(store_tile<T, Identity, true>(p, at, shared, offset, near));
  if (count == 0.0f) return;
#pragma unroll
  for (int i = 0; i < kLanes<T>; ++i) near[i] /= count;
  for_pixels<T>(p, at, shared, offset, [&](const float* values, int64_t, int64_t) {
#pragma unroll
    for (int i = 0; i < kLanes<T>; ++i) {
      const float away = rounded<T>(values[i]) - near[i];
      sums[i] += away;
      squares[i] = fmaf(away, away, squares[i]);
    }
  });
#pragma unroll
  for (int i = 0; i < kLanes<T>; ++i) {
    const float mean = sums[i] / count;
    squares[i] = vmax(0.0f, squares[i] - sums[i] * mean);
    near[i] += mean;
  }
  total.join(count, near, squares);
}

template <class Traits>
__global__ void __launch_bounds__(Traits::kThreads, Traits::kBlocks) depthwise_kernel(const DepthwiseArgs p) {
  using T = typename Traits::T;
  EFFOPS_SHARED_DYNAMIC(float, shared);
  const ConvShape& s = p.shape;
  const DepthwiseTiling& t = p.tiling;
  const int pairs = t.channels / 2, offset = Traits::kKernel * Traits::kKernel * t.channels;
  DepthwisePlace at{};
  at.pair = threadIdx.x % pairs;
  at.item = threadIdx.x / pairs;
  at.c0 = blockIdx.x % t.channel_tiles * t.channels;
  const int64_t part = blockIdx.x / t.channel_tiles;
  if constexpr (Traits::kKernel != 0) load_weights<Traits>(p, at, shared);
  float sums[kLanes<T>] = {};
  LaneMoments<kLanes<T>> moments;
  for (int64_t tile = part * t.run; tile < min(t.tiles, (part + 1) * t.run); ++tile) {
    const int64_t in_image = tile % t.tiles_of_image();
    at.n = tile / t.tiles_of_image();
    at.oy0 = in_image / t.tiles_x * t.rows();
    at.ox0 = in_image % t.tiles_x * t.columns();
    Outputs out = {};
    convolve<Traits>(p, at, shared, offset, out);
    __syncthreads();  // all have read their inputs: the outputs take their place
    keep_outputs<Traits>(p, at, shared, offset, out);
    __syncthreads();
    if constexpr (Traits::kStatistics) {
      store_with_moments<T>(p, at, shared, offset, moments);
    } else {
      with_activation(p.act, [&](auto f) { store_tile<T, decltype(f), false>(p, at, shared, offset, sums); });
    }
    __syncthreads();  // before the next tile or the sums
  }
  if (!p.partial) return;
  const int vectors = t.channels / kLanes<T>, groups = blockDim.x / vectors;
  const int group = threadIdx.x / vectors, channel = threadIdx.x % vectors * kLanes<T>;
  for (int i = 0; i < kLanes<T>; ++i) {
    if constexpr (Traits::kStatistics) {
      shared[group * t.channels + channel + i] = moments.mean[i];
      shared[(groups + group) * t.channels + channel + i] = moments.m2[i];
      if (channel == 0) shared[2 * groups * t.channels + group] = moments.count;
    } else {
      shared[group * t.channels + channel + i] = sums[i];
    }
  }
  __syncthreads();
  for (int i = threadIdx.x; i < t.channels && at.c0 + i < s.c; i += blockDim.x) {
    if constexpr (Traits::kStatistics) {
      const auto own = [&](int g) {
        return Moments{shared[2 * groups * t.channels + g], shared[g * t.channels + i],
                       shared[(groups + g) * t.channels + i]};
      };
      const Moments total = joined(groups, own);
      float* to = p.partial + part * 3 * s.c + at.c0 + i;
      to[0] = total.count;
      to[s.c] = total.mean;
      to[2 * s.c] = total.m2;
    } else {
      float total = 0.0f;
      for (int g = 0; g < groups; ++g) total += shared[g * t.channels + i];
      p.partial[part * s.c + at.c0 + i] = total * p.partial_scale;
    }
  }
}

template <bool Statistics>
void launch_depthwise(const DepthwiseArgs& p, Stream stream) {
  const DepthwiseTiling& t = p.tiling;
  if (t.blocks() == 0) return;
  if (t.blocks() > kGridLimit) throw std::runtime_error("effops: an image of this size needs too many blocks");
  const auto run = [&](auto kernel) {
    launch(kernel, dim3(static_cast<unsigned>(t.blocks())), dim3(t.threads()), t.shared_bytes, stream, p);
  };
  with_dtype(p.weight.dtype, [&](auto element) {
    using T = decltype(element);
    switch (t.kernel * 10 + t.stride) {
      case 31:
        return run(depthwise_kernel<DepthwiseTraits<T, 3, 1, Statistics>>);
      case 32:
        return run(depthwise_kernel<DepthwiseTraits<T, 3, 2, Statistics>>);
      case 51:
        return run(depthwise_kernel<DepthwiseTraits<T, 5, 1, Statistics>>);
      case 52:
        return run(depthwise_kernel<DepthwiseTraits<T, 5, 2, Statistics>>);
      case 71:
        return run(depthwise_kernel<DepthwiseTraits<T, 7, 1, Statistics>>);
      case 72:
        return run(depthwise_kernel<DepthwiseTraits<T, 7, 2, Statistics>>);
      default:
        return run(depthwise_kernel<DepthwiseTraits<T, 0, 0, Statistics>>);
    }
  });
}

}  // namespace effops::cuda
