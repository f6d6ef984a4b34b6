// What the passes over whole images share: where a thread stands, its pixels, and the sums of a block.
#pragma once

#include <stdexcept>

#include "launch.h"
#include "pass.h"
#include "rows.cuh"

namespace effops::cuda {

// InFlight: pixels of every tensor that a thread loads before it uses the first.
template <class Element, int InFlight>
struct PassTraits {
  using T = Element;
  static constexpr int kInFlight = InFlight;
  // Registers for rows of channels, sums and loads in flight.
  static constexpr int kThreads = kPassThreads, kBlocks = 2;
};

struct PassPlace {
  int64_t image, part;
  int64_t first, end;     // pixels of this thread in the image, tiling.rows apart; none past the last channel
  int64_t slab, channel;  // first channel of the block and of the thread
  int64_t left;           // channels from there on

  __device__ PassPlace(const Pass& p, int lanes) {
    const PassTiling& t = p.tiling;
    const unsigned slabs = static_cast<unsigned>(t.slabs), runs = static_cast<unsigned>(t.runs);
    const unsigned index = blockIdx.x / slabs;
    part = index;
    image = index / runs;
    slab = int64_t{blockIdx.x % slabs} * t.vectors * lanes;
    channel = slab + threadIdx.x % t.vectors * lanes;
    left = p.c - channel;
    const int64_t start = index % runs * t.run;
    end = left > 0 ? min(start + t.run, p.pixels) : 0;
    first = start + threadIdx.x / t.vectors;
  }
};

// Calls f(values, offset) for every pixel of this thread: what each of the tensors holds at `offset`.
template <int InFlight, class T, int Tensors, class F>
__device__ __forceinline__ void for_pixels(const Pass& p, const PassPlace& at, const T* const (&from)[Tensors], F f) {
  const int64_t base = at.image * p.pixels * p.c + at.channel;
  const int rows = p.tiling.rows;
  for (int64_t pixel = at.first; pixel < at.end; pixel += InFlight * rows) {
    Packed<T> raw[InFlight][Tensors];
#pragma unroll
    for (int i = 0; i < InFlight; ++i) {
#pragma unroll
      for (int j = 0; j < Tensors; ++j) {
        raw[i][j] = Packed<T>{};
        if (pixel + i * rows >= at.end) continue;
        raw[i][j] = load_channels(from[j] + base + (pixel + i * rows) * p.c, at.left, p.vectors);
      }
    }
#pragma unroll
    for (int i = 0; i < InFlight; ++i) {
      if (pixel + i * rows < at.end) f(raw[i], base + (pixel + i * rows) * p.c);
    }
  }
}

// Calls f(channel, totals) for every channel of the block, with N sums over its threads, in their order. `shared` holds
// N x kPassThreads x Lanes floats.
template <int N, int Lanes, class Shared, class F>
__device__ __forceinline__ void for_block_sums(const Pass& p, const PassPlace& at, Shared& shared,
                                               const float (&sums)[N][Lanes], F f) {
  constexpr int kPitch = kPassThreads * Lanes;
#pragma unroll
  for (int j = 0; j < N; ++j) {
#pragma unroll
    for (int i = 0; i < Lanes; i += 4) {
      vector_at<float4>(shared, j * kPitch + static_cast<int>(threadIdx.x) * Lanes + i) =
          make_float4(sums[j][i], sums[j][i + 1], sums[j][i + 2], sums[j][i + 3]);
    }
  }
  __syncthreads();
  const int width = p.tiling.vectors * Lanes;
  for (int i = threadIdx.x; i < width && at.slab + i < p.c; i += blockDim.x) {
    float totals[N];
#pragma unroll
    for (int j = 0; j < N; ++j) {
      // Four short chains round less than a long one, and wait less.
      float chains[4] = {};
      for (int row = 0; row < p.tiling.rows; row += 4) {
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          if (row + k < p.tiling.rows) chains[k] += shared[j * kPitch + (row + k) * width + i];
        }
      }
      totals[j] = (chains[0] + chains[1]) + (chains[2] + chains[3]);
    }
    f(at.slab + i, totals);
  }
}

// Launches the kernel that `choose` names for the element type of the images.
template <class Args, class Choose>
void launch_pass(const Args& p, Stream stream, Choose choose) {
  const PassTiling& t = p.pass.tiling;
  if (t.blocks() == 0) return;
  if (t.blocks() > kGridLimit) throw std::runtime_error("effops: images of this size need too many blocks");
  with_dtype(p.pass.dtype, [&](auto element) {
    launch(choose(element), dim3(static_cast<unsigned>(t.blocks())), dim3(t.threads()), 0, stream, p);
  });
}

}  // namespace effops::cuda
