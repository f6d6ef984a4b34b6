// Tensors to what the kernels take: dtypes, layouts, views of weights and vectors, new outputs.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>

#include "../core/shape.h"
#include "../cpu/memory.h"
#include "../cpu/run.h"

namespace effops {

using torch::headeronly::MemoryFormat;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using OptionalTensor = std::optional<Tensor>;

inline Threads threads() {
  return {[](void*, int64_t begin, int64_t end, int64_t grain, ParallelBody body, void* context) {
            TORCH_ERROR_CODE_CHECK(torch_parallel_for(begin, end, grain, body, context));
          },
          static_cast<int64_t>(torch::stable::get_num_threads())};
}

inline DType dtype_of(const Tensor& t, const char* name) {
  const ScalarType type = t.scalar_type();
  STD_TORCH_CHECK(type == ScalarType::Float || type == ScalarType::BFloat16, "effops: ", name,
                  " must be float32 or bfloat16 for the CPU kernels; other dtypes run on the reference");
  return type == ScalarType::Float ? DType::kFloat32 : DType::kBFloat16;
}

inline bool is_channels_last(const Tensor& x) {
  const auto sizes = x.sizes();
  const auto strides = x.strides();
  int64_t expected = 1;
  for (const int axis : {1, 3, 2, 0}) {
    if (sizes[axis] != 1 && strides[axis] != expected) return false;
    expected *= sizes[axis];
  }
  return true;
}

inline Tensor channels_last(const Tensor& x, const char* name) {
  STD_TORCH_CHECK(x.dim() == 4, "effops: ", name, " must have 4 dimensions, got ", x.dim());
  return is_channels_last(x) ? x : torch::stable::contiguous(x, MemoryFormat::ChannelsLast);
}

// By the C function, as torch::stable::empty looks its op up by name in every call.
template <size_t N>
inline Tensor new_strided(const Tensor& like, const int64_t (&size)[N], const int64_t (&stride)[N], ScalarType dtype) {
  int32_t device = 0;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(like.get(), &device));
  const int32_t code = torch::stable::detail::to<int32_t>(torch::stable::detail::from(dtype));
  AtenTensorHandle made = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(N, size, stride, code, device, like.get_device_index(), &made));
  return Tensor(made);
}

// channels_last.
inline Tensor new_image(const Tensor& like, int64_t n, int64_t c, int64_t h, int64_t w) {
  const ScalarType dtype = like.scalar_type();
  const int64_t bytes = n * c * h * w * (dtype == ScalarType::Float ? 4 : 2);
  void* data = bytes < kKeptBytes ? nullptr : take_buffer(bytes);
  if (!data) return new_strided<4>(like, {n, c, h, w}, {h * w * c, 1, w * c, c}, dtype);
  const int64_t size[] = {n, c, h, w}, stride[] = {h * w * c, 1, w * c, c};
  const int32_t code = torch::stable::detail::to<int32_t>(torch::stable::detail::from(dtype));
  AtenTensorHandle made = nullptr;
  TORCH_ERROR_CODE_CHECK(torch_from_blob(
      data, 4, size, stride, 0, code, aoti_torch_device_type_cpu(), -1, &made, aoti_torch_layout_strided(), nullptr, 0,
      [](void* buffer, void*) { give_back_buffer(buffer); }, nullptr));
  return Tensor(made);
}

inline Tensor new_floats(const Tensor& like, int64_t rows, int64_t columns) {
  return new_strided<2>(like, {rows, columns}, {columns, 1}, ScalarType::Float);
}

// A (n, c, kh, kw) or (n, c) weight of any strides.
inline WeightView strided_weight(const Tensor& w, DType dtype) {
  const auto size = w.sizes();
  const auto stride = w.strides();
  const bool matrix = size.size() == 2;
  return {w.const_data_ptr(),     dtype,    size[0],   matrix ? 1 : size[2],
          matrix ? 1 : size[3],   size[1],  stride[0], matrix ? 0 : stride[2],
          matrix ? 0 : stride[3], stride[1]};
}

inline WeightView weight_view(const Tensor& w, DType dtype) {
  STD_TORCH_CHECK(dtype_of(w, "weight") == dtype, "effops: weight must have the dtype of x");
  return strided_weight(w, dtype);
}

// `keep` holds the dense copy of a strided vector until the call ends.
inline VectorView vector_view(const OptionalTensor& t, const char* name, int64_t size, OptionalTensor& keep) {
  if (!t) return {};
  STD_TORCH_CHECK(t->numel() == size, "effops: ", name, " must have ", size, " values, got ", t->numel());
  keep = t->is_contiguous() ? *t : torch::stable::contiguous(*t);
  return {keep->const_data_ptr(), dtype_of(*t, name), size};
}

inline const float* float_data(const Tensor& t, const char* name, int64_t rows, int64_t columns) {
  STD_TORCH_CHECK(t.scalar_type() == ScalarType::Float && t.is_contiguous() && t.numel() == rows * columns,
                  "effops: ", name, " must be a dense float32 tensor of shape (", rows, ", ", columns, ")");
  return static_cast<const float*>(t.const_data_ptr());
}

inline Tensor dense(const Tensor& t) { return t.is_contiguous() ? t : torch::stable::contiguous(t); }

inline ConvShape conv_shape(const Tensor& x, const Tensor& w, int64_t stride_h, int64_t stride_w, int64_t pad_h,
                            int64_t pad_w, int64_t dilation_h, int64_t dilation_w) {
  STD_TORCH_CHECK(x.dim() == 4 && w.dim() == 4, "effops: x and weight must have 4 dimensions");
  const auto in = x.sizes();
  const auto kernel = w.sizes();
  STD_TORCH_CHECK(stride_h > 0 && stride_w > 0 && dilation_h > 0 && dilation_w > 0 && kernel[2] > 0 && kernel[3] > 0,
                  "effops: stride, dilation and kernel size must be positive");
  ConvShape s{};
  s.n = in[0], s.c = in[1], s.h = in[2], s.w = in[3];
  s.oc = kernel[0], s.kh = kernel[2], s.kw = kernel[3];
  s.oh = output_size(s.h, s.kh, stride_h, pad_h, dilation_h);
  s.ow = output_size(s.w, s.kw, stride_w, pad_w, dilation_w);
  STD_TORCH_CHECK(s.oh > 0 && s.ow > 0, "effops: the output would be empty");
  s.stride_h = stride_h, s.stride_w = stride_w;
  s.pad_top = pad_before(s.h, s.kh, stride_h, pad_h, dilation_h);
  s.pad_left = pad_before(s.w, s.kw, stride_w, pad_w, dilation_w);
  s.dilation_h = dilation_h, s.dilation_w = dilation_w;
  return s;
}

}  // namespace effops
