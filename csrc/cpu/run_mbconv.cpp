#include "run_mbconv.h"

#include <algorithm>
#include <atomic>

#include "depth_first.h"
#include "kernels.h"
#include "operands.h"
#include "packing.h"
#include "parallel.h"
#include "record.h"
#include "scratch.h"

namespace effops {
namespace {

// The block's output rows are made tile by tile. The expanded rows that a tile shares with the next stay where they
// are: expanded row i lies at i % ring.
struct Tiles {
  int64_t rows, ring, reach;

  explicit Tiles(const MbconvParams& p) {
    const ConvShape& s = p.conv;
    reach = (s.kh - 1) * s.dilation_h + 1;
    const int64_t expanded = p.expands ? s.w * s.c * bytes_of(p.dtype) : 0;
    const int64_t hidden = p.hidden ? 0 : s.ow * s.c * bytes_of(p.dtype);
    const int64_t more = std::max<int64_t>(1, s.stride_h * expanded + hidden);
    rows = std::clamp<int64_t>(1 + (kTileBytes - reach * expanded - hidden) / more, 1, s.oh);
    ring = (rows - 1) * s.stride_h + reach;
  }
};

// Makes tiles, one after the other, on one thread.
class TileRun {
 public:
  TileRun(const MbconvParams& p, const PackedMbconv& packed, const Tiles& tiles) : p_(p), tiles_(tiles), c_(packed) {
    const ConvShape& s = p.conv;
    if (p.expands) {
      ring_ = scratch<char>(Slot::kExpandedRows, tiles.ring * s.w * s.c * bytes_of(p.dtype));
      c_.expand.x = p.x, c_.depthwise.x = ring_, c_.depthwise.x_rows = tiles.ring;
    }
    if (!p.hidden) c_.depthwise.y = scratch<char>(Slot::kHiddenRows, tiles.rows * s.ow * s.c * bytes_of(p.dtype));
  }

  // Output rows [first, last) of n * oh, which belong to one image and fill at most a tile.
  void run(int64_t first, int64_t last) {
    const ConvShape& s = p_.conv;
    const int64_t image = first / s.oh, row = first % s.oh, count = last - first;
    if (p_.expands) {
      const int64_t top = row * s.stride_h - s.pad_top;
      expand(image, top, top + (count - 1) * s.stride_h + tiles_.reach);
    }
    if (!p_.hidden) c_.depthwise.y_row0 = first;
    kernels().depthwise(c_.depthwise, first, last, {0, s.c, s.c});
    if (p_.hidden) return;
    if (!p_.residual || !c_.expand.conv) {
      return project(first, first, count, p_.residual ? at(p_.x, first * s.ow * p_.in, p_.dtype) : nullptr);
    }
    // The dense convolution's own rows, in as many pieces as they lie in.
    for (int64_t done = 0, some; done < count; done += some) {
      const int64_t slot = (row + done) % tiles_.ring;
      some = std::min(count - done, tiles_.ring - slot);
      project(first, first + done, some, at(ring_, slot * s.w * s.c, p_.dtype));
    }
  }

 private:
  // Rows [top, bottom) of the image into the ring, but for those that are there.
  void expand(int64_t image, int64_t top, int64_t bottom) {
    top = std::max<int64_t>(top, 0), bottom = std::min(bottom, p_.conv.h);
    if (image != image_) top_ = bottom_ = top;
    expand_rows(image, top, std::min(bottom, top_));
    expand_rows(image, std::max(top, bottom_), bottom);
    image_ = image, top_ = top, bottom_ = bottom;
  }

  void expand_rows(int64_t image, int64_t row, int64_t bottom) {
    const ConvShape& s = p_.conv;
    const Kernels& k = kernels();
    while (row < bottom) {
      const int64_t slot = row % tiles_.ring, count = std::min(bottom - row, tiles_.ring - slot);
      // The product counts the pixels of all images; where their first would lie is no address in the ring.
      const int64_t pixel = (image * s.h + row) * s.w;
      c_.expand.y =
          reinterpret_cast<void*>(reinterpret_cast<intptr_t>(ring_) + (slot * s.w - pixel) * s.c * bytes_of(p_.dtype));
      k.gemm(c_.expand, pixel, pixel + count * s.w, 0, k.panel_count(s.c), s.c);
      row += count;
    }
  }

