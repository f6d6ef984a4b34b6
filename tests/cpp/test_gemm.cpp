// Pointwise and dense convolutions against a loop in double, in guarded memory, with one to three threads.
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "core/shape.h"

using namespace effops;
using namespace effops_test;

namespace {

std::string describe(const std::string& tier, int64_t m, int64_t n, int64_t k) {
  return tier + "m" + std::to_string(m) + " n" + std::to_string(n) + " k" + std::to_string(k);
}

// Runs with one to three threads into guarded outputs and checks them.
void compare(GemmParams p, const WeightView& weight, const VectorView& bias, const std::vector<double>& want,
             const std::string& name, double allowed) {
  Guarded y(p.m * p.n, p.dtype), y2(p.m * p.n, p.dtype), y3(p.m * p.n, p.dtype);
  p.y = y.data();
  run_gemm(p, weight, bias, kOneThread);
  p.y = y2.data();
  run_gemm(p, weight, bias, kTwoThreads);
  p.y = y3.data();
  run_gemm(p, weight, bias, kThreeThreads);
  const double error = relative_error(y, want);
  check(error < allowed, name + ": error " + std::to_string(error));
  check(y.guards_intact(), name + ": wrote out of bounds");
  check(y.same_bits(y2) && y.same_bits(y3), name + ": the number of threads changes the result");
}

void pointwise(int64_t images, int64_t pixels, int64_t n, int64_t k, Act act, bool gated, bool residual, bool k_major,
               const std::string& tier, DType dtype) {
  const int64_t m = images * pixels;
  Guarded x(random_values(m * k, 1), dtype), weight(random_values(n * k, 2), dtype),
      add(random_values(m * n, 4), dtype);
  const std::vector<float> bias = random_values(n, 3);
  Guarded gate(random_values(images * k, 5), DType::kFloat32);
  GemmParams p{};
  p.m = m, p.n = n, p.k = k, p.dtype = dtype, p.act = act, p.x = x.data(), p.rows_per_image = pixels;
  if (gated) p.gate = static_cast<const float*>(gate.data());
  if (residual) p.residual = add.data();
  const WeightView view{weight.data(), dtype, n, 1, 1, k, k_major ? 1 : k, 0, 0, k_major ? n : 1};
  std::vector<double> want(static_cast<size_t>(m * n));
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) {
      double sum = bias[static_cast<size_t>(j)];
      for (int64_t l = 0; l < k; ++l) {
        const double g = gated ? gate[i / pixels * k + l] : 1.0f;
        sum += g * x[i * k + l] * weight[k_major ? l * n + j : j * k + l];
      }
      want[static_cast<size_t>(i * n + j)] = activate(act, sum) + (residual ? add[i * n + j] : 0.0f);
    }
  // Where bfloat16 is multiplied in pairs, the gated input is rounded once more, as eager PyTorch rounds it.
  const double allowed = tolerance(dtype) * (gated && dtype == DType::kBFloat16 ? 2 : 1);
  compare(p, view, {bias.data(), DType::kFloat32, n}, want, describe(tier, m, n, k) + (gated ? " gate" : ""), allowed);
}

// A copy of an input behind which lies a page that must not be read: also a read whose result nobody uses ends the
// test.
class AtPageEnd {
 public:
  AtPageEnd(Guarded& values, DType dtype) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t bytes = static_cast<size_t>(values.size()) * (dtype == DType::kFloat32 ? 4 : 2);
    const size_t pages = (bytes + page - 1) / page * page;
    size_ = pages + page;
    memory_ = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char* const end = static_cast<char*>(memory_) + pages;
    check(memory_ != MAP_FAILED && mprotect(end, page, PROT_NONE) == 0, "no guarded page");
    data_ = std::memcpy(end - bytes, values.data(), bytes);
  }
  AtPageEnd(const AtPageEnd&) = delete;
  AtPageEnd& operator=(const AtPageEnd&) = delete;
  ~AtPageEnd() { munmap(memory_, size_); }
  const void* data() const { return data_; }

 private:
  void *memory_, *data_;
  size_t size_;
};

// A dense convolution of two images (h, w), channels last or first, one value of which may be no number.
struct Dense {
  int64_t c, h, w, oc, kernel, stride, pad, dilation;
  bool channels_last, not_a_number;
};

