#include "run_norm.h"

#include "kernels.h"
#include "operands.h"
#include "parallel.h"
#include "reduce.h"
#include "scratch.h"

namespace effops {

void run_norm_stats(NormStatsParams params, float* stats, const Threads& threads) {
  const Kernels& k = kernels();
  params.part = std::min<int64_t>(256, std::max<int64_t>(16, params.pixels / 64));
  const int64_t parts = (params.pixels + params.part - 1) / params.part;
  params.stats = scratch<float>(Slot::kSums, parts * 3 * params.c);
  parallel(threads, parts, params.part * params.c,
           [&](int64_t begin, int64_t end) { k.norm_stats(params, begin, end); });
  const auto count = [&](int64_t part) { return std::min(params.part, params.pixels - part * params.part); };
  const auto moments = [&](int64_t part, int64_t c) {
    const float* at = params.stats + part * 3 * params.c + c;
    return Moments{static_cast<double>(at[0]) + at[params.c], static_cast<double>(at[2 * params.c])};
  };
  join_statistics(parts, params.c, count, moments, stats, threads);
}

void run_norm(NormParams params, float* pooled, const Threads& threads) {
  const Kernels& k = kernels();
  const Parts& parts = params.parts;
  const int64_t c = parts.c, per_image = parts.per_image();
  params.sums = pooled ? scratch<float>(Slot::kSums, parts.count() * c) : nullptr;
  parallel(threads, parts.count(), std::min(parts.kPixels, parts.pixels) * c,
           [&](int64_t begin, int64_t end) { k.norm(params, begin, end); });
  if (!pooled) return;
  const double scale = 1.0 / static_cast<double>(parts.pixels);
  parallel(threads, parts.n, per_image * c, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      float* out = pooled + n * c;
      sum_parts(params.sums + n * per_image * c, per_image, c, 0, c,
                [&](int64_t i, double sum) { out[i] = static_cast<float>(sum * scale); });
    }
  });
}

void run_norm_grad_sums(NormGradSumsParams params, float* sums, const Threads& threads) {
  const Kernels& k = kernels();
  const Parts& parts = params.parts;
  params.sums = scratch<float>(Slot::kSums, parts.count() * kGradSums * parts.c);
  parallel(threads, parts.count(), std::min(parts.kPixels, parts.pixels) * parts.c,
           [&](int64_t begin, int64_t end) { k.norm_grad_sums(params, begin, end); });
  join_grad_sums(params.sums, parts.n, parts.per_image(), parts.c, sums, threads);
}

void run_norm_grad(const NormGradParams& params, const Threads& threads) {
  const Kernels& k = kernels();
  parallel(threads, params.parts.count(), std::min(Parts::kPixels, params.parts.pixels) * params.parts.c,
           [&](int64_t begin, int64_t end) { k.norm_grad(params, begin, end); });
}

void run_se_gate_backward(SeBackwardParams params, const SeWeights& weights, const Threads& threads) {
  const Kernels& k = kernels();
  const int64_t n = params.n, c = params.c, r = params.r;
  params.reduce_weight = as_floats(weights.reduce_weight, Slot::kWeight);
  params.reduce_bias = as_floats(weights.reduce_bias, Slot::kReduceBias);
  params.expand_weight = as_floats(weights.expand_weight, Slot::kExpandWeight);
  params.logits_grad = scratch<float>(Slot::kSums, n * (c + 2 * r));
  params.hidden = params.logits_grad + n * c;
  params.hidden_grad = params.hidden + n * r;
  parallel(threads, n, 3 * c * r, [&](int64_t begin, int64_t end) { k.se_gate_backward_images(params, begin, end); });
  parallel(threads, c + r, 2 * n * c * r / std::max<int64_t>(1, c + r),
           [&](int64_t begin, int64_t end) { k.se_gate_backward_weights(params, begin, end); });
}

}  // namespace effops
