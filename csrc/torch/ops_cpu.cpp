// The CPU kernels as torch ops: tensors to params and back. Shapes, dtypes and values were checked in Python
// (effops/ops/checks.py); here only what would corrupt memory is checked again.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <tuple>

#include "../core/shape.h"
#include "../cpu/memory.h"
#include "../cpu/run.h"

namespace {

using effops::ConvShape;
using effops::DType;
using effops::VectorView;
using effops::WeightView;
using torch::headeronly::MemoryFormat;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using OptionalTensor = std::optional<Tensor>;

effops::Threads threads() {
  return {[](int64_t begin, int64_t end, int64_t grain, effops::ParallelBody body, void* context) {
            TORCH_ERROR_CODE_CHECK(torch_parallel_for(begin, end, grain, body, context));
          },
          static_cast<int64_t>(torch::stable::get_num_threads())};
}

DType dtype_of(const Tensor& t, const char* name) {
  const ScalarType type = t.scalar_type();
  STD_TORCH_CHECK(type == ScalarType::Float || type == ScalarType::BFloat16, "effops: ", name,
                  " must be float32 or bfloat16 for the CPU kernels; other dtypes run on the reference");
  return type == ScalarType::Float ? DType::kFloat32 : DType::kBFloat16;
}

bool is_channels_last(const Tensor& x) {
  const auto sizes = x.sizes();
  const auto strides = x.strides();
  int64_t expected = 1;
  for (const int axis : {1, 3, 2, 0}) {
    if (sizes[axis] != 1 && strides[axis] != expected) return false;
    expected *= sizes[axis];
  }
  return true;
}

Tensor channels_last(const Tensor& x, const char* name) {
  STD_TORCH_CHECK(x.dim() == 4, "effops: ", name, " must have 4 dimensions, got ", x.dim());
  return is_channels_last(x) ? x : torch::stable::contiguous(x, MemoryFormat::ChannelsLast);
}

// By the C function, as torch::stable::empty looks its op up by name in every call.
template <size_t N>
Tensor new_strided(const Tensor& like, const int64_t (&size)[N], const int64_t (&stride)[N], ScalarType dtype) {
  int32_t device = 0;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(like.get(), &device));
  const int32_t code = torch::stable::detail::to<int32_t>(torch::stable::detail::from(dtype));
  AtenTensorHandle made = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(N, size, stride, code, device, like.get_device_index(), &made));
  return Tensor(made);
}

// channels_last.
Tensor new_image(const Tensor& like, int64_t n, int64_t c, int64_t h, int64_t w) {
  const ScalarType dtype = like.scalar_type();
  Tensor y = new_strided<4>(like, {n, c, h, w}, {h * w * c, 1, w * c, c}, dtype);
  effops::advise_huge_pages(y.mutable_data_ptr(), n * c * h * w * (dtype == ScalarType::Float ? 4 : 2));
  return y;
}

Tensor new_floats(const Tensor& like, int64_t rows, int64_t columns) {
  return new_strided<2>(like, {rows, columns}, {columns, 1}, ScalarType::Float);
}

// A (n, c, kh, kw) or (n, c) weight of any strides.
WeightView weight_view(const Tensor& w, DType dtype) {
  STD_TORCH_CHECK(dtype_of(w, "weight") == dtype, "effops: weight must have the dtype of x");
  const auto size = w.sizes();
  const auto stride = w.strides();
  const bool matrix = size.size() == 2;
  return {w.const_data_ptr(),     dtype,    size[0],   matrix ? 1 : size[2],
          matrix ? 1 : size[3],   size[1],  stride[0], matrix ? 0 : stride[2],
          matrix ? 0 : stride[3], stride[1]};
}

// `keep` holds the dense copy of a strided vector until the call ends.
VectorView vector_view(const OptionalTensor& t, const char* name, int64_t size, OptionalTensor& keep) {
  if (!t) return {};
  STD_TORCH_CHECK(t->numel() == size, "effops: ", name, " must have ", size, " values, got ", t->numel());
  keep = t->is_contiguous() ? *t : torch::stable::contiguous(*t);
  return {keep->const_data_ptr(), dtype_of(*t, name), size};
}

const float* float_data(const Tensor& t, const char* name, int64_t rows, int64_t columns) {
  STD_TORCH_CHECK(t.scalar_type() == ScalarType::Float && t.is_contiguous() && t.numel() == rows * columns,
                  "effops: ", name, " must be a dense float32 tensor of shape (", rows, ", ", columns, ")");
  return static_cast<const float*>(t.const_data_ptr());
}

Tensor dense(const Tensor& t) { return t.is_contiguous() ? t : torch::stable::contiguous(t); }

