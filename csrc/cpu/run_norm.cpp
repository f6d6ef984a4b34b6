#include "run_norm.h"

#include "kernels.h"
#include "operands.h"
#include "parallel.h"
#include "scratch.h"

namespace effops {
namespace {

// Channels that a second stage holds in double at a time.
constexpr int64_t kBlock = 64;

// out[i] = scale * sum over parts of in[part * pitch + i], in the order of the parts.
void sum_parts(const float* in, int64_t parts, int64_t pitch, int64_t c, double scale, float* out) {
  for (int64_t c0 = 0; c0 < c; c0 += kBlock) {
    const int64_t count = std::min(kBlock, c - c0);
    double sum[kBlock] = {};
    for (int64_t part = 0; part < parts; ++part) {
      const float* at = in + part * pitch + c0;
      for (int64_t i = 0; i < count; ++i) sum[i] += at[i];
    }
    for (int64_t i = 0; i < count; ++i) out[c0 + i] = static_cast<float>(sum[i] * scale);
  }
}

// Mean and biased variance of `count` channels from those of the parts (Chan, Golub and LeVeque 1983).
void join_statistics(const NormStatsParams& p, int64_t parts, int64_t c0, int64_t count, float* out) {
  double mean[kBlock] = {}, squares[kBlock] = {};
  for (int64_t part = 0; part < parts; ++part) {
    const float* at = p.stats + part * 3 * p.c + c0;
    const double before = static_cast<double>(part * p.part);
    const double size = static_cast<double>(std::min(p.part, p.pixels - part * p.part));
    const double share = size / (before + size);
    for (int64_t i = 0; i < count; ++i) {
      const double away = static_cast<double>(at[i]) + at[p.c + i] - mean[i];
      mean[i] += away * share;
      squares[i] += at[2 * p.c + i] + away * away * before * share;
    }
  }
  for (int64_t i = 0; i < count; ++i) {
    out[c0 + i] = static_cast<float>(mean[i]);
    out[p.c + c0 + i] = static_cast<float>(squares[i] / static_cast<double>(std::max<int64_t>(1, p.pixels)));
  }
}

}  // namespace

void run_norm_stats(NormStatsParams params, float* stats, const Threads& threads) {
  const Kernels& k = kernels();
  params.part = std::min<int64_t>(256, std::max<int64_t>(16, params.pixels / 64));
  const int64_t parts = (params.pixels + params.part - 1) / params.part;
  params.stats = scratch<float>(Slot::kSums, parts * 3 * params.c);
  parallel(threads, parts, params.part * params.c,
           [&](int64_t begin, int64_t end) { k.norm_stats(params, begin, end); });
  parallel(threads, (params.c + kBlock - 1) / kBlock, parts * kBlock, [&](int64_t begin, int64_t end) {
    for (int64_t c0 = begin * kBlock; c0 < std::min(end * kBlock, params.c); c0 += kBlock) {
      join_statistics(params, parts, c0, std::min(kBlock, params.c - c0), stats);
    }
  });
}

void run_norm(NormParams params, float* pooled, const Threads& threads) {
  const Kernels& k = kernels();
  const Parts& parts = params.parts;
  const int64_t c = parts.c, per_image = parts.per_image();
  params.sums = pooled ? scratch<float>(Slot::kSums, parts.count() * c) : nullptr;
  parallel(threads, parts.count(), std::min(parts.kPixels, parts.pixels) * c,
           [&](int64_t begin, int64_t end) { k.norm(params, begin, end); });
  if (!pooled) return;
  parallel(threads, parts.n, per_image * c, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      sum_parts(params.sums + n * per_image * c, per_image, c, c, 1.0 / static_cast<double>(parts.pixels),
                pooled + n * c);
    }
  });
}

void run_norm_grad_sums(NormGradSumsParams params, float* sums, const Threads& threads) {
  const Kernels& k = kernels();
  const Parts& parts = params.parts;
  const int64_t c = parts.c, per_image = parts.per_image(), pitch = kGradSums * c;
  params.sums = scratch<float>(Slot::kSums, parts.count() * pitch);
  parallel(threads, parts.count(), std::min(parts.kPixels, parts.pixels) * c,
           [&](int64_t begin, int64_t end) { k.norm_grad_sums(params, begin, end); });
  parallel(threads, parts.n, per_image * pitch, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      for (int64_t j = 0; j < kGradSums; ++j) {
        sum_parts(params.sums + n * per_image * pitch + j * c, per_image, pitch, c, 1.0, sums + (j * parts.n + n) * c);
      }
    }
  });
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
