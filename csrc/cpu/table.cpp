// The choice of instruction set: the only place that asks the processor what it can do.
#include <atomic>
#include <cstdlib>
#include <memory>

#include "amx.h"
#include "kernels.h"
#include "scratch.h"

namespace effops {

extern const Kernels kKernels_scalar;
#if defined(__x86_64__)
extern const Kernels kKernels_avx2;
extern const Kernels kKernels_avx512;
extern const Kernels kKernels_avx512_bf16;
void gemm_avx512_amx(const GemmParams&, int64_t m0, int64_t m1, int64_t panel0, int64_t panel1, int64_t pitch);
#endif

namespace {

struct Tier {
  const Kernels* kernels;
  bool runs;
};

#if defined(__x86_64__)
// The kernels of avx512_bf16 with matrix products of its own.
const Kernels& avx512_amx() {
  static const Kernels amx = [] {
    Kernels k = kKernels_avx512_bf16;
    k.isa = "avx512_amx", k.gemm = gemm_avx512_amx;
    return k;
  }();
  return amx;
}
#endif

// __builtin_cpu_supports reads cpuid, and XGETBV for what the operating system saves.
const std::vector<Tier>& tiers() {
  static const std::vector<Tier> all = [] {
    std::vector<Tier> found{{&kKernels_scalar, true}};
#if defined(__x86_64__)
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#if defined(EFFOPS_EMULATE_AVX512)
    const bool avx512 = avx2, avx512_bf16 = avx2, avx512_amx_runs = avx2;
#else
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    const bool avx512_bf16 = avx512 && __builtin_cpu_supports("avx512bf16");
    const AmxFeatures amx = amx_features();
    const bool avx512_amx_runs = avx512_bf16 && amx.tile && amx.bf16 && may_use_tiles();
#endif
    found.push_back({&kKernels_avx2, avx2});
    found.push_back({&kKernels_avx512, avx512});
    found.push_back({&kKernels_avx512_bf16, avx512_bf16});
    found.push_back({&avx512_amx(), avx512_amx_runs});
#endif
    return found;
  }();
  return all;
}

std::atomic<const Kernels*>& current() {
  static std::atomic<const Kernels*> chosen{[] {
    const Kernels* best = nullptr;
    for (const Tier& tier : tiers()) {
      if (tier.runs) best = tier.kernels;
    }
    return best;
  }()};
  return chosen;
}

}  // namespace

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const Tier& tier : tiers()) {
    if (tier.runs) names.emplace_back(tier.kernels->isa);
  }
  return names;
}

const Kernels& kernels() { return *current().load(std::memory_order_relaxed); }

const Kernels& product_training_kernels() {
  const Kernels& chosen = kernels();
#if defined(__x86_64__)
  if (!chosen.pointwise_stats) return kKernels_avx512;
#endif
  return chosen;
}

bool set_isa(const std::string& name) {
  for (const Tier& tier : tiers()) {
    if (tier.runs && name == tier.kernels->isa) {
      current().store(tier.kernels);
      return true;
    }
  }
  return false;
}

std::vector<std::pair<std::string, bool>> cpu_features() {
  std::vector<std::pair<std::string, bool>> features;
#if defined(__x86_64__)
#define EFFOPS_FEATURE(name) features.emplace_back(name, __builtin_cpu_supports(name) != 0)
  __builtin_cpu_init();
  EFFOPS_FEATURE("avx2");
  EFFOPS_FEATURE("fma");
  EFFOPS_FEATURE("avx512f");
  EFFOPS_FEATURE("avx512bw");
  EFFOPS_FEATURE("avx512dq");
  EFFOPS_FEATURE("avx512vl");
  EFFOPS_FEATURE("avx512bf16");
#undef EFFOPS_FEATURE
  const AmxFeatures amx = amx_features();
  features.emplace_back("amx-tile", amx.tile);
  features.emplace_back("amx-bf16", amx.bf16);
#endif
  return features;
}

void* scratch_bytes(Slot slot, int64_t bytes) {
  struct Buffer {
    std::unique_ptr<void, decltype(&std::free)> data{nullptr, &std::free};
    int64_t size = 0;
  };
  thread_local Buffer buffers[static_cast<int>(Slot::kCount)];
  Buffer& buffer = buffers[static_cast<int>(slot)];
  if (buffer.size < bytes || !buffer.data) {
    const int64_t size = (bytes + bytes / 4 + 4095) / 64 * 64;
    buffer.data.reset();  // first, so that the old and the new are never held together
    buffer.data.reset(std::aligned_alloc(64, static_cast<size_t>(size)));
    if (!buffer.data) throw std::bad_alloc();
    buffer.size = size;
  }
  return buffer.data.get();
}

}  // namespace effops
