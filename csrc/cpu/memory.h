// Memory of large results, kept for the next result of that size.
//
// The allocator returns blocks of many megabytes to the system and gets them back page by page, zeroed: that costs
// several times the writing itself. A training step makes gigabytes of such results. Here they come in huge pages and
// are used again, as torch's allocators for GPUs do.
#pragma once

#include <cstdint>

namespace effops {

// Results of this size and above come from kept buffers.
constexpr int64_t kKeptBytes = 1 << 20;

// A buffer of at least `bytes` bytes, aligned to a page; null when there is no memory left.
void* take_buffer(int64_t bytes);

// Takes a buffer back. At most half as much again as was in use at one time stays free: the rest goes to the system.
void give_back_buffer(void* data);

// Returns all free buffers to the system; how many bytes that were.
int64_t release_buffers();

}  // namespace effops
