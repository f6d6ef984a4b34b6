// One functor per activation and gate, over any value type V: float on host and device, or a SIMD vector.
//
// V needs + - * /, construction from float, and the functions fma, vmin, vmax, vabs, round_even, pow2 and
// copysign. vmin(a, b) and vmax(a, b) return b when a comparison is unordered, so keep x second to let NaN
// through.
#pragma once

#include "params.h"

#if defined(__CUDACC__)
#define EFFOPS_HD __host__ __device__
#else
#define EFFOPS_HD
#endif

namespace effops {

// exp(x), relative error about 1e-7: Cody-Waite reduction by ln 2 in two parts, then a degree-6 polynomial on
// [-ln2/2, ln2/2]. Clamped so that 2^n stays normal.
template <class V>
EFFOPS_HD inline V exp_approx(V x) {
  x = vmin(V(88.0f), vmax(V(-87.0f), x));
  const V n = round_even(x * V(1.44269504f));
  V r = fma(n, V(-0.693359375f), x);
  r = fma(n, V(2.12194440e-4f), r);
  V p = V(1.9875691500e-4f);
  p = fma(p, r, V(1.3981999507e-3f));
  p = fma(p, r, V(8.3334519073e-3f));
  p = fma(p, r, V(4.1665795894e-2f));
  p = fma(p, r, V(1.6666665459e-1f));
  p = fma(p, r, V(5.0000001201e-1f));
  p = fma(p * r, r, r) + V(1.0f);
  return p * pow2(n);
}

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
  return copysign(V(1.0f) - p * t * exp_approx(V(0.0f) - z * z), x);
}

struct Identity {
  template <class V>
  EFFOPS_HD static V apply(V x) {
    return x;
  }
};

struct Relu {
  template <class V>
  EFFOPS_HD static V apply(V x) {
    return vmax(V(0.0f), x);
  }
};

struct Relu6 {
  template <class V>
  EFFOPS_HD static V apply(V x) {
    return vmin(V(6.0f), vmax(V(0.0f), x));
  }
};

// x sigmoid(x) (Ramachandran et al., arXiv 1710.05941), called swish there.
struct Silu {
  template <class V>
  EFFOPS_HD static V apply(V x) {
    return x / (V(1.0f) + exp_approx(V(0.0f) - x));
  }
};

// relu6(x + 3) / 6 (Howard et al., arXiv 1905.02244, section 5.2).
struct Hardsigmoid {
  template <class V>
  EFFOPS_HD static V apply(V x) {
    return vmin(V(6.0f), vmax(V(0.0f), x + V(3.0f))) * V(1.0f / 6.0f);
  }
};

// x relu6(x + 3) / 6 (Howard et al., arXiv 1905.02244, section 5.2).
struct Hardswish {
  template <class V>
  EFFOPS_HD static V apply(V x) {
    return x * vmin(V(6.0f), vmax(V(0.0f), x + V(3.0f))) * V(1.0f / 6.0f);
  }
};

// x Phi(x), the exact form with erf (Hendrycks and Gimpel, arXiv 1606.08415).
struct Gelu {
  template <class V>
  EFFOPS_HD static V apply(V x) {
    return V(0.5f) * x * (V(1.0f) + erf_approx(x * V(0.70710678f)));
  }
};

struct Sigmoid {
  template <class V>
  EFFOPS_HD static V apply(V x) {
    return V(1.0f) / (V(1.0f) + exp_approx(V(0.0f) - x));
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
