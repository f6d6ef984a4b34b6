// y = act(dwconv(act(W1 x + b1), W2) + b2), and partial sums of y for its mean, in one kernel: the expanded tensor
// stays on chip, in float32.
//
// Moves: x from memory, with halo rows and columns: tiles of th x tw outputs read
// f = ((th - 1) s + k) ((tw - 1) s + k) / (th tw s^2) times its share (1.3 times for 16 x 14 outputs of 3x3 with stride
// 1, 1.6 for 5x5, 1.1 and 1.3 with stride 2; less at the image's borders), once, and again from the second-level cache
// for each further group of channels that another block has; y once to memory; the weights from the second-level cache
// once a block. Against two kernels the expanded tensor is neither written nor read. Arithmetic: 2 f c operations and f
// activations an expanded value, on tensor cores in 16-bit types, and 2 k^2 a value of y.
//
// A block brings the input under its tile into shared memory once. For 32 channels after another its warps expand 32
// pixels at a time by products with W1, of which shared memory holds the whole depth, and write them activated, or
// zeros beside the image, as the tile that the depthwise kernel would have loaded; from there on it goes on as that one
// does (depthwise_tile.cuh), while the next 32 rows of W1 are on their way.
#include "mbconv.h"

#include "depthwise_tile.cuh"
#include "input_tile.cuh"
#include "product.cuh"

namespace effops::cuda {
namespace {

template <class Element, int Kernel, int Stride>
struct MbconvTraits {
  using T = Element;
  using Depthwise = DepthwiseTraits<Element, Kernel, Stride, false>;
  using Tile = ProductTile<Element, 128, kMbconvChannels, 1>;  // 32 rows of it a warp
  using Sums = ProductSumsOf<Tile>;
  static constexpr int kSlabBytes = kMbconvChannels * kRowBytes;  // of W1
  static constexpr bool k16Bit = sizeof(Element) == 2;
};

constexpr int kWarpPixels = 32;

// Where things lie in shared memory, in bytes: after the depthwise weights the expanded tile, the input, 16 zeros, W1.
template <class Traits>
struct MbconvPlaces {
  int hidden, input, zeros, weight;

  __device__ MbconvPlaces(const MbconvArgs& p) {
    hidden = 4 * Traits::Depthwise::kKernel * Traits::Depthwise::kKernel * kMbconvChannels;
    input = hidden + 4 * mbconv_floats(p.tiling);
    zeros = input + static_cast<int>(p.tiling.input.bytes());
    weight = zeros + 16;
  }
};

// Rows that are pixels of the input tile, `first` and on for a warp.
template <class Traits>
struct TilePixels {
  static constexpr int kOwn = Traits::k16Bit ? kWarpPixels / 16 : kWarpPixels / 4;
  int zeros, chunks, chunk;  // all chunks of a pixel; the first one of this slab
  int pixel[kOwn];           // where those of this thread's rows begin

  __device__ TilePixels(const MbconvArgs& p, const MbconvPlaces<Traits>& at, int first) : zeros(at.zeros), chunk(0) {
    const int lane = threadIdx.x % 32;
    chunks = static_cast<int>(ceil_div(p.expand.k, kLanes<typename Traits::T>));
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      const int row = first + (Traits::k16Bit ? i * 16 + lane % 16 : i * 4 + lane / 8);
      pixel[i] = at.input + min(row, p.tiling.input.pixels() - 1) * p.tiling.input.pitch;
    }
  }
  __device__ int place(int in_slab) const { return chunk + in_slab < chunks ? (chunk + in_slab) * 16 : -1; }
  __device__ int byte(int i, int place) const { return place < 0 ? zeros : pixel[i] + place; }
};

// 32 rows of W1 from c0 on in slabs of kRowBytes of depth; zeros where there are none.
template <class Traits, class Shared>
__device__ __forceinline__ void issue_weight(const ProductArgs& p, int64_t c0, Shared& shared, int byte) {
  using T = typename Traits::T;
  const int chunks = static_cast<int>(ceil_div(p.k, Traits::Tile::kDepth)) * kDepthChunks;
  for (int i = threadIdx.x; i < kMbconvChannels * chunks; i += blockDim.x) {
    const int row = i / chunks, chunk = i % chunks;
    const bool there = c0 + row < p.n && chunk * kLanes<T> < p.k;
    const T* from = static_cast<const T*>(p.packed) + (c0 + row) * p.pitch + chunk * kLanes<T>;
    copy_async(shared, byte + chunk / kDepthChunks * Traits::kSlabBytes + swizzled(row, chunk % kDepthChunks),
               there ? from : p.packed, there);
  }
}

// values[(j + by) % 4] for every j.
template <int N>
__device__ __forceinline__ void rotate(float (&values)[4][N], int by) {
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const float a = values[0][i], b = values[1][i], c = values[2][i], d = values[3][i];
    const float e = by & 1 ? b : a, f = by & 1 ? c : b, g = by & 1 ? d : c, h = by & 1 ? a : d;
    values[0][i] = by & 2 ? g : e, values[1][i] = by & 2 ? h : f;
    values[2][i] = by & 2 ? e : g, values[3][i] = by & 2 ? f : h;
  }
}