  // `count` rows from `row` on of the tile that begins with output row `first`.
  void project(int64_t first, int64_t row, int64_t count, const void* residual) {
    const ConvShape& s = p_.conv;
    c_.project.x = at(c_.depthwise.y, (row - first) * s.ow * s.c, p_.dtype);
    c_.project.y = at(p_.y, row * s.ow * p_.out, p_.dtype);
    c_.project.residual = residual;
    c_.project.m = count * s.ow;
    kernels().gemm(c_.project, 0, c_.project.m, 0, kernels().panel_count(p_.out), p_.out);
  }

  const MbconvParams& p_;
  const Tiles& tiles_;
  PackedMbconv c_;
  char* ring_ = nullptr;
  int64_t image_ = -1, top_ = 0, bottom_ = 0;  // the expanded rows that are in the ring
};

// A range of output rows that are still to do. One thread takes them from its begin, another from its end: they meet
// where the slower one is, and of all places within the range only there rows are expanded that both need. In a cache
// line of its own.
class alignas(64) Rows {
 public:
  void set(int64_t begin, int64_t end) { begin_ = begin, left_ = pack(0, end - begin); }

  // Up to `most` rows [first, last) of one image; false where none are left.
  bool take(bool from_end, int64_t most, int64_t image_rows, int64_t* first, int64_t* last) {
    uint64_t now = left_.load(std::memory_order_relaxed), then;
    int64_t begin, end, count;
    do {
      begin = begin_ + static_cast<int64_t>(now >> 32), end = begin_ + static_cast<int64_t>(now & 0xffffffffu);
      if (begin >= end) return false;
      const int64_t image = (from_end ? end - 1 : begin) / image_rows;
      // Of the last rows the other one gets a half.
      count = std::min(
          {most, (end - begin + 1) / 2, from_end ? end - image * image_rows : (image + 1) * image_rows - begin});
      then = from_end ? pack(begin - begin_, end - count - begin_) : pack(begin + count - begin_, end - begin_);
    } while (!left_.compare_exchange_weak(now, then, std::memory_order_relaxed));
    *first = from_end ? end - count : begin, *last = from_end ? end : begin + count;
    return true;
  }

 private:
  static uint64_t pack(int64_t begin, int64_t end) {
    return static_cast<uint64_t>(begin) << 32 | static_cast<uint64_t>(end);
  }

  int64_t begin_ = 0;
  std::atomic<uint64_t> left_{0};  // from begin_ on
};

// Output rows [begin, end) of n * oh.
void run_tiles(const MbconvParams& p, const PackedMbconv& packed, const Tiles& tiles, int64_t begin, int64_t end) {
  TileRun run(p, packed, tiles);
  const int64_t image_rows = p.conv.oh;
  for (int64_t first = begin, last; first < end; first = last) {
    last = std::min({first + tiles.rows, (first / image_rows + 1) * image_rows, end});
    run.run(first, last);
  }
}

// All output rows on all threads.
void share_tiles(const MbconvParams& p, const PackedMbconv& packed, const Tiles& tiles, const Threads& threads) {
  const int64_t rows = p.conv.n * p.conv.oh;
  if (threads.count <= 1) return run_tiles(p, packed, tiles, 0, rows);
  constexpr int64_t kMostPairs = 32;
  Rows pairs[kMostPairs];
  const int64_t count = std::min(threads.count, 2 * kMostPairs);
  for (int64_t i = 0; i < count; i += 2) pairs[i / 2].set(rows * i / count, rows * std::min(i + 2, count) / count);
  parallel_by(threads, count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      TileRun run(p, packed, tiles);
      for (int64_t first, last; pairs[i / 2].take(i % 2, tiles.rows, p.conv.oh, &first, &last);) run.run(first, last);
    }
  });
}

}  // namespace