ConvShape conv_shape(const Tensor& x, const Tensor& w, int64_t stride_h, int64_t stride_w, int64_t pad_h, int64_t pad_w,
                     int64_t dilation_h, int64_t dilation_w) {
  STD_TORCH_CHECK(x.dim() == 4 && w.dim() == 4, "effops: x and weight must have 4 dimensions");
  const auto in = x.sizes();
  const auto kernel = w.sizes();
  STD_TORCH_CHECK(stride_h > 0 && stride_w > 0 && dilation_h > 0 && dilation_w > 0 && kernel[2] > 0 && kernel[3] > 0,
                  "effops: stride, dilation and kernel size must be positive");
  ConvShape s{};
  s.n = in[0], s.c = in[1], s.h = in[2], s.w = in[3];
  s.oc = kernel[0], s.kh = kernel[2], s.kw = kernel[3];
  s.oh = effops::output_size(s.h, s.kh, stride_h, pad_h, dilation_h);
  s.ow = effops::output_size(s.w, s.kw, stride_w, pad_w, dilation_w);
  STD_TORCH_CHECK(s.oh > 0 && s.ow > 0, "effops: the output would be empty");
  s.stride_h = stride_h, s.stride_w = stride_w;
  s.pad_top = effops::pad_before(s.h, s.kh, stride_h, pad_h, dilation_h);
  s.pad_left = effops::pad_before(s.w, s.kw, stride_w, pad_w, dilation_w);
  s.dilation_h = dilation_h, s.dilation_w = dilation_w;
  return s;
}

// `pooled` is null, or receives the mean.
Tensor depthwise(const Tensor& x, const Tensor& weight, const OptionalTensor& bias, const ConvShape& s, int64_t act,
                 Tensor* pooled) {
  STD_TORCH_CHECK(weight.size(0) == s.c && weight.size(1) == 1, "effops: weight must have shape (C, 1, kh, kw)");
  const Tensor image = channels_last(x, "x");
  Tensor y = new_image(x, s.n, s.c, s.oh, s.ow);
  if (pooled) *pooled = new_floats(x, s.n, s.c);
  OptionalTensor keep;
  effops::DepthwiseParams p{};
  p.shape = s;
  p.dtype = dtype_of(x, "x");
  p.act = static_cast<effops::Act>(act);
  p.x = image.const_data_ptr();
  p.y = y.mutable_data_ptr();
  effops::run_depthwise(p, weight_view(weight, p.dtype), vector_view(bias, "bias", s.c, keep),
                        pooled ? static_cast<float*>(pooled->mutable_data_ptr()) : nullptr, threads());
  return y;
}

Tensor depthwise_conv_act(Tensor x, Tensor weight, OptionalTensor bias, int64_t stride_h, int64_t stride_w,
                          int64_t pad_h, int64_t pad_w, int64_t dilation_h, int64_t dilation_w, int64_t act) {
  const ConvShape s = conv_shape(x, weight, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w);
  return depthwise(x, weight, bias, s, act, nullptr);
}

std::tuple<Tensor, Tensor> depthwise_conv_act_pool(Tensor x, Tensor weight, OptionalTensor bias, int64_t stride_h,
                                                   int64_t stride_w, int64_t pad_h, int64_t pad_w, int64_t dilation_h,
                                                   int64_t dilation_w, int64_t act) {
  const ConvShape s = conv_shape(x, weight, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w);
  Tensor pooled;
  Tensor y = depthwise(x, weight, bias, s, act, &pooled);
  return {y, pooled};
}

Tensor conv_act(Tensor x, Tensor weight, OptionalTensor bias, int64_t stride_h, int64_t stride_w, int64_t pad_h,
                int64_t pad_w, int64_t dilation_h, int64_t dilation_w, int64_t act) {
  const ConvShape s = conv_shape(x, weight, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w);
  STD_TORCH_CHECK(weight.size(1) == s.c, "effops: weight must have shape (O, C, kh, kw)");
  Tensor y = new_image(x, s.n, s.oc, s.oh, s.ow);
  OptionalTensor keep;
  effops::GemmParams p{};
  p.m = s.n * s.oh * s.ow, p.n = s.oc, p.k = s.kh * s.kw * s.c;
  p.dtype = dtype_of(x, "x");
  p.act = static_cast<effops::Act>(act);
  p.x = x.const_data_ptr();  // of any strides: patches are gathered
  const auto stride = x.strides();
  p.x_stride_n = stride[0], p.x_stride_c = stride[1], p.x_stride_h = stride[2], p.x_stride_w = stride[3];
  p.conv = &s;
  p.y = y.mutable_data_ptr();
  effops::run_gemm(p, weight_view(weight, p.dtype), vector_view(bias, "bias", s.oc, keep), threads());
  return y;
}

