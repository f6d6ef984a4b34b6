// How the operands of a product come into shared memory: rows of 64 bytes of depth in four chunks, permuted so that
// reads of one chunk of eight rows meet in no bank. A thread brings 16 bytes at the same place of several rows.
//
// What a view computes is kept in as many parts as the precision needs: one, or a 16-bit value and the 16-bit rest.
//
// issue() starts the loads of a stage while the one before is computed on, finish() puts what had to pass through
// registers into shared memory.
#pragma once

#include <cfloat>

#include "matrix_instructions.h"
#include "product.h"
#include "views.cuh"

namespace effops::cuda {

constexpr int kDepthChunks = 4;  // of 16 bytes
constexpr int kRowBytes = 16 * kDepthChunks;
constexpr int kChunkRows = kProductThreads / kDepthChunks;  // rows that all threads bring at a time

template <class Element, int Rows, int Columns, int Parts>
struct ProductTile {
  using T = Element;
  static constexpr int kRows = Rows, kColumns = Columns, kParts = sizeof(Element) == 2 ? Parts : 1;
  static constexpr int kDepth = kDepthChunks * kLanes<T>;
  static constexpr int kRowChunks = Rows / kChunkRows, kColumnChunks = Columns / kChunkRows;  // of a thread
  static constexpr int kPartBytes = Rows * kRowBytes, kColumnsAt = kParts * kPartBytes;
  static constexpr int kStageBytes = kColumnsAt + Columns * kRowBytes;
  static constexpr int kOutPitch = Columns + 8;  // of the sums, in floats: rows of fragments fall into different banks
};

// Where a tile lies.
struct ProductPlace {
  int64_t m0, image;  // its first row, and with tiles of images the image
  int rows;           // at most those of the tile
  int64_t n0;
};

__device__ inline int chunk_row() { return threadIdx.x / kDepthChunks; }
template <class T>
__device__ inline int chunk_depth() {
  return threadIdx.x % kDepthChunks * kLanes<T>;
}
// Where a chunk of a row lies: two rows fill all banks, and four such pairs are permuted in four ways.
__device__ inline int swizzled(int row, int chunk) { return row * kRowBytes + (chunk ^ (row / 2 % 4)) * 16; }
__device__ inline int chunk_byte(int row) {
  return swizzled(chunk_row(), threadIdx.x % kDepthChunks) + row * kChunkRows * kRowBytes;
}

template <class T, class Shared>
__device__ __forceinline__ void put_packed(Shared& shared, int byte, const Packed<T>& packed) {
  uint4 bits;
  memcpy(&bits, &packed, sizeof bits);
  vector_at<uint4>(shared, byte) = bits;
}

constexpr int kFour = 4;  // channels that pass through a view at a time: the parameters of more would not fit beside it

// Four values as the nearest T; and with two parts what remains, where that is finite.
template <class Tile, class Shared>
__device__ __forceinline__ void put_four(Shared& shared, int byte, const float (&values)[kFour]) {
  using T = typename Tile::T;
  struct alignas(kFour * sizeof(T)) Four {
    T v[kFour];
  } nearest, rest;
#pragma unroll
  for (int i = 0; i < kFour; ++i) {
    from_float(values[i], nearest.v[i]);
    const float away = values[i] - to_float(nearest.v[i]);
    from_float(vabs(away) <= FLT_MAX ? away : 0.0f, rest.v[i]);
  }
  vector_at<Four>(shared, byte) = nearest;
  if constexpr (Tile::kParts == 2) vector_at<Four>(shared, byte + Tile::kPartBytes) = rest;
}

// The weight's rows; zeros after the last, so that sums of columns that are not there stay finite.
template <class Tile>
struct WeightRows {
  using T = typename Tile::T;
  const T* from;
  int64_t depth, step;
  int left;

  __device__ WeightRows(const ProductArgs& p, int64_t n0)
      : from(static_cast<const T*>(p.packed) + (n0 + chunk_row()) * p.pitch + chunk_depth<T>()),
        depth(p.k - chunk_depth<T>()),
        step(p.pitch * kChunkRows),
        left(static_cast<int>(min(p.n - n0, int64_t{Tile::kColumns})) - chunk_row()) {}

