// The tiles of AMX: eight registers of at most 16 rows of 64 bytes. Each instruction is one function here.
//
// They are written as assembly, not as the compiler's intrinsics: GCC 12's do not say which memory ldtilecfg and
// tileloadd read, so that what was stored there before may be moved behind them.
#pragma once

#include <cstdint>

namespace effops {

constexpr int kTileRows = 16, kTileRowBytes = 64;

// What ldtilecfg reads. A tile without rows is not to be used.
struct TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};
static_assert(sizeof(TileConfig) == 64);

}  // namespace effops

#if defined(EFFOPS_EMULATE_AVX512)
#include "emulated_tiles.h"
#else

#define EFFOPS_TILE inline __attribute__((always_inline)) void

namespace effops {

// Gives all tiles their shapes and fills them with zeros; takes about 200 cycles.
EFFOPS_TILE tile_configure(const TileConfig& config) { asm volatile("ldtilecfg %0" : : "m"(config)); }

// Nothing is configured any longer: the operating system has no tiles to save.
EFFOPS_TILE tile_release() { asm volatile("tilerelease"); }

// Row i of a tile from, or to, `base` + i * `stride` bytes.
template <int Tile>
EFFOPS_TILE tile_load(const void* base, int64_t stride) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(base), "r"(stride), "i"(Tile) : "memory");
}
template <int Tile>
EFFOPS_TILE tile_store(void* base, int64_t stride) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(base), "r"(stride), "i"(Tile) : "memory");
}

// C += A B, C in float32, A and B in pairs of bfloat16 along k.
template <int C, int A, int B>
EFFOPS_TILE tile_dot() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(C), "i"(A), "i"(B));
}

}  // namespace effops

#undef EFFOPS_TILE
#endif
