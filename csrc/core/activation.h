// One functor per activation and gate, over any value type V: float on host and device, or a SIMD vector.
//
// V needs + - * /, construction from float, and the functions fma, vmin, vmax, vabs, copysign, low_bits_as_exponent
// (the bits shifted left by 23) and where_positive(x, a, b) (a where x > 0, else b). vmin(a, b) and vmax(a, b) return b
// when a comparison is unordered, so keep x second to let NaN through.
#pragma once

#include "params.h"
#include "scalar.h"

namespace effops {

// exp(x) = p 2^n, relative error about 1e-7: n the nearest integer to x / ln 2, p a minimax polynomial of degree 6 in
// the rest. x is clamped so that 2^n stays a normal number.
template <class V>
struct Exp {
  V p, power;

  EFFOPS_HD explicit Exp(V x) {
    x = vmin(V(88.0f), vmax(V(-87.0f), x));
    // Adding 1.5 * 2^23 rounds to an integer, in the low bits; with 127 more those bits are the exponent of 2^n.
    const V magic(12582912.0f + 127.0f);
    const V rounded = fma(x, V(1.44269504f), magic);
    power = low_bits_as_exponent(rounded);
    // ln 2 in two parts, so that the product with the first is exact even where fma is not fused.
    const V n = rounded - magic;
    const V r = fma(n, V(2.12194440e-4f), fma(n, V(-0.693359375f), x));
    // By Estrin's scheme: a chain of two thirds of Horner's length, which is what a processor waits for here.
    const V r2 = r * r;
    const V high = fma(V(0.00138144672f), r2, fma(V(0.00836878084f), r, V(0.0416683927f)));
    const V q = fma(high, r2, fma(V(0.166665196f), r, V(0.49999994f)));
    p = fma(q, r2, r) + V(1.0f);
  }
  EFFOPS_HD V value() const { return p * power; }
  EFFOPS_HD V plus_one() const { return fma(p, power, V(1.0f)); }
};

#if defined(__CUDA_ARCH__)
// A GPU has an instruction for it; x is clamped as above.
template <>
struct Exp<float> {
  float exponential;

