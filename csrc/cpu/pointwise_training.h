// 1x1 convolutions in training: forward with the statistics of the output, and both gradients in one pass.
//
// Both go over blocks of rows. What the matrix products read, the view of the input and the gradient of the output, is
// made in scratch block by block and stays in the L2 cache while the panels pass over it. It is float32: rounded to
// pairs of bfloat16 it would err more than eager PyTorch's may.
#pragma once

#include "../core/pointwise_training.h"
#include "gemm.h"
#include "gemm_tn.h"
#include "views.h"

namespace effops {

// What a block's operand may take of the L2 cache, and the longest chain that its sums are made in.
constexpr int64_t kOperandBytes = 128 * 1024;
constexpr int64_t kLongestBlock = 144;

// Rows of a block of `rows` rows in all: blocks of nearly equal height, high enough to pay for reading the panels.
inline int64_t block_rows(int64_t rows, int64_t row_bytes) {
  constexpr int64_t kStep = 24, kLeast = 56;
  const int64_t most = std::clamp(kOperandBytes / row_bytes, kLeast, kLongestBlock);
  const int64_t blocks = (rows + most - 1) / most;
  return ((rows + blocks - 1) / blocks + kStep - 1) / kStep * kStep;
}

// The distance of rows in scratch: an odd number of cache lines, so that a column of tiles spreads over all sets.
inline int64_t row_pitch(int64_t columns) {
  constexpr int64_t kLine = 64 / sizeof(float);
  return ((columns + kLine - 1) / kLine | 1) * kLine;
}

// Calls f(image, begin, end) for the piece of rows [m0, m1) that lies in each image.
template <class F>
inline void for_images(int64_t pixels, int64_t m0, int64_t m1, F f) {
  for (int64_t m = m0; m < m1;) {
    const int64_t image = m / pixels, end = std::min(m1, (image + 1) * pixels);
    f(image, m, end);
    m = end;
  }
}

inline const float* image_row(const float* rows, int64_t image, int64_t c) { return rows ? rows + image * c : nullptr; }

inline bool is_plain(const View& v) { return !v.affine && !v.gate && v.act == Act::kIdentity; }

// The view of rows [m0, m1), columns [c0, c0 + count) of c.
template <class S, class T>
void view_rows(const View& v, int64_t c, int64_t pixels, int64_t m0, int64_t m1, int64_t c0, int64_t count, float* out,
               int64_t pitch) {
  const T* x = static_cast<const T*>(v.x);
  for_images(v.gate ? pixels : m1, m0, m1, [&](int64_t image, int64_t begin, int64_t end) {
    write_view<S>(v, c, x + begin * c, image_row(v.gate, image, c), end - begin, c0, count, out + (begin - m0) * pitch,
                  pitch);
  });
}

// The gradient of u in rows [m0, m1).
template <class S, class T>
void grad_rows(const GradView& v, int64_t c, int64_t pixels, int64_t m0, int64_t m1, float* out, int64_t pitch) {
  const T *grad = static_cast<const T*>(v.grad), *u = static_cast<const T*>(v.u);
  for_images(v.gate || v.pool_grad ? pixels : m1, m0, m1, [&](int64_t image, int64_t begin, int64_t end) {
    write_grad<S>(v, c, grad + begin * c, u ? u + begin * c : nullptr, image_row(v.gate, image, c),
                  image_row(v.pool_grad, image, c), end - begin, 0, c, out + (begin - m0) * pitch, pitch);
  });
}

// Adds the sums over `rows` rows of u - shift and of its square to those of the part, for V vectors of columns.
template <class S, class T, int V>
inline void add_deviations(const T* u, const float* shift, int64_t rows, int64_t pitch, int lanes, double* sum,
                           double* square) {
  constexpr int kChains = 2;  // hide the latency of one
  S center[V], sums[kChains][V], squares[kChains][V];
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) {
    center[v] = load_lanes<S>(shift + v * S::kLanes, lanes);
#pragma GCC unroll 2
    for (int i = 0; i < kChains; ++i) sums[i][v] = squares[i][v] = S(0.0f);
  }
  int64_t m = 0;
  for (; m + kChains <= rows; m += kChains) {
#pragma GCC unroll 2
    for (int i = 0; i < kChains; ++i) {
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        const S away = load_lanes<S>(u + (m + i) * pitch + v * S::kLanes, lanes) - center[v];
        sums[i][v] = sums[i][v] + away;
        squares[i][v] = fma(away, away, squares[i][v]);
      }
    }
  }
  if (m < rows) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      const S away = load_lanes<S>(u + m * pitch + v * S::kLanes, lanes) - center[v];
      sums[0][v] = sums[0][v] + away;
      squares[0][v] = fma(away, away, squares[0][v]);
    }
  }
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) {
    float of_block[2][S::kLanes];
    (sums[0][v] + sums[1][v]).store(of_block[0]);
    (squares[0][v] + squares[1][v]).store(of_block[1]);
    for (int i = 0; i < lanes; ++i) {
      sum[v * S::kLanes + i] += of_block[0][i];
      square[v * S::kLanes + i] += of_block[1][i];
    }
  }
}

