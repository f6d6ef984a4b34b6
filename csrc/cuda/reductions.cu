#include "reductions.cuh"

namespace effops::cuda {
namespace {

__global__ void __launch_bounds__(kLoopThreads)
    sum_parts_kernel(const float* partial, int64_t n, int64_t parts, int64_t c, float scale, float* out) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n * c; i += step) {
    const float* from = partial + i / c * parts * c + i % c;
    float sum = 0.0f;
    for (int64_t part = 0; part < parts; ++part) sum += from[part * c];
    out[i] = sum * scale;
  }
}

constexpr int kJoinChannels = 32, kJoinSlices = 16;

__global__ void __launch_bounds__(kJoinChannels* kJoinSlices)
    join_parts_kernel(const float* partial, int64_t parts, int64_t c, float* stats) {
  EFFOPS_SHARED(float, slices, 3 * kJoinSlices * kJoinChannels);
  const int lane = threadIdx.x % kJoinChannels, slice = threadIdx.x / kJoinChannels;
  const int64_t channel = int64_t{blockIdx.x} * kJoinChannels + lane;
  const int64_t mine = channel < c && slice < parts ? ceil_div(parts - slice, kJoinSlices) : 0;
  const Moments own = joined(static_cast<int>(mine), [&](int i) {
    const float* from = partial + (slice + int64_t{i} * kJoinSlices) * 3 * c + channel;
    return Moments{from[0], from[c], from[2 * c]};
  });
  const float values[3] = {own.count, own.mean, own.m2};
  for (int i = 0; i < 3; ++i) slices[(i * kJoinSlices + slice) * kJoinChannels + lane] = values[i];
  __syncthreads();
  if (slice != 0 || channel >= c) return;
  const Moments total = joined(kJoinSlices, [&](int i) {
    const int at = i * kJoinChannels + lane;
    return Moments{slices[at], slices[kJoinSlices * kJoinChannels + at], slices[2 * kJoinSlices * kJoinChannels + at]};
  });
  stats[channel] = total.mean;
  stats[c + channel] = total.count > 0.0f ? total.m2 / total.count : 0.0f;
}

}  // namespace

void sum_parts(const float* partial, int64_t n, int64_t parts, int64_t c, float scale, float* out, Stream stream) {
  if (n * c == 0) return;
  launch(sum_parts_kernel, dim3(static_cast<unsigned>(loop_blocks(n * c))), dim3(kLoopThreads), 0, stream, partial, n,
         parts, c, scale, out);
}

void join_parts(const float* partial, int64_t parts, int64_t c, float* stats, Stream stream) {
  if (c == 0) return;
  launch(join_parts_kernel, dim3(static_cast<unsigned>(ceil_div(c, kJoinChannels))), dim3(kJoinChannels * kJoinSlices),
         0, stream, partial, parts, c, stats);
}

}  // namespace effops::cuda
