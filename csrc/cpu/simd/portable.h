// A SIMD vector of L lanes in plain C++: the scalar tier with L = 1, and the tests' stand-in for wider tiers.
#pragma once

#include <cmath>
#include <cstring>

#include "../../core/params.h"

namespace effops {

inline float bf16_to_float(bf16 v) {
  const uint32_t bits = static_cast<uint32_t>(v.bits) << 16;
  float f;
  std::memcpy(&f, &bits, sizeof f);
  return f;
}

// Round to nearest even; a NaN stays a NaN.
inline bf16 float_to_bf16(float f) {
  uint32_t bits;
  std::memcpy(&bits, &f, sizeof bits);
  if (f != f) return bf16{static_cast<uint16_t>((bits >> 16) | 0x40)};
  return bf16{static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
}

template <int L>
struct Portable {
  static constexpr int kLanes = L;
  static constexpr int kRegisters = L == 1 ? 16 : 32;
  static constexpr bool kBf16Dot = false;

  float v[L];

  Portable() = default;
  explicit Portable(float f) {
    for (float& lane : v) lane = f;
  }

  // Lanes from n on are not touched in memory; they read as zero.
  static Portable load(const float* p, int n = L) {
    Portable r(0.0f);
    for (int i = 0; i < n; ++i) r.v[i] = p[i];
    return r;
  }
  static Portable load(const bf16* p, int n = L) {
    Portable r(0.0f);
    for (int i = 0; i < n; ++i) r.v[i] = bf16_to_float(p[i]);
    return r;
  }
  void store(float* p, int n = L) const {
    for (int i = 0; i < n; ++i) p[i] = v[i];
  }
  void store(bf16* p, int n = L) const {
    for (int i = 0; i < n; ++i) p[i] = float_to_bf16(v[i]);
  }
  float sum() const {
    float s = 0.0f;
    for (float lane : v) s += lane;
    return s;
  }

  template <class F>
  static Portable map(Portable a, Portable b, F f) {
    Portable r;
    for (int i = 0; i < L; ++i) r.v[i] = f(a.v[i], b.v[i]);
    return r;
  }
  friend Portable operator+(Portable a, Portable b) {
    return map(a, b, [](float x, float y) { return x + y; });
  }
  friend Portable operator-(Portable a, Portable b) {
    return map(a, b, [](float x, float y) { return x - y; });
  }
  friend Portable operator*(Portable a, Portable b) {
    return map(a, b, [](float x, float y) { return x * y; });
  }
  friend Portable operator/(Portable a, Portable b) {
    return map(a, b, [](float x, float y) { return x / y; });
  }
  friend Portable vmin(Portable a, Portable b) {
    return map(a, b, [](float x, float y) { return x < y ? x : y; });
  }
  friend Portable vmax(Portable a, Portable b) {
    return map(a, b, [](float x, float y) { return x > y ? x : y; });
  }
  friend Portable copysign(Portable a, Portable b) {
    return map(a, b, [](float x, float y) { return std::copysign(x, y); });
  }
  friend Portable where_positive(Portable x, Portable a, Portable b) {
    Portable r;
    for (int i = 0; i < L; ++i) r.v[i] = x.v[i] > 0.0f ? a.v[i] : b.v[i];
    return r;
  }
  // Not std::fma: without the instruction that is a library call a hundred times slower.
  friend Portable fma(Portable a, Portable b, Portable c) { return a * b + c; }
  friend Portable vabs(Portable a) {
    return map(a, a, [](float x, float) { return std::fabs(x); });
  }
  friend Portable low_bits_as_exponent(Portable a) {
    return map(a, a, [](float x, float) {
      uint32_t bits;
      std::memcpy(&bits, &x, sizeof bits);
      bits <<= 23;
      std::memcpy(&x, &bits, sizeof bits);
      return x;
    });
  }
};

}  // namespace effops