// The same for `count` columns.
template <class S, class T>
void add_column_sums(const T* u, const float* shift, int64_t rows, int64_t count, int64_t pitch, double* sum,
                     double* square) {
  constexpr int64_t kPair = 2 * S::kLanes;
  int64_t i = 0;
  for (; i + kPair <= count; i += kPair) {
    add_deviations<S, T, 2>(u + i, shift + i, rows, pitch, S::kLanes, sum + i, square + i);
  }
  for_lanes<S>(count - i, [&](int64_t j, int lanes) {
    add_deviations<S, T, 1>(u + i + j, shift + i + j, rows, pitch, lanes, sum + i + j, square + i + j);
  });
}

template <class S, class T>
void stats_part(const PointwiseStatsParams& p, int64_t part) {
  const GemmParams& product = p.product;
  const View& view = p.view;
  const int64_t k = product.k, n = product.n;
  const int64_t first = part * p.part_rows, last = std::min(first + p.part_rows, product.m);
  const bool direct = std::is_same_v<T, float> && is_plain(view);
  const int64_t lda = direct ? k : row_pitch(k);
  const int64_t block = block_rows(last - first, static_cast<int64_t>(sizeof(float)) * k);
  float* rows = direct ? nullptr : scratch<float>(Slot::kRows, block * lda);
  const Panels<S> layout(n);
  const T* u = static_cast<const T*>(product.y);
  // Of the deviations from a shift: no cancellation where the mean is large.
  float* shift = scratch<float>(Slot::kBlockSums, n);
  double *mean = p.statistics + part * 2 * n, *square = mean + n;
  std::fill(mean, square + n, 0.0);
  for (int64_t m = first; m < last; m += block) {
    const int64_t end = std::min(m + block, last);
    const float* a = rows;
    if (direct) {
      a = static_cast<const float*>(view.x) + m * k;
    } else {
      view_rows<S, T>(view, k, product.rows_per_image, m, end, 0, k, rows, lda);
    }
    for (int64_t i = 0; i < layout.count; ++i) {
      multiply_panel<S, Rows<float>, T>(product, layout, i, {a, lda}, m, end, product.n);
      const int64_t at = layout.before(i) * S::kLanes, count = std::min(n - at, layout.width(i) * int64_t{S::kLanes});
      const T* columns = u + m * n + at;
      if (m == first) first_mean<S>(columns, end - m, count, n, shift + at);
      add_column_sums<S>(columns, shift + at, end - m, count, n, mean + at, square + at);
    }
  }
  const double pixels = static_cast<double>(last - first);
  for (int64_t i = 0; i < n; ++i) {
    const double away = mean[i] / pixels;
    square[i] -= mean[i] * away;
    mean[i] = shift[i] + away;
  }
}

// Parts [part0, part1).
template <class S>
void pointwise_stats(const PointwiseStatsParams& p, int64_t part0, int64_t part1) {
  for (int64_t part = part0; part < part1; ++part) {
    p.product.dtype == DType::kFloat32 ? stats_part<S, float>(p, part) : stats_part<S, bf16>(p, part);
  }
}

// One part of both gradients. A block of du is multiplied by the weight, group of columns by group of columns, and
// while these columns of dx are in the cache, their sums are taken and du^T view(x) is added up.
template <class S, class T>
class PointwiseBackward {
 public:
  PointwiseBackward(const PointwiseBackwardParams& p, int64_t part)
      : p_(p), part_(part), c_(p.product.n), out_(p.product.k), first_(p.parts.begin(part)), layout_(c_) {
    const int64_t last = p.parts.end(part);
    const int64_t row_bytes = static_cast<int64_t>(sizeof(float)) * out_;
    block_ = block_rows(last - first_, row_bytes);
    constexpr int64_t kColumnBytes = sizeof(float) + 2 * sizeof(T);
    const int64_t fitting = std::max<int64_t>(1, kOperandBytes / (block_ * kColumnBytes) / (2 * S::kLanes));
    const int64_t groups = (layout_.count + fitting - 1) / fitting;
    group_ = (layout_.count + groups - 1) / groups;
    if (p.grad_sums) {
      const int64_t images = p.parts.per_image > 1 ? 1 : (last - first_) / p.parts.pixels;
      float* sums = p.grad_sums + p.parts.sums_row(part, first_ / p.parts.pixels) * kGradSums * c_;
      std::fill(sums, sums + images * kGradSums * c_, 0.0f);
    }
    for (int64_t m = first_; m < last; m += block_) add_block(m, std::min(m + block_, last));
  }

