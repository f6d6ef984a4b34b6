#include "norm_stats.cuh"

#include "reductions.cuh"

namespace effops::cuda {

int64_t prepare_norm_stats(NormStatsArgs& p) {
  p.pass.prepare({p.x}, true);
  return p.pass.tiling.parts * 3 * p.pass.c;
}

void run_norm_stats(const NormStatsArgs& p, float* stats, Stream stream) {
  launch_pass(p, stream, [](auto element) { return norm_stats_kernel<PassTraits<decltype(element), 4>>; });
  join_parts(p.partial, p.pass.tiling.parts, p.pass.c, stats, stream);
}

}  // namespace effops::cuda
