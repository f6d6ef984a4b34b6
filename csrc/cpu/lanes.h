// Channels vector by vector: whole vectors without masks, which some processors store many times slower, and the rest.
#pragma once

#include <cstdint>

namespace effops {

template <class S, class P>
inline S load_lanes(const P* at, int lanes) {
  return lanes == S::kLanes ? S::load(at) : S::load(at, lanes);
}

template <class S, class P>
inline void store_lanes(S v, P* at, int lanes) {
  if (lanes == S::kLanes) {
    v.store(at);
  } else {
    v.store(at, lanes);
  }
}

// Calls f(offset, lanes) for every vector of `count` channels.
template <class S, class F>
__attribute__((always_inline)) inline void for_lanes(int64_t count, F f) {
  int64_t i = 0;
  for (; i + S::kLanes <= count; i += S::kLanes) f(i, S::kLanes);
  if (i < count) f(i, static_cast<int>(count - i));
}

}  // namespace effops
