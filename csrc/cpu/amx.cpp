#include "amx.h"

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace effops {

#if defined(__x86_64__) && defined(__linux__)

// GCC 12's __builtin_cpu_supports does not know the names.
AmxFeatures amx_features() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kOsxsave = 1u << 27, kBf16 = 1u << 22, kTile = 1u << 24;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & kOsxsave)) return {false, false};
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return {false, false};
  // XCR0: the tiles' configuration and their data.
  constexpr unsigned kTileState = 3u << 17;
  unsigned low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  const bool saved = (low & kTileState) == kTileState;
  return {saved && (d & kTile), saved && (d & kBf16)};
}

// Linux gives a thread room for its tiles only after the process has asked, with a signal stack that they fit on.
bool may_use_tiles() {
  constexpr long kRequest = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
}

#else

AmxFeatures amx_features() { return {false, false}; }
bool may_use_tiles() { return false; }

#endif

}  // namespace effops
