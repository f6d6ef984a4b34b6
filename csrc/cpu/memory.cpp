#include "memory.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <mutex>
#include <unordered_map>

#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif
#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace effops {
namespace {

class Buffers {
 public:
  void* take(int64_t bytes) {
    const int64_t size = (bytes + kHugePage - 1) / kHugePage * kHugePage;
    const std::lock_guard<std::mutex> lock(mutex_);
    auto fitting = free_.lower_bound(size);
    // A looser fit would take the buffer of a result that comes in every step.
    const bool found = fitting != free_.end() && fitting->first <= size + size / 8;
    void* data = found ? fitting->second : map_pages(size);
    const int64_t taken = found ? fitting->first : size;
    if (found) {
      free_.erase(fitting);
      free_bytes_ -= taken;
    } else if (!data && free_bytes_) {
      release(0);
      data = map_pages(size);
    }
    if (!data) return nullptr;
    used_[data] = taken;
    used_bytes_ += taken;
    most_used_ = std::max(most_used_, used_bytes_);
    return data;
  }

  void give_back(void* data) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto at = used_.find(data);
    const int64_t size = at->second;
    used_.erase(at);
    used_bytes_ -= size;
    free_.emplace(size, data);
    free_bytes_ += size;
    // Sizes have their peaks at different times of a step, so that all of them together are more than its peak.
    release(most_used_ + most_used_ / 2);
  }

  int64_t release_all() {
    const std::lock_guard<std::mutex> lock(mutex_);
    most_used_ = used_bytes_;
    return release(0);
  }

 private:
  // Frees the largest until at most `keep` bytes are free; what was freed.
  int64_t release(int64_t keep) {
    const int64_t before = free_bytes_;
    while (free_bytes_ > keep) {
      const auto largest = std::prev(free_.end());
      unmap_pages(largest->second, largest->first);
      free_bytes_ -= largest->first;
      free_.erase(largest);
    }
    return before - free_bytes_;
  }

  std::mutex mutex_;
  std::multimap<int64_t, void*> free_;       // by size
  std::unordered_map<void*, int64_t> used_;  // size of each
  int64_t free_bytes_ = 0, used_bytes_ = 0, most_used_ = 0;
};

// Never destroyed: tensors may outlive every static object.
Buffers& buffers() {
  static Buffers* all = new Buffers;
  return *all;
}

}  // namespace

#if defined(__linux__)
// The C library would cut aligned buffers of this size out of its heap, where what lies between them stays.
void* map_pages(int64_t bytes) {
  const auto map = [](int64_t size) {
    void* data = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return data == MAP_FAILED ? nullptr : static_cast<char*>(data);
  };
  char* data = map(bytes);
  if (data && reinterpret_cast<uintptr_t>(data) % kHugePage) {
    munmap(data, bytes);
    char* wide = map(bytes + kHugePage);
    if (!wide) return nullptr;
    const int64_t before = (kHugePage - reinterpret_cast<uintptr_t>(wide) % kHugePage) % kHugePage;
    if (before) munmap(wide, before);
    data = wide + before;
    if (before < kHugePage) munmap(data + bytes, kHugePage - before);
  }
#if defined(MADV_HUGEPAGE)
  if (data) madvise(data, bytes, MADV_HUGEPAGE);  // advice: a refusal changes nothing
#endif
  return data;
}

void unmap_pages(void* data, int64_t bytes) { munmap(data, bytes); }

void forget_pages(void* data, int64_t bytes) { madvise(data, bytes, MADV_DONTNEED); }
#else
void* map_pages(int64_t bytes) { return std::aligned_alloc(kHugePage, bytes); }
void unmap_pages(void* data, int64_t) { std::free(data); }
void forget_pages(void*, int64_t) {}
#endif

void* take_buffer(int64_t bytes) { return buffers().take(bytes); }
void give_back_buffer(void* data) { buffers().give_back(data); }
int64_t release_buffers() { return buffers().release_all(); }

void release_heap() {
#if defined(__GLIBC__)
  malloc_trim(0);
#endif
}

void page_out(const void* data, int64_t bytes) {
#if defined(__linux__) && defined(MADV_PAGEOUT)
  // Whole pages, and of no others: what shares them lies in the same file.
  const uintptr_t page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t begin = reinterpret_cast<uintptr_t>(data) / page * page;
  // Loses nothing: pages that were written to stay, or go to the swap.
  madvise(reinterpret_cast<void*>(begin), reinterpret_cast<uintptr_t>(data) + bytes - begin, MADV_PAGEOUT);
#else
  static_cast<void>(data), static_cast<void>(bytes);
#endif
}

}  // namespace effops
