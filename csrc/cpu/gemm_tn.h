// Sums of outer products over pixels, the gradient of a weight: G^T X with both operands row-major, a pixel a row.
#pragma once

#include "panels.h"
#include "views.h"

namespace effops {

// R values of every row of g times V vectors of every row of x, summed over the rows and added to `to`, or stored there
// by the first block. The first `skip` rows of the tile belong to another one.
template <class S, int R, int V>
void outer_tile(const float* g, int64_t g_pitch, const float* x, int64_t x_pitch, int64_t rows, int64_t skip,
                int64_t columns, bool first, float* to, int64_t pitch) {
  S sum[R][V];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) sum[r][v] = S(0.0f);
  }
  for (int64_t m = 0; m < rows; ++m, g += g_pitch, x += x_pitch) {
    S b[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) b[v] = S::load(x + v * S::kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const S a(g[r]);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[r][v] = fma(a, b[v], sum[r][v]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    if (r < skip) continue;
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      float* at = to + r * pitch + v * S::kLanes;
      const int lanes = static_cast<int>(std::min<int64_t>(S::kLanes, columns - v * S::kLanes));
      if (lanes <= 0) continue;
      store_lanes(first ? sum[r][v] : sum[r][v] + load_lanes<S>(at, lanes), at, lanes);
    }
  }
}

template <class S, int V>
void outer_panel(const float* g, int64_t g_pitch, int64_t g_columns, const float* x, int64_t x_pitch, int64_t rows,
                 int64_t columns, bool first, float* to, int64_t pitch) {
  constexpr int R = Panels<S>::rows_of(V);
  int64_t i = 0;
  auto tile = [&](auto height, int64_t at, int64_t skip) {
    outer_tile<S, decltype(height)::value, V>(g + at, g_pitch, x, x_pitch, rows, skip, columns, first, to + at * pitch,
                                              pitch);
  };
  for (; i + R <= g_columns; i += R) tile(std::integral_constant<int, R>(), i, 0);
  if (i < g_columns && g_columns >= R) {
    tile(std::integral_constant<int, R>(), g_columns - R, i - (g_columns - R));
  } else {
    for (; i < g_columns; ++i) tile(std::integral_constant<int, 1>(), i, 0);
  }
}

// Panels [panel0, panel1) of the columns of `to` += G^T X. x starts at the first panel's column and may be read up to a
// whole number of vectors; rows of `to` lie `pitch` apart, and it has `columns` of them in all.
template <class S>
void add_outer_products(const float* g, int64_t g_pitch, int64_t g_columns, const float* x, int64_t x_pitch,
                        int64_t rows, int64_t columns, int64_t panel0, int64_t panel1, bool first, float* to) {
  const Panels<S> layout(columns);
  const int64_t c0 = layout.before(panel0) * S::kLanes;
  for (int64_t i = panel0; i < panel1; ++i) {
    const int64_t at = layout.before(i) * S::kLanes;
    auto panel = [&](auto width) {
      outer_panel<S, decltype(width)::value>(g, g_pitch, g_columns, x + at - c0, x_pitch, rows, columns - at, first,
                                             to + at, columns);
    };
    layout.with_width(i, panel);
  }
}

}  // namespace effops