void dense(const Dense& d, const std::string& tier, DType dtype) {
  const auto [c, h, w, oc, kernel, stride, pad, dilation, channels_last, not_a_number] = d;
  ConvShape s{};
  s.n = 2, s.c = c, s.h = h, s.w = w, s.oc = oc, s.kh = s.kw = kernel;
  s.stride_h = s.stride_w = stride, s.dilation_h = s.dilation_w = dilation;
  s.oh = output_size(s.h, kernel, stride, pad, dilation), s.ow = output_size(s.w, kernel, stride, pad, dilation);
  s.pad_top = pad_before(s.h, kernel, stride, pad, dilation),
  s.pad_left = pad_before(s.w, kernel, stride, pad, dilation);
  std::vector<float> values = random_values(s.n * c * h * w, 1);
  if (not_a_number) values[values.size() / 3] = std::numeric_limits<float>::quiet_NaN();
  Guarded x(values, dtype);
  const AtPageEnd end(x, dtype);
  Guarded weight(random_values(oc * c * kernel * kernel, 2), dtype);
  const std::vector<float> bias = random_values(oc, 3);
  GemmParams p{};
  p.m = s.n * s.oh * s.ow, p.n = oc, p.k = c * kernel * kernel, p.dtype = dtype, p.act = Act::kHardswish;
  p.x = end.data(), p.conv = &s, p.x_stride_n = c * h * w;
  p.x_stride_c = channels_last ? 1 : h * w, p.x_stride_h = channels_last ? w * c : w;
  p.x_stride_w = channels_last ? c : 1;
  const WeightView view{weight.data(), dtype, oc, kernel, kernel, c, c * kernel * kernel, kernel, 1, kernel * kernel};
  std::vector<double> want;
  for (int64_t n = 0; n < s.n; ++n)
    for (int64_t oy = 0; oy < s.oh; ++oy)
      for (int64_t ox = 0; ox < s.ow; ++ox)
        for (int64_t o = 0; o < oc; ++o) {
          double sum = bias[static_cast<size_t>(o)];
          for (int64_t i = 0; i < c; ++i)
            for (int64_t ky = 0; ky < kernel; ++ky)
              for (int64_t kx = 0; kx < kernel; ++kx) {
                const int64_t iy = oy * stride - s.pad_top + ky * dilation,
                              ix = ox * stride - s.pad_left + kx * dilation;
                if (iy < 0 || iy >= s.h || ix < 0 || ix >= s.w) continue;
                sum += static_cast<double>(
                           x[n * p.x_stride_n + i * p.x_stride_c + iy * p.x_stride_h + ix * p.x_stride_w]) *
                       weight[((o * c + i) * kernel + ky) * kernel + kx];
              }
          want.push_back(activate(p.act, sum));
        }
  compare(p, view, {bias.data(), DType::kFloat32, oc}, want, describe(tier, p.m, oc, p.k) + " dense", tolerance(dtype));
}

// What is not a number in one row of A or one column of B stays there, also where rows are read as they lie, are padded
// or share a tile with their neighbours.
void not_a_number(int64_t m, int64_t k, const std::string& tier, DType dtype) {
  const int64_t n = 40, bad_row = m / 2, bad_column = 33;
  std::vector<float> a = random_values(m * k, 1), b = random_values(n * k, 2);
  a[static_cast<size_t>(bad_row * k)] = std::numeric_limits<float>::quiet_NaN();
  a[static_cast<size_t>(bad_row * k + k - 1)] = std::numeric_limits<float>::infinity();
  b[static_cast<size_t>(bad_column * k + k - 1)] = std::numeric_limits<float>::quiet_NaN();
  Guarded x(a, dtype), weight(b, dtype);
  const AtPageEnd end(x, dtype);
  GemmParams p{};
  p.m = m, p.n = n, p.k = k, p.dtype = dtype, p.act = Act::kIdentity, p.x = end.data(), p.rows_per_image = m;
  std::vector<double> want;
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) {
      double sum = 0;
      for (int64_t l = 0; l < k; ++l) sum += static_cast<double>(x[i * k + l]) * weight[j * k + l];
      want.push_back(sum);
    }
  compare(p, {weight.data(), dtype, n, 1, 1, k, k, 0, 0, 1}, {}, want, describe(tier, m, n, k) + " NaN",
          tolerance(dtype));
}

