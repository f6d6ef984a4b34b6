#include "run_depthwise_training.h"

#include <algorithm>

#include "kernels.h"
#include "operands.h"
#include "parallel.h"
#include "scratch.h"

namespace effops {
namespace {

// Mean and variance of every channel from its parts, in their order.
void join_parts(const DepthwiseStatsParams& p, float* stats, const Threads& threads) {
  const DepthwiseSplit& split = p.split;
  parallel(threads, split.c, split.parts * 16, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) {
      double mean = 0.0, m2 = 0.0, before = 0.0;
      for (int64_t part = 0; part < split.parts; ++part) {
        const DepthwiseUnit unit = split.unit(part * split.groups);
        const double count = static_cast<double>((unit.n1 - unit.n0) * (unit.row1 - unit.row0) * p.shape.ow);
        const double* at = p.moments + part * 2 * split.c + c;
        join_moments(at[0], at[split.c], count, before, mean, m2);
        before += count;
      }
      stats[c] = static_cast<float>(mean);
      stats[split.c + c] = before > 0.0 ? static_cast<float>(m2 / before) : 0.0f;
    }
  });
}

// Calls out(i, sum over parts of parts[part * pitch + i]) for i in [begin, end).
template <class F>
void sum_parts(const float* parts, int64_t count, int64_t pitch, int64_t begin, int64_t end, F out) {
  constexpr int64_t kChunk = 64;
  for (int64_t i = begin; i < end; i += kChunk) {
    const int64_t size = std::min(kChunk, end - i);
    double sums[kChunk] = {};
    for (int64_t part = 0; part < count; ++part) {
      const float* at = parts + part * pitch + i;
      for (int64_t j = 0; j < size; ++j) sums[j] += at[j];
    }
    for (int64_t j = 0; j < size; ++j) out(i + j, static_cast<float>(sums[j]));
  }
}

}  // namespace

void run_depthwise_stats(DepthwiseStatsParams params, const WeightView& weight, float* stats, const Threads& threads) {
  const Kernels& k = kernels();
  const ConvShape& s = params.shape;
  const int64_t bytes = ((s.kh - 1) * s.dilation_h + 1) * (s.w + s.kw - 1) * 4;
  params.split = DepthwiseSplit(s.n, s.oh, s.c, bytes);
  params.weight = tap_major(weight);
  params.moments = scratch<double>(Slot::kSums, params.split.parts * 2 * s.c);
  const int64_t units = params.split.units();
  parallel(threads, units, s.n * s.oh * s.ow * s.c * s.kh * s.kw / std::max<int64_t>(1, units),
           [&](int64_t begin, int64_t end) { k.depthwise_stats(params, begin, end); });
  join_parts(params, stats, threads);
}

void run_depthwise_backward(DepthwiseBackwardParams params, const WeightView& weight, float* dweight, float* sums,
                            const Threads& threads) {
  const Kernels& k = kernels();
  const ConvShape& s = params.shape;
  const int64_t taps = s.kh * s.kw;
  const int64_t bytes = ((s.kh - 1) * s.dilation_h / s.stride_h + 1) * (s.ow + s.kw - 1) * 4;
  params.split = DepthwiseSplit(s.n, s.h, s.c, bytes);
  const DepthwiseSplit& split = params.split;
  params.weight = tap_major(weight);
  const int64_t sums_floats = sums ? s.n * split.bands * kGradSums * s.c : 0;
  const int64_t dweight_floats = dweight ? split.parts * taps * s.c : 0;
  float* parts = scratch<float>(Slot::kSums, sums_floats + dweight_floats);
  params.sums = sums ? parts : nullptr;
  params.dweight = dweight ? parts + sums_floats : nullptr;
  const int64_t units = split.units();
  parallel(threads, units, 2 * s.n * s.oh * s.ow * s.c * taps / std::max<int64_t>(1, units),
           [&](int64_t begin, int64_t end) { k.depthwise_backward(params, begin, end); });
  if (sums) {
    parallel(threads, s.n * kGradSums, split.bands * s.c, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t n = i / kGradSums, j = i % kGradSums;
        float* out = sums + (j * s.n + n) * s.c;
        sum_parts(params.sums + (n * split.bands * kGradSums + j) * s.c, split.bands, kGradSums * s.c, 0, s.c,
                  [&](int64_t c, float sum) { out[c] = sum; });
      }
    });
  }
  if (dweight) {
    parallel(threads, taps * s.c, split.parts, [&](int64_t begin, int64_t end) {
      sum_parts(params.dweight, split.parts, taps * s.c, begin, end,
                [&](int64_t i, float sum) { dweight[i % s.c * taps + i / s.c] = sum; });
    });
  }
}

}  // namespace effops
