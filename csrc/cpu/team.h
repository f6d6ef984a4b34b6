// Threads that stay side by side for many loops, where waking them for each would cost as much as a small loop.
#pragma once

#include <functional>

#include "run.h"

namespace effops {

// Calls f on this thread with Threads whose loops the others join. All of them come from one loop of `threads`, in
// which the others wait for what there is to do.
//
// A loop is cut into a large part for every thread and small ones that whoever is done first takes, since cores are not
// equally fast: some have less clock, or share it with a stranger. A part that nobody has come for is taken by another
// thread, so that nothing depends on how many of them run.
void run_as_team(const Threads& threads, const std::function<void(const Threads&)>& f);

}  // namespace effops
