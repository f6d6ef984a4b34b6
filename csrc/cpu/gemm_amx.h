// The product of gemm.h for bfloat16 on the tiles of AMX: 32 rows by 32 columns in four accumulators, which take 32
// values of k from two tiles of A and two of B at a time. A panel's rows of pairs are what a tile of B holds.
//
// Tiles are as high as the rows that there are to do, down to one, instead of leaving few rows to other instructions: a
// row's bits then depend on its values alone, not on how the rows were split over threads. The sum of k is not cut into
// chunks as in gemm.h: the processor adds 32 values by themselves before they are added to the accumulator.
//
// The processor takes subnormal values of bfloat16, and sums that are subnormal, as zeros, in this tier and in
// avx512_bf16. That is 1e-38. So are values that are rounded to bfloat16 where they are stored.
#pragma once

#include <algorithm>

#include "gemm.h"
#include "simd/tiles.h"

namespace effops {

// Values of k in a step, rows and columns of the accumulators.
constexpr int64_t kAmxStep = 32, kAmxRows = 2 * kTileRows, kAmxColumns = 2 * kTileRows;

// How rows of A are covered by accumulators `height` rows high: by tiles of `rows`, the first and, `lower` rows below,
// the second. It may overlap the first by a row, the last accumulators may overlap those before.
struct AmxCover {
  int64_t height, rows, lower;

  // All accumulators equally high: what overlaps is fewest.
  explicit AmxCover(int64_t count) {
    const int64_t parts = (count + kAmxRows - 1) / kAmxRows;
    height = (count + parts - 1) / parts;
    rows = height > kTileRows ? (height + 1) / 2 : height;
    lower = height - rows;
  }
};

// The tiles of this thread, given back at the end: 0 to 3 are C row by row, 4 and 5 are A, 6 and 7 are B.
class AmxTiles {
 public:
  AmxTiles() = default;
  AmxTiles(const AmxTiles&) = delete;
  AmxTiles& operator=(const AmxTiles&) = delete;
  ~AmxTiles() { tile_release(); }

  void configure(const AmxCover& cover) {
    const bool both = cover.lower > 0;
    if (cover.rows == rows_ && both == both_) return;
    rows_ = cover.rows, both_ = both;
    TileConfig config;
    for (const int tile : {0, 1, 2, 3, 4, 5, 6, 7}) {
      const bool lower = tile == 2 || tile == 3 || tile == 5;
      if (lower && !both) continue;
      config.rows[tile] = static_cast<uint8_t>(tile < 6 ? rows_ : kTileRows);
      config.row_bytes[tile] = kTileRowBytes;
    }
    tile_configure(config);
  }

 private:
  int64_t rows_ = 0;
  bool both_ = false;
};

// Rows of A, and the values of each that do not fill a step, padded with zeros.
struct AmxRows {
  const bf16* a;
  int64_t lda;
  const bf16* tail;
  int64_t tail_lda;
};

// C += A B for one step of k.
template <int R, int V>
inline __attribute__((always_inline)) void amx_step(const bf16* a, int64_t lda, int64_t lower, const float* b,
                                                    int64_t ldb) {
  constexpr int64_t kValue = sizeof(bf16), kPair = sizeof(float);
  tile_load<6>(b, ldb * kPair);
  tile_load<4>(a, lda * kValue);
  tile_dot<0, 4, 6>();
  if constexpr (V == 2) {
    tile_load<7>(b + kTileRows, ldb * kPair);
    tile_dot<1, 4, 7>();
  }
  if constexpr (R == 2) {
    tile_load<5>(a + lower * lda, lda * kValue);
    tile_dot<2, 5, 6>();
    if constexpr (V == 2) tile_dot<3, 5, 7>();
  }
}

// y = F(sums) + residual for R rows of sums.
template <class S, class F, int R, int V>
inline void finish_sums(const GemmParams& p, const float* sums, const Columns& c, int64_t m) {
  S acc[R][V];
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < V; ++v) acc[r][v] = S::load(sums + r * kAmxColumns + v * S::kLanes);
  }
  finish<S, bf16, F>(acc, p, c, m);
}

