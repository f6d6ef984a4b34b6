// The folded ops on CUDA tensors, for ops that are made of them.
#pragma once

#include <tuple>

#include "tensors_cuda.h"

namespace effops::cuda {

Tensor conv_act(Tensor x, Tensor weight, OptionalTensor bias, int64_t stride_h, int64_t stride_w, int64_t pad_h,
                int64_t pad_w, int64_t dilation_h, int64_t dilation_w, int64_t act);

Tensor depthwise_conv_act(Tensor x, Tensor weight, OptionalTensor bias, int64_t stride_h, int64_t stride_w,
                          int64_t pad_h, int64_t pad_w, int64_t dilation_h, int64_t dilation_w, int64_t act);

std::tuple<Tensor, Tensor> depthwise_conv_act_pool(Tensor x, Tensor weight, OptionalTensor bias, int64_t stride_h,
                                                   int64_t stride_w, int64_t pad_h, int64_t pad_w, int64_t dilation_h,
                                                   int64_t dilation_w, int64_t act);

Tensor pointwise_conv_act(Tensor x, Tensor weight, OptionalTensor bias, OptionalTensor gate, OptionalTensor residual,
                          int64_t act);

Tensor se_gate(Tensor pooled, Tensor reduce_weight, OptionalTensor reduce_bias, Tensor expand_weight,
               OptionalTensor expand_bias, int64_t act, int64_t gate);

}  // namespace effops::cuda
