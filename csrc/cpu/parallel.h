// Splits independent units of work over threads.
#pragma once

#include <algorithm>

#include "run.h"

namespace effops {

// Work below this many operations is not worth waking another thread.
constexpr int64_t kParallelWork = 32 * 1024;

template <class F>
void parallel_by(const Threads& threads, int64_t units, int64_t grain, const F& f) {
  if (units <= 0) return;
  if (threads.count <= 1 || units <= grain) return f(0, units);
  auto body = [](int64_t begin, int64_t end, void* context) { (*static_cast<const F*>(context))(begin, end); };
  threads.run(0, units, grain, body, const_cast<F*>(&f));
}

template <class F>
void parallel(const Threads& threads, int64_t units, int64_t work_per_unit, const F& f) {
  parallel_by(threads, units, std::max<int64_t>(1, kParallelWork / std::max<int64_t>(1, work_per_unit)), f);
}

// No more ranges than threads: where each of them costs something by itself.
template <class F>
void parallel_in_few(const Threads& threads, int64_t units, const F& f) {
  parallel_by(threads, units, (units + threads.count - 1) / std::max<int64_t>(1, threads.count), f);
}

}  // namespace effops