// The expanded tile: channels c0 and on of every pixel under the tile of outputs, zeros beside the image.
template <class Traits, class Shared>
__device__ __forceinline__ void expand_tile(const MbconvArgs& p, const MbconvPlaces<Traits>& at, const Window& window,
                                            int64_t c0, Shared& shared) {
  using Sums = typename Traits::Sums;
  constexpr int kColumns = Sums::kColumnFragments, kNeighbours = Sums::kNeighbours;
  static_assert(kColumns == 4);
  const InputTile& t = p.tiling.input;
  const int lane = threadIdx.x % 32;
  // Where neighbouring threads have neighbouring rows, these write different columns at a time, in different banks.
  const int turn = Traits::k16Bit ? lane / 4 % 4 : lane / 8;
  float bias[kColumns][kNeighbours];
#pragma unroll
  for (int j = 0; j < kColumns; ++j) {
#pragma unroll
    for (int i = 0; i < kNeighbours; ++i) {
      const int64_t c = c0 + Sums::column(j) + i;
      bias[j][i] = p.expand.bias.data && c < p.expand.n ? load_as(p.expand.bias.data, p.expand.bias.dtype, c) : 0.0f;
    }
  }
  const int first_there = max(window.top, 0) * t.columns, last_there = min(window.bottom, t.rows) * t.columns;
  const int warps = blockDim.x / 32;
  for (int first = threadIdx.x / 32 * kWarpPixels; first < t.pixels(); first += warps * kWarpPixels) {
    Sums sums;
    if (first < last_there && first + kWarpPixels > first_there) {
      TilePixels<Traits> pixels(p, at, first);
      for (int slab = 0; pixels.chunk < pixels.chunks; pixels.chunk += kDepthChunks, ++slab) {
        sums.add(shared, pixels, at.weight + slab * Traits::kSlabBytes, pixels.chunks - pixels.chunk);
      }
    }
    with_activation(p.expand.act, [&](auto f) {
      sums.for_rows([&](int slot, float (&values)[kColumns][kNeighbours]) {
        const int pixel = first + (Traits::k16Bit ? slot * 8 + lane / 4 : slot * 4 + lane / 8);
        const bool inside = window.has(pixel / t.columns, pixel % t.columns);
#pragma unroll
        for (int j = 0; j < kColumns; ++j) {
#pragma unroll
          for (int i = 0; i < kNeighbours; ++i) values[j][i] = inside ? f.apply(values[j][i] + bias[j][i]) : 0.0f;
        }
        rotate(values, turn);
        if (pixel >= t.pixels()) return;
        const int to = at.hidden + pixel * kMbconvChannels * 4;
#pragma unroll
        for (int j = 0; j < kColumns; ++j) {
          const int byte = to + ((j + turn) % kColumns * 8 + Sums::column(0)) * 4;
          if constexpr (kNeighbours == 2) {
            vector_at<float2>(shared, byte) = make_float2(values[j][0], values[j][1]);
          } else {
            vector_at<float>(shared, byte) = values[j][0];
          }
        }
      });
    });
  }
}

// What the threads have summed of each channel, by way of shared memory, to the row of this tile.
template <class T, class Shared>
__device__ __forceinline__ void store_sums(const DepthwiseArgs& p, const DepthwisePlace& at, int64_t tile,
                                           const float (&sums)[kLanes<T>], const Shared& shared, int offset) {
  constexpr int kVectors = kMbconvChannels / kLanes<T>;
  const int group = threadIdx.x / kVectors, groups = blockDim.x / kVectors;
  const int own = offset + group * kMbconvChannels + threadIdx.x % kVectors * kLanes<T>;
#pragma unroll
  for (int i = 0; i < kLanes<T>; ++i) shared[own + i] = sums[i];
  __syncthreads();
  if (threadIdx.x < kMbconvChannels && at.c0 + threadIdx.x < p.shape.c) {
    float total = 0.0f;
    for (int g = 0; g < groups; ++g) total += shared[offset + g * kMbconvChannels + threadIdx.x];
    p.partial[tile * p.shape.c + at.c0 + threadIdx.x] = total * p.partial_scale;
  }
  __syncthreads();  // before the next channels
}

