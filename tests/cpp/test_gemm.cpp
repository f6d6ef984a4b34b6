// Pointwise and dense convolutions against a loop in double, in guarded memory, with one and two threads.
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

// Runs with one and two threads into guarded outputs and checks them.
void compare(GemmParams p, const WeightView& weight, const VectorView& bias, const std::vector<double>& want,
             const std::string& name, double allowed) {
  Guarded y(p.m * p.n, p.dtype), y2(p.m * p.n, p.dtype);
  p.y = y.data();
  run_gemm(p, weight, bias, kOneThread);
  p.y = y2.data();
  run_gemm(p, weight, bias, kTwoThreads);
  const double error = relative_error(y, want);
  check(error < allowed, name + ": error " + std::to_string(error));
  check(y.guards_intact(), name + ": wrote out of bounds");
  check(y.same_bits(y2), name + ": the number of threads changes the result");
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

void dense(int64_t c, int64_t size, int64_t oc, int64_t kernel, int64_t stride, int64_t pad, int64_t dilation,
           const std::string& tier, DType dtype) {
  ConvShape s{};
  s.n = 2, s.c = c, s.h = size, s.w = size + 2, s.oc = oc, s.kh = s.kw = kernel;
  s.stride_h = s.stride_w = stride, s.dilation_h = s.dilation_w = dilation;
  s.oh = output_size(s.h, kernel, stride, pad, dilation), s.ow = output_size(s.w, kernel, stride, pad, dilation);
  s.pad_top = pad_before(s.h, kernel, stride, pad, dilation),
  s.pad_left = pad_before(s.w, kernel, stride, pad, dilation);
  Guarded x(random_values(s.n * s.c * s.h * s.w, 1), dtype);  // NCHW: patches are gathered from any strides
  Guarded weight(random_values(oc * c * kernel * kernel, 2), dtype);
  const std::vector<float> bias = random_values(oc, 3);
  GemmParams p{};
  p.m = s.n * s.oh * s.ow, p.n = oc, p.k = c * kernel * kernel, p.dtype = dtype, p.act = Act::kHardswish;
  p.x = x.data(), p.conv = &s;
  p.x_stride_n = c * s.h * s.w, p.x_stride_c = s.h * s.w, p.x_stride_h = s.w, p.x_stride_w = 1;
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
                sum += static_cast<double>(x[((n * c + i) * s.h + iy) * s.w + ix]) *
                       weight[((o * c + i) * kernel + ky) * kernel + kx];
              }
          want.push_back(activate(p.act, sum));
        }
  compare(p, view, {bias.data(), DType::kFloat32, oc}, want, describe(tier, p.m, oc, p.k) + " dense", tolerance(dtype));
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
    // The heights of the tiles of AMX, in whole steps of k and with a rest.
    for (const int64_t rows : {15, 16, 17, 31, 32, 33, 65, 97}) {
      pointwise(1, rows, 48 + rows % 4 * 16, 64, kActs[rows % 6], false, rows % 2 == 0, false, tier, dtype);
      pointwise(1, rows, 33, 94 + rows % 3, kActs[rows % 5], false, rows % 2 == 1, false, tier, dtype);
      not_a_number(rows, 32 + rows % 3 * 7, tier, dtype);
    }
    not_a_number(5, 160, tier, dtype);
    not_a_number(600, 160, tier, dtype);  // blocks of rows of different heights
    dense(3, 17, 32, 3, 2, kSame, 1, tier, dtype);
    dense(3, 16, 24, 3, 2, 1, 1, tier, dtype);
    dense(5, 9, 10, 5, 1, 2, 1, tier, dtype);
    dense(2, 11, 9, 3, 1, 2, 2, tier, dtype);
    dense(4, 8, 16, 1, 2, 0, 1, tier, dtype);
  });
}
