#include "product.cuh"

namespace effops::cuda {

void run_product_stats(ProductArgs p, float* workspace, float* stats, Stream stream) {
  start_product(p, workspace, stream);
  if (is_copied(p)) {
    launch_product<CopiedRows, StoreStatistics>(p, stream);
  } else {
    launch_product<ViewedRows, StoreStatistics>(p, stream);
  }
  join_parts(p.partial, p.tiling.parts(), p.n, stats, stream);
}

}  // namespace effops::cuda
