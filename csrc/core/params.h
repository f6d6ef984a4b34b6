// The plain structs that every kernel takes. No torch here: raw pointers, sizes, strides.
#pragma once

#include <cstdint>

namespace effops {

// Order and meaning as in effops/ops/spec.py: ACTIVATIONS and GATES.
enum class Act : int32_t { kIdentity, kRelu, kRelu6, kSilu, kHardswish, kGelu };
enum class Gate : int32_t { kSigmoid, kHardsigmoid };

// The CPU kernels take the first two.
enum class DType : int32_t { kFloat32, kBFloat16, kFloat16 };

// bfloat16 as storage: the upper half of a float32.
struct bf16 {
  uint16_t bits;
};

// IEEE binary16 as storage.
struct fp16 {
  uint16_t bits;
};

// A vector in one of the dtypes, or none.
struct VectorView {
  const void* data = nullptr;
  DType dtype = DType::kFloat32;
  int64_t size = 0;
};

// A convolution over NHWC images. Weights, bias and partial sums are float32 whatever dtype the images have.
struct ConvShape {
  int64_t n, c, h, w;  // input
  int64_t oc, oh, ow;  // output
  int64_t kh, kw;      // kernel
  int64_t stride_h, stride_w;
  int64_t pad_top, pad_left;  // zeros before; zeros after follow from the output size
  int64_t dilation_h, dilation_w;
};

struct DepthwiseParams {
  ConvShape shape;
  DType dtype;
  Act act;
  const void* x;        // (n, h, w, c)
  const float* weight;  // (kh, kw, c)
  const float* bias;    // (c) or null
  void* y;              // (n, oh, ow, c)
  float* row_sums;      // (n * oh, c) sums of y over each output row, or null
  // Of one image in the making (see csrc/cpu/run_mbconv.cpp): x holds only as many input rows, row i at i % x_rows, and
  // y starts with row y_row0 of n * oh. With x_rows = 0 both are whole.
  int64_t x_rows, y_row0;
};

// y = act(A B + bias) + residual, where row m of A is made from x: a pixel, a gated pixel, or a patch.
struct GemmParams {
  int64_t m, n, k;
  DType dtype;
  Act act;
  const void* x;
  const float* gate;       // (images, k): scales the columns of A, or null
  int64_t rows_per_image;  // rows of A that share one row of gate
  const ConvShape* conv;   // A is patches of x: (kh, kw, c) a row; null when A is x itself
  int64_t x_stride_n, x_stride_h, x_stride_w, x_stride_c;  // of x, in elements; read only with conv
  const float* weight;                                     // (k, n) where it can be read as it lies, or null
  const float* panels;                                     // what pack_panels made
  const void* residual;                                    // (m, n) or null
  void* y;                                                 // (m, n)
};

// A weight of any strides, seen as (n, k) with k = (kh, kw, c).
struct WeightView {
  const void* data;
  DType dtype;
  int64_t n, kh, kw, c;
  int64_t stride_n, stride_kh, stride_kw, stride_c;
};

struct SeParams {
  int64_t n, c, r;
  Act act;
  Gate gate;
  const float* pooled;         // (n, c)
  const float* reduce_weight;  // (r, c)
  const float* reduce_bias;    // (r) or null
  const float* expand_weight;  // (c, r)
  const float* expand_bias;    // (c) or null
  float* out;                  // (n, c)
};

// Gradients of se_gate, from the gradient of its output and from the output.
struct SeBackwardParams {
  int64_t n, c, r;
  Act act;
  Gate gate;
  const float *grad, *gated, *pooled;  // (n, c)
  const float* reduce_weight;          // (r, c)
  const float* reduce_bias;            // (r) or null
  const float* expand_weight;          // (c, r)
  float* logits_grad;                  // (n, c), and two of (n, r): working memory
  float *hidden, *hidden_grad;
  float* d_pooled;  // (n, c)
  float *d_reduce_weight, *d_reduce_bias, *d_expand_weight, *d_expand_bias;
};

// Passes over whole images: spatial sums, and scaling by one value an image and channel.
struct ImageParams {
  int64_t n, pixels, c;
  DType dtype;
  const void* x;       // (n, pixels, c)
  const float* scale;  // (n, c), for the scaling pass
  void* y;             // (n, pixels, c), for the scaling pass
};

// What a training kernel reads in place of an image (effops/ops/reference_training.py):
// act((x - mean) * scale + shift) * gate.
struct View {
  const void* x;
  const float* affine;  // (3, c): mean, scale, shift; or null
  const float* gate;    // (images, c) or null
  Act act;
};

// What a backward kernel reads in place of the gradient of a convolution's output u:
// scale * dz + slope * (u - mean) + offset, dz = (grad * gate + pool_grad) * act'((u - mean) * scale + shift);
// without coef: grad * gate + pool_grad.
struct GradView {
  const void* grad;
  const void* u;           // read only with coef
  const float* coef;       // (5, c): mean, scale, shift, slope, offset; or null
  const float* gate;       // (images, c) or null
  const float* pool_grad;  // (images, c) or null
  Act act;
};

// Sums over the pixels of an image for every channel, with g a gradient, a = act(z), a' = act'(z):
// g a, g a', a', g a' (x - mean), a' (x - mean).
constexpr int kGradSums = 5;

}  // namespace effops