// y = F(A B + bias) + residual for rows [m0, m1), which `rows` begins with, and V vectors of columns. What the loop
// over k needs comes by value: a tile load may read any memory but what is local.
template <class S, class F, int R, int V>
void amx_columns(const GemmParams& p, AmxRows rows, AmxCover cover, Columns c, int64_t m0, int64_t m1) {
  constexpr int64_t kStride = kAmxColumns * sizeof(float);
  const int64_t steps = p.k / kAmxStep, rest = p.k % kAmxStep;
  alignas(64) float sums[kAmxRows * kAmxColumns];
  for (int64_t next = m0; next < m1; next += cover.height) {
    const int64_t m = std::min(next, m1 - cover.height), row = m - m0;
    // Each row begins with the bias.
    tile_load<0>(c.bias, 0);
    if constexpr (V == 2) tile_load<1>(c.bias + kTileRows, 0);
    if constexpr (R == 2) tile_load<2>(c.bias, 0);
    if constexpr (R == 2 && V == 2) tile_load<3>(c.bias + kTileRows, 0);
    const bf16* a = rows.a + row * rows.lda;
    const float* b = c.b;
    for (int64_t i = 0; i < steps; ++i, a += kAmxStep, b += kAmxStep / 2 * c.ldb) {
      amx_step<R, V>(a, rows.lda, cover.lower, b, c.ldb);
    }
    if (rest) amx_step<R, V>(rows.tail + row * rows.tail_lda, rows.tail_lda, cover.lower, b, c.ldb);
    tile_store<0>(sums, kStride);
    if constexpr (V == 2) tile_store<1>(sums + kTileRows, kStride);
    if constexpr (R == 2) tile_store<2>(sums + cover.lower * kAmxColumns, kStride);
    if constexpr (R == 2 && V == 2) tile_store<3>(sums + cover.lower * kAmxColumns + kTileRows, kStride);
    int64_t r = 0;
    for (; r + 4 <= cover.height; r += 4) finish_sums<S, F, 4, V>(p, sums + r * kAmxColumns, c, m + r);
    for (; r < cover.height; ++r) finish_sums<S, F, 1, V>(p, sums + r * kAmxColumns, c, m + r);
  }
}

// Rows [m0, m1) of the i-th panel.
template <class S>
void amx_panel(const GemmParams& p, const Panels<S>& layout, int64_t i, const AmxRows& rows, const AmxCover& cover,
               int64_t m0, int64_t m1, int64_t pitch) {
  const int64_t first = layout.before(i) * S::kLanes, width = layout.width(i) * S::kLanes;
  const float* bias = p.panels + first * Panels<S>::rows(p.k, DType::kBFloat16);
  for (int64_t j = 0; j < width; j += kAmxColumns) {
    const Columns c{bias + width + j, width, bias + j, first + j, pitch};
    with_activation(p.act, [&](auto f) {
      using F = decltype(f);
      const bool both = cover.lower > 0, wide = width - j > S::kLanes;
      if (both && wide) return amx_columns<S, F, 2, 2>(p, rows, cover, c, m0, m1);
      if (both) return amx_columns<S, F, 2, 1>(p, rows, cover, c, m0, m1);
      if (wide) return amx_columns<S, F, 1, 2>(p, rows, cover, c, m0, m1);
      amx_columns<S, F, 1, 1>(p, rows, cover, c, m0, m1);
    });
  }
}

// Writes what the rows of x have behind their last whole step, padded with zeros to a step.
template <class S>
void copy_tails(const bf16* x, int64_t k, int64_t count, bf16* tails) {
  const int64_t first = k / kAmxStep * kAmxStep;
  for (int64_t m = 0; m < count; ++m, x += k, tails += kAmxStep) {
    for (int64_t i = 0; i < kAmxStep; i += S::kLanes) {
      const int64_t lanes = std::clamp<int64_t>(k - first - i, 0, S::kLanes);
      S::load(x + first + i, static_cast<int>(lanes)).store(tails + i);
    }
  }
}

template <class S>
void gemm_amx(const GemmParams& p, int64_t m0, int64_t m1, int64_t panel0, int64_t panel1, int64_t pitch) {
  static_assert(S::kLanes == kTileRows && S::kPairRows == kTileRows, "a vector of columns is a tile of B");
  const Panels<S> layout(p.n);
  const int64_t steps = p.k / kAmxStep, padded = (p.k + kAmxStep - 1) / kAmxStep * kAmxStep;
  const bool direct = !p.gate && !p.conv;
  AmxTiles tiles;
  for_row_blocks<S, bf16, bf16>(p, direct, padded, kAmxRows, m0, m1, [&](const bf16* a, int64_t m, int64_t end) {
    AmxRows rows{a, padded, a + steps * kAmxStep, padded};
    if (direct) {
      bf16* tails = padded == p.k ? nullptr : scratch<bf16>(Slot::kRows, (end - m) * kAmxStep);
      if (tails) copy_tails<S>(a, p.k, end - m, tails);
      rows = {a, p.k, tails, kAmxStep};
    }
    const AmxCover cover(end - m);
    tiles.configure(cover);
    for (int64_t i = panel0; i < panel1; ++i) amx_panel<S>(p, layout, i, rows, cover, m, end, pitch);
  });
}

}  // namespace effops
