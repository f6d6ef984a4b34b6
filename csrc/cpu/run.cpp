#include "run.h"

#include <algorithm>

#include "kernels.h"
#include "operands.h"
#include "packing.h"
#include "parallel.h"
#include "record.h"
#include "scratch.h"

namespace effops {

void mean_of_rows(const float* sums, int64_t parts, int64_t c, int64_t pixels, int64_t first, int64_t last,
                  float* mean) {
  std::fill(mean + first, mean + last, 0.0f);
  for (int64_t part = 0; part < parts; ++part, sums += c) {
    for (int64_t i = first; i < last; ++i) mean[i] += sums[i];
  }
  for (int64_t i = first; i < last; ++i) mean[i] /= static_cast<float>(pixels);
}

void mean_of_parts(const float* sums, int64_t n, int64_t parts, int64_t c, int64_t pixels, float* mean,
                   const Threads& threads) {
  parallel(threads, n, parts * c, [&](int64_t begin, int64_t end) {
    for (int64_t image = begin; image < end; ++image) {
      mean_of_rows(sums + image * parts * c, parts, c, pixels, 0, c, mean + image * c);
    }
  });
}

void run_depthwise(DepthwiseParams params, const WeightView& weight, const VectorView& bias, float* pooled,
                   const Threads& threads) {
  if (Plan* plan = recording()) return record_depthwise(*plan, params, weight, bias, pooled);
  params.weight = tap_major(weight);
  params.bias = as_floats(bias, Slot::kBias);
  execute_depthwise(params, pooled, threads);
}

void execute_depthwise(DepthwiseParams params, float* pooled, const Threads& threads) {
  const Kernels& k = kernels();
  const ConvShape& s = params.shape;
  params.row_sums = pooled ? scratch<float>(Slot::kSums, s.n * s.oh * s.c) : nullptr;
  parallel(threads, s.n * s.oh, s.ow * s.c * s.kh * s.kw,
           [&](int64_t begin, int64_t end) { k.depthwise(params, begin, end, {0, s.c, s.c}); });
  if (pooled) mean_of_parts(params.row_sums, s.n, s.oh, s.c, s.oh * s.ow, pooled, threads);
}

void run_gemm(GemmParams params, const WeightView& weight, const VectorView& bias, const Threads& threads) {
  if (params.m == 0) return;
  if (Plan* plan = recording()) return record_gemm(*plan, params, weight, bias);
  pack(params, weight, as_floats(bias, Slot::kBias), threads);
  execute_gemm(params, threads);
}

void execute_gemm(const GemmParams& params, const Threads& threads) {
  const Kernels& k = kernels();
  const int64_t panels = k.panel_count(params.n);
  const int64_t count = std::max<int64_t>(1, threads.count), rows_a_thread = params.m / count;
  // Few rows and many panels (the last stages at batch 1): whole columns a thread, so that each reads its part of the
  // weights alone. Else rows.
  if (rows_a_thread < 128 && panels >= 2 * count) {
    // Where panels would leave a thread waiting for another, each in as many ranges of rows as there are threads.
    const int64_t ranges = panels % count ? std::clamp<int64_t>(params.m, 1, count) : 1, units = panels * ranges;
    const auto row = [&](int64_t range) { return params.m * range / ranges; };
    const auto columns = [&](int64_t begin, int64_t end) {
      // The last ranges of a panel, whole panels, the first ranges of one.
      for (int64_t unit = begin, next; unit < end; unit = next) {
        const int64_t panel = unit / ranges, first = unit % ranges;
        next = first || end - unit < ranges ? std::min(end, (panel + 1) * ranges) : end / ranges * ranges;
        k.gemm(params, row(first), row(std::min(first + next - unit, ranges)), panel, (next + ranges - 1) / ranges,
               params.n);
      }
    };
    if (params.gate || params.conv) {
      // Every range makes gated rows, or frames, of its own.
      parallel_in_few(threads, units, columns);
    } else {
      parallel(threads, units, params.m * params.k * params.n / units, columns);
    }
  } else {
    // Few rows would read the weights too often for what they do with them; the last unit has those that are over.
    const int64_t rows = std::clamp<int64_t>(rows_a_thread, 1, 24), units = std::max<int64_t>(1, params.m / rows);
    const auto row = [&](int64_t unit) { return unit == units ? params.m : unit * rows; };
    parallel(threads, units, rows * params.k * params.n,
             [&](int64_t begin, int64_t end) { k.gemm(params, row(begin), row(end), 0, panels, params.n); });
  }
}

void run_se_gate(SeGateParams params, const SeWeights& weights, const Threads& threads) {
  if (Plan* plan = recording()) return record_se_gate(*plan, params, weights);
  set_gate(params, weights);
  execute_se_gate(params, threads);
}

// Both layers are split by rows of their weights, which are most of what there is to read.
void execute_se_gate(const SeGateParams& params, const Threads& threads) {
  const Kernels& k = kernels();
  float* hidden = scratch<float>(Slot::kHidden, params.n * params.r);
  parallel(threads, params.r, params.n * params.c,
           [&](int64_t begin, int64_t end) { k.se_reduce(params, hidden, begin, end); });
  parallel(threads, params.c, params.n * params.r,
           [&](int64_t begin, int64_t end) { k.se_expand(params, hidden, begin, end); });
}

void run_mean(const ImageParams& params, float* mean, const Threads& threads) {
  if (Plan* plan = recording()) return record_mean(*plan, params, mean);
  execute_mean(params, mean, threads);
}

void execute_mean(const ImageParams& params, float* mean, const Threads& threads) {
  const Kernels& k = kernels();
  constexpr int64_t kChunk = 64;  // pixels: fixed, so that the sums do not depend on the number of threads
  const int64_t chunks = (params.pixels + kChunk - 1) / kChunk;
  float* sums = scratch<float>(Slot::kSums, params.n * chunks * params.c);
  parallel(threads, params.n * chunks, kChunk * params.c,
           [&](int64_t begin, int64_t end) { k.pixel_sums(params, kChunk, sums, begin, end); });
  mean_of_parts(sums, params.n, chunks, params.c, params.pixels, mean, threads);
}

void run_scale(const ImageParams& params, const Threads& threads) {
  if (Plan* plan = recording()) return record_scale(*plan, params);
  execute_scale(params, threads);
}

void execute_scale(const ImageParams& params, const Threads& threads) {
  const Kernels& k = kernels();
  parallel(threads, params.n * params.pixels, params.c,
           [&](int64_t begin, int64_t end) { k.scale(params, begin, end); });
}

void execute_add(const AddParams& params, const Threads& threads) {
  const Kernels& k = kernels();
  parallel(threads, params.count, 1, [&](int64_t begin, int64_t end) { k.add(params, begin, end); });
}

void execute_convert(const ConvertParams& params, const Threads& threads) {
  const Kernels& k = kernels();
  parallel(threads, params.count, 1, [&](int64_t begin, int64_t end) { k.convert(params, begin, end); });
}

}  // namespace effops
