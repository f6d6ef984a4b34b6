#include "norm_grad_sums.cuh"

#include "reductions.cuh"

namespace effops::cuda {

int64_t prepare_norm_grad_sums(NormGradSumsArgs& p) {
  p.pass.prepare({p.view.x, p.view.affine, p.grad});
  return p.pass.tiling.runs > 1 ? p.pass.tiling.parts * kGradSums * p.pass.c : 0;
}

void run_norm_grad_sums(NormGradSumsArgs p, float* sums, Stream stream) {
  const PassTiling& t = p.pass.tiling;
  if (t.runs <= 1) p.partial = sums;
  launch_pass(p, stream, [](auto element) { return norm_grad_sums_kernel<PassTraits<decltype(element), 2>>; });
  if (t.runs != 1) sum_parts(p.partial, kGradSums * p.pass.n, t.runs, p.pass.c, 1.0f, sums, stream);
}

}  // namespace effops::cuda
