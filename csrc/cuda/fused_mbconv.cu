// y = act2(W2 act(conv(x, W1) + b1) + b2) + residual in one kernel: the expanded tensor stays on chip.
//
// Moves: x once from memory (again from the second-level cache where tiles overlap: a tile of th x tw outputs reads
// ((th - 1) s + k) ((tw - 1) s + k) / (th tw s^2) times its share, 1.4 times for 8 x 16 outputs of 3x3 with stride 1),
// y once to it, the residual once; both weights from the second-level cache once a block. Against two kernels the
// expanded tensor is neither written nor read. Arithmetic: 2 (kh kw c + out) hidden operations an output pixel, none of
// them twice, in 16-bit types on tensor cores with float32 sums, in float32 by fused multiply-adds; an activation each
// hidden value. Where the tile's last pixels or channels are not there, zeros are computed on.
//
// A block brings the input under its tile of output pixels into shared memory once. For 64 hidden channels after
// another it multiplies the patches, which are read from there in place (a table tells where each 16 bytes of depth
// lie), by stages of W1 that are on their way while the one before is computed on; writes the activated sums, rounded
// as the tensor would be, to shared memory as rows of the second product; and adds their product with W2 to sums of all
// output channels, in registers until the end.
#include "fused_mbconv.h"

#include "input_tile.cuh"
#include "product.cuh"

namespace effops::cuda {
namespace {

template <class Element, int Rows, int OutTiles>
struct FusedMbconvTraits {
  using T = Element;
  using Tile = ProductTile<Element, Rows, kProductColumns, 1>;
  static constexpr int kOutTiles = OutTiles;
  static constexpr int kColumnBytes = Tile::kColumns * kRowBytes;   // of a weight's stage
  static constexpr int kSlabs = Tile::kColumns / Tile::kDepth;      // stages that the expanded columns make
  static constexpr int kSlabBytes = Tile::kPartBytes;               // of expanded rows
  static constexpr int kChunks = Tile::kColumns / kLanes<Element>;  // of 16 bytes of expanded columns
  static constexpr int kBlocks = 2;                                 // up to 128 sums a thread
};

// Where things lie in shared memory: after the input the table, 16 zeros, and the stages.
template <class Traits>
struct FusedPlaces {
  int table, zeros, expand, hidden, project;

  __device__ FusedPlaces(const FusedMbconvArgs& p) {
    const int stages = static_cast<int>(ceil_div(p.expand.k, Traits::Tile::kDepth));
    table = static_cast<int>(p.tiling.input.bytes());
    zeros = table + stages * kDepthChunks * 4;
    expand = zeros + 16;
    hidden = expand + 2 * Traits::kColumnBytes;
    project = hidden + Traits::kSlabs * Traits::kSlabBytes;
  }
};

// Rows that are patches of the input tile.
template <class Traits, class Shared>
struct TilePatches {
  static constexpr int kOwn = sizeof(typename Traits::T) == 2 ? Traits::Tile::kRows / 64 : Traits::Tile::kRows / 16;
  Shared& shared;
  int table, zeros, stage;  // stage: its first chunk
  int patch[kOwn];          // where those of this thread's rows begin

