// The instructions of simd/tiles.h, which includes this, in plain C++ for the tests on processors without AMX. Where
// the processor would raise a fault, they throw.
#pragma once

#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>

namespace effops {

struct EmulatedTiles {
  bool configured = false;
  TileConfig config;
  unsigned char data[8][kTileRows][kTileRowBytes] = {};
};

inline thread_local EmulatedTiles emulated_tiles;

[[noreturn]] inline void tile_fault(const std::string& what) { throw std::logic_error("AMX: " + what); }

// The state, if tile `t` may be used.
inline EmulatedTiles& with_tile(int t) {
  EmulatedTiles& tiles = emulated_tiles;
  if (!tiles.configured) tile_fault("no configuration is loaded");
  if (t < 0 || t >= 8 || tiles.config.rows[t] == 0) tile_fault("tile " + std::to_string(t) + " is not configured");
  return tiles;
}

inline void tile_configure(const TileConfig& config) {
  if (config.palette != 1) tile_fault("palette " + std::to_string(config.palette));
  if (config.start_row != 0) tile_fault("a start row");
  for (const uint8_t byte : config.reserved) {
    if (byte != 0) tile_fault("a reserved byte is set");
  }
  for (int t = 0; t < 16; ++t) {
    const int rows = config.rows[t], bytes = config.row_bytes[t];
    const std::string tile = "tile " + std::to_string(t);
    if (t >= 8 && (rows != 0 || bytes != 0)) tile_fault(tile + " does not exist");
    if (rows > kTileRows) tile_fault(tile + " has " + std::to_string(rows) + " rows");
    if (bytes > kTileRowBytes || bytes % 4 != 0) tile_fault(tile + " has rows of " + std::to_string(bytes) + " bytes");
    if ((rows == 0) != (bytes == 0)) tile_fault(tile + " has rows without bytes or bytes without rows");
  }
  emulated_tiles = EmulatedTiles{};
  emulated_tiles.configured = true;
  emulated_tiles.config = config;
}

inline void tile_release() { emulated_tiles = EmulatedTiles{}; }

template <int Tile>
inline void tile_load(const void* base, int64_t stride) {
  EmulatedTiles& tiles = with_tile(Tile);
  std::memset(tiles.data[Tile], 0, sizeof tiles.data[Tile]);
  for (int i = 0; i < tiles.config.rows[Tile]; ++i) {
    std::memcpy(tiles.data[Tile][i], static_cast<const char*>(base) + i * stride, tiles.config.row_bytes[Tile]);
  }
}

template <int Tile>
inline void tile_store(void* base, int64_t stride) {
  EmulatedTiles& tiles = with_tile(Tile);
  for (int i = 0; i < tiles.config.rows[Tile]; ++i) {
    std::memcpy(static_cast<char*>(base) + i * stride, tiles.data[Tile][i], tiles.config.row_bytes[Tile]);
  }
}

// Subnormal values are zeros to the processor, as operands and as results.
inline float flushed(float v) { return std::fabs(v) < std::numeric_limits<float>::min() ? std::copysign(0.0f, v) : v; }
inline float tile_value(const unsigned char* row, int i) {
  uint16_t half;
  std::memcpy(&half, row + 2 * i, sizeof half);
  const uint32_t bits = static_cast<uint32_t>(half) << 16;
  float v;
  std::memcpy(&v, &bits, sizeof v);
  return flushed(v);
}

// In the order of the processor's manual: the even and the odd values of k each in a chain, then both, then C.
template <int C, int A, int B>
inline void tile_dot() {
  EmulatedTiles& tiles = with_tile(C);
  with_tile(A), with_tile(B);
  const TileConfig& config = tiles.config;
  if (C == A || C == B || A == B) tile_fault("a product's tiles are not distinct");
  if (config.rows[C] != config.rows[A]) tile_fault("C and A differ in their rows");
  if (config.row_bytes[C] != config.row_bytes[B]) tile_fault("C and B differ in their columns");
  if (config.row_bytes[A] != 4 * config.rows[B]) tile_fault("A and B differ in k");
  for (int m = 0; m < config.rows[C]; ++m) {
    for (int n = 0; n < config.row_bytes[C] / 4; ++n) {
      float even = 0.0f, odd = 0.0f, c;
      for (int k = 0; k < config.rows[B]; ++k) {
        const unsigned char *a = tiles.data[A][m] + 4 * k, *b = tiles.data[B][k] + 4 * n;
        even = flushed(std::fma(tile_value(a, 0), tile_value(b, 0), even));
        odd = flushed(std::fma(tile_value(a, 1), tile_value(b, 1), odd));
      }
      std::memcpy(&c, tiles.data[C][m] + 4 * n, sizeof c);
      c = flushed(flushed(c) + flushed(even + odd));
      std::memcpy(tiles.data[C][m] + 4 * n, &c, sizeof c);
    }
  }
}

}  // namespace effops
