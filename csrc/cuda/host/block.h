// CUDA's words for a host compiler. A block is a set of fibers, one a thread, that switch at barriers and at warp
// operations alone. A warp runs as far ahead as it can before the next one starts, in an order that is chosen
// (run.h): code that lacks a barrier gives other results in another order. Shared memory starts as NaN in every
// block and is checked at its ends. Blocks run one after another; grid-wide barriers and clusters are not modelled.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
using cudaStream_t = void*;

inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

namespace effops::host {

extern uint3 thread_index, block_index;
extern dim3 block_size, grid_size;

// A place in a kernel's source.
struct Site {
  const char* file;
  int line;
};

void barrier(Site site);
// Hands `value` to the warp; back come those of all 32 lanes, in lane order, once every lane of the mask has come.
const uint64_t* exchange(unsigned mask, uint64_t value, Site site);
unsigned lane();

// A copy of 16 bytes, or zeros where `from` is null: NaN until the thread has waited for its copies.
void copy_later(void* to, const void* from);
void wait_for_copies();

// Memory of this block for the array that `key` stands for.
void* shared_array(const void* key, size_t bytes);
void* shared_dynamic(size_t* bytes);
[[noreturn]] void out_of_range(long long index, long long end, size_t size);

template <class T>
class Shared {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  Shared(void* data, size_t bytes) : data_(static_cast<T*>(data)), count_(bytes / sizeof(T)) {}
  template <class Index>
  T& operator[](Index i) const {
    return *at(static_cast<long long>(i), 1);
  }
  // The address of `count` elements from i on.
  T* at(long long i, long long count) const {
    if (i < 0 || i + count > static_cast<long long>(count_)) out_of_range(i, count_, sizeof(T));
    return data_ + i;
  }

 private:
  T* data_;
  size_t count_;
};

template <class T>
Shared<T> dynamic_shared() {
  size_t bytes = 0;
  void* data = shared_dynamic(&bytes);
  return Shared<T>(data, bytes);
}

template <class T>
T exchanged(unsigned mask, T value, unsigned from, Site site) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8);
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  bits = exchange(mask, bits, site)[from];
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace effops::host

namespace effops {

template <class Vector, class T, class Index>
Vector& vector_at(const host::Shared<T>& shared, Index i) {
  static_assert(sizeof(Vector) % sizeof(T) == 0);
  T* at = shared.at(static_cast<long long>(i), sizeof(Vector) / sizeof(T));
  if (reinterpret_cast<uintptr_t>(at) % alignof(Vector)) host::out_of_range(static_cast<long long>(i), -1, sizeof(T));
  return *reinterpret_cast<Vector*>(at);
}

}  // namespace effops

#define threadIdx (::effops::host::thread_index)
#define blockIdx (::effops::host::block_index)
#define blockDim (::effops::host::block_size)
#define gridDim (::effops::host::grid_size)

#define EFFOPS_SHARED(type, name, count)       \
  static const char effops_site_of_##name = 0; \
  const ::effops::host::Shared<type> name(     \
      ::effops::host::shared_array(&effops_site_of_##name, (count) * sizeof(type)), (count) * sizeof(type))
#define EFFOPS_SHARED_DYNAMIC(type, name) \
  const ::effops::host::Shared<type> name = ::effops::host::dynamic_shared<type>()

// The place is that of the call: default arguments are evaluated there.
#define EFFOPS_CALLER const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(EFFOPS_CALLER) { effops::host::barrier({file, line}); }
inline void __syncwarp(unsigned mask = ~0u, EFFOPS_CALLER) { effops::host::exchange(mask, 0, {file, line}); }
template <class T>
T __shfl_sync(unsigned mask, T value, int from, int width = 32, EFFOPS_CALLER) {
  const unsigned me = effops::host::lane();
  return effops::host::exchanged(mask, value, (me & ~(width - 1u)) | (from & (width - 1u)), {file, line});
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, EFFOPS_CALLER) {
  const unsigned me = effops::host::lane(), from = me ^ bits;
  return effops::host::exchanged(mask, value, from / width > me / width ? me : from, {file, line});
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32, EFFOPS_CALLER) {
  const unsigned me = effops::host::lane(), from = me + by;
  return effops::host::exchanged(mask, value, from / width != me / width ? me : from, {file, line});
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32, EFFOPS_CALLER) {
  const unsigned me = effops::host::lane();
  return effops::host::exchanged(mask, value, me % width < by ? me : me - by, {file, line});
}
inline unsigned __ballot_sync(unsigned mask, int predicate, EFFOPS_CALLER) {
  const uint64_t* votes = effops::host::exchange(mask, predicate != 0, {file, line});
  unsigned ballot = 0;
  for (unsigned i = 0; i < 32; ++i) ballot |= (mask >> i & 1u) && votes[i] ? 1u << i : 0u;
  return ballot;
}
inline int __any_sync(unsigned mask, int predicate, EFFOPS_CALLER) {
  return __ballot_sync(mask, predicate, file, line) != 0;
}
inline int __all_sync(unsigned mask, int predicate, EFFOPS_CALLER) {
  return __ballot_sync(mask, predicate, file, line) == mask;
}

// Approximate on a device, exact here.
// Macros where the C library has the name.
#define __expf(x) std::exp(static_cast<float>(x))
#define __logf(x) std::log(static_cast<float>(x))
#define rsqrtf(x) (1.0f / std::sqrt(static_cast<float>(x)))
inline float __fdividef(float a, float b) { return a / b; }
template <class T>
T __ldg(const T* p) {
  return *p;
}
inline unsigned __float_as_uint(float f) {
  unsigned u;
  std::memcpy(&u, &f, sizeof u);
  return u;
}
inline float __uint_as_float(unsigned u) {
  float f;
  std::memcpy(&f, &u, sizeof f);
  return f;
}
inline int __popc(unsigned u) { return __builtin_popcount(u); }
inline int __clz(int i) { return i ? __builtin_clz(static_cast<unsigned>(i)) : 32; }
inline int __ffs(int i) { return __builtin_ffs(i); }
// clang-format off
template <class T> constexpr T min(T a, T b) { return b < a ? b : a; }
template <class T> constexpr T max(T a, T b) { return a < b ? b : a; }
// clang-format on
