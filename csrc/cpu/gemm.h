// Matrix product with a prologue on A and an epilogue on the result: y = act(A B + bias) + residual.
//
// A is never packed: a tile broadcasts its values straight from the NHWC image, whose pixels are rows. Where
// A is not the image itself (a gate, bfloat16 without pair products, patches of a dense convolution) a block
// of rows is made in scratch first, small enough to stay in the L2 cache while the panels pass over it.
#pragma once

#include <algorithm>
#include <type_traits>

#include "../core/activation.h"
#include "kernels.h"
#include "panels.h"
#include "patches.h"
#include "scratch.h"

namespace effops {

// What a block of A and of the output may take of the L2 cache.
constexpr int64_t kBlockBytes = 192 * 1024;
// Length of the chains that a long k is summed in.
constexpr int64_t kChunk = 128;

// acc += A B over `steps` steps of k, front to back; a step is one k, or two where pairs of bfloat16 are multiplied.
template <class S, class A, int R, int V>
inline void multiply(const A* a, int64_t lda, const float* b_rows, int64_t ldb, int64_t steps, S (&acc)[R][V]) {
  for (int64_t i = 0; i < steps; ++i, b_rows += ldb) {
    if constexpr (std::is_same_v<A, bf16>) {
      const bf16* b = reinterpret_cast<const bf16*>(b_rows);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) acc[r][v] = S::dot_pair(a + r * lda + 2 * i, b + 2 * v * S::kLanes, acc[r][v]);
      }
    } else {
      S b[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) b[v] = S::load(b_rows + v * S::kLanes);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const S x(a[r * lda + i]);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) acc[r][v] = fma(x, b[v], acc[r][v]);
      }
    }
  }
}

// acc = bias + A B. A long k is summed in chunks and the chunks' sums are added up: the rounding error of one
// long chain would be several times that of a blocked matrix product.
template <class S, class A, int R, int V>
inline void accumulate(const A* a, int64_t lda, const float* b, int64_t ldb, const float* bias, int64_t k,
                       S (&acc)[R][V]) {
  constexpr int64_t kStep = std::is_same_v<A, bf16> ? 2 : 1;
  const int64_t steps = (k + kStep - 1) / kStep;
  for (int64_t done = 0; done < steps;) {
    const int64_t chunk = std::min(steps - done, kChunk / kStep);
    // A local array, whose address nobody takes: the compiler keeps it in registers.
    S sum[R][V];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[r][v] = S(0.0f);
    }
    multiply(a + done * kStep, lda, b + done * ldb, ldb, chunk, sum);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) acc[r][v] = sum[r][v] + (done == 0 ? S::load(bias + v * S::kLanes) : acc[r][v]);
    }
    done += chunk;
  }
}

template <class S, class T, int R, int V>
inline void finish(S (&acc)[R][V], const GemmParams& p, int64_t m, int64_t n, int64_t columns) {
  with_activation(p.act, [&](auto f) __attribute__((always_inline)) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) acc[r][v] = f.apply(acc[r][v]);
    }
  });
  T* y = static_cast<T*>(p.y) + m * p.n + n;
  const T* residual = p.residual ? static_cast<const T*>(p.residual) + m * p.n + n : nullptr;
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      const int64_t at = r * p.n + v * S::kLanes;
      const int lanes = static_cast<int>(std::min<int64_t>(S::kLanes, columns - v * S::kLanes));
      if (lanes == S::kLanes) {
        (residual ? acc[r][v] + S::load(residual + at) : acc[r][v]).store(y + at);
      } else if (lanes > 0) {
        (residual ? acc[r][v] + S::load(residual + at, lanes) : acc[r][v]).store(y + at, lanes);
      }
    }
  }
}

// The columns [n, n + width) of B: their rows `ldb` apart, in a packed panel or in the weight itself, and their bias.
struct Columns {
  const float* b;
  int64_t ldb;
  const float* bias;
  int64_t n;
};

template <class S, class A, class T, int R, int V>
void gemm_tile(const GemmParams& p, const A* a, int64_t lda, const Columns& c, int64_t m) {
  S acc[R][V];
  accumulate<S, A, R, V>(a, lda, c.b, c.ldb, c.bias, p.k, acc);
  finish<S, T, R, V>(acc, p, m, c.n, p.n - c.n);
}

