#include "product.cuh"

namespace effops::cuda {

void run_product_stats(ProductArgs p, float* workspace, float* stats, Stream stream) {
  start_product(p, workspace, stream);
  if (is_copied(p)) {
    launch_product<CopiedRows, StoreStatistics, 1>(p, stream);
  } else {
    launch_product<ViewedRows, StoreStatistics, 2>(p, stream);
  }
  join_parts(p.partial, p.tiling.parts(), p.n, stats, stream);
}

}  // namespace effops::cuda
