// How a pass over images (n, pixels, c) is cut into blocks: host code without CUDA, by the shape alone.
#pragma once

#include <initializer_list>

#include "heuristics.h"

namespace effops::cuda {

// A block covers a slab of channels of a run of pixels of one image: `vectors` threads of neighbouring channels, 16
// bytes each, by `rows` pixels side by side.
struct PassTiling {
  int vectors = 0, rows = 0;
  int64_t slabs = 0;          // blocks that share a run of pixels
  int64_t run = 0, runs = 0;  // pixels of a block; runs of an image
  int64_t parts = 0;          // runs of all images

  EFFOPS_HD int threads() const { return vectors * rows; }
  EFFOPS_HD int64_t blocks() const { return parts * slabs; }
};

constexpr int kPassThreads = 256;
constexpr int kPassVectors = 32;  // of a slab at most
// Pixels of a thread at the least, where images are large enough: kernels have some of them on their way at one time.
constexpr int kPassSteps = 4;

// `lanes`: channels of 16 bytes. `few`: as few parts as keep a large GPU busy; otherwise runs are short, too, so that
// the last blocks to end are small.
inline PassTiling pass_tiling(int64_t n, int64_t pixels, int64_t c, int lanes, bool few) {
  constexpr int64_t kSteps = 16, kMostSteps = 32;
  constexpr int64_t kBlocks = 8 * kBlocksAtOnce, kFewBlocks = 4 * kBlocksAtOnce;
  PassTiling t;
  const int64_t vectors = ceil_div(c, lanes);
  if (n * pixels * vectors == 0) return t;
  t.slabs = ceil_div(vectors, kPassVectors);
  const int64_t wide = ceil_div(vectors, t.slabs);
  t.vectors = static_cast<int>(t.slabs > 1 ? wide + wide % 2 : wide);  // slabs meet between sectors of 32 bytes
  t.slabs = ceil_div(vectors, t.vectors);
  t.rows =
      static_cast<int>(std::max<int64_t>(1, std::min<int64_t>(kPassThreads / t.vectors, ceil_div(pixels, kPassSteps))));
  const int64_t steps = ceil_div(pixels, t.rows);
  const int64_t wanted = ceil_div(n * steps * t.slabs, few ? kFewBlocks : kBlocks);
  // Images that are enough without being cut stay whole where they are small: their sums then need no second stage.
  const int64_t least = !few && n * t.slabs >= kBlocksAtOnce ? kSteps : kPassSteps;
  t.runs = ceil_div(steps, std::max(least, few ? wanted : std::min(wanted, kMostSteps)));
  t.run = ceil_div(steps, t.runs) * t.rows;
  t.runs = ceil_div(pixels, t.run);
  t.parts = n * t.runs;
  return t;
}

// The images of a pass, dense, and how it is cut.
struct Pass {
  int64_t n, pixels, c;
  DType dtype;
  PassTiling tiling;
  bool vectors;  // whether all images and rows of channels can be accessed 16 bytes at a time

  // `pointers`: all images and rows of float32 that the pass reads or writes; null for none.
  void prepare(std::initializer_list<const void*> pointers, bool few = false) {
    const int lanes = dtype == DType::kFloat32 ? 4 : 8;
    tiling = pass_tiling(n, pixels, c, lanes, few);
    vectors = c % lanes == 0;
    for (const void* pointer : pointers) vectors = vectors && reinterpret_cast<uintptr_t>(pointer) % 16 == 0;
  }
};

}  // namespace effops::cuda
