// Matrix product with a prologue on A and an epilogue on the result: y = act(A B + bias) + residual.
//
// A is never packed: a tile broadcasts its values straight from the NHWC image, whose pixels are rows, or from the
// patches that a dense convolution lays over a frame of it. Where A does not lie so (a gate, bfloat16 without pair
// products, patches of odd channels in pairs or of narrow images) a block of rows is made in scratch first, small
// enough to stay in a cache while the panels pass over it.
#pragma once

#include <algorithm>
#include <type_traits>

#include "../core/activation.h"
#include "kernels.h"
#include "panels.h"
#include "patches.h"
#include "scratch.h"

namespace effops {

// What a block of A may take of the L2 cache.
constexpr int64_t kBlockBytes = 192 * 1024;
// A block that is made takes so much of the L1 cache instead, where all panels together are so small that they stay in
// the L2 cache.
constexpr int64_t kMadeBytes = 24 * 1024, kPanelBytes = 320 * 1024;
// Length of the chains that a long k is summed in.
constexpr int64_t kChunk = 128;

// Rows of A that lie `lda` apart.
template <class A>
struct Rows {
  using Value = A;
  const A* a;
  int64_t lda;

  Rows from_row(int64_t m) const { return {a + m * lda, lda}; }
  Rows from_k(int64_t k) const { return {a + k, lda}; }
  // The first row from element k on.
  const A* at(int64_t k) const { return a + k; }
};

// Rows of A that are patches of a frame, under output pixels side by side.
template <class A>
struct Patches {
  using Value = A;
  const A* a;
  int64_t lda;             // from a pixel to the next
  const int64_t* offsets;  // of the elements of a patch

  Patches from_row(int64_t m) const { return {a + m * lda, lda, offsets}; }
  Patches from_k(int64_t k) const { return {a, lda, offsets + k}; }
  const A* at(int64_t k) const { return a + offsets[k]; }
};

// acc += A B over `steps` steps of k, front to back; a step is one k, or two where pairs of bfloat16 are multiplied.
template <class S, class From, int R, int V>
inline __attribute__((always_inline)) void multiply(const From& rows, const float* b_rows, int64_t ldb, int64_t steps,
                                                    S (&acc)[R][V]) {
  for (int64_t i = 0; i < steps; ++i, b_rows += ldb) {
    if constexpr (std::is_same_v<typename From::Value, bf16>) {
      const bf16* a = rows.at(2 * i);
      const bf16* b = reinterpret_cast<const bf16*>(b_rows);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) acc[r][v] = S::dot_pair(a + r * rows.lda, b + 2 * v * S::kLanes, acc[r][v]);
      }
    } else {
      const auto* a = rows.at(i);
      S b[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) b[v] = S::load(b_rows + v * S::kLanes);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const S x(a[r * rows.lda]);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) acc[r][v] = fma(x, b[v], acc[r][v]);
      }
    }
  }
}

// The columns [n, n + width) of B: their rows `ldb` apart, in a packed panel or in the weight itself, their bias, and
// how far apart the rows of the output are that they make.
struct Columns {
  const float* b;
  int64_t ldb;
  const float* bias;
  int64_t n, pitch;
};

// F(x), as precise as T, which it is stored as.
template <class T, class F, class S>
inline __attribute__((always_inline)) S activate(S x) {
  if constexpr (std::is_same_v<T, bf16> && std::is_same_v<F, Silu> && S::kBf16Dot) {
    return coarse_silu(x);
  } else {
    return F::apply(x);
  }
}

// y = F(acc) + residual for a tile at row m.
template <class S, class T, class F, int R, int V>
inline __attribute__((always_inline)) void finish(S (&acc)[R][V], const GemmParams& p, const Columns& c, int64_t m) {
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) acc[r][v] = activate<T, F>(acc[r][v]);
  }
  const int64_t columns = p.n - c.n;
  T* y = static_cast<T*>(p.y) + m * c.pitch + c.n;
  const T* residual = p.residual ? static_cast<const T*>(p.residual) + m * c.pitch + c.n : nullptr;
  if (columns >= V * S::kLanes && !residual) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) acc[r][v].store(y + r * c.pitch + v * S::kLanes);
    }
    return;
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      const int64_t at = r * c.pitch + v * S::kLanes;
      const int lanes = static_cast<int>(std::min<int64_t>(S::kLanes, columns - v * S::kLanes));
      if (lanes == S::kLanes) {
        (residual ? acc[r][v] + S::load(residual + at) : acc[r][v]).store(y + at);
      } else if (lanes > 0) {
        (residual ? acc[r][v] + S::load(residual + at, lanes) : acc[r][v]).store(y + at, lanes);
      }
    }
  }
}

// What sums up half a vector of columns, where there is such a type.
template <class S, class = void>
struct HalfOf {
  using Type = void;
};
template <class S>
struct HalfOf<S, std::void_t<typename S::Half>> {
  using Type = typename S::Half;
};

