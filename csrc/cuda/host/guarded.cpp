#include "guarded.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <new>

#include "run.h"

namespace effops::host {
namespace {

constexpr int64_t kGuard = 256;
constexpr unsigned char kGuardByte = 0xa5, kSentinel = 0xff;  // NaN in every floating type

std::atomic<int64_t> violations{0};
std::atomic<bool> fuse_what_fits{false};

}  // namespace

// The size stands before the first guard.
void* take_guarded(int64_t bytes) {
  const int64_t whole = (bytes + 3 * kGuard + 63) / 64 * 64;
  auto* memory = static_cast<unsigned char*>(std::aligned_alloc(64, static_cast<size_t>(whole)));
  if (!memory) throw std::bad_alloc();
  std::memset(memory, kGuardByte, static_cast<size_t>(whole));
  std::memcpy(memory, &bytes, sizeof bytes);
  std::memset(memory + 2 * kGuard, kSentinel, static_cast<size_t>(bytes));
  return memory + 2 * kGuard;
}

void give_back_guarded(void* data) {
  auto* at = static_cast<unsigned char*>(data);
  int64_t bytes = 0;
  std::memcpy(&bytes, at - 2 * kGuard, sizeof bytes);
  const auto untouched = [](unsigned char b) { return b == kGuardByte; };
  if (!std::all_of(at - kGuard, at, untouched) || !std::all_of(at + bytes, at + bytes + kGuard, untouched)) {
    ++violations;
  }
  std::free(at - 2 * kGuard);
}

bool fuses_what_fits() { return fuse_what_fits; }

}  // namespace effops::host

// For the tests, by ctypes.
extern "C" {

__attribute__((visibility("default"))) int64_t effops_host_violations() { return effops::host::violations.exchange(0); }

__attribute__((visibility("default"))) void effops_host_order(int order, int64_t seed) {
  effops::host::set_order(static_cast<effops::host::Order>(order), static_cast<uint64_t>(seed));
}

__attribute__((visibility("default"))) void effops_host_fuse_what_fits(int on) {
  effops::host::fuse_what_fits = on != 0;
}
}
