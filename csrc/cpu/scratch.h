// Working memory that a thread keeps between calls, so that the steady state allocates nothing.
#pragma once

#include <cstdint>

namespace effops {

// A call may hold one buffer of each slot at a time. Those from kRows on belong to the threads that run a kernel's
// parts, the rest to the one that calls it.
enum class Slot {
  kPanels,
  kProjectPanels,
  kWeight,
  kBias,
  kReduceWeight,
  kReduceBias,
  kExpandWeight,
  kExpandBias,
  kSums,
  kWeightSums,
  kHidden,
  kRows,
  kFrame,
  kOffsets,
  kViewRows,
  kBlockSums,
  kExpandedRows,
  kHiddenRows,
  kCount
};

// At least `bytes` bytes, 64-byte aligned, uninitialised; valid until this thread asks for the slot again.
void* scratch_bytes(Slot slot, int64_t bytes);

template <class T>
T* scratch(Slot slot, int64_t count) {
  return static_cast<T*>(scratch_bytes(slot, count * static_cast<int64_t>(sizeof(T))));
}

}  // namespace effops