  __device__ TilePatches(const FusedMbconvArgs& p, Shared& memory, const FusedPlaces<Traits>& at)
      : shared(memory), table(at.table), zeros(at.zeros), stage(0) {
    const FusedMbconvTiling& t = p.tiling;
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      const int row = ProductSumsOf<typename Traits::Tile>::own_row() + i * 16;
      const int down = row / t.tile_columns * static_cast<int>(p.expand.conv.stride_h);
      const int right = row % t.tile_columns * static_cast<int>(p.expand.conv.stride_w);
      patch[i] = (down * t.input.columns + right) * t.input.pitch;
    }
  }
  __device__ int place(int chunk) const { return vector_at<int>(shared, table + (stage + chunk) * 4); }
  __device__ int byte(int i, int place) const { return place < 0 ? zeros : patch[i] + place; }
};

// For each chunk of depth its distance from a patch's first pixel in the tile, or -1 after the last one.
template <class Traits, class Shared>
__device__ __forceinline__ void write_table(const FusedMbconvArgs& p, const FusedPlaces<Traits>& at, Shared& shared) {
  const ConvShape& s = p.expand.conv;
  const int vectors = static_cast<int>(s.c) / kLanes<typename Traits::T>, kw = static_cast<int>(s.kw);
  const int chunks = static_cast<int>(s.kh) * kw * vectors;
  for (int i = threadIdx.x; i < (at.zeros - at.table) / 4; i += kProductThreads) {
    const int tap = i / vectors, down = tap / kw * static_cast<int>(s.dilation_h);
    const int right = tap % kw * static_cast<int>(s.dilation_w);
    vector_at<int>(shared, at.table + i * 4) =
        i < chunks ? (down * p.tiling.input.columns + right) * p.tiling.input.pitch + i % vectors * 16 : -1;
  }
  if (threadIdx.x == 0) vector_at<uint4>(shared, at.zeros) = make_uint4(0, 0, 0, 0);
}

// act(sums + bias), rounded, as rows of the next product; zeros for channels that are not there, whatever x has.
template <class Traits, class Sums, class Shared>
__device__ __forceinline__ void put_hidden(const ProductArgs& p, int64_t first, const Sums& sums, Shared& shared,
                                           int byte) {
  using T = typename Traits::T;
  constexpr int kColumns = Sums::kColumnFragments, kNeighbours = Sums::kNeighbours;
  float bias[kColumns][kNeighbours];
#pragma unroll
  for (int j = 0; j < kColumns; ++j) {
#pragma unroll
    for (int i = 0; i < kNeighbours; ++i) {
      const int64_t column = first + Sums::column(j) + i;
      bias[j][i] = p.bias.data && column < p.n ? load_as(p.bias.data, p.bias.dtype, column) : 0.0f;
    }
  }
  with_activation(p.act, [&](auto f) {
    sums.for_rows([&](int slot, const float (&values)[kColumns][kNeighbours]) {
#pragma unroll
      for (int j = 0; j < kColumns; ++j) {
        const int column = Sums::column(j), in_slab = column % Traits::Tile::kDepth;
        const int to = byte + column / Traits::Tile::kDepth * Traits::kSlabBytes +
                       swizzled(Sums::slot_row(slot), in_slab / kLanes<T>) +
                       in_slab % kLanes<T> * static_cast<int>(sizeof(T));
        Slice<T, kNeighbours> rounded;
#pragma unroll
        for (int i = 0; i < kNeighbours; ++i) {
          from_float(first + column + i < p.n ? f.apply(values[j][i] + bias[j][i]) : 0.0f, rounded.v[i]);
        }
        vector_at<unsigned>(shared, to) = rounded.bits();
      }
    });
  });
}

template <class Traits>
__global__ void __launch_bounds__(kProductThreads, Traits::kBlocks) fused_mbconv_kernel(const FusedMbconvArgs p) {
  using T = typename Traits::T;
  using Tile = typename Traits::Tile;
  using Sums = ProductSumsOf<Tile>;
  EFFOPS_SHARED_DYNAMIC(unsigned char, shared);
  const ConvShape& s = p.expand.conv;
  const FusedMbconvTiling& t = p.tiling;
  const FusedPlaces<Traits> at(p);
  const int64_t in_image = blockIdx.x % (t.tiles_y * t.tiles_x), n = blockIdx.x / (t.tiles_y * t.tiles_x);
  const int64_t oy0 = in_image / t.tiles_x * t.tile_rows, ox0 = in_image % t.tiles_x * t.tile_columns;

  const auto issue_expand = [&](int64_t first, int stage) {
    WeightRows<Tile>(p.expand, first)
        .issue(p.expand, int64_t{stage} * Tile::kDepth, shared,
               at.expand + stage % 2 * Traits::kColumnBytes - Tile::kColumnsAt);
  };
  const auto issue_project = [&](int64_t first) {
#pragma unroll
    for (int out = 0; out < Traits::kOutTiles; ++out) {
      const WeightRows<Tile> columns(p.project, out * Tile::kColumns);
#pragma unroll
      for (int slab = 0; slab < Traits::kSlabs; ++slab) {
        columns.issue(p.project, first + slab * Tile::kDepth, shared,
                      at.project + (out * Traits::kSlabs + slab) * Traits::kColumnBytes - Tile::kColumnsAt);
      }
    }
  };

  load_input<T>(t.input, p.expand.view.x, s, s.c, n, oy0 * s.stride_h - s.pad_top, ox0 * s.stride_w - s.pad_left,
                p.expand.vectors, shared, 0);
  issue_expand(0, 0);
  write_table<Traits>(p, at, shared);
  TilePatches<Traits, decltype(shared)> patches(p, shared, at);
  const int stages = static_cast<int>(ceil_div(p.expand.k, Tile::kDepth));
  const int chunks = static_cast<int>(p.expand.k) / kLanes<T>;
  Sums outs[Traits::kOutTiles];
  for (int64_t first = 0; first < p.expand.n; first += Tile::kColumns) {
    Sums sums;
    for (int stage = 0; stage < stages; ++stage) {
      wait_for_copies();
      __syncthreads();  // this stage is there, and all have done with the other and with the product before
      if (stage == 0) issue_project(first);
      if (stage + 1 < stages) issue_expand(first, stage + 1);
      patches.stage = stage * kDepthChunks;
      sums.add(shared, patches, at.expand + stage % 2 * Traits::kColumnBytes, chunks - patches.stage);
    }
    put_hidden<Traits>(p.expand, first, sums, shared, at.hidden);
    wait_for_copies();
    __syncthreads();  // the expanded rows and the weight for them are there, the stages are free
    if (first + Tile::kColumns < p.expand.n) issue_expand(first + Tile::kColumns, 0);
    const int left = static_cast<int>(min(ceil_div(p.expand.n - first, kLanes<T>), int64_t{Traits::kChunks}));
#pragma unroll
    for (int slab = 0; slab < Traits::kSlabs; ++slab) {
      if (slab * kDepthChunks >= left) break;
      const StageRows rows{at.hidden + slab * Traits::kSlabBytes, Sums::own_row()};
#pragma unroll
      for (int out = 0; out < Traits::kOutTiles; ++out) {
        outs[out].add(shared, rows, at.project + (out * Traits::kSlabs + slab) * Traits::kColumnBytes,
                      left - slab * kDepthChunks);
      }
    }
  }

#pragma unroll
  for (int out = 0; out < Traits::kOutTiles; ++out) {
    __syncthreads();  // the outputs take the place of all
    outs[out].keep(shared);
    __syncthreads();
    const StoreOutputs<Tile> store(p.project, out * Tile::kColumns);
    if (store.column >= p.project.n) continue;
    ProductPlace whole{};
    whole.rows = Tile::kRows;
    with_activation(p.project.act, [&](auto f) {
      for_outputs<Tile>(whole, shared, [&](float (&values)[kLanes<T>], int row, int) {
        const int64_t oy = oy0 + row / t.tile_columns, ox = ox0 + row % t.tile_columns;
        if (oy < s.oh && ox < s.ow) store.row(f, p.project, (n * s.oh + oy) * s.ow + ox, values);
      });
    });
  }
}

}  // namespace

