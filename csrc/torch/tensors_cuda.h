// Tensors to what the CUDA kernels take. Compiled with EFFOPS_CUDA_HOST the same bindings run the kernels' source on
// the host, under torch.ops.effops_cuda_host (see csrc/cuda/device.h): for tests.
#pragma once

#include <torch/csrc/stable/accelerator.h>

#include "tensors.h"

#if defined(EFFOPS_CUDA_HOST)
#include "../cuda/host/guarded.h"
#define EFFOPS_CUDA_LIBRARY(m) STABLE_TORCH_LIBRARY_IMPL(effops_cuda_host, CPU, m)
#else
// Declared by torch's header only where CUDA's own headers are wanted; part of the stable ABI.
extern "C" AOTITorchError aoti_torch_get_current_cuda_stream(int32_t device_index, void** stream);
#define EFFOPS_CUDA_LIBRARY(m) STABLE_TORCH_LIBRARY_IMPL(effops, CUDA, m)
#endif

namespace effops::cuda {

// While it lives, the device of a tensor is the current one; launches go to that device's current stream.
#if defined(EFFOPS_CUDA_HOST)
struct OnDeviceOf {
  void* stream = nullptr;
  explicit OnDeviceOf(const Tensor&) {}
};
#else
struct OnDeviceOf {
  torch::stable::accelerator::DeviceGuard guard;
  void* stream = nullptr;

  explicit OnDeviceOf(const Tensor& t) : guard(t.get_device_index()) {
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(t.get_device_index(), &stream));
  }
};
#endif

inline DType dtype_of(const Tensor& t, const char* name) {
  switch (t.scalar_type()) {
    case ScalarType::Float:
      return DType::kFloat32;
    case ScalarType::BFloat16:
      return DType::kBFloat16;
    case ScalarType::Half:
      return DType::kFloat16;
    default:
      STD_TORCH_CHECK(false, "effops: ", name,
                      " must be float32, bfloat16 or float16 for the CUDA kernels; other dtypes run on the reference");
  }
}

// A new tensor of these sizes and strides, dense, on the device of `like`.
template <size_t N>
inline Tensor new_tensor(const Tensor& like, const int64_t (&size)[N], const int64_t (&stride)[N], ScalarType dtype) {
#if defined(EFFOPS_CUDA_HOST)
  const int32_t code = torch::stable::detail::to<int32_t>(torch::stable::detail::from(dtype));
  int64_t count = 1;
  for (const int64_t n : size) count *= n;
  AtenTensorHandle made = nullptr;
  (void)like;
  TORCH_ERROR_CODE_CHECK(torch_from_blob(
      host::take_guarded(count * (dtype == ScalarType::Float ? 4 : 2)), N, size, stride, 0, code,
      aoti_torch_device_type_cpu(), -1, &made, aoti_torch_layout_strided(), nullptr, 0,
      [](void* data, void*) { host::give_back_guarded(data); }, nullptr));
  return Tensor(made);
#else
  return new_strided(like, size, stride, dtype);
#endif
}

// channels_last, in the dtype of `like`.
inline Tensor new_image(const Tensor& like, int64_t n, int64_t c, int64_t h, int64_t w) {
  return new_tensor<4>(like, {n, c, h, w}, {h * w * c, 1, w * c, c}, like.scalar_type());
}

inline Tensor new_floats(const Tensor& like, int64_t rows, int64_t columns) {
  return new_tensor<2>(like, {rows, columns}, {columns, 1}, ScalarType::Float);
}

inline float* floats(const Tensor& t) { return static_cast<float*>(t.mutable_data_ptr()); }

// Working memory of a call; null for none. `keep` holds it until the call ends: the stream orders its reuse.
inline float* workspace(const Tensor& like, int64_t count, OptionalTensor& keep) {
  if (count == 0) return nullptr;
  keep = new_tensor<1>(like, {count}, {1}, ScalarType::Float);
  return floats(*keep);
}

// A (n, c, kh, kw) or (n, c) weight of any strides, in the dtype of x.
inline WeightView weight_view(const Tensor& w, const Tensor& x) {
  STD_TORCH_CHECK(w.scalar_type() == x.scalar_type(), "effops: weight must have the dtype of x");
  return strided_weight(w, dtype_of(w, "weight"));
}

// `keep` holds the dense copy of a strided vector until the call ends.
inline VectorView vector_view(const OptionalTensor& t, const char* name, int64_t size, OptionalTensor& keep) {
  if (!t) return {};
  STD_TORCH_CHECK(t->numel() == size, "effops: ", name, " must have ", size, " values, got ", t->numel());
  keep = dense(*t);
  return {keep->const_data_ptr(), dtype_of(*t, name), size};
}

// A (rows, columns) float32 tensor: `keep` holds its dense copy until the call ends.
inline const float* optional_rows(const OptionalTensor& t, const char* name, int64_t rows, int64_t columns,
                                  OptionalTensor& keep) {
  if (!t) return nullptr;
  keep = dense(*t);
  return float_data(*keep, name, rows, columns);
}

}  // namespace effops::cuda