template <class Traits>
__global__ void __launch_bounds__(Traits::Depthwise::kThreads, Traits::Depthwise::kBlocks)
    mbconv_kernel(const MbconvArgs p) {
  using T = typename Traits::T;
  using Depthwise = typename Traits::Depthwise;
  EFFOPS_SHARED_DYNAMIC(unsigned char, shared);
  EFFOPS_SHARED_DYNAMIC(float, floats);  // the same
  const DepthwiseArgs& d = p.depthwise;
  const ConvShape& s = d.shape;
  const MbconvPlaces<Traits> places(p);
  const int offset = places.hidden / 4, pairs = kMbconvChannels / 2;
  const int64_t tile = blockIdx.x / p.tiling.groups, group = blockIdx.x % p.tiling.groups;
  const int64_t in_image = tile % d.tiling.tiles_of_image();
  DepthwisePlace at{};
  at.pair = threadIdx.x % pairs, at.item = threadIdx.x / pairs;
  at.n = tile / d.tiling.tiles_of_image();
  at.oy0 = in_image / d.tiling.tiles_x * d.tiling.rows();
  at.ox0 = in_image % d.tiling.tiles_x * d.tiling.columns();
  const int64_t iy0 = at.oy0 * Depthwise::kStride - s.pad_top, ix0 = at.ox0 * Depthwise::kStride - s.pad_left;
  const Window window(iy0, ix0, s.h, s.w);

  load_input<T>(p.tiling.input, p.expand.view.x, s, p.expand.k, at.n, iy0, ix0, p.expand.vectors, shared, places.input);
  if (threadIdx.x == 0) vector_at<uint4>(shared, places.zeros) = make_uint4(0, 0, 0, 0);
  const int64_t end = min(s.c, (group + 1) * p.tiling.run * kMbconvChannels);
  at.c0 = group * p.tiling.run * kMbconvChannels;
  issue_weight<Traits>(p.expand, at.c0, shared, places.weight);
  for (; at.c0 < end; at.c0 += kMbconvChannels) {
    load_weights<Depthwise>(d, at, floats);
    wait_for_copies();
    __syncthreads();
    expand_tile<Traits>(p, places, window, at.c0, shared);
    __syncthreads();
    if (at.c0 + kMbconvChannels < end) {
      issue_weight<Traits>(p.expand, at.c0 + kMbconvChannels, shared, places.weight);
    }
    Outputs out = {};
    convolve_tile<Depthwise>(d, at, floats, offset, out);
    __syncthreads();  // all have read the expanded tile: the outputs take its place
    keep_outputs<Depthwise>(d, at, floats, offset, out);
    __syncthreads();
    float sums[kLanes<T>] = {};
    with_activation(d.act, [&](auto f) { store_tile<T, decltype(f), false>(d, at, floats, offset, sums); });
    __syncthreads();  // before the next channels or the sums
    if (d.partial) store_sums<T>(d, at, tile, sums, floats, offset);
  }
}

}  // namespace

int64_t prepare_mbconv(MbconvArgs& p, bool pool) {
  const ConvShape& s = p.depthwise.shape;
  p.depthwise.tiling = p.tiling.depthwise;
  const int64_t floats = prepare_product(p.expand, ProductSums::kNone);
  return floats + (pool && p.depthwise.tiling.tiles_of_image() > 1 ? p.depthwise.tiling.tiles * s.c : 0);
}

void run_mbconv(MbconvArgs p, float* workspace, float* pooled, Stream stream) {
  const MbconvTiling& t = p.tiling;
  const ConvShape& s = p.depthwise.shape;
  if (t.blocks() > kGridLimit) throw std::runtime_error("effops: an image of this size needs too many blocks");
  const int64_t tiles = p.depthwise.tiling.tiles_of_image();
  const float scale = 1.0f / static_cast<float>(s.oh * s.ow);
  start_product(p.expand, workspace, stream);
  p.depthwise.partial = tiles > 1 && pooled ? workspace + p.expand.packed_floats : pooled;
  p.depthwise.partial_scale = tiles > 1 ? 1.0f : scale;
  if (t.blocks() > 0) {
    const auto run = [&](auto kernel) {
      launch(kernel, dim3(static_cast<unsigned>(t.blocks())), dim3(t.depthwise.threads()), t.shared_bytes, stream, p);
    };
    with_dtype(p.expand.weight.dtype, [&](auto element) {
      using T = decltype(element);
      switch (t.depthwise.kernel * 10 + t.depthwise.stride) {
        case 31:
          return run(mbconv_kernel<MbconvTraits<T, 3, 1>>);
        case 32:
          return run(mbconv_kernel<MbconvTraits<T, 3, 2>>);
        case 51:
          return run(mbconv_kernel<MbconvTraits<T, 5, 1>>);
        case 52:
          return run(mbconv_kernel<MbconvTraits<T, 5, 2>>);
        case 71:
          return run(mbconv_kernel<MbconvTraits<T, 7, 1>>);
        case 72:
          return run(mbconv_kernel<MbconvTraits<T, 7, 2>>);
        default:
          throw std::runtime_error("effops: there is no kernel for this block");
      }
    });
  }
  if (pooled && tiles > 1) sum_parts(p.depthwise.partial, s.n, tiles, s.c, scale, pooled, stream);
}

}  // namespace effops::cuda
