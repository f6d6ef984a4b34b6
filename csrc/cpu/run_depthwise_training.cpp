#include "run_depthwise_training.h"

#include <algorithm>

#include "kernels.h"
#include "operands.h"
#include "parallel.h"
#include "reduce.h"
#include "scratch.h"

namespace effops {

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
  const DepthwiseSplit& split = params.split;
  const auto count = [&](int64_t part) {
    const DepthwiseUnit unit = split.unit(part * split.groups);
    return (unit.n1 - unit.n0) * (unit.row1 - unit.row0) * s.ow;
  };
  const auto moments = [&](int64_t part, int64_t c) {
    const double* at = params.moments + part * 2 * s.c + c;
    return Moments{at[0], at[s.c]};
  };
  join_statistics(split.parts, s.c, count, moments, stats, threads);
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
  if (sums) join_grad_sums(params.sums, s.n, split.bands, s.c, sums, threads);
  if (dweight) {
    parallel(threads, taps * s.c, split.parts, [&](int64_t begin, int64_t end) {
      sum_parts(params.dweight, split.parts, taps * s.c, begin, end,
                [&](int64_t i, double sum) { dweight[i % s.c * taps + i / s.c] = static_cast<float>(sum); });
    });
  }
}

}  // namespace effops
