// The dense convolution on CUDA tensors as a torch op.
#include "../cuda/product.h"
#include "ops_cuda.h"

namespace effops::cuda {

Tensor conv_act(Tensor x, Tensor weight, OptionalTensor bias, int64_t stride_h, int64_t stride_w, int64_t pad_h,
                int64_t pad_w, int64_t dilation_h, int64_t dilation_w, int64_t act) {
  const OnDeviceOf device(x);
  const ConvShape s = conv_shape(x, weight, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w);
  STD_TORCH_CHECK(weight.size(1) == s.c && s.c > 0 && s.oc > 0,
                  "effops: weight must have shape (O, C, kh, kw) with at least one value");
  Tensor y = new_image(x, s.n, s.oc, s.oh, s.ow);
  OptionalTensor keep[2];
  ProductArgs p{};
  p.pixels = s.oh * s.ow;
  p.m = s.n * p.pixels, p.n = s.oc, p.k = s.kh * s.kw * s.c;
  p.patches = true;
  p.conv = s;
  p.view.x = x.const_data_ptr();
  const auto stride = x.strides();  // any: patches are gathered
  p.x_stride_n = stride[0], p.x_stride_c = stride[1], p.x_stride_h = stride[2], p.x_stride_w = stride[3];
  p.weight = weight_view(weight, x);
  p.bias = vector_view(bias, "bias", s.oc, keep[0]);
  p.act = static_cast<Act>(act);
  p.y = y.mutable_data_ptr();
  float* const memory = workspace(x, prepare_product(p, ProductSums::kNone), keep[1]);
  run_product(p, memory, device.stream);
  return y;
}

}  // namespace effops::cuda

EFFOPS_CUDA_LIBRARY(m) { m.impl("conv_act", TORCH_BOX(&effops::cuda::conv_act)); }