int64_t prepare_fused_mbconv(FusedMbconvArgs& p) {
  return prepare_product(p.expand, ProductSums::kNone) + prepare_product(p.project, ProductSums::kNone);
}

void run_fused_mbconv(FusedMbconvArgs p, float* workspace, Stream stream) {
  const FusedMbconvTiling& t = p.tiling;
  if (t.tiles == 0) return;
  if (t.tiles > kGridLimit) throw std::runtime_error("effops: a block of this size needs too many blocks");
  start_product(p.expand, workspace, stream);
  start_product(p.project, workspace + p.expand.packed_floats, stream);
  const auto run = [&](auto traits) {
    using Traits = decltype(traits);
    launch(fused_mbconv_kernel<Traits>, dim3(static_cast<unsigned>(t.tiles)), dim3(kProductThreads), t.shared_bytes,
           stream, p);
  };
  with_dtype(p.expand.weight.dtype, [&](auto element) {
    using T = decltype(element);
    if constexpr (sizeof(T) == 2) {
      if (t.rows() == 128) return run(FusedMbconvTraits<T, 128, 1>{});
    }
    if (t.out_tiles == 1) return run(FusedMbconvTraits<T, 64, 1>{});
    run(FusedMbconvTraits<T, 64, 2>{});
  });
}

}  // namespace effops::cuda
