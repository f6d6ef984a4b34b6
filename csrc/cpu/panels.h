// How the weights of a matrix product are cut into panels of columns and packed.
//
// A panel is as wide as the register file allows: `vectors` vectors of columns by rows_of(vectors) rows of
// accumulators. In memory it is one row of bias and then the weights row after row of k: read once, front to
// back, by every tile.
#pragma once

#include <algorithm>
#include <type_traits>

#include "kernels.h"

namespace effops {

template <class S>
struct Panels {
  static constexpr bool kWide = S::kRegisters >= 32;
  static constexpr int kMaxVectors = kWide ? 4 : 3;
  // Every tile height divides this.
  static constexpr int kRowStep = kWide ? 48 : 12;
  // Of tiles half a vector wide.
  static constexpr int kHalfRows = 12;

  static constexpr int rows_of(int vectors) {
    if (kWide) return vectors == 1 ? 16 : vectors == 2 ? 12 : vectors == 3 ? 8 : 6;
    return 12 / vectors;
  }

  int64_t vectors, count;

  // With 16 registers two vectors a panel and a third where the number is odd, with 32 up to four. Even numbers of
  // panels where none becomes narrow by it, and wide ones not side by side: half of the panels are half of the work.
  explicit Panels(int64_t n) {
    vectors = (n + S::kLanes - 1) / S::kLanes;
    count = kWide ? (vectors + kMaxVectors - 1) / kMaxVectors : std::max<int64_t>(1, vectors / 2);
    if (count % 2 == 0 || count == 1) return;
    if (kWide) {
      if (vectors >= (count + 1) * (kMaxVectors - 1)) ++count;
    } else if (vectors <= (count - 1) * kMaxVectors) {
      --count;
    }
  }
  int width(int64_t panel) const { return static_cast<int>(before(panel + 1) - before(panel)); }
  // Calls f with the width of a panel as a constant.
  template <class F>
  void with_width(int64_t panel, F&& f) const {
    switch (width(panel)) {
      case 1:
        return f(std::integral_constant<int, 1>());
      case 2:
        return f(std::integral_constant<int, 2>());
      case 3:
        return f(std::integral_constant<int, 3>());
      default:
        if constexpr (kMaxVectors >= 4) f(std::integral_constant<int, 4>());
    }
  }
  // Vectors before this panel.
  int64_t before(int64_t panel) const { return panel * vectors / count; }

  // Rows of a panel: the bias, then one for every k, or for every two where pairs of bfloat16 are multiplied
  // at once; those are padded with zeros.
  static int64_t rows(int64_t k, DType dtype) {
    if constexpr (S::kBf16Dot) {
      if (dtype == DType::kBFloat16) return 1 + (k + 2 * S::kPairRows - 1) / (2 * S::kPairRows) * S::kPairRows;
    }
    return 1 + k;
  }
};

template <class S>
int64_t panel_count(int64_t n) {
  return Panels<S>(n).count;
}

template <class S>
int64_t panel_column(int64_t n, int64_t panel) {
  return std::min(n, Panels<S>(n).before(panel) * S::kLanes);
}

template <class S>
int64_t panel_floats(int64_t n, int64_t k, DType dtype) {
  return Panels<S>(n).vectors * S::kLanes * Panels<S>::rows(k, dtype);
}

// Calls f(k, value) for every k = (kh, kw, c) of one column of the weight.
template <class T, class F>
inline void for_column(const WeightView& w, int64_t n, F f) {
  const T* column = static_cast<const T*>(w.data) + n * w.stride_n;
  int64_t k = 0;
  for (int64_t y = 0; y < w.kh; ++y) {
    for (int64_t x = 0; x < w.kw; ++x) {
      const T* at = column + y * w.stride_kh + x * w.stride_kw;
      for (int64_t c = 0; c < w.c; ++c) f(k++, at[c * w.stride_c]);
    }
  }
}

inline float widen(float v) { return v; }
inline float widen(bf16 v) {
  const uint32_t bits = static_cast<uint32_t>(v.bits) << 16;
  float f;
  __builtin_memcpy(&f, &bits, sizeof f);
  return f;
}

template <class S, class T>
void pack_one_panel(const WeightView& w, int64_t first, int64_t columns, int64_t width, float* out) {
  const int64_t k = w.kh * w.kw * w.c;
  if constexpr (S::kBf16Dot && sizeof(T) == 2) {
    T* pairs = reinterpret_cast<T*>(out);
    std::fill(pairs, pairs + (Panels<S>::rows(k, w.dtype) - 1) * 2 * width, T{});
    for (int64_t j = 0; j < columns; ++j) {
      for_column<T>(w, first + j, [&](int64_t i, T v) { pairs[(i / 2) * 2 * width + 2 * j + i % 2] = v; });
    }
  } else if (w.stride_n == 1 && columns % S::kLanes == 0) {
    const T* data = static_cast<const T*>(w.data) + first;
    for (int64_t y = 0; y < w.kh; ++y) {
      for (int64_t x = 0; x < w.kw; ++x) {
        for (int64_t c = 0; c < w.c; ++c, out += width) {
          const T* row = data + y * w.stride_kh + x * w.stride_kw + c * w.stride_c;
          for (int64_t j = 0; j < columns; j += S::kLanes) S::load(row + j).store(out + j);
        }
      }
    }
  } else {
    for (int64_t j = 0; j < columns; ++j) {
      for_column<T>(w, first + j, [&](int64_t i, T v) { out[i * width + j] = widen(v); });
    }
    for (int64_t j = columns; j < width; ++j) {
      for (int64_t i = 0; i < k; ++i) out[i * width + j] = 0.0f;
    }
  }
}

template <class S>
void pack_panels(const WeightView& w, const float* bias, DType dtype, bool in_place, float* panels, int64_t panel0,
                 int64_t panel1) {
  const Panels<S> layout(w.n);
  const int64_t rows = Panels<S>::rows(w.kh * w.kw * w.c, dtype);
  for (int64_t panel = panel0; panel < panel1; ++panel) {
    const int64_t width = layout.width(panel) * S::kLanes;
    const int64_t first = layout.before(panel) * S::kLanes;
    const int64_t columns = std::min(width, w.n - first);
    float* out = panels + first * rows;
    for (int64_t j = 0; j < width; ++j) out[j] = bias && j < columns ? bias[first + j] : 0.0f;
    out += width;
    if (in_place && columns == width) continue;
    if (w.dtype == DType::kFloat32) {
      pack_one_panel<S, float>(w, first, columns, width, out);
    } else {
      pack_one_panel<S, bf16>(w, first, columns, width, out);
    }
  }
}

}  // namespace effops