// SiLU behind a product by 1, of all values of bfloat16 that are not too small: as near as bfloat16 is.
void silu_of_bfloat16(const std::string& tier) {
  std::vector<float> values;
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float v = bf16_to_float(bf16{static_cast<uint16_t>(bits)});
    if (std::fabs(v) >= 1e-30f && std::fabs(v) <= 1e30f) values.push_back(v);
  }
  for (const float v : {0.0f, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()})
    values.push_back(v);
  const int64_t m = static_cast<int64_t>(values.size());
  Guarded x(values, DType::kBFloat16), weight(std::vector<float>(16, 1.0f), DType::kBFloat16);
  Guarded y(m * 16, DType::kBFloat16);
  GemmParams p{};
  p.m = m, p.n = 16, p.k = 1, p.dtype = DType::kBFloat16, p.act = Act::kSilu, p.rows_per_image = m;
  p.x = x.data(), p.y = y.data();
  run_gemm(p, {weight.data(), DType::kBFloat16, 16, 1, 1, 1, 1, 0, 0, 1}, {}, kOneThread);
  for (int64_t i = 0; i < m - 2; ++i) {
    const double want = activate(Act::kSilu, x[i]), error = std::fabs(y[i * 16] - want);
    // Below -87 the exponential is clamped, to 1.7e-38.
    check(error <= std::fabs(want) / 256 + 1.7e-38 * std::fabs(x[i]), tier + "silu of " + std::to_string(x[i]));
  }
  check(std::isinf(y[(m - 2) * 16]) && std::isnan(y[(m - 1) * 16]), tier + "silu of infinity and NaN");
}

}  // namespace

int main() {
  return for_every_tier([](const std::string& tier, DType dtype) {
    int i = 0;
    for (const int64_t n : {1, 7, 8, 16, 24, 40, 65, 112, 200})
      for (const int64_t k : {1, 3, 16, 33, 144, 300}) {
        for (const int64_t pixels : {1, 5, 49}) {
          pointwise(2, pixels, n, k, kActs[i % 6], i % 2 == 0, i % 3 == 0, i % 5 < 2, tier, dtype);
          ++i;
        }
      }
    pointwise(1, 600, 16, 8, Act::kSilu, false, true, true, tier, dtype);
    pointwise(3, 300, 24, 40, Act::kRelu6, true, false, true, tier, dtype);
    pointwise(1, 900, 17, 129, Act::kGelu, true, true, false, tier, dtype);
    pointwise(0, 49, 16, 8, Act::kSilu, false, false, false, tier, dtype);
    // Odd numbers of panels, which threads share with ranges of rows of one panel, and fewer rows than threads.
    for (const int64_t n : {270, 300, 450}) {
      pointwise(1, 49, n, 24, Act::kRelu, n == 450, true, false, tier, dtype);
      pointwise(1, 2, n, 16, Act::kIdentity, n == 300, false, false, tier, dtype);
    }
    // The heights of the tiles of AMX, in whole steps of k and with a rest.
    for (const int64_t rows : {15, 16, 17, 31, 32, 33, 65, 97}) {
      pointwise(1, rows, 48 + rows % 4 * 16, 64, kActs[rows % 6], false, rows % 2 == 0, false, tier, dtype);
      pointwise(1, rows, 33, 94 + rows % 3, kActs[rows % 5], false, rows % 2 == 1, false, tier, dtype);
      not_a_number(rows, 32 + rows % 3 * 7, tier, dtype);
    }
    not_a_number(5, 160, tier, dtype);
    not_a_number(600, 160, tier, dtype);  // blocks of rows of different heights
    const Dense cases[] = {
        {3, 17, 19, 32, 3, 2, kSame, 1, false, false},
        {3, 16, 18, 24, 3, 2, 1, 1, false, false},
        {5, 9, 11, 10, 5, 1, 2, 1, false, true},
        {2, 11, 13, 9, 3, 1, 2, 2, false, false},
        {4, 8, 10, 16, 1, 2, 0, 1, false, false},
        {6, 9, 20, 70, 3, 1, 1, 1, true, true},
        // Rows of so many pixels that tiles read the frame itself, where channels are even.
        {3, 9, 71, 32, 3, 2, kSame, 1, true, true},
        {3, 9, 71, 16, 3, 2, kSame, 1, false, true},
        {24, 6, 40, 24, 3, 1, kSame, 1, true, true},
        {24, 6, 41, 33, 3, 2, kSame, 1, false, false},
        {2, 7, 33, 17, 5, 1, 4, 2, true, true},
        {4, 3, 26, 8, 7, 1, 3, 1, true, false},
        {6, 9, 80, 8, 1, 3, 0, 1, true, false},
        {4, 1, 29, 5, 3, 1, 3, 3, true, false},
        {4, 1, 1, 8, 1, 1, 20, 1, true, false},  // padding alone under most of a row
        // Frames of one row of the output, and of a few.
        {150, 5, 50, 16, 3, 1, 1, 1, true, false},
        {40, 19, 64, 72, 3, 1, 1, 1, true, false},
    };
    for (const Dense& d : cases) dense(d, tier, dtype);
    if (dtype == DType::kBFloat16) silu_of_bfloat16(tier);
  });
}