// y = F(A B + bias) + residual for R rows and V vectors of columns, or half a vector if Sum is that. A long k is summed
// in chunks and the chunks' sums are added up: the rounding error of one long chain would be several times that of a
// blocked matrix product.
template <class S, class From, class T, class F, int R, int V, class Sum>
inline __attribute__((always_inline)) void gemm_tile(const GemmParams& p, const From& rows, const Columns& c,
                                                     int64_t m) {
  constexpr int64_t kStep = std::is_same_v<typename From::Value, bf16> ? 2 : 1, kSteps = kChunk / kStep;
  const int64_t steps = (p.k + kStep - 1) / kStep;
  // What the sum of the last chunk is added to: the bias, the same for all rows, or the sums before it.
  alignas(64) float total[R * V * Sum::kLanes];
  const float* before = c.bias;
  int64_t stride = 0, done = 0;
  Sum sum[R][V];
  for (;;) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[r][v] = Sum(0.0f);
    }
    multiply(rows.from_k(done * kStep), c.b + done * c.ldb, c.ldb, std::min(steps - done, kSteps), sum);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[r][v] = sum[r][v] + Sum::load(before + r * stride + v * Sum::kLanes);
    }
    done += kSteps;
    if (done >= steps) break;
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[r][v].store(total + (r * V + v) * Sum::kLanes);
    }
    before = total, stride = V * Sum::kLanes;
  }
  if constexpr (std::is_same_v<Sum, S>) {
    finish<S, T, F>(sum, p, c, m);
  } else {
    S whole[R][V];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) whole[r][0] = S::widen(sum[r][0]);
    finish<S, T, F>(whole, p, c, m);
  }
}

// Rows [m0, m1) of one panel, the first of which is `rows`, in tiles of R rows. Where they do not come out even, the
// last overlaps the one before, or some have R - 1 rows.
template <class S, class From, class T, int V, class F, class Sum = S>
void gemm_panel(const GemmParams& p, const From& rows, const Columns& c, int64_t m0, int64_t m1) {
  constexpr int R = std::is_same_v<Sum, S> ? Panels<S>::rows_of(V) : Panels<S>::kHalfRows;
  // Only where it was measured to gain: elsewhere it would cost the compiler minutes.
  constexpr bool kEven = S::kLanes == 8 || (S::kLanes == 16 && V > 2);
  const auto tile = [&](auto height, int64_t m) __attribute__((always_inline)) {
    gemm_tile<S, From, T, F, decltype(height)::value, V, Sum>(p, rows.from_row(m - m0), c, m);
  };
  constexpr std::integral_constant<int, R> kHigh;
  const int64_t count = (m1 - m0 + R - 1) / R, lower = count * R - (m1 - m0);
  if (m1 - m0 < R) {
    for (int64_t m = m0; m < m1; ++m) tile(std::integral_constant<int, 1>(), m);
  } else if (!kEven || lower > count) {
    for (int64_t next = m0; next < m1; next += R) tile(kHigh, std::min(next, m1 - R));
  } else {
    int64_t m = m0;
    for (; m < m1 - lower * (R - 1); m += R) tile(kHigh, m);
    if constexpr (kEven) {
      for (; m < m1; m += R - 1) tile(std::integral_constant<int, R - 1>(), m);
    }
  }
}

