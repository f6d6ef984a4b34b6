// What the C++ tests share: reporting, random and guarded buffers, the tolerance, and threads.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "cpu/kernels.h"
#include "cpu/run.h"
#include "cpu/simd/portable.h"

namespace effops_test {

inline int failures = 0;

inline void check(bool good, const std::string& what) {
  if (good) return;
  ++failures;
  std::printf("FAILED: %s\n", what.c_str());
}

// Splits every loop over two real threads.
inline void two_threads(void*, int64_t begin, int64_t end, int64_t, effops::ParallelBody body, void* context) {
  const int64_t middle = begin + (end - begin) / 2;
  std::thread other([&] { body(begin, middle, context); });
  body(middle, end, context);
  other.join();
}
const effops::Threads kOneThread{nullptr, 1};
const effops::Threads kTwoThreads{two_threads, 2};

// Into three parts of different sizes, the last of which runs first, by itself.
inline void three_parts(void*, int64_t begin, int64_t end, int64_t, effops::ParallelBody body, void* context) {
  const int64_t first = begin + (end - begin + 2) / 3, second = first + (end - first + 1) / 2;
  if (second < end) body(second, end, context);
  std::thread other([&] { body(begin, first, context); });
  if (first < second) body(first, second, context);
  other.join();
}
const effops::Threads kThreeThreads{three_parts, 3};

inline std::vector<float> random_values(int64_t size, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(size));
  for (float& v : values) v = normal(generator);
  return values;
}

// A tensor in float32 or bfloat16 between guards: NaN around an input shows a read out of bounds in the
// result, a pattern around an output shows a write out of bounds.
class Guarded {
 public:
  Guarded(const std::vector<float>& values, effops::DType dtype) : dtype_(dtype), size_(values.size()) {
    bytes_.assign((size_ + 2 * kGuard) * width(), 0);
    const float nan = std::numeric_limits<float>::quiet_NaN();
    for (size_t i = 0; i < size_ + 2 * kGuard; ++i) set(i, nan);
    for (size_t i = 0; i < size_; ++i) set(i + kGuard, values[i]);
    before_ = bytes_;
  }
  // An output, filled with NaN: an element that is never written shows.
  Guarded(int64_t size, effops::DType dtype)
      : Guarded(std::vector<float>(static_cast<size_t>(size), std::numeric_limits<float>::quiet_NaN()), dtype) {}

  void* data() { return bytes_.data() + kGuard * width(); }
  float operator[](int64_t i) const { return get(static_cast<size_t>(i) + kGuard); }
  int64_t size() const { return static_cast<int64_t>(size_); }
  bool guards_intact() const {
    const size_t head = kGuard * width(), tail = (kGuard + size_) * width();
    return std::memcmp(bytes_.data(), before_.data(), head) == 0 &&
           std::memcmp(bytes_.data() + tail, before_.data() + tail, head) == 0;
  }
  bool same_bits(const Guarded& other) const { return bytes_ == other.bytes_; }

 private:
  static constexpr size_t kGuard = 64;
  size_t width() const { return dtype_ == effops::DType::kFloat32 ? 4 : 2; }
  void set(size_t i, float v) {
    if (dtype_ == effops::DType::kFloat32) {
      std::memcpy(bytes_.data() + 4 * i, &v, 4);
    } else {
      const effops::bf16 h = effops::float_to_bf16(v);
      std::memcpy(bytes_.data() + 2 * i, &h, 2);
    }
  }
  float get(size_t i) const {
    if (dtype_ == effops::DType::kFloat32) {
      float v;
      std::memcpy(&v, bytes_.data() + 4 * i, 4);
      return v;
    }
    effops::bf16 h;
    std::memcpy(&h, bytes_.data() + 2 * i, 2);
    return effops::bf16_to_float(h);
  }

  effops::DType dtype_;
  size_t size_;
  std::vector<unsigned char> bytes_, before_;
};

// The activations in double, from their definitions.
inline double activate(effops::Act act, double x) {
  switch (act) {
    case effops::Act::kIdentity:
      return x;
    case effops::Act::kRelu:
      return std::max(x, 0.0);
    case effops::Act::kRelu6:
      return std::min(std::max(x, 0.0), 6.0);
    case effops::Act::kSilu:
      return x / (1 + std::exp(-x));
    case effops::Act::kHardswish:
      return x * std::min(std::max(x + 3, 0.0), 6.0) / 6;
    case effops::Act::kGelu:
      return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
  }
  return 0;
}
// The derivatives in double; at the kinks torch's.
inline double slope(effops::Act act, double x) {
  switch (act) {
    case effops::Act::kIdentity:
      return 1;
    case effops::Act::kRelu:
      return x > 0;
    case effops::Act::kRelu6:
      return x > 0 && x < 6;
    case effops::Act::kSilu: {
      const double s = 1 / (1 + std::exp(-x));
      return s == 0 ? 0 : s * (1 + x * (1 - s));
    }
    case effops::Act::kHardswish:
      return x <= -3 ? 0 : x < 3 ? x / 3 + 0.5 : 1;
    case effops::Act::kGelu:
      return 0.5 * (1 + std::erf(x / std::sqrt(2.0))) + x * std::exp(-0.5 * x * x) / std::sqrt(2 * std::acos(-1.0));
  }
  return 0;
}

constexpr effops::Act kActs[] = {effops::Act::kIdentity, effops::Act::kRelu,      effops::Act::kRelu6,
                                 effops::Act::kSilu,     effops::Act::kHardswish, effops::Act::kGelu};

// Largest error over the largest value, NaN-aware: a NaN on one side only is an infinite error.
inline double relative_error(const Guarded& got, const std::vector<double>& want) {
  double error = 0, scale = 1e-30;
  for (int64_t i = 0; i < got.size(); ++i) {
    const double g = got[i], w = want[static_cast<size_t>(i)];
    if (std::isnan(g) != std::isnan(w)) return std::numeric_limits<double>::infinity();
    if (std::isnan(g)) continue;
    error = std::max(error, std::fabs(g - w));
    scale = std::max(scale, std::fabs(w));
  }
  return error / scale;
}

// float32: a few roundings of a sum of terms; bfloat16: the rounding of the result and of what feeds it.
inline double tolerance(effops::DType dtype) { return dtype == effops::DType::kFloat32 ? 4e-6 : 8e-3; }

// Runs the body for every tier that this processor (or its emulation) has and both dtypes; the exit status of
// main.
inline int for_every_tier(const std::function<void(const std::string& name, effops::DType dtype)>& body) {
  for (const std::string& isa : effops::available_isas()) {
    effops::set_isa(isa);
    for (const effops::DType dtype : {effops::DType::kFloat32, effops::DType::kBFloat16}) {
      body(isa + (dtype == effops::DType::kFloat32 ? " float32 " : " bfloat16 "), dtype);
    }
    std::printf("%s done\n", isa.c_str());
  }
  return failures != 0;
}

}  // namespace effops_test
