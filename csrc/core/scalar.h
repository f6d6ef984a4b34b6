// What activation.h asks of a value type, for float: on the host and on CUDA devices.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define EFFOPS_HD __host__ __device__
#else
#define EFFOPS_HD
#endif

namespace effops {

EFFOPS_HD inline float fma(float a, float b, float c) { return ::fmaf(a, b, c); }
// b when unordered.
EFFOPS_HD inline float vmin(float a, float b) { return a < b ? a : b; }
EFFOPS_HD inline float vmax(float a, float b) { return a > b ? a : b; }
EFFOPS_HD inline float vabs(float a) { return ::fabsf(a); }
EFFOPS_HD inline float copysign(float a, float b) { return ::copysignf(a, b); }
EFFOPS_HD inline float where_positive(float x, float a, float b) { return x > 0.0f ? a : b; }
EFFOPS_HD inline float low_bits_as_exponent(float a) {
  uint32_t bits;
  memcpy(&bits, &a, sizeof bits);
  bits <<= 23;
  memcpy(&a, &bits, sizeof a);
  return a;
}

}  // namespace effops
