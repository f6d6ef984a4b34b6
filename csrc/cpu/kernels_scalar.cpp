#include "kernels_of.h"
#include "simd/portable.h"

namespace effops {

// Constant-initialised: no code of this file may run before the processor was asked.
extern constexpr Kernels kKernels_scalar = kernels_of<Portable<1>>("scalar");

}  // namespace effops
