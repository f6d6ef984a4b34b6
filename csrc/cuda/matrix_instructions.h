// Asynchronous copies into shared memory and products of fragments on tensor cores (sm_80 and later), each with a body
// for devices and one for the host. Fragments lie over a warp as the PTX manual has it for mma.m16n8k16.
#pragma once

#include "instructions.h"

namespace effops::cuda {

// The operands of one product of a warp: (16, 16) rows by (8, 16) columns of 16-bit values, two in a register.
using RowFragment = unsigned[4];
using ColumnFragment = unsigned[2];
using SumFragment = float[4];

#if defined(__CUDACC__)

// Starts to copy 16 bytes to shared[byte], or writes zeros.
template <class Shared>
__device__ __forceinline__ void copy_async(Shared& shared, int byte, const void* from, bool present) {
  const unsigned to = static_cast<unsigned>(__cvta_generic_to_shared(&shared[byte]));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(present ? 16 : 0) : "memory");
}

// Waits for this thread's copies; others see them after the next barrier.
__device__ __forceinline__ void wait_for_copies() { asm volatile("cp.async.wait_all;" ::: "memory"); }

// Four 8 x 8 matrices of 16-bit values; lane 8 i + r names the 16 bytes of row r of matrix i.
template <class Shared>
__device__ __forceinline__ void load_matrices(unsigned (&to)[4], Shared& shared, int byte) {
  const unsigned from = static_cast<unsigned>(__cvta_generic_to_shared(&shared[byte]));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(from)
               : "memory");
}

// sums += a b^T in float32.
template <class T>
__device__ __forceinline__ void multiply_add(SumFragment& d, const RowFragment& a, const ColumnFragment& b) {
  static_assert(sizeof(T) == 2);
  if constexpr (std::is_same_v<T, bf16>) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  } else {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
}

#else

template <class Shared>
void copy_async(Shared& shared, int byte, const void* from, bool present) {
  host::copy_later(&vector_at<uint4>(shared, byte), present ? from : nullptr);
}

inline void wait_for_copies() { host::wait_for_copies(); }

template <class Shared>
void load_matrices(unsigned (&to)[4], Shared& shared, int byte, EFFOPS_CALLER) {
  const auto own = reinterpret_cast<uint64_t>(&vector_at<uint4>(shared, byte));
  const uint64_t* rows = host::exchange(~0u, own, {file, line});
  const unsigned lane = host::lane();
  for (int i = 0; i < 4; ++i) {
    memcpy(&to[i], reinterpret_cast<const unsigned char*>(rows[8 * i + lane / 4]) + lane % 4 * 4, 4);
  }
}

// What a lane brings to a product. Two sets, as a lane may be one product ahead of another.
struct Fragments {
  float a[4][2], b[2][2];
};
inline Fragments fragments[2][32];
inline unsigned products[32];

template <class T>
void multiply_add(SumFragment& d, const RowFragment& a, const ColumnFragment& b, EFFOPS_CALLER) {
  const unsigned lane = host::lane(), set = products[lane]++ % 2;
  const auto unpack = [](float (&to)[2], unsigned from) {
    T pair[2];
    memcpy(pair, &from, sizeof pair);
    to[0] = to_float(pair[0]), to[1] = to_float(pair[1]);
  };
  for (int i = 0; i < 4; ++i) unpack(fragments[set][lane].a[i], a[i]);
  for (int i = 0; i < 2; ++i) unpack(fragments[set][lane].b[i], b[i]);
  host::exchange(~0u, 0, {file, line});
  const unsigned row = lane / 4, column = lane % 4 * 2;
  for (int i = 0; i < 4; ++i) {
    float sum = 0.0f;
    for (int k = 0; k < 16; ++k) {
      const int register_pair = k / 8, pair = k % 8 / 2;
      sum += fragments[set][row * 4 + pair].a[2 * register_pair + i / 2][k % 2] *
             fragments[set][(column + i % 2) * 4 + pair].b[register_pair][k % 2];
    }
    d[i] += sum;
  }
}

#endif

}  // namespace effops::cuda
