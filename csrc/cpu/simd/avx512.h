// Sixteen float lanes for AVX-512 (F, BW, DQ, VL), and the tier above it that multiplies bfloat16 pairs.
#pragma once

#include "intrinsics512.h"

#include "../../core/params.h"
#include "sigmoid.h"

namespace effops {

template <class Self>
struct Avx512Base {
  static constexpr int kLanes = 16;
  static constexpr int kRegisters = 32;

  __m512 v;

  static Self load(const float* p) { return Self(_mm512_loadu_ps(p)); }
  // Lanes from n on are not touched in memory; they read as zero.
  static Self load(const float* p, int n) { return Self(_mm512_maskz_loadu_ps(first(n), p)); }
  static Self load(const bf16* p) { return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
  static Self load(const bf16* p, int n) { return widen(_mm256_maskz_loadu_epi16(first(n), p)); }
  void store(float* p) const { _mm512_storeu_ps(p, v); }
  void store(float* p, int n) const { _mm512_mask_storeu_ps(p, first(n), v); }
  void store(bf16* p) const { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), self().rounded()); }
  void store(bf16* p, int n) const { _mm256_mask_storeu_epi16(p, first(n), self().rounded()); }
  float sum() const { return _mm512_reduce_add_ps(v); }
  // The other lanes are zero.
  template <class Half>
  static Self widen(Half half) {
    return Self(_mm512_insertf32x8(_mm512_setzero_ps(), half.v, 0));
  }

  friend Self operator+(Self a, Self b) { return Self(_mm512_add_ps(a.v, b.v)); }
  friend Self operator-(Self a, Self b) { return Self(_mm512_sub_ps(a.v, b.v)); }
  friend Self operator*(Self a, Self b) { return Self(_mm512_mul_ps(a.v, b.v)); }
  friend Self operator/(Self a, Self b) { return Self(_mm512_div_ps(a.v, b.v)); }
  friend Self fma(Self a, Self b, Self c) { return Self(_mm512_fmadd_ps(a.v, b.v, c.v)); }
  friend Self vmin(Self a, Self b) { return Self(_mm512_min_ps(a.v, b.v)); }
  friend Self vmax(Self a, Self b) { return Self(_mm512_max_ps(a.v, b.v)); }
  friend Self vabs(Self a) { return Self(_mm512_abs_ps(a.v)); }
  friend Self copysign(Self a, Self b) {
    const __m512 sign = _mm512_set1_ps(-0.0f);
    return Self(_mm512_or_ps(_mm512_andnot_ps(sign, a.v), _mm512_and_ps(sign, b.v)));
  }
  friend Self where_positive(Self x, Self a, Self b) {
    return Self(_mm512_mask_blend_ps(_mm512_cmp_ps_mask(x.v, _mm512_setzero_ps(), _CMP_GT_OQ), b.v, a.v));
  }
  friend Self low_bits_as_exponent(Self a) {
    return Self(_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(a.v), 23)));
  }
  // 2^(k / 8), k the integer in the low 20 bits.
  friend Self low_bits_as_power_of_eighths(Self a) {
    const __m512i k = _mm512_castps_si512(a.v);
    const __m256i eighths = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kEighths));
    const __m512i fraction = _mm512_permutexvar_epi32(k, _mm512_broadcast_i64x4(eighths));
    return Self(_mm512_castsi512_ps(_mm512_add_epi32(fraction, _mm512_slli_epi32(k, 20))));
  }

 protected:
  Avx512Base() = default;
  explicit Avx512Base(__m512 x) : v(x) {}

  const Self& self() const { return static_cast<const Self&>(*this); }
  static __mmask16 first(int n) { return static_cast<__mmask16>((1u << n) - 1u); }
  static Self widen(__m256i half) {
    return Self(_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16)));
  }
  // Round to nearest even; a NaN stays a quiet NaN.
  __m256i rounded() const {
    const __m512i bits = _mm512_castps_si512(v);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i up = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
    const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_mask_mov_epi32(up, nan, quiet), 16));
  }
};

// The first eight lanes alone, for sums of products: half of the work where sixteen lanes are two times eight.
template <class Self>
struct Avx512HalfBase {
  static constexpr int kLanes = 8;

  __m256 v;

  static Self load(const float* p) { return Self(_mm256_loadu_ps(p)); }
  void store(float* p) const { _mm256_storeu_ps(p, v); }
  friend Self operator+(Self a, Self b) { return Self(_mm256_add_ps(a.v, b.v)); }
  friend Self fma(Self a, Self b, Self c) { return Self(_mm256_fmadd_ps(a.v, b.v, c.v)); }

 protected:
  Avx512HalfBase() = default;
  explicit Avx512HalfBase(__m256 x) : v(x) {}
};

struct Avx512Half : Avx512HalfBase<Avx512Half> {
  Avx512Half() = default;
  explicit Avx512Half(__m256 x) : Avx512HalfBase(x) {}
  explicit Avx512Half(float f) : Avx512HalfBase(_mm256_set1_ps(f)) {}
};

struct Avx512 : Avx512Base<Avx512> {
  using Half = Avx512Half;
  static constexpr bool kBf16Dot = false;
  Avx512() = default;
  explicit Avx512(__m512 x) : Avx512Base(x) {}
  explicit Avx512(float f) : Avx512Base(_mm512_set1_ps(f)) {}
};