// Rows [m0, m1) of the i-th panel, the first of which is `rows`.
template <class S, class From, class T>
void multiply_panel(const GemmParams& p, const Panels<S>& layout, int64_t i, const From& rows, int64_t m0, int64_t m1,
                    int64_t pitch) {
  const int64_t n = layout.before(i) * S::kLanes, width = layout.width(i) * S::kLanes;
  const float* panel = p.panels + n * Panels<S>::rows(p.k, p.dtype);
  const bool in_place = p.weight && n + width <= p.n;
  const Columns c{in_place ? p.weight + n : panel + width, in_place ? p.n : width, panel, n, pitch};
  using Half = typename HalfOf<S>::Type;
  // Columns of the last vector.
  const int64_t last = p.n - (n + width - S::kLanes);
  layout.with_width(i, [&](auto vectors) {
    constexpr int V = decltype(vectors)::value;
    with_activation(p.act, [&](auto f) {
      using F = decltype(f);
      if constexpr (!std::is_void_v<Half>) {
        if (last <= S::kLanes / 2) {
          constexpr int64_t kWhole = (V - 1) * S::kLanes;
          if constexpr (V > 1) gemm_panel<S, From, T, V - 1, F>(p, rows, c, m0, m1);
          const Columns rest{c.b + kWhole, c.ldb, c.bias + kWhole, c.n + kWhole, c.pitch};
          return gemm_panel<S, From, T, 1, F, Half>(p, rows, rest, m0, m1);
        }
      }
      gemm_panel<S, From, T, V, F>(p, rows, c, m0, m1);
    });
  });
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

// Of how many rows the blocks are that `rows` are taken in.
template <class S, class A>
int64_t rows_a_block(const GemmParams& p, bool direct, int64_t step, int64_t rows) {
  const int64_t row_bytes = static_cast<int64_t>(sizeof(A)) * p.k;
  const int64_t fitting = kBlockBytes / row_bytes;
  // In the L1 cache only where it was measured.
  if (S::kLanes != 8 || direct || p.conv || row_bytes * p.n > kPanelBytes) {
    return std::max<int64_t>(1, fitting / step) * step;
  }
  const int64_t most = std::max(step, kMadeBytes / row_bytes);
  const int64_t blocks = std::max<int64_t>(1, (rows + most - 1) / most);
  return (rows + blocks - 1) / blocks;
}

// Calls f(rows, m, end) for blocks of the rows [m0, m1) of A: where they are `direct`, rows of x, else made, `lda`
// apart. `step` is what tiles of every height come out even in.
template <class S, class A, class T, class F>
void for_row_blocks(const GemmParams& p, bool direct, int64_t lda, int64_t step, int64_t m0, int64_t m1, F f) {
  const int64_t block = rows_a_block<S, A>(p, direct, step, m1 - m0);
  A* rows = direct ? nullptr : scratch<A>(Slot::kRows, std::min(block + step, m1 - m0) * lda + kPiece<A>);
  for (int64_t m = m0, end; m < m1; m = end) {
    // The last block takes the rows that are left, which might not fill a tile.
    end = m1 - m < block + step ? m1 : m + block;
    const A* a = rows;
    if (direct) {
      a = static_cast<const A*>(p.x) + m * p.k;
    } else if (p.conv) {
      make_patches<S, T, A>(p, m, end, rows, lda);
    } else {
      make_rows<S, T, A>(p, m, end, rows, lda);
    }
    f(a, m, end);
  }
}

template <class S, class A, class T>
void gemm_block(const GemmParams& p, int64_t m0, int64_t m1, int64_t panel0, int64_t panel1, int64_t pitch) {
  const Panels<S> layout(p.n);
  // Pairs of bfloat16 read up to one value past an odd k: such rows are copied and padded.
  const int64_t lda = p.k + (std::is_same_v<A, bf16> && p.k % 2);
  const bool direct = std::is_same_v<A, T> && !p.gate && !p.conv && lda == p.k;
  for_row_blocks<S, A, T>(p, direct, lda, Panels<S>::kRowStep, m0, m1, [&](const A* a, int64_t m, int64_t end) {
    for (int64_t i = panel0; i < panel1; ++i) multiply_panel<S, Rows<A>, T>(p, layout, i, {a, lda}, m, end, pitch);
  });
}

// A row of fewer pixels would read the weights too often for what it saves.
constexpr int64_t kDirectPixels = 24;

// Whether tiles read a frame instead of patches that are made: pairs must not be torn.
template <class A>
bool reads_frames(const GemmParams& p) {
  return p.conv && p.conv->ow >= kDirectPixels && (!std::is_same_v<A, bf16> || p.conv->c % 2 == 0);
}

// A dense convolution, row of the output by row.
template <class S, class A, class T>
void convolve(const GemmParams& p, int64_t m0, int64_t m1, int64_t panel0, int64_t panel1, int64_t pitch) {
  const Panels<S> layout(p.n);
  const ConvShape& s = *p.conv;
  const int64_t* offsets = patch_offsets(s, Frame<A>::pitch_of(s));
  for_frames<S, T, A>(p, m0, m1, [&](const Frame<A>& frame, int64_t m, int64_t end) {
    for (int64_t i = panel0; i < panel1; ++i) {
      for_output_rows(s, frame, m, end, [&](int64_t first, int64_t last, const A* patch) {
        const Patches<A> patches{patch, s.stride_w * s.c, offsets};
        multiply_panel<S, Patches<A>, T>(p, layout, i, patches, first, last, pitch);
      });
    }
  });
}

// What the tiles multiply for images of type T.
template <class S, class T>
using Operand = std::conditional_t<S::kBf16Dot, T, float>;

template <class S, class T>
void gemm_of(const GemmParams& p, int64_t m0, int64_t m1, int64_t panel0, int64_t panel1, int64_t pitch) {
  using A = Operand<S, T>;
  (reads_frames<A>(p) ? convolve<S, A, T> : gemm_block<S, A, T>)(p, m0, m1, panel0, panel1, pitch);
}

template <class S>
void gemm(const GemmParams& p, int64_t m0, int64_t m1, int64_t panel0, int64_t panel1, int64_t pitch) {
  (p.dtype == DType::kFloat32 ? gemm_of<S, float> : gemm_of<S, bf16>)(p, m0, m1, panel0, panel1, pitch);
}

}  // namespace effops