  __device__ explicit Exp(float x) : exponential(__expf(vmin(88.0f, vmax(-87.0f, x)))) {}
  __device__ float value() const { return exponential; }
  __device__ float plus_one() const { return exponential + 1.0f; }
};
#endif

// erf(x), absolute error about 3e-7: 1 - P(t) exp(-x^2) with t = 1 / (1 + |x| / 2); P is a minimax fit of
// degree 7.
template <class V>
EFFOPS_HD inline V erf_approx(V x) {
  const V z = vabs(x);
  const V t = V(1.0f) / fma(V(0.5f), z, V(1.0f));
  V p = V(0.05883813f);
  p = fma(p, t, V(-0.2184162f));
  p = fma(p, t, V(0.12253904f));
  p = fma(p, t, V(0.30729379f));
  p = fma(p, t, V(0.13107536f));
  p = fma(p, t, V(0.32162521f));
  p = fma(p, t, V(0.27704468f));
  return copysign(V(1.0f) - p * t * Exp<V>(V(0.0f) - z * z).value(), x);
}

// An activation's value and derivative at one point, which share most of their work. At the kinks the derivatives are
// torch's.
template <class V>
struct ValueAndSlope {
  V value, slope;
};

struct Identity {
  template <class V>
  EFFOPS_HD static V apply(V x) {
    return x;
  }
  template <class V>
  EFFOPS_HD static ValueAndSlope<V> both(V x) {
    return {x, V(1.0f)};
  }
};

struct Relu {
  template <class V>
  EFFOPS_HD static V apply(V x) {
    return vmax(V(0.0f), x);
  }
  template <class V>
  EFFOPS_HD static ValueAndSlope<V> both(V x) {
    return {apply(x), where_positive(x, V(1.0f), V(0.0f))};
  }
};

struct Relu6 {
  template <class V>
  EFFOPS_HD static V apply(V x) {
    return vmin(V(6.0f), vmax(V(0.0f), x));
  }
  template <class V>
  EFFOPS_HD static ValueAndSlope<V> both(V x) {
    return {apply(x), where_positive(x, where_positive(V(6.0f) - x, V(1.0f), V(0.0f)), V(0.0f))};
  }
};

// x sigmoid(x) (Ramachandran et al., arXiv 1710.05941), called swish there.
struct Silu {
  template <class V>
  EFFOPS_HD static V apply(V x) {
    return x / Exp<V>(V(0.0f) - x).plus_one();
  }
  // s (1 + x (1 - s)) with s the sigmoid, written as s + y (1 - s).
  template <class V>
  EFFOPS_HD static ValueAndSlope<V> both(V x) {
    const V s = V(1.0f) / Exp<V>(V(0.0f) - x).plus_one();
    const V y = x * s;
    return {y, fma(y, V(1.0f) - s, s)};
  }
};

// relu6(x + 3) / 6 (Howard et al., arXiv 1905.02244, section 5.2).
struct Hardsigmoid {
  template <class V>
  EFFOPS_HD static V apply(V x) {
    return vmin(V(6.0f), vmax(V(0.0f), x + V(3.0f))) * V(1.0f / 6.0f);
  }
  // The derivative where the value is y.
  template <class V>
  EFFOPS_HD static V slope_of(V y) {
    return where_positive(y, where_positive(V(1.0f) - y, V(1.0f / 6.0f), V(0.0f)), V(0.0f));
  }
};

// x relu6(x + 3) / 6 (Howard et al., arXiv 1905.02244, section 5.2).
struct Hardswish {
  template <class V>
  EFFOPS_HD static V apply(V x) {
    return x * vmin(V(6.0f), vmax(V(0.0f), x + V(3.0f))) * V(1.0f / 6.0f);
  }
  // 0 up to -3, x / 3 + 1 / 2 below 3, then 1.
  template <class V>
  EFFOPS_HD static ValueAndSlope<V> both(V x) {
    const V inner = where_positive(V(3.0f) - x, fma(x, V(1.0f / 3.0f), V(0.5f)), V(1.0f));
    return {apply(x), where_positive(x + V(3.0f), inner, V(0.0f))};
  }
};

// x Phi(x), the exact form with erf (Hendrycks and Gimpel, arXiv 1606.08415).
struct Gelu {
  template <class V>
  EFFOPS_HD static V apply(V x) {
    return V(0.5f) * x * (V(1.0f) + erf_approx(x * V(0.70710678f)));
  }
  // Phi(x) + x phi(x), phi the normal density.
  template <class V>
  EFFOPS_HD static ValueAndSlope<V> both(V x) {
    const V cdf = V(0.5f) * (V(1.0f) + erf_approx(x * V(0.70710678f)));
    const V density = V(0.39894228f) * Exp<V>(V(-0.5f) * x * x).value();
    return {x * cdf, fma(x, density, cdf)};
  }
};

struct Sigmoid {
  template <class V>
  EFFOPS_HD static V apply(V x) {
    return V(1.0f) / Exp<V>(V(0.0f) - x).plus_one();
  }
  // The derivative where the value is y.
  template <class V>
  EFFOPS_HD static V slope_of(V y) {
    return y * (V(1.0f) - y);
  }
};

// Calls f with the functor of a run-time activation code, so that the choice is made once outside the loop.
template <class F>
EFFOPS_HD inline void with_activation(Act act, F&& f) {
  switch (act) {
    case Act::kIdentity:
      return f(Identity{});
    case Act::kRelu:
      return f(Relu{});
    case Act::kRelu6:
      return f(Relu6{});
    case Act::kSilu:
      return f(Silu{});
    case Act::kHardswish:
      return f(Hardswish{});
    case Act::kGelu:
      return f(Gelu{});
  }
}

template <class F>
EFFOPS_HD inline void with_gate(Gate gate, F&& f) {
  switch (gate) {
    case Gate::kSigmoid:
      return f(Sigmoid{});
    case Gate::kHardsigmoid:
      return f(Hardsigmoid{});
  }
}

}  // namespace effops
