// Conversions and 16-byte accesses: the one file where instructions are named, each with a body for devices and one for
// the host.
#pragma once

#include "../core/params.h"
#include "device.h"
#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

namespace effops::cuda {

__device__ inline float to_float(float v) { return v; }
__device__ inline float to_float(bf16 v) { return __uint_as_float(static_cast<unsigned>(v.bits) << 16); }

#if defined(__CUDACC__)

__device__ inline float to_float(fp16 v) { return __half2float(__ushort_as_half(v.bits)); }
__device__ inline void from_float(float f, bf16& v) { v.bits = __bfloat16_as_ushort(__float2bfloat16_rn(f)); }
__device__ inline void from_float(float f, fp16& v) { v.bits = __half_as_ushort(__float2half_rn(f)); }

#else

__device__ inline float to_float(fp16 v) {
  const unsigned sign = static_cast<unsigned>(v.bits & 0x8000u) << 16, exponent = v.bits >> 10 & 31u;
  const unsigned fraction = v.bits & 0x3ffu;
  if (exponent == 31) return __uint_as_float(sign | 0x7f800000u | fraction << 13);
  if (exponent == 0) return std::copysign(std::ldexp(static_cast<float>(fraction), -24), __uint_as_float(sign));
  return __uint_as_float(sign | (exponent + 112) << 23 | fraction << 13);
}

// Rounded to nearest even; a NaN stays a NaN.
__device__ inline void from_float(float f, bf16& v) {
  const unsigned bits = __float_as_uint(f);
  v.bits = static_cast<uint16_t>((f != f ? bits | 0x400000u : bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

__device__ inline void from_float(float f, fp16& v) {
  const unsigned sign = __float_as_uint(f) >> 16 & 0x8000u;
  const float size = std::fabs(f);
  unsigned bits;
  if (f != f) {
    bits = 0x7e00u;
  } else if (size >= 65520.0f) {  // halfway to 2^16
    bits = 0x7c00u;
  } else if (size < 6.103515625e-05f) {  // 2^-14: subnormal, a multiple of 2^-24
    bits = static_cast<unsigned>(std::nearbyint(size * 16777216.0f));
  } else {
    const unsigned u = __float_as_uint(size);
    bits = (u + 0xfffu + (u >> 13 & 1u) - (112u << 23)) >> 13;
  }
  v.bits = static_cast<uint16_t>(sign | bits);
}

#endif

__device__ inline void from_float(float f, float& v) { v = f; }

// i, of which the compiler knows nothing: what is made from it is computed where it stands, not kept in registers for
// all rounds of a loop.
__device__ inline int unknown(int i) {
#if defined(__CUDACC__)
  asm volatile("" : "+r"(i));
#endif
  return i;
}

// f as it is after it has been stored as a T.
template <class T>
__device__ inline float rounded(float f) {
  T v;
  from_float(f, v);
  return to_float(v);
}

// Values of 16 bytes.
template <class T>
constexpr int kLanes = 16 / static_cast<int>(sizeof(T));

// 16 bytes as they lie in memory.
template <class T>
struct alignas(16) Packed {
  T v[kLanes<T>];
};

template <class T>
__device__ inline Packed<T> load_packed(const T* aligned) {
  const uint4 bits = *reinterpret_cast<const uint4*>(aligned);
  Packed<T> p;
  memcpy(&p, &bits, sizeof bits);
  return p;
}

// The first `count` values one by one, zeros after them.
template <class T>
__device__ inline Packed<T> load_packed(const T* at, int64_t count) {
  Packed<T> p{};
#pragma unroll
  for (int i = 0; i < kLanes<T>; ++i) {
    if (i < count) p.v[i] = at[i];
  }
  return p;
}

template <class T>
__device__ inline void store_packed(T* aligned, const Packed<T>& p) {
  uint4 bits;
  memcpy(&bits, &p, sizeof bits);
  *reinterpret_cast<uint4*>(aligned) = bits;
}

template <class T>
__device__ inline void store_packed(T* at, const Packed<T>& p, int64_t count) {
#pragma unroll
  for (int i = 0; i < kLanes<T>; ++i) {
    if (i < count) at[i] = p.v[i];
  }
}

// Two neighbouring values in one access of their joint size.
template <class T>
__device__ inline void store_pair(T* aligned, float first, float second) {
  struct alignas(2 * sizeof(T)) Pair {
    T v[2];
  } pair;
  from_float(first, pair.v[0]);
  from_float(second, pair.v[1]);
  *reinterpret_cast<Pair*>(aligned) = pair;
}

// An element of a tensor whose dtype is known at run time.
__device__ inline float load_as(const void* data, DType dtype, int64_t i) {
  switch (dtype) {
    case DType::kFloat32:
      return static_cast<const float*>(data)[i];
    case DType::kBFloat16:
      return to_float(static_cast<const bf16*>(data)[i]);
    case DType::kFloat16:
      return to_float(static_cast<const fp16*>(data)[i]);
  }
  return 0.0f;
}

// Host code: calls f with a value of the element type of a dtype.
template <class F>
inline void with_dtype(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kFloat32:
      return f(float{});
    case DType::kBFloat16:
      return f(bf16{});
    case DType::kFloat16:
      return f(fp16{});
  }
}

}  // namespace effops::cuda
