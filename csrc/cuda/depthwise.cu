#include "depthwise.cuh"

namespace effops::cuda {

int64_t prepare_depthwise(DepthwiseArgs& p, bool statistics) {
  const ConvShape& s = p.shape;
  const int64_t size = p.weight.dtype == DType::kFloat32 ? 4 : 2;
  p.tiling = depthwise_tiling(s, statistics);
  p.vectors = s.c * size % 16 == 0 && reinterpret_cast<uintptr_t>(p.view.x) % 16 == 0;
  if (statistics) return p.tiling.parts() * 3 * s.c;
  return p.tiling.tiles_of_image() > 1 ? p.tiling.tiles * s.c : 0;
}

void run_depthwise(DepthwiseArgs p, float* pooled, Stream stream) {
  const ConvShape& s = p.shape;
  const int64_t tiles = p.tiling.tiles_of_image();
  const float scale = 1.0f / static_cast<float>(s.oh * s.ow);
  p.partial_scale = tiles > 1 ? 1.0f : scale;
  if (tiles == 1 || !pooled) p.partial = pooled;
  launch_depthwise<false>(p, stream);
  if (pooled && tiles > 1) sum_parts(p.partial, s.n, tiles, s.c, scale, pooled, stream);
}

}  // namespace effops::cuda
