#include "core/shape.h"

#include "check.h"

using effops_test::check;

int main() {
  using namespace effops;
  check(output_size(224, 3, 2, 1, 1) == 112, "224, k3 s2 p1");
  check(output_size(7, 5, 1, 2, 1) == 7, "7, k5 s1 p2");
  check(output_size(9, 3, 1, 0, 2) == 5, "9, k3 dilation 2");
  // TensorFlow: SAME of 224 with k3 s2 pads 0 before and 1 after, of 225 one on both sides.
  check(output_size(224, 3, 2, kSame, 1) == 112 && pad_before(224, 3, 2, kSame, 1) == 0, "SAME 224 k3 s2");
  check(output_size(225, 3, 2, kSame, 1) == 113 && pad_before(225, 3, 2, kSame, 1) == 1, "SAME 225 k3 s2");
  check(pad_before(14, 5, 2, kSame, 1) == 1, "SAME 14 k5 s2 pads 1 before, 2 after");
  check(pad_before(14, 1, 2, kSame, 1) == 0, "SAME 14 k1 s2 pads nothing");
  check(pad_before(14, 3, 1, 1, 1) == 1, "explicit padding");
  return effops_test::failures != 0;
}
