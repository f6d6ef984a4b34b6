// The convolutions that are matrix products, on a device: rows are pixels, columns are output channels. Results are
// bitwise repeatable: sums are cut by shape alone and joined in order.
#pragma once

#include "../core/params.h"
#include "product_heuristics.h"

namespace effops::cuda {

using Stream = void*;

// What the rows are made of, and what is done with the sums. Bindings fill in the first part, prepare_product the rest.
struct ProductArgs {
  int64_t m, n, k;  // rows, columns, depth
  int64_t pixels;   // rows of an image
  View view;        // rows of k channels, or with `patches` the images that these are taken from
  GradView grad;    // rows of k channels instead of the view's, where grad.grad is not null
  bool patches;     // rows are patches (kh, kw, c) of images of any strides
  ConvShape conv;
  int64_t x_stride_n, x_stride_h, x_stride_w, x_stride_c;
  WeightView weight;  // (n, kh, kw, c) in the dtype of x
  VectorView bias;    // (n) or none
  Act act;
  const void* residual;  // (m, n) or null
  void* y;               // (m, n)

  ProductTiling tiling;
  const void* packed;     // (n, pitch) of the weight's dtype, rows aligned to 16 bytes
  int64_t pitch;          // in elements
  bool vectors;           // whether rows can be read 16 bytes at a time
  bool vectors_out;       // the same of y and residual
  int64_t packed_floats;  // of workspace, for the weight in the form above: none where it lies so
  float* partial;         // the rest of it: partial sums
};

enum class ProductSums { kNone, kStatistics, kGradSums };

// Returns the floats of workspace that `run_...` must be given.
int64_t prepare_product(ProductArgs& p, ProductSums sums);

// y = act(view(x) W^T + bias) + residual. The view is read in full, or of a patch its x alone.
void run_product(ProductArgs p, float* workspace, Stream stream);

// y = view(x) W^T, and mean and biased variance (2, n) of the stored y.
void run_product_stats(ProductArgs p, float* workspace, float* stats, Stream stream);

// y = du W for du read through `grad`; and unless `sums` is null the sums (kGradSums, images, n) of y as the gradient
// of `view`, whose x has n channels (effops/ops/reference_training.py: batch_norm_grad_sums).
void run_product_grad(ProductArgs p, float* workspace, float* sums, Stream stream);

// dweight (out, c) = du^T view(x).
struct WeightGradArgs {
  int64_t rows, pixels, out, c;
  DType dtype;
  GradView grad;
  View view;

  WeightGradTiling tiling;
  bool grad_vectors, view_vectors;
  float* partial;  // (parts, out, c)
};

int64_t prepare_weight_grad(WeightGradArgs& p);
void run_weight_grad(WeightGradArgs p, float* dweight, Stream stream);

}  // namespace effops::cuda
