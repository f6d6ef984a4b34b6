#include "product.cuh"

namespace effops::cuda {

void run_product_grad(ProductArgs p, float* workspace, float* sums, Stream stream) {
  start_product(p, workspace, stream);
  if (!sums) {
    launch_product<GradRows, StoreOutputs, 2>(p, stream);
    return;
  }
  const ProductTiling& t = p.tiling;
  if (t.row_tiles == 1) p.partial = sums;
  launch_product<GradRows, StoreGradSums, 2>(p, stream);
  if (t.row_tiles > 1) sum_parts(p.partial, kGradSums * t.images, t.row_tiles, p.n, 1.0f, sums, stream);
}

}  // namespace effops::cuda