// Rows [m0, m1) of one panel; `a` is row m0. Rows that do not fill a tile are covered by a tile that overlaps the last.
template <class S, class A, class T, int V>
void gemm_panel(const GemmParams& p, const A* a, int64_t lda, const Columns& c, int64_t m0, int64_t m1) {
  constexpr int R = Panels<S>::rows_of(V);
  int64_t m = m0;
  for (; m + R <= m1; m += R) gemm_tile<S, A, T, R, V>(p, a + (m - m0) * lda, lda, c, m);
  if (m < m1 && m1 - m0 >= R) {
    gemm_tile<S, A, T, R, V>(p, a + (m1 - R - m0) * lda, lda, c, m1 - R);
  } else {
    for (; m < m1; ++m) gemm_tile<S, A, T, 1, V>(p, a + (m - m0) * lda, lda, c, m);
  }
}

// Rows [m0, m1) of the i-th panel; `a` is row m0.
template <class S, class A, class T>
void multiply_panel(const GemmParams& p, const Panels<S>& layout, int64_t i, const A* a, int64_t lda, int64_t m0,
                    int64_t m1) {
  const int64_t n = layout.before(i) * S::kLanes, width = layout.width(i) * S::kLanes;
  const float* panel = p.panels + n * Panels<S>::rows(p.k, p.dtype);
  const bool in_place = p.weight && n + width <= p.n;
  const Columns c{in_place ? p.weight + n : panel + width, in_place ? p.n : width, panel, n};
  layout.with_width(i, [&](auto vectors) { gemm_panel<S, A, T, decltype(vectors)::value>(p, a, lda, c, m0, m1); });
}

// Writes rows [m0, m1) of A = gate * x, `lda` apart, converted to the type that the tiles multiply.
template <class S, class T, class A>
void make_rows(const GemmParams& p, int64_t m0, int64_t m1, A* rows, int64_t lda) {
  const T* x = static_cast<const T*>(p.x) + m0 * p.k;
  for (int64_t m = m0; m < m1; ++m, x += p.k, rows += lda) {
    const float* gate = p.gate ? p.gate + m / p.rows_per_image * p.k : nullptr;
    int64_t i = 0;
    for (; i + S::kLanes <= p.k; i += S::kLanes) {
      const S v = S::load(x + i);
      (gate ? v * S::load(gate + i) : v).store(rows + i);
    }
    if (const int lanes = static_cast<int>(p.k - i)) {
      const S v = S::load(x + i, lanes);
      (gate ? v * S::load(gate + i, lanes) : v).store(rows + i, lanes);
    }
    for (i = p.k; i < lda; ++i) rows[i] = A{};
  }
}

template <class S, class A, class T>
void gemm_block(const GemmParams& p, int64_t m0, int64_t m1, int64_t panel0, int64_t panel1) {
  const Panels<S> layout(p.n);
  // Pairs of bfloat16 read up to one value past an odd k: such rows are copied and padded.
  const bool pairs = std::is_same_v<A, bf16>;
  const bool direct = std::is_same_v<A, T> && !p.gate && !p.conv && !(pairs && p.k % 2);
  const int64_t lda = direct ? p.k : p.k + (pairs && p.k % 2);
  const int64_t fitting = kBlockBytes / (static_cast<int64_t>(sizeof(A)) * p.k + static_cast<int64_t>(sizeof(T)) * p.n);
  const int64_t block = std::max<int64_t>(1, fitting / Panels<S>::kRowStep) * Panels<S>::kRowStep;
  A* rows = direct ? nullptr : scratch<A>(Slot::kRows, std::min(block, m1 - m0) * lda);
  const int64_t* offsets = p.conv ? patch_offsets(p) : nullptr;
  for (int64_t m = m0; m < m1; m += block) {
    const int64_t end = std::min(m + block, m1);
    const A* a = rows;
    if (direct) {
      a = static_cast<const A*>(p.x) + m * p.k;
    } else if (p.conv) {
      make_patches<T, A>(p, offsets, m, end, rows, lda);
    } else {
      make_rows<S, T, A>(p, m, end, rows, lda);
    }
    for (int64_t i = panel0; i < panel1; ++i) multiply_panel<S, A, T>(p, layout, i, a, lda, m, end);
  }
}

// What the tiles multiply for images of type T.
template <class S, class T>
using Operand = std::conditional_t<S::kBf16Dot, T, float>;

template <class S>
void gemm(const GemmParams& p, int64_t m0, int64_t m1, int64_t panel0, int64_t panel1) {
  if (p.dtype == DType::kFloat32) {
    gemm_block<S, float, float>(p, m0, m1, panel0, panel1);
  } else {
    gemm_block<S, Operand<S, bf16>, bf16>(p, m0, m1, panel0, panel1);
  }
}

}  // namespace effops
