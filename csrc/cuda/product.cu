// Products with bias, activation and residual, and what every product needs before its launch.
#include "product.cuh"

namespace effops::cuda {
namespace {

// out (n, pitch) from a weight of any strides, with zeros after the last value of a row.
template <class T>
__global__ void __launch_bounds__(kLoopThreads) pack_weight_kernel(const WeightView w, int64_t pitch, T* out) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x, depth = w.kh * w.kw * w.c;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < w.n * pitch; i += step) {
    const int64_t row = i / pitch, k = i % pitch, tap = k / w.c;
    const int64_t from = row * w.stride_n + tap / w.kw * w.stride_kh + tap % w.kw * w.stride_kw + k % w.c * w.stride_c;
    out[i] = k < depth ? static_cast<const T*>(w.data)[from] : T{};
  }
}

bool is_aligned(const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; }

}  // namespace

int64_t prepare_product(ProductArgs& p, ProductSums sums) {
  const WeightView& w = p.weight;
  const int64_t size = w.dtype == DType::kFloat32 ? 4 : 2, lanes = 16 / size;
  const bool by_image = sums == ProductSums::kGradSums;
  p.tiling = product_tiling(by_image ? p.m / std::max<int64_t>(1, p.pixels) : 1, by_image ? p.pixels : p.m, p.n, p.k,
                            p.grad.grad ? kGradProductRows : kProductRows, sums == ProductSums::kStatistics);
  const void* rows = p.grad.grad ? p.grad.grad : p.view.x;
  p.vectors = p.k % lanes == 0 && is_aligned(rows) && (!p.grad.coef || is_aligned(p.grad.u));
  p.vectors_out = p.n % lanes == 0 && is_aligned(p.y) && is_aligned(p.residual) && (!by_image || is_aligned(p.view.x));
  const bool in_order =
      w.stride_c == 1 && (w.kw == 1 || w.stride_kw == w.c) && (w.kh == 1 || w.stride_kh == w.kw * w.c);
  if (in_order && p.k % lanes == 0 && w.stride_n % lanes == 0 && is_aligned(w.data)) {
    p.packed = w.data;
    p.pitch = w.stride_n;
    p.packed_floats = 0;
  } else {
    p.packed = nullptr;
    p.pitch = ceil_div(p.k, lanes) * lanes;
    p.packed_floats = p.n * p.pitch * size / 4;
  }
  switch (sums) {
    case ProductSums::kStatistics:
      return p.packed_floats + p.tiling.parts() * 3 * p.n;
    case ProductSums::kGradSums:
      return p.packed_floats + (p.tiling.row_tiles > 1 ? p.tiling.tiles() * kGradSums * p.n : 0);
    default:
      return p.packed_floats;
  }
}

void start_product(ProductArgs& p, float* workspace, Stream stream) {
  if (!p.packed) {
    p.packed = workspace;
    if (p.m > 0 && p.n > 0) {
      with_dtype(p.weight.dtype, [&](auto element) {
        using T = decltype(element);
        launch(pack_weight_kernel<T>, dim3(static_cast<unsigned>(loop_blocks(p.n * p.pitch))), dim3(kLoopThreads), 0,
               stream, p.weight, p.pitch, reinterpret_cast<T*>(workspace));
      });
    }
  }
  p.partial = workspace + p.packed_floats;
}

void run_product(ProductArgs p, float* workspace, Stream stream) {
  start_product(p, workspace, stream);
  if (p.patches) {
    launch_patches(p, stream);
  } else if (is_copied(p)) {
    launch_product<CopiedRows, StoreOutputs, 1>(p, stream);
  } else {
    launch_product<ViewedRows, StoreOutputs, 1>(p, stream);
  }
}

}  // namespace effops::cuda
