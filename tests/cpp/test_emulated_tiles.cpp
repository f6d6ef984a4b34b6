// The emulation of AMX itself: what it computes, and that every misuse that the processor would fault on is caught.
#include "check.h"
#include "cpu/simd/tiles.h"

using namespace effops;
using namespace effops_test;

namespace {

template <class F>
bool faults(F f) {
  try {
    f();
  } catch (const std::logic_error&) {
    return true;
  }
  return false;
}

// Tile 0 for C (rows, columns), 1 for A (rows, 2 pairs), 2 for B (2 pairs, columns).
TileConfig product_config(int rows, int pairs, int columns) {
  TileConfig config;
  config.rows[0] = config.rows[1] = static_cast<uint8_t>(rows), config.rows[2] = static_cast<uint8_t>(pairs);
  config.row_bytes[0] = config.row_bytes[2] = static_cast<uint16_t>(4 * columns);
  config.row_bytes[1] = static_cast<uint16_t>(4 * pairs);
  return config;
}

// C += A B between strides wider than the rows; nothing beside the rows is read or written.
void check_product(int64_t rows, int64_t pairs, int64_t columns) {
  const int64_t k = 2 * pairs, lda = k + 3, ldb = columns + 2, ldc = columns + 5;
  const std::string name = "tiles " + std::to_string(rows) + "x" + std::to_string(k) + "x" + std::to_string(columns);
  Guarded a(random_values(rows * lda, 1), DType::kBFloat16), b(random_values(2 * pairs * ldb, 2), DType::kBFloat16);
  Guarded c(random_values(rows * ldc, 3), DType::kFloat32);
  const Guarded before = c;
  std::vector<double> want;
  for (int64_t m = 0; m < rows; ++m)
    for (int64_t n = 0; n < ldc; ++n) {
      double sum = before[m * ldc + n];
      for (int64_t i = 0; n < columns && i < k; ++i) sum += a[m * lda + i] * b[(i / 2 * ldb + n) * 2 + i % 2];
      want.push_back(sum);
    }
  tile_configure(product_config(static_cast<int>(rows), static_cast<int>(pairs), static_cast<int>(columns)));
  tile_load<0>(c.data(), 4 * ldc);
  tile_load<1>(a.data(), 2 * lda);
  tile_load<2>(b.data(), 4 * ldb);
  tile_dot<0, 1, 2>();
  tile_store<0>(c.data(), 4 * ldc);
  tile_release();
  check(relative_error(c, want) < tolerance(DType::kFloat32), name + ": wrong product");
  for (int64_t i = 0; i < rows * ldc; ++i) {
    check(i % ldc < columns || c[i] == before[i], name + ": wrote beside its rows");
  }
  check(c.guards_intact(), name + ": wrote out of bounds");
}

template <class F>
void refuses(const std::string& what, F change) {
  TileConfig config = product_config(16, 16, 16);
  change(config);
  check(faults([&] { tile_configure(config); }), "accepted " + what);
}

void check_configurations() {
  check(!faults([] { tile_configure(product_config(16, 16, 16)); }), "refused a good configuration");
  refuses("palette 0", [](TileConfig& c) { c.palette = 0; });
  refuses("palette 2", [](TileConfig& c) { c.palette = 2; });
  refuses("a start row", [](TileConfig& c) { c.start_row = 1; });
  refuses("a reserved byte", [](TileConfig& c) { c.reserved[13] = 1; });
  refuses("17 rows", [](TileConfig& c) { c.rows[2] = 17; });
  refuses("68 bytes", [](TileConfig& c) { c.row_bytes[2] = 68; });
  refuses("half a pair", [](TileConfig& c) { c.row_bytes[2] = 30; });
  refuses("rows without bytes", [](TileConfig& c) { c.row_bytes[1] = 0; });
  refuses("bytes without rows", [](TileConfig& c) { c.rows[1] = 0; });
  refuses("a ninth tile", [](TileConfig& c) { c.rows[8] = 16, c.row_bytes[8] = 64; });
}

void check_uses() {
  float memory[16 * 16] = {};
  tile_release();
  check(faults([&] { tile_load<0>(memory, 64); }), "loaded without a configuration");
  tile_configure(product_config(5, 3, 7));
  check(!faults([&] { tile_load<2>(memory, 64); }), "a configured tile");
  check(faults([&] { tile_load<3>(memory, 64); }), "loaded a tile that is not configured");
  check(faults([&] { tile_store<7>(memory, 64); }), "stored a tile that is not configured");
  check(faults([] { tile_dot<0, 1, 3>(); }), "multiplied a tile that is not configured");
  check(faults([] { tile_dot<0, 1, 1>(); }), "multiplied a tile with itself");
  bool other_faults = false;
  std::thread([&] { other_faults = faults([&] { tile_load<2>(memory, 64); }); }).join();
  check(other_faults, "a thread used another's configuration");
  const auto product_faults = [](void (*change)(TileConfig&)) {
    TileConfig config = product_config(5, 3, 7);
    change(config);
    tile_configure(config);
    return faults([] { tile_dot<0, 1, 2>(); });
  };
  check(!product_faults([](TileConfig&) {}), "refused a good product");
  check(product_faults([](TileConfig& c) { c.rows[0] = 4; }), "C and A of different rows");
  check(product_faults([](TileConfig& c) { c.row_bytes[0] = 32; }), "C and B of different columns");
  check(product_faults([](TileConfig& c) { c.rows[2] = 4; }), "A and B of different k");
  tile_release();
  check(faults([&] { tile_store<0>(memory, 64); }), "stored after the release");
}

// Subnormal operands, products and sums are zeros.
void check_subnormals() {
  const float tiny = 1e-39f, least = std::numeric_limits<float>::min();
  const auto product = [](float x, float w, float c) {
    const bf16 a[2] = {float_to_bf16(x), {0}}, b[2] = {float_to_bf16(w), {0}};
    tile_configure(product_config(1, 1, 1));
    tile_load<0>(&c, 4), tile_load<1>(a, 4), tile_load<2>(b, 4);
    tile_dot<0, 1, 2>();
    tile_store<0>(&c, 4);
    tile_release();
    return c;
  };
  check(product(tiny, 1024.0f, 0.0f) == 0.0f, "a subnormal operand");
  check(product(least, 0.5f, 0.0f) == 0.0f, "a subnormal product");
  check(product(0.0f, 1.0f, tiny) == 0.0f, "a subnormal accumulator");
  check(product(least, 2.0f, least) == 3 * least, "normal values");
}

}  // namespace

int main() {
  for (const int64_t rows : {1, 5, 16})
    for (const int64_t pairs : {1, 9, 16})
      for (const int64_t columns : {1, 7, 16}) check_product(rows, pairs, columns);
  check_configurations();
  check_uses();
  check_subnormals();
  return failures != 0;
}
