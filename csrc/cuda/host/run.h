// Runs a kernel's blocks on fibers, in a chosen order of blocks, warps and lanes.
#pragma once

#include <cstdint>

#include "block.h"

namespace effops::host {

enum class Order : int { kForward, kReverse, kShuffled };

// For the launches that follow.
void set_order(Order order, uint64_t seed);

// Calls thread(context) once a thread of the grid. Throws std::runtime_error, which tells the kernel, the threads and
// the lines, at divergent barriers, divergent warp operations and accesses out of shared memory.
void run(const char* kernel, dim3 grid, dim3 block, size_t shared_bytes, void (*thread)(void*), void* context);

}  // namespace effops::host
