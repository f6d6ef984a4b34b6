#include "kernels_of.h"
#include "simd/avx512.h"

namespace effops {

// Constant-initialised: no code of this file may run before the processor was asked.
extern constexpr Kernels kKernels_avx512_bf16 = kernels_of<Avx512Bf16>("avx512_bf16");

}  // namespace effops