template <>
inline Avx512 Silu::apply(Avx512 x) {
  return x / one_plus_exp_of_minus(x);
}
template <>
inline Avx512 Sigmoid::apply(Avx512 x) {
  return Avx512(1.0f) / one_plus_exp_of_minus(x);
}

#if defined(EFFOPS_BF16_DOT)
// 2^(i / 32), raised by half of the largest error of a line for 2^r, as the bits of a float less i << 18.
alignas(64) constexpr int32_t k32nds[32] = {
    0x3f8000f8, 0x3f7ece84, 0x3f7dabc7, 0x3f7c9917, 0x3f7b96d1, 0x3f7aa54e, 0x3f79c4ee, 0x3f78f611,
    0x3f783918, 0x3f778e67, 0x3f76f667, 0x3f76717e, 0x3f760019, 0x3f75a2a4, 0x3f75598f, 0x3f75254d,
    0x3f750652, 0x3f74fd16, 0x3f750a12, 0x3f752dc4, 0x3f7568a9, 0x3f75bb45, 0x3f76261c, 0x3f76a9b6,
    0x3f77469e, 0x3f77fd62, 0x3f78ce93, 0x3f79bac5, 0x3f7ac28e, 0x3f7be68b, 0x3f7d2759, 0x3f7e8599};

struct Avx512Bf16Half : Avx512HalfBase<Avx512Bf16Half> {
  Avx512Bf16Half() = default;
  explicit Avx512Bf16Half(__m256 x) : Avx512HalfBase(x) {}
  explicit Avx512Bf16Half(float f) : Avx512HalfBase(_mm256_set1_ps(f)) {}
  // As that of Avx512Bf16, for 16 values of b.
  static Avx512Bf16Half dot_pair(const bf16* a, const bf16* b, Avx512Bf16Half acc) {
    int32_t pair;
    __builtin_memcpy(&pair, a, sizeof pair);
    const __m256i columns = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b));
    return Avx512Bf16Half(_mm256_dpbf16_ps(acc.v, (__m256bh)_mm256_set1_epi32(pair), (__m256bh)columns));
  }
};

struct Avx512Bf16 : Avx512Base<Avx512Bf16> {
  using Half = Avx512Bf16Half;
  static constexpr bool kBf16Dot = true;
  // A panel of weights has a multiple of so many rows of pairs: what a tile of AMX reads, so that the tier above this
  // one, which shares its other kernels, shares the panels.
  static constexpr int64_t kPairRows = 16;
  Avx512Bf16() = default;
  explicit Avx512Bf16(__m512 x) : Avx512Base(x) {}
  explicit Avx512Bf16(float f) : Avx512Base(_mm512_set1_ps(f)) {}
  // One instruction instead of nine. It takes subnormal values as zeros.
  __m256i rounded() const { return (__m256i)_mm512_cvtneps_pbh(v); }

  // SiLU for what is stored as bfloat16, whose own rounding is 20 times the error of fewer steps, 1e-4 relative: as in
  // sigmoid.h, but with 32nds from a table in two registers, a line for 2^r and an estimate of the reciprocal.
  friend Avx512Bf16 coarse_silu(Avx512Bf16 x) {
    const Avx512Bf16 log2e(-1.44269504f), near = vmin(Avx512Bf16(87.0f), vmax(Avx512Bf16(-87.0f), x));
    // Adding 1.5 * 2^18 rounds to a 32nd and leaves k in the low bits.
    const Avx512Bf16 magic(393216.0f), rounded = fma(near, log2e, magic);
    const Avx512Bf16 p = fma(fma(near, log2e, magic - rounded), Avx512Bf16(0.69312015f), Avx512Bf16(1.0f));
    const __m512i k = _mm512_castps_si512(rounded.v);
    const __m512i fraction = _mm512_permutex2var_epi32(_mm512_load_si512(k32nds), k, _mm512_load_si512(k32nds + 16));
    const Avx512Bf16 power(_mm512_castsi512_ps(_mm512_add_epi32(fraction, _mm512_slli_epi32(k, 18))));
    return x * Avx512Bf16(_mm512_rcp14_ps(fma(p, power, Avx512Bf16(1.0f)).v));
  }

  // acc[i] += a0 b[2i] + a1 b[2i + 1]: a points at two consecutive values, b at 32.
  static Avx512Bf16 dot_pair(const bf16* a, const bf16* b, Avx512Bf16 acc) {
    int32_t pair;
    __builtin_memcpy(&pair, a, sizeof pair);
    const __m512i columns = _mm512_loadu_si512(b);
    return Avx512Bf16(_mm512_dpbf16_ps(acc.v, (__m512bh)_mm512_set1_epi32(pair), (__m512bh)columns));
  }
};
template <>
inline Avx512Bf16 Silu::apply(Avx512Bf16 x) {
  return x / one_plus_exp_of_minus(x);
}
template <>
inline Avx512Bf16 Sigmoid::apply(Avx512Bf16 x) {
  return Avx512Bf16(1.0f) / one_plus_exp_of_minus(x);
}
#endif

}  // namespace effops
