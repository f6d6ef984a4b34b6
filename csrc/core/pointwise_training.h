// What the training kernels of 1x1 convolutions take.
#pragma once

#include <algorithm>

#include "params.h"

namespace effops {

// The pixels of all images, one row each, cut into parts by shape alone. A part holds whole images or lies inside one.
struct RowParts {
  int64_t images, pixels;
  int64_t per_image;  // parts of one image
  int64_t each;       // images of a part where per_image is 1, else pixels of a part
  int64_t count;

  // Parts of about `rows` rows.
  RowParts(int64_t images, int64_t pixels, int64_t rows) : images(images), pixels(pixels) {
    per_image = std::max<int64_t>(1, pixels / rows);
    if (per_image > 1) {
      each = (pixels + per_image - 1) / per_image;
      per_image = (pixels + each - 1) / each;
    }
    if (per_image == 1) each = std::max<int64_t>(1, rows / pixels);
    count = per_image > 1 ? images * per_image : (images + each - 1) / each;
  }
  int64_t begin(int64_t part) const {
    if (per_image > 1) return part / per_image * pixels + part % per_image * each;
    return part * each * pixels;
  }
  int64_t end(int64_t part) const {
    if (per_image > 1) return part / per_image * pixels + std::min(pixels, (part % per_image + 1) * each);
    return std::min(images, (part + 1) * each) * pixels;
  }
  // The row of sums of an image in a part, where each part has its own row for every image that it touches.
  int64_t sums_row(int64_t part, int64_t image) const { return per_image > 1 ? part : image; }
};

// u = view(x) W^T and the statistics of every column of u.
struct PointwiseStatsParams {
  GemmParams product;  // its x and gate are not read
  View view;
  int64_t part_rows;   // rows of a part: fixed by shape, so that the sums do not depend on the number of threads
  double* statistics;  // (parts, 2, n): mean and sum of squared deviations
};

// The gradients of u = view(x) W^T, du read through `grad`.
struct PointwiseBackwardParams {
  GemmParams product;  // dx = du W, its x and gate not read; y is null where dx is not wanted
  GradView grad;
  View view;
  RowParts parts;
  float* grad_sums;    // (images * parts of an image, kGradSums, c) or null
  float* weight_sums;  // (parts, out, c) or null
};

}  // namespace effops
