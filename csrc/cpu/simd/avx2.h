// Eight float lanes for AVX2 with FMA.
#pragma once

#include <immintrin.h>

#include "../../core/params.h"
#include "sigmoid.h"

namespace effops {

struct Avx2 {
  static constexpr int kLanes = 8;
  static constexpr int kRegisters = 16;
  static constexpr bool kBf16Dot = false;

  __m256 v;

  Avx2() = default;
  explicit Avx2(__m256 x) : v(x) {}
  explicit Avx2(float f) : v(_mm256_set1_ps(f)) {}

  static Avx2 load(const float* p) { return Avx2(_mm256_loadu_ps(p)); }
  // Lanes from n on are not touched in memory; they read as zero.
  static Avx2 load(const float* p, int n) { return Avx2(_mm256_maskload_ps(p, first(n))); }
  static Avx2 load(const bf16* p) {
    const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return Avx2(_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16)));
  }
  static Avx2 load(const bf16* p, int n) {
    alignas(16) bf16 lanes[8] = {};
    for (int i = 0; i < n; ++i) lanes[i] = p[i];
    return load(lanes);
  }
  void store(float* p) const { _mm256_storeu_ps(p, v); }
  void store(float* p, int n) const { _mm256_maskstore_ps(p, first(n), v); }
  void store(bf16* p) const { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), rounded()); }
  void store(bf16* p, int n) const {
    alignas(16) bf16 lanes[8];
    _mm_store_si128(reinterpret_cast<__m128i*>(lanes), rounded());
    for (int i = 0; i < n; ++i) p[i] = lanes[i];
  }
  float sum() const {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
  }

  friend Avx2 operator+(Avx2 a, Avx2 b) { return Avx2(_mm256_add_ps(a.v, b.v)); }
  friend Avx2 operator-(Avx2 a, Avx2 b) { return Avx2(_mm256_sub_ps(a.v, b.v)); }
  friend Avx2 operator*(Avx2 a, Avx2 b) { return Avx2(_mm256_mul_ps(a.v, b.v)); }
  friend Avx2 operator/(Avx2 a, Avx2 b) { return Avx2(_mm256_div_ps(a.v, b.v)); }
  friend Avx2 fma(Avx2 a, Avx2 b, Avx2 c) { return Avx2(_mm256_fmadd_ps(a.v, b.v, c.v)); }
  friend Avx2 vmin(Avx2 a, Avx2 b) { return Avx2(_mm256_min_ps(a.v, b.v)); }
  friend Avx2 vmax(Avx2 a, Avx2 b) { return Avx2(_mm256_max_ps(a.v, b.v)); }
  friend Avx2 vabs(Avx2 a) { return Avx2(_mm256_andnot_ps(_mm256_set1_ps(-0.0f), a.v)); }
  friend Avx2 copysign(Avx2 a, Avx2 b) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return Avx2(_mm256_or_ps(_mm256_andnot_ps(sign, a.v), _mm256_and_ps(sign, b.v)));
  }
  friend Avx2 where_positive(Avx2 x, Avx2 a, Avx2 b) {
    return Avx2(_mm256_blendv_ps(b.v, a.v, _mm256_cmp_ps(x.v, _mm256_setzero_ps(), _CMP_GT_OQ)));
  }
  friend Avx2 low_bits_as_exponent(Avx2 a) {
    return Avx2(_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(a.v), 23)));
  }
  // 2^(k / 8), k the integer in the low 20 bits.
  friend Avx2 low_bits_as_power_of_eighths(Avx2 a) {
    const __m256i k = _mm256_castps_si256(a.v);
    const __m256i eighths = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kEighths));
    const __m256i fraction = _mm256_permutevar8x32_epi32(eighths, k);
    return Avx2(_mm256_castsi256_ps(_mm256_add_epi32(fraction, _mm256_slli_epi32(k, 20))));
  }

 private:
  static __m256i first(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  // Round to nearest even; a NaN stays a quiet NaN.
  __m128i rounded() const {
    const __m256i bits = _mm256_castps_si256(v);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    const __m256i high = _mm256_srli_epi32(_mm256_blendv_epi8(up, quiet, nan), 16);
    return _mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1));
  }
};

template <>
inline Avx2 Silu::apply(Avx2 x) {
  return x / one_plus_exp_of_minus(x);
}
template <>
inline Avx2 Sigmoid::apply(Avx2 x) {
  return Avx2(1.0f) / one_plus_exp_of_minus(x);
}

}  // namespace effops
