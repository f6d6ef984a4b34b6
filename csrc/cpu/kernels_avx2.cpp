#include "kernels_of.h"
#include "simd/avx2.h"

namespace effops {

// Constant-initialised: no code of this file may run before the processor was asked.
extern constexpr Kernels kKernels_avx2 = kernels_of<Avx2>("avx2");

}  // namespace effops
