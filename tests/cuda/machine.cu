// Kernels with bugs, and what the host run makes of them.
#include <cstdio>
#include <exception>

#include "cuda/launch.h"
#include "cuda/matrix_instructions.h"

using namespace effops;

enum class Bug { kNone, kNoBarrierAfterLoad, kNoBarrierBeforeNextLoad, kNoWaitForCopies };

// Every thread reads what its mirror wrote, twice over.
__global__ void mirror(const float* in, float* out, Bug bug) {
  EFFOPS_SHARED(float, tile, 128);
  const int i = threadIdx.x;
  for (int round = 0; round < 2; ++round) {
    tile[i] = in[round * 128 + i];
    if (bug != Bug::kNoBarrierAfterLoad) __syncthreads();
    out[round * 128 + i] = tile[127 - i];
    if (bug != Bug::kNoBarrierBeforeNextLoad) __syncthreads();
  }
}

// Every thread reads what its mirror copied.
__global__ void copied_mirror(const float* in, float* out, Bug bug) {
  EFFOPS_SHARED(float, tile, 4 * 128);
  const int i = threadIdx.x;
  cuda::copy_async(tile, i * 4, in + i % 64 * 4, true);
  if (bug != Bug::kNoWaitForCopies) cuda::wait_for_copies();
  __syncthreads();
  out[i] = tile[(127 - i) * 4];
  cuda::wait_for_copies();
}

__global__ void copies_left_behind(const float* in) {
  EFFOPS_SHARED(float, tile, 4);
  if (threadIdx.x == 3) cuda::copy_async(tile, 0, in, false);
}

__global__ void partly_written(float* out) {
  EFFOPS_SHARED_DYNAMIC(float, tile);
  if (threadIdx.x < 64) tile[threadIdx.x] = 1.0f;
  __syncthreads();
  out[threadIdx.x] = tile[threadIdx.x];
}

__global__ void warp_sum(const float* in, float* out) {
  float sum = in[threadIdx.x];
  for (int away = 16; away > 0; away /= 2) sum += __shfl_xor_sync(~0u, sum, away);
  const unsigned odd = __ballot_sync(~0u, threadIdx.x % 2);
  out[threadIdx.x] = odd == 0xaaaaaaaau ? sum : -1.0f;
}

__global__ void divergent_barrier() {
  if (threadIdx.x < 40) __syncthreads();
}

__global__ void two_barriers() {
  if (threadIdx.x < 64) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

__global__ void divergent_shuffle(float* out) {
  if (threadIdx.x % 2) out[threadIdx.x] = __shfl_sync(~0u, 1.0f, 0);
}

__global__ void element_past_the_end() {
  EFFOPS_SHARED(float, tile, 128);
  tile[threadIdx.x + 1] = 0.0f;
}

__global__ void misaligned_vector() {
  EFFOPS_SHARED(float, tile, 256);
  vector_at<float4>(tile, 2 * threadIdx.x / 2) = make_float4(0, 0, 0, 0);
}

__global__ void pointer_past_the_end() {
  EFFOPS_SHARED(float, tile, 128);
  if (threadIdx.x == 127) (&tile[127])[1] = 0.0f;
}

template <class... P, class... A>
void expect_error(void (*kernel)(P...), A... args) {
  try {
    cuda::launch(kernel, dim3(1), dim3(128), 0, nullptr, args...);
    std::puts("no error");
  } catch (const std::exception& error) {
    std::puts(error.what());
  }
}

// Wrong elements with each bug, and of the other kernels, in one order a line.
void run_in_every_order() {
  float in[256], out[256];
  for (int i = 0; i < 256; ++i) in[i] = static_cast<float>(i);
  for (const host::Order order : {host::Order::kForward, host::Order::kReverse, host::Order::kShuffled}) {
    host::set_order(order, 1);
    for (const Bug bug : {Bug::kNone, Bug::kNoBarrierAfterLoad, Bug::kNoBarrierBeforeNextLoad}) {
      cuda::launch(mirror, dim3(1), dim3(128), 0, nullptr, in, out, bug);
      int wrong = 0;
      for (int i = 0; i < 256; ++i) wrong += !(out[i] == in[i / 128 * 128 + 127 - i % 128]);
      std::printf("%d ", wrong);
    }
    for (const Bug bug : {Bug::kNone, Bug::kNoWaitForCopies}) {
      cuda::launch(copied_mirror, dim3(1), dim3(128), 0, nullptr, in, out, bug);
      int wrong = 0;
      for (int i = 0; i < 128; ++i) wrong += !(out[i] == in[(127 - i) % 64 * 4]);
      std::printf("%d ", wrong);
    }
    cuda::launch(partly_written, dim3(1), dim3(128), 128 * sizeof(float), nullptr, out);
    int wrong = 0;
    for (int i = 0; i < 128; ++i) wrong += i < 64 ? out[i] != 1.0f : out[i] == out[i];
    cuda::launch(warp_sum, dim3(1), dim3(128), 0, nullptr, in, out);
    for (int i = 0; i < 128; ++i) wrong += out[i] != (i / 32 * 64 + 31) * 16.0f;
    std::printf("%d\n", wrong);
  }
}

int main() {
  run_in_every_order();
  float out[128];
  expect_error(divergent_barrier);
  expect_error(two_barriers);
  expect_error(divergent_shuffle, out);
  expect_error(element_past_the_end);
  expect_error(misaligned_vector);
  expect_error(pointer_past_the_end);
  expect_error(copies_left_behind, out);
}
