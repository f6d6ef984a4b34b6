#include "depthwise.cuh"

namespace effops::cuda {

void run_depthwise_stats(DepthwiseArgs p, float* stats, Stream stream) {
  launch_depthwise<true>(p, stream);
  join_parts(p.partial, p.tiling.parts(), p.shape.c, stats, stream);
}

}  // namespace effops::cuda
