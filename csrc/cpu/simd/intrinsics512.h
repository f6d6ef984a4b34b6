// The AVX-512 intrinsics: the compiler's, or SIMDe's portable ones where the tests run them on another
// processor.
#pragma once

#if defined(EFFOPS_EMULATE_AVX512)

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>

// What SIMDe 0.8.2 lacks.
inline __m256i emulated_cvtepi32_epi16(__m512i a) {
  int32_t in[16];
  int16_t out[16];
  __builtin_memcpy(in, &a, sizeof in);
  for (int i = 0; i < 16; ++i) out[i] = static_cast<int16_t>(in[i]);
  __m256i r;
  __builtin_memcpy(&r, out, sizeof r);
  return r;
}
inline float emulated_reduce_add_ps(__m512 a) {
  float in[16], sum = 0.0f;
  __builtin_memcpy(in, &a, sizeof in);
  for (const float lane : in) sum += lane;
  return sum;
}

// Round to nearest even, subnormal values to zero; a NaN becomes quiet.
inline __m256i emulated_cvtneps_pbh(__m512 a) {
  uint32_t in[16];
  uint16_t out[16];
  __builtin_memcpy(in, &a, sizeof in);
  for (int i = 0; i < 16; ++i) {
    const uint32_t exponent = in[i] & 0x7f800000, fraction = in[i] & 0x7fffff;
    const uint32_t up = exponent == 0x7f800000 ? 0 : 0x7fff + (in[i] >> 16 & 1);
    const uint32_t bits = exponent == 0 ? in[i] & 0x80000000 : in[i] + up;
    out[i] = static_cast<uint16_t>(bits >> 16 | (exponent == 0x7f800000 && fraction ? 0x40 : 0));
  }
  __m256i r;
  __builtin_memcpy(&r, out, sizeof r);
  return r;
}

// SIMDe 0.8.2 writes zeros to the masked-off elements and reads them too; the processor touches neither.
template <class T>
inline void emulated_mask_storeu(void* memory, uint32_t mask, const void* vector, int lanes) {
  for (int i = 0; i < lanes; ++i) {
    if (mask >> i & 1) __builtin_memcpy(static_cast<T*>(memory) + i, static_cast<const T*>(vector) + i, sizeof(T));
  }
}
template <class V, class T>
inline V emulated_maskz_loadu(uint32_t mask, const void* memory) {
  V r;
  __builtin_memset(&r, 0, sizeof r);
  emulated_mask_storeu<T>(&r, mask, memory, sizeof(V) / sizeof(T));
  return r;
}
#undef _mm512_mask_storeu_ps
#undef _mm256_mask_storeu_epi16
#undef _mm512_maskz_loadu_ps
#undef _mm256_maskz_loadu_epi16
#define _mm512_mask_storeu_ps(p, k, a) emulated_mask_storeu<float>(p, k, &(a), 16)
#define _mm256_mask_storeu_epi16(p, k, a) emulated_mask_storeu<int16_t>(p, k, &static_cast<const __m256i&>(a), 16)
#define _mm512_maskz_loadu_ps(k, p) emulated_maskz_loadu<__m512, float>(k, p)
#define _mm256_maskz_loadu_epi16(k, p) emulated_maskz_loadu<__m256i, int16_t>(k, p)
#define _mm512_cvtepi32_epi16 emulated_cvtepi32_epi16
#define _mm512_reduce_add_ps emulated_reduce_add_ps
#undef _mm512_cvtneps_pbh
#define _mm512_cvtneps_pbh emulated_cvtneps_pbh

#else
#include <immintrin.h>
#endif
