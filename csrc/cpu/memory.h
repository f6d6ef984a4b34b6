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

// Memory of its own from the system, and back to it: whole huge pages, which are there when they are written to. Null
// when there is none left.
constexpr int64_t kHugePage = 2 << 20;
void* map_pages(int64_t bytes);
void unmap_pages(void* data, int64_t bytes);
// Returns pages whose values nobody needs; they stay mapped.
void forget_pages(void* data, int64_t bytes);

// Returns what the C library's allocator holds free; it would keep blocks of up to 32 MiB for its next calls.
void release_heap();

// Takes pages of a mapped file out of this process; whoever reads them again gets them from the file.
void page_out(const void* data, int64_t bytes);

}  // namespace effops
