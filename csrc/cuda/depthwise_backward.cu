#include "depthwise_backward.cuh"
#include "reductions.cuh"

namespace effops::cuda {
namespace {

constexpr int kSumColumns = 32, kSumSlices = 16;

// In double: so few additions cost nothing.
__global__ void __launch_bounds__(kSumColumns* kSumSlices)
    sum_rows_kernel(const float* rows, int64_t count, int64_t columns, float* out) {
  EFFOPS_SHARED(double, slices, kSumSlices* kSumColumns);
  const int lane = threadIdx.x % kSumColumns, slice = threadIdx.x / kSumColumns;
  const int64_t column = int64_t{blockIdx.x} * kSumColumns + lane;
  double sum = 0.0;
  if (column < columns) {
    for (int64_t row = slice; row < count; row += kSumSlices) sum += rows[row * columns + column];
  }
  slices[slice * kSumColumns + lane] = sum;
  __syncthreads();
  if (slice != 0 || column >= columns) return;
  for (int i = 1; i < kSumSlices; ++i) sum += slices[i * kSumColumns + lane];
  out[column] = static_cast<float>(sum);
}

int64_t dweight_values(const DepthwiseBackwardArgs& p) { return p.shape.c * p.shape.kh * p.shape.kw; }

bool aligned(const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; }

}  // namespace

void prepare_depthwise_backward(DepthwiseBackwardArgs& p) {
  const int64_t size = p.weight.dtype == DType::kFloat32 ? 4 : 2;
  p.tiling = depthwise_backward_tiling(p.shape, size);
  p.vectors = p.shape.c * size % 16 == 0 && aligned(p.view.x) && aligned(p.grad.grad) && aligned(p.grad.u);
  if (!p.grad.coef) p.grad.act = Act::kIdentity;
}

int64_t sums_workspace(const DepthwiseBackwardArgs& p) {
  const int64_t tiles = p.tiling.tiles_of_image();
  return tiles > 1 ? kGradSums * p.shape.n * tiles * p.shape.c : 0;
}

int64_t dweight_workspace(const DepthwiseBackwardArgs& p) {
  return p.tiling.parts() != 1 ? p.tiling.parts() * dweight_values(p) : 0;
}

void run_depthwise_backward(DepthwiseBackwardArgs p, float* dweight, float* sums, Stream stream) {
  const DepthwiseBackwardTiling& t = p.tiling;
  if (t.blocks() > kGridLimit) throw std::runtime_error("effops: an image of this size needs too many blocks");
  if (!dweight || t.parts() == 1) p.dweight = dweight;
  if (!sums || t.tiles_of_image() == 1) p.sums = sums;
  if (t.blocks() > 0) {
    if (t.kernel == 0) {
      launch_depthwise_backward_general(p, stream);
    } else if (t.kernel == 7) {
      launch_depthwise_backward_large(p, stream);
    } else {
      launch_depthwise_backward_small(p, stream);
    }
  }
  if (sums && t.tiles_of_image() > 1) {
    sum_parts(p.sums, kGradSums * p.shape.n, t.tiles_of_image(), p.shape.c, 1.0f, sums, stream);
  }
  if (!dweight || t.parts() == 1) return;
  const int64_t columns = dweight_values(p);
  launch(sum_rows_kernel, dim3(static_cast<unsigned>(ceil_div(columns, kSumColumns))), dim3(kSumColumns * kSumSlices),
         0, stream, p.dweight, t.parts(), columns, dweight);
}

void launch_depthwise_backward_small(const DepthwiseBackwardArgs& p, Stream stream) {
  with_dtype(p.weight.dtype, [&](auto element) {
    using T = decltype(element);
    switch (p.tiling.kernel * 10 + p.tiling.stride) {
      case 31:
        return launch_depthwise_backward<T, 3, 1>(p, stream);
      case 32:
        return launch_depthwise_backward<T, 3, 2>(p, stream);
      case 51:
        return launch_depthwise_backward<T, 5, 1>(p, stream);
      default:
        return launch_depthwise_backward<T, 5, 2>(p, stream);
    }
  });
}

}  // namespace effops::cuda