  template <class Shared>
  __device__ __forceinline__ void issue(const ProductArgs& p, int64_t k0, Shared& shared, int stage) const {
#pragma unroll
    for (int i = 0; i < Tile::kColumnChunks; ++i) {
      const bool there = k0 < depth && i * kChunkRows < left;
      copy_async(shared, stage + Tile::kColumnsAt + chunk_byte(i), there ? from + i * step + k0 : p.packed, there);
    }
  }
};

// Rows as they lie in memory, aligned.
template <class Tile>
struct CopiedRows {
  using T = typename Tile::T;
  static constexpr int kOnTheWay = 0;  // tensors that pass through registers
  const T* from;
  int64_t depth;
  int left;

  __device__ CopiedRows(const ProductArgs& p, const ProductPlace& at)
      : from(static_cast<const T*>(p.view.x) + (at.m0 + chunk_row()) * p.k + chunk_depth<T>()),
        depth(p.k - chunk_depth<T>()),
        left(at.rows - chunk_row()) {}

  template <class Shared>
  __device__ __forceinline__ void issue(const ProductArgs& p, int64_t k0, Shared& shared, int stage) {
#pragma unroll
    for (int i = 0; i < Tile::kRowChunks; ++i) {
      const bool there = k0 < depth && i * kChunkRows < left;
      copy_async(shared, stage + chunk_byte(i), there ? from + i * kChunkRows * p.k + k0 : p.view.x, there);
    }
  }
  template <class Shared>
  __device__ __forceinline__ void finish(const ProductArgs&, int64_t, Shared&, int) {}
};

// The image of each of a thread's rows, where something is given by image.
template <class Tile>
struct RowImages {
  int image[Tile::kRowChunks];

  __device__ RowImages(const ProductArgs& p, const ProductPlace& at, bool wanted) {
#pragma unroll
    for (int i = 0; i < Tile::kRowChunks; ++i) {
      const int row = min(chunk_row() + i * kChunkRows, at.rows - 1);
      image[i] = wanted ? static_cast<int>((at.m0 + row) / p.pixels) : 0;
    }
  }
};

template <class T>
__device__ __forceinline__ Packed<T> load_chunk(const void* data, int64_t at, int64_t left, bool vectors) {
  const T* from = static_cast<const T*>(data) + at;
  if (left <= 0) return Packed<T>{};
  return vectors ? load_packed(from) : load_packed(from, left);
}

// Rows through View.
template <class Tile>
struct ViewedRows {
  using T = typename Tile::T;
  static constexpr int kOnTheWay = 1;  // tensors that pass through registers
  RowImages<Tile> images;
  int64_t at, depth;
  int left;
  Packed<T> raw[Tile::kRowChunks];

  __device__ ViewedRows(const ProductArgs& p, const ProductPlace& place)
      : images(p, place, p.view.gate != nullptr),
        at((place.m0 + chunk_row()) * p.k + chunk_depth<T>()),
        depth(p.k - chunk_depth<T>()),
        left(place.rows - chunk_row()) {}

  template <class Shared>
  __device__ __forceinline__ void issue(const ProductArgs& p, int64_t k0, Shared&, int) {
#pragma unroll
    for (int i = 0; i < Tile::kRowChunks; ++i) {
      raw[i] =
          load_chunk<T>(p.view.x, at + i * kChunkRows * p.k + k0, i * kChunkRows < left ? depth - k0 : 0, p.vectors);
    }
  }
  template <class Shared>
  __device__ __forceinline__ void finish(const ProductArgs& p, int64_t k0, Shared& shared, int stage) {
    const int64_t first = k0 + chunk_depth<T>();
    with_activation(p.view.act, [&](auto f) {
#pragma unroll
      for (int lane = 0; lane < kLanes<T>; lane += kFour) {
        const ViewChannels<kFour> channels(p.view.affine, p.k, first + lane);
#pragma unroll
        for (int i = 0; i < Tile::kRowChunks; ++i) {
          float values[kFour];
          apply_view(f, channels, &raw[i].v[lane], image_row(p.view.gate, images.image[i], p.k), p.k, first + lane,
                     values);
          put_four<Tile>(shared, stage + chunk_byte(i) + lane * static_cast<int>(sizeof(T)), values);
        }
      }
    });
  }
};

// Rows through GradView.
template <class Tile>
struct GradRows {
  using T = typename Tile::T;
  static constexpr int kOnTheWay = 2;  // tensors that pass through registers
  RowImages<Tile> images;
  int64_t at, depth;
  int left;
  Packed<T> grad[Tile::kRowChunks], u[Tile::kRowChunks];

  __device__ GradRows(const ProductArgs& p, const ProductPlace& place)
      : images(p, place, p.grad.gate || p.grad.pool_grad),
        at((place.m0 + chunk_row()) * p.k + chunk_depth<T>()),
        depth(p.k - chunk_depth<T>()),
        left(place.rows - chunk_row()) {}

