// Launches a kernel, on a device and on the host alike, and names it in the error when it cannot be.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "device.h"
#if !defined(__CUDACC__)
#include <dlfcn.h>

#include "host/run.h"
#endif

namespace effops::cuda {

// A cudaStream_t; bindings hand it through without CUDA's headers.
using Stream = void*;

#if defined(__CUDACC__)

template <class... Params>
void launch(void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared_bytes, Stream stream,
            std::common_type_t<Params>... params) {
  constexpr size_t kAlwaysThere = 48 * 1024;
  void* arguments[] = {&params...};
  const void* entry = reinterpret_cast<const void*>(kernel);
  cudaError_t error = cudaSuccess;
  if (shared_bytes > kAlwaysThere) {
    error = cudaFuncSetAttribute(entry, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes));
  }
  if (error == cudaSuccess) {
    error = cudaLaunchKernel(entry, grid, block, arguments, shared_bytes, static_cast<cudaStream_t>(stream));
  }
  if (error == cudaSuccess) return;
  cudaGetLastError();  // so that the next call does not report it again
  const char* name = nullptr;
  if (cudaFuncGetName(&name, entry) != cudaSuccess) name = "a kernel without a name";
  throw std::runtime_error(std::string("effops: CUDA cannot launch ") + name + " with " + std::to_string(grid.x) +
                           " x " + std::to_string(grid.y) + " x " + std::to_string(grid.z) + " blocks of " +
                           std::to_string(block.x * block.y * block.z) + " threads and " +
                           std::to_string(shared_bytes) + " bytes of shared memory: " + cudaGetErrorString(error));
}

#else

template <class... Params>
void launch(void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared_bytes, Stream,
            std::common_type_t<Params>... params) {
  auto thread = [&] { kernel(params...); };
  Dl_info info{};
  const bool named = dladdr(reinterpret_cast<void*>(kernel), &info) && info.dli_sname;
  host::run(
      named ? info.dli_sname : __PRETTY_FUNCTION__, grid, block, shared_bytes,
      [](void* context) { (*static_cast<decltype(thread)*>(context))(); }, &thread);
}

#endif

}  // namespace effops::cuda