 private:
  void add_block(int64_t m0, int64_t m1) {
    const GradView& grad = p_.grad;
    const float* du = nullptr;
    int64_t du_pitch = out_;
    if (std::is_same_v<T, float> && !grad.coef && !grad.gate && !grad.pool_grad) {
      du = static_cast<const float*>(grad.grad) + m0 * out_;
    } else {
      du_pitch = row_pitch(out_);
      float* rows = scratch<float>(Slot::kRows, block_ * du_pitch);
      grad_rows<S, T>(grad, out_, p_.parts.pixels, m0, m1, rows, du_pitch);
      du = rows;
    }
    for (int64_t panel0 = 0; panel0 < layout_.count; panel0 += group_) {
      const int64_t panel1 = std::min(panel0 + group_, layout_.count);
      if (p_.product.y) {
        for (int64_t i = panel0; i < panel1; ++i)
          multiply_panel<S, Rows<float>, T>(p_.product, layout_, i, {du, du_pitch}, m0, m1, p_.product.n);
      }
      const int64_t c0 = layout_.before(panel0) * S::kLanes;
      const int64_t count = std::min(c_, layout_.before(panel1) * S::kLanes) - c0;
      if (p_.grad_sums) add_sums(m0, m1, c0, count);
      if (p_.weight_sums) add_weight_grad(du, du_pitch, m0, m1, panel0, panel1, c0, count);
    }
  }

  void add_sums(int64_t m0, int64_t m1, int64_t c0, int64_t count) {
    const T *dx = static_cast<const T*>(p_.product.y), *x = static_cast<const T*>(p_.view.x);
    float* of_block = scratch<float>(Slot::kBlockSums, kGradSums * count);
    for_images(p_.parts.pixels, m0, m1, [&](int64_t image, int64_t begin, int64_t end) {
      std::fill(of_block, of_block + kGradSums * count, 0.0f);
      add_grad_sums<S>(p_.view, c_, dx + begin * c_ + c0, c_, x + begin * c_, end - begin, c0, count, of_block, count);
      float* sums = p_.grad_sums + p_.parts.sums_row(part_, image) * kGradSums * c_ + c0;
      for (int j = 0; j < kGradSums; ++j) {
        for_lanes<S>(count, [&](int64_t i, int lanes) {
          float* at = sums + j * c_ + i;
          store_lanes(load_lanes<S>(at, lanes) + load_lanes<S>(of_block + j * count + i, lanes), at, lanes);
        });
      }
    });
  }

  void add_weight_grad(const float* du, int64_t du_pitch, int64_t m0, int64_t m1, int64_t panel0, int64_t panel1,
                       int64_t c0, int64_t count) {
    const View& view = p_.view;
    const bool direct =
        std::is_same_v<T, float> && !view.affine && !view.gate && view.act == Act::kIdentity && c_ % S::kLanes == 0;
    const float* x = static_cast<const float*>(view.x) + m0 * c_ + c0;
    int64_t pitch = c_;
    if (!direct) {
      pitch = row_pitch(count);
      float* rows = scratch<float>(Slot::kViewRows, block_ * pitch);
      view_rows<S, T>(view, c_, p_.parts.pixels, m0, m1, c0, count, rows, pitch);
      x = rows;
    }
    add_outer_products<S>(du, du_pitch, out_, x, pitch, m1 - m0, c_, panel0, panel1, m0 == first_,
                          p_.weight_sums + part_ * out_ * c_);
  }

  const PointwiseBackwardParams& p_;
  const int64_t part_, c_, out_, first_;
  const Panels<S> layout_;
  int64_t block_, group_;
};

// Parts [part0, part1).
template <class S>
void pointwise_backward(const PointwiseBackwardParams& p, int64_t part0, int64_t part1) {
  for (int64_t part = part0; part < part1; ++part) {
    p.product.dtype == DType::kFloat32 ? (void)PointwiseBackward<S, float>(p, part)
                                       : (void)PointwiseBackward<S, bf16>(p, part);
  }
}

}  // namespace effops