Tensor pointwise_conv_act(Tensor x, Tensor weight, OptionalTensor bias, OptionalTensor gate, OptionalTensor residual,
                          int64_t act) {
  const Tensor image = channels_last(x, "x");
  const int64_t n = x.size(0), c = x.size(1), h = x.size(2), w = x.size(3), out = weight.size(0);
  STD_TORCH_CHECK(weight.size(1) == c && weight.numel() == out * c, "effops: weight must have shape (O, C, 1, 1)");
  Tensor y = new_image(x, n, out, h, w);
  OptionalTensor keep_bias;
  effops::GemmParams p{};
  p.m = n * h * w, p.n = out, p.k = c;
  p.dtype = dtype_of(x, "x");
  p.act = static_cast<effops::Act>(act);
  p.x = image.const_data_ptr();
  Tensor scale = gate ? dense(*gate) : x;
  if (gate) p.gate = float_data(scale, "gate", n, c);
  p.rows_per_image = h * w;
  Tensor addend = residual ? channels_last(*residual, "residual") : x;
  if (residual) {
    STD_TORCH_CHECK(addend.scalar_type() == x.scalar_type() && addend.numel() == p.m * out,
                    "effops: residual must have the shape and dtype of the output");
    p.residual = addend.const_data_ptr();
  }
  p.y = y.mutable_data_ptr();
  effops::run_gemm(p, weight_view(weight, p.dtype), vector_view(bias, "bias", out, keep_bias), threads());
  return y;
}

Tensor gate_of(const Tensor& pooled, const Tensor& reduce_weight, const OptionalTensor& reduce_bias,
               const Tensor& expand_weight, const OptionalTensor& expand_bias, int64_t act, int64_t gate) {
  const int64_t n = pooled.size(0), c = pooled.size(1), r = reduce_weight.size(0);
  const Tensor mean = dense(pooled);
  Tensor out = new_floats(pooled, n, c);
  OptionalTensor keep[4];
  effops::SeParams p{};
  p.n = n, p.c = c, p.r = r;
  p.act = static_cast<effops::Act>(act);
  p.gate = static_cast<effops::Gate>(gate);
  p.pooled = float_data(mean, "pooled", n, c);
  p.out = static_cast<float*>(out.mutable_data_ptr());
  const effops::SeWeights weights{
      vector_view(reduce_weight, "reduce_weight", r * c, keep[0]), vector_view(reduce_bias, "reduce_bias", r, keep[1]),
      vector_view(expand_weight, "expand_weight", c * r, keep[2]), vector_view(expand_bias, "expand_bias", c, keep[3])};
  effops::run_se_gate(p, weights, threads());
  return out;
}

Tensor se_gate(Tensor pooled, Tensor reduce_weight, OptionalTensor reduce_bias, Tensor expand_weight,
               OptionalTensor expand_bias, int64_t act, int64_t gate) {
  return gate_of(pooled, reduce_weight, reduce_bias, expand_weight, expand_bias, act, gate);
}

Tensor squeeze_excite(Tensor x, Tensor reduce_weight, OptionalTensor reduce_bias, Tensor expand_weight,
                      OptionalTensor expand_bias, OptionalTensor pooled, int64_t act, int64_t gate) {
  const Tensor image = channels_last(x, "x");
  const int64_t n = x.size(0), c = x.size(1), h = x.size(2), w = x.size(3);
  Tensor y = new_image(x, n, c, h, w);
  effops::ImageParams p{};
  p.n = n, p.pixels = h * w, p.c = c;
  p.dtype = dtype_of(x, "x");
  p.x = image.const_data_ptr();
  p.y = y.mutable_data_ptr();
  Tensor mean = pooled ? *pooled : new_floats(x, n, c);
  if (!pooled) effops::run_mean(p, static_cast<float*>(mean.mutable_data_ptr()), threads());
  const Tensor scale = gate_of(mean, reduce_weight, reduce_bias, expand_weight, expand_bias, act, gate);
  p.scale = float_data(scale, "gate", n, c);
  effops::run_scale(p, threads());
  return y;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(effops, CPU, m) {
  m.impl("conv_act", TORCH_BOX(&conv_act));
  m.impl("depthwise_conv_act", TORCH_BOX(&depthwise_conv_act));
  m.impl("depthwise_conv_act_pool", TORCH_BOX(&depthwise_conv_act_pool));
  m.impl("pointwise_conv_act", TORCH_BOX(&pointwise_conv_act));
  m.impl("se_gate", TORCH_BOX(&se_gate));
  m.impl("squeeze_excite", TORCH_BOX(&squeeze_excite));
}