  template <class Shared>
  __device__ __forceinline__ void issue(const ProductArgs& p, int64_t k0, Shared&, int) {
#pragma unroll
    for (int i = 0; i < Tile::kRowChunks; ++i) {
      const int64_t from = at + i * kChunkRows * p.k + k0, there = i * kChunkRows < left ? depth - k0 : 0;
      grad[i] = load_chunk<T>(p.grad.grad, from, there, p.vectors);
      u[i] = load_chunk<T>(p.grad.u, from, p.grad.coef ? there : 0, p.vectors);
    }
  }
  template <class Shared>
  __device__ __forceinline__ void finish(const ProductArgs& p, int64_t k0, Shared& shared, int stage) {
    const int64_t first = k0 + chunk_depth<T>();
    with_activation(p.grad.act, [&](auto f) {
#pragma unroll
      for (int lane = 0; lane < kLanes<T>; lane += kFour) {
        const GradChannels<kFour> channels(p.grad.coef, p.k, first + lane);
#pragma unroll
        for (int i = 0; i < Tile::kRowChunks; ++i) {
          float values[kFour];
          apply_grad(f, p.grad, channels, &grad[i].v[lane], &u[i].v[lane], image_row(p.grad.gate, images.image[i], p.k),
                     image_row(p.grad.pool_grad, images.image[i], p.k), p.k, first + lane, values);
          put_four<Tile>(shared, stage + chunk_byte(i) + lane * static_cast<int>(sizeof(T)), values);
        }
      }
    });
  }
};

// Patches of an image of any strides, gathered value by value: for few input channels, whose images stay in the
// first-level cache.
template <class Tile>
struct PatchRows {
  using T = typename Tile::T;
  static constexpr int kOnTheWay = 1;  // tensors that pass through registers
  int64_t origin[Tile::kRowChunks];    // of the patch in x; outside of the image with padding
  int top[Tile::kRowChunks], left[Tile::kRowChunks];
  bool present[Tile::kRowChunks];
  Packed<T> raw[Tile::kRowChunks];

  __device__ PatchRows(const ProductArgs& p, const ProductPlace& at) {
    const ConvShape& s = p.conv;
#pragma unroll
    for (int i = 0; i < Tile::kRowChunks; ++i) {
      const int row = chunk_row() + i * kChunkRows;
      present[i] = row < at.rows;
      const int64_t m = present[i] ? at.m0 + row : 0, line = m / s.ow;
      top[i] = static_cast<int>(line % s.oh * s.stride_h - s.pad_top);
      left[i] = static_cast<int>(m % s.ow * s.stride_w - s.pad_left);
      origin[i] = line / s.oh * p.x_stride_n + top[i] * p.x_stride_h + left[i] * p.x_stride_w;
    }
  }

  template <class Shared>
  __device__ __forceinline__ void issue(const ProductArgs& p, int64_t k0, Shared&, int) {
    const ConvShape& s = p.conv;
    const T* x = static_cast<const T*>(p.view.x);
    const int64_t first = k0 + chunk_depth<T>(), tap = first / s.c;
    int64_t c = first % s.c, kh = tap / s.kw, kw = tap % s.kw;
#pragma unroll
    for (int lane = 0; lane < kLanes<T>; ++lane) {
      const int dy = static_cast<int>(kh * s.dilation_h), dx = static_cast<int>(kw * s.dilation_w);
      const int64_t away = dy * p.x_stride_h + dx * p.x_stride_w + c * p.x_stride_c;
#pragma unroll
      for (int i = 0; i < Tile::kRowChunks; ++i) {
        const bool inside = present[i] && kh < s.kh &&
                            static_cast<unsigned>(top[i] + dy) < static_cast<unsigned>(s.h) &&
                            static_cast<unsigned>(left[i] + dx) < static_cast<unsigned>(s.w);
        raw[i].v[lane] = inside ? x[origin[i] + away] : T{};
      }
      if (++c == s.c) c = 0, ++kw;
      if (kw == s.kw) kw = 0, ++kh;
    }
  }
  template <class Shared>
  __device__ __forceinline__ void finish(const ProductArgs&, int64_t, Shared& shared, int stage) {
#pragma unroll
    for (int i = 0; i < Tile::kRowChunks; ++i) {
      put_packed(shared, stage + chunk_byte(i), raw[i]);
    }
  }
};

}  // namespace effops::cuda
