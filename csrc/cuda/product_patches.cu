#include "product.cuh"

namespace effops::cuda {

void launch_patches(const ProductArgs& p, Stream stream) { launch_product<PatchRows, StoreOutputs, 1>(p, stream); }

}  // namespace effops::cuda
