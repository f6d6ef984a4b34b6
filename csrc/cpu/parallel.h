// Splits independent units of work over threads.
#pragma once

#include <algorithm>

#include "run.h"

namespace effops {

// Work below this many operations is not worth waking another thread.
constexpr int64_t kParallelWork = 32 * 1024;

template <class F>
void parallel(const Threads& threads, int64_t units, int64_t work_per_unit, const F& f) {
  if (units <= 0) return;
  const int64_t grain = std::max<int64_t>(1, kParallelWork / std::max<int64_t>(1, work_per_unit));
  if (threads.count <= 1 || units <= grain) return f(0, units);
  auto body = [](int64_t begin, int64_t end, void* context) { (*static_cast<const F*>(context))(begin, end); };
  threads.parallel_for(0, units, grain, body, const_cast<F*>(&f));
}

}  // namespace effops
