// Threads that stay side by side for many loops, where waking them for each would cost as much as a small loop.
#pragma once

#include <functional>

#include "run.h"

namespace effops {

// Calls f with Threads whose loops several threads share. All of them come from one loop of `threads`: one calls f, the
// others wait for what there is to do. It is the calling thread or, if that has something to do beside f first, whoever
// is there before it; `beside` says whether f is still wanted, if nobody has begun. What either throws is thrown here.
//
// A loop is cut into a large part for every thread and smaller ones that whoever is done first takes, since cores are
// not equally fast: some have less clock, or share it with a stranger. A part that nobody has come for is taken by
// another thread, so that nothing depends on how many of them run.
void run_as_team(const Threads& threads, const std::function<void(const Threads&)>& f,
                 const std::function<bool()>& beside = nullptr);

}  // namespace effops
