#include "norm.cuh"

#include "reductions.cuh"

namespace effops::cuda {

int64_t prepare_norm(NormArgs& p, bool pooled) {
  p.pass.prepare({p.view.x, p.view.affine, p.view.gate, p.residual, p.y});
  return pooled && p.pass.tiling.runs > 1 ? p.pass.tiling.parts * p.pass.c : 0;
}

void run_norm(NormArgs p, float* pooled, Stream stream) {
  const PassTiling& t = p.pass.tiling;
  const float scale = 1.0f / static_cast<float>(p.pass.pixels);
  p.partial_scale = t.runs > 1 ? 1.0f : scale;
  if (t.runs <= 1) p.partial = pooled;
  launch_pass(p, stream, [&](auto element) {
    using T = decltype(element);
    return p.residual ? norm_kernel<NormTraits<T, true>> : norm_kernel<NormTraits<T, false>>;
  });
  if (pooled && t.runs != 1) sum_parts(p.partial, p.pass.n, t.runs, p.pass.c, scale, pooled, stream);
}

}  // namespace effops::cuda
