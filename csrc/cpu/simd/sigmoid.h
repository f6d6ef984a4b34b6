// What sigmoid and SiLU divide by, in fewer steps than Exp: for them the error of exp(-x) counts only near x = 0.
#pragma once

#include <cstdint>

#include "../../core/activation.h"

namespace effops {

// 2^(i / 8) for i < 8 as the bits of a float, less i << 20: added to k << 20 they make 2^(k / 8) of i = k mod 8.
constexpr int32_t kEighths[8] = {0x3f800000, 0x3f7b95c2, 0x3f7837f0, 0x3f75fed7,
                                 0x3f7504f3, 0x3f75672a, 0x3f7744fd, 0x3f7ac0c7};

// 1 + exp(-x). exp(-x) = 2^(k / 8) p(r): k / 8 the nearest eighth to t = -x / ln 2, r = t - k / 8, p a minimax
// polynomial of degree 3 for 2^r. Its relative error grows with |x|, from 2e-7 to 1.2e-6 at the ends, where x is
// clamped so that the power stays a normal number; that of x / (1 + exp(-x)) is then at most 1.2e-7 max(1, |x|).
template <class V>
inline __attribute__((always_inline)) V one_plus_exp_of_minus(V x) {
  const V log2e(-1.44269504f), near = vmin(V(87.0f), vmax(V(-87.0f), x));
  // Adding 1.5 * 2^20 rounds to an eighth and leaves k in the low bits.
  const V magic(1572864.0f);
  const V rounded = fma(near, log2e, magic);
  const V r = fma(near, log2e, magic - rounded);
  const V p = fma(fma(fma(V(0.0554961972f), r, V(0.240257725f)), r, V(0.693147242f)), r, V(1.0f));
  return fma(p, low_bits_as_power_of_eighths(rounded), V(1.0f));
}

}  // namespace effops
