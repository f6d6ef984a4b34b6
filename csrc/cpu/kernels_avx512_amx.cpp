#include "gemm_amx.h"
#include "simd/avx512.h"

namespace effops {

extern const Kernels kKernels_avx512_bf16;

// The one entry of the table in which this tier differs from avx512_bf16.
void gemm_avx512_amx(const GemmParams& p, int64_t m0, int64_t m1, int64_t panel0, int64_t panel1, int64_t pitch) {
  if (p.dtype == DType::kFloat32) return kKernels_avx512_bf16.gemm(p, m0, m1, panel0, panel1, pitch);
  gemm_amx<Avx512Bf16>(p, m0, m1, panel0, panel1, pitch);
}

}  // namespace effops