bool pays_depth_first(const MbconvParams& p, bool squeeze_excite) {
  const ConvShape& s = p.conv;
  constexpr int64_t kCacheBytes = 384 * 1024;
  const int64_t reach = (s.kh - 1) * s.dilation_h + 1;
  const int64_t row = s.w * s.c * bytes_of(p.dtype);
  const int64_t weights = (p.expands ? p.in * s.c : 0) + (squeeze_excite ? 0 : s.c * p.out);
  // Smaller images of the expanded tensor are in the cache anyway. Rows too wide for it, or weights that every tile
  // would have to fetch again, leave nothing to win.
  return (p.expands || !squeeze_excite) && 2 * s.h * row > 3 * kCacheBytes && reach * row <= kCacheBytes &&
         weights * 4 <= kCacheBytes / 2;
}

PackedMbconv unpacked_mbconv(const MbconvParams& p, const MbconvWeights& weights) {
  const ConvShape& s = p.conv;
  PackedMbconv c{};
  if (p.expands) c.expand = product(s.c, p.in, p.dtype, p.act);
  c.project = product(p.out, s.c, p.dtype, p.project_act);
  c.depthwise.shape = s, c.depthwise.dtype = p.dtype, c.depthwise.act = p.act;
  c.se.c = s.c, c.se.r = weights.reduced, c.se.act = weights.reduced_act, c.se.gate = weights.gate;
  return c;
}

void run_mbconv(const MbconvParams& p, const MbconvWeights& weights, const Threads& threads) {
  if (p.conv.n == 0) return;
  if (Plan* plan = recording()) return record_mbconv(*plan, p, weights);
  PackedMbconv c = unpacked_mbconv(p, weights);
  if (p.expands) pack(c.expand, weights.expand, as_floats(weights.expand_bias, Slot::kBias), threads);
  pack(c.project, weights.project, as_floats(weights.project_bias, Slot::kBias), threads, Slot::kProjectPanels);
  c.depthwise.weight = tap_major(weights.depthwise);
  c.depthwise.bias = as_floats(weights.depthwise_bias, Slot::kBias);
  if (p.hidden) set_gate(c.se, weights.squeeze_excite);
  execute_mbconv(p, c, threads);
}

void execute_hidden(const MbconvParams& p, PackedMbconv c, const Threads& threads) {
  const ConvShape& s = p.conv;
  if (c.expand.conv) c.expand.conv = &c.stem;
  c.depthwise.x = p.x, c.depthwise.y = p.hidden;
  c.depthwise.row_sums = p.pooled ? scratch<float>(Slot::kSums, s.n * s.oh * s.c) : nullptr;
  const Tiles tiles(p);
  const int64_t work = (p.expands ? s.w * s.stride_h * p.in : 0) + s.ow * (s.kh * s.kw + (p.hidden ? 0 : p.out));
  const auto images = [&](int64_t begin, int64_t end) { run_tiles(p, c, tiles, begin * s.oh, end * s.oh); };
  if (!p.expands) {
    parallel(threads, s.n * s.oh, work * s.c, [&](int64_t begin, int64_t end) { run_tiles(p, c, tiles, begin, end); });
  } else if (s.n >= 4 * threads.count) {
    parallel(threads, s.n, s.oh * work * s.c, images);
  } else {
    share_tiles(p, c, tiles, threads);
  }
  if (p.pooled) mean_of_parts(c.depthwise.row_sums, s.n, s.oh, s.c, s.oh * s.ow, p.pooled, threads);
}

void execute_mbconv(const MbconvParams& p, PackedMbconv c, const Threads& threads) {
  const ConvShape& s = p.conv;
  execute_hidden(p, c, threads);
  if (!p.hidden) return;
  c.se.n = s.n, c.se.pooled = p.pooled, c.se.out = p.gate;
  execute_se_gate(c.se, threads);
  c.project.m = s.n * s.oh * s.ow, c.project.rows_per_image = s.oh * s.ow;
  c.project.x = p.hidden, c.project.gate = p.gate, c.project.y = p.y;
  c.project.residual = p.residual ? p.x : nullptr;
  execute_gemm(c.project, threads);
}

}  // namespace effops
