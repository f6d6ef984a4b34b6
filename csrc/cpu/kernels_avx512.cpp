#include "kernels_of.h"
#include "simd/avx512.h"

namespace effops {

// Constant-initialised: no code of this file may run before the processor was asked.
extern constexpr Kernels kKernels_avx512 = kernels_of<Avx512>("avx512");

}  // namespace effops
