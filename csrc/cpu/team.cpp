#include "team.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

namespace effops {
namespace {

// What the large parts of a loop come to, in eighths.
constexpr int64_t kLargeEighths = 6;
// Bits of the mask of parts.
constexpr int64_t kMostParts = 64;
// Looks for work before the processor is left to others.
constexpr int kLooks = 1 << 11;

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Repeats `ready` until it is true.
template <class F>
void wait_until(const F& ready) {
  for (int looks = 0; !ready(); ++looks) {
    if (looks < kLooks) {
      pause();
    } else {
      std::this_thread::yield();
    }
  }
}

class Team {
 public:
  explicit Team(int64_t count) : count_(count) {}
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  // Whether this thread leads: the first that asks. The others join().
  bool lead(int64_t thread) {
    if (led_.exchange(true)) return false;
    leader_ = thread;
    return true;
  }

  // The loop, on the thread that leads.
  void run(int64_t begin, int64_t end, int64_t grain, ParallelBody body, void* context) {
    if (begin >= end) return;
    // Nobody looks at it before a part is free.
    loop_.cut(begin, end, grain, count_);
    if (loop_.parts <= 1) return body(begin, end, context);
    loop_.body = body, loop_.context = context;
    finished_.store(0, std::memory_order_relaxed);
    free_.store(~uint64_t{0} >> (kMostParts - loop_.parts), std::memory_order_release);
    while (take(leader_)) {
    }
    wait_until([&] { return finished_.load(std::memory_order_acquire) == loop_.parts; });
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  }

  // What the others do until leave().
  void join(int64_t thread) {
    while (!over_.load(std::memory_order_acquire)) {
      wait_until([&] { return free_.load(std::memory_order_relaxed) || over_.load(std::memory_order_relaxed); });
      take(thread);
    }
  }
  void leave() { over_.store(true, std::memory_order_release); }

 private:
  // A large part for every thread, then smaller and smaller ones, each half of a thread's share of what is left:
  // threads that are equally fast end together, and none waits long for a slower one.
  struct Loop {
    int64_t parts = 0, begins[kMostParts + 1];  // of every part, and the end of the last
    ParallelBody body = nullptr;
    void* context = nullptr;

    // Cuts [begin, end).
    void cut(int64_t begin, int64_t end, int64_t grain, int64_t threads) {
      grain = std::max<int64_t>(1, grain);
      const int64_t units = end - begin, most = std::min((units + grain - 1) / grain, kMostParts);
      const int64_t large = std::min(threads, most);
      parts = large;
      // Too few for small ones beside the large ones.
      if (most < 2 * threads) {
        for (int64_t part = 0; part <= large; ++part) begins[part] = begin + units * part / large;
        return;
      }
      const int64_t large_units = units * kLargeEighths / 8 / threads;
      for (int64_t part = 0; part <= large; ++part) begins[part] = begin + large_units * part;
      for (int64_t left = end - begins[parts]; left > 0; left = end - begins[parts]) {
        const int64_t slots = kMostParts - parts;
        const int64_t next = std::max({grain, left / (2 * threads), (left + slots - 1) / slots});
        begins[parts + 1] = begins[parts] + std::min(left, next);
        ++parts;
      }
    }
  };

  // Runs a part, this thread's own if it is free; false if none is.
  bool take(int64_t thread) {
    for (uint64_t free = free_.load(std::memory_order_acquire); free;) {
      const uint64_t own = thread < kMostParts ? free & uint64_t{1} << thread : 0, bit = own ? own : free & -free;
      free = free_.fetch_and(~bit, std::memory_order_acq_rel);
      if (!(free & bit)) continue;
      // The loop is this one until the part is finished, whichever it was when the thread looked for one.
      const int64_t part = __builtin_ctzll(bit);
      try {
        loop_.body(loop_.begins[part], loop_.begins[part + 1], loop_.context);
      } catch (...) {
        const std::lock_guard<std::mutex> lock(mutex_);
        error_ = std::current_exception();
      }
      finished_.fetch_add(1, std::memory_order_release);
      return true;
    }
    return false;
  }

  const int64_t count_;
  std::atomic<bool> led_{false};
  int64_t leader_ = 0;
  Loop loop_;
  std::mutex mutex_;
  std::exception_ptr error_;
  // Each in a cache line of its own.
  alignas(64) std::atomic<uint64_t> free_{0};  // parts that nobody has taken
  alignas(64) std::atomic<int64_t> finished_{0};
  alignas(64) std::atomic<bool> over_{false};
};

}  // namespace

void run_as_team(const Threads& threads, const std::function<void(const Threads&)>& f,
                 const std::function<bool()>& beside) {
  if (threads.count <= 1) {
    if (!beside || beside()) f(threads);
    return;
  }
  Team team(threads.count);
  std::exception_ptr errors[2];
  const auto keep = [](std::exception_ptr& error, const auto& call) {
    try {
      call();
    } catch (...) {
      error = std::current_exception();
    }
  };
  // A thread that gets several places takes the first: the parts of the others are taken by somebody.
  auto member = [&](int64_t thread) {
    bool wanted = true;
    if (beside && thread == 0) keep(errors[0], [&] { wanted = false, wanted = beside(); });
    if (!(beside ? team.lead(thread) : thread == 0)) return team.join(thread);
    keep(errors[1], [&] {
      if (!wanted) return;
      f({[](void* self, int64_t begin, int64_t end, int64_t grain, ParallelBody body, void* context) {
           static_cast<Team*>(self)->run(begin, end, grain, body, context);
         },
         threads.count, &team});
    });
    team.leave();
  };
  const ParallelBody body = [](int64_t begin, int64_t, void* context) {
    (*static_cast<decltype(member)*>(context))(begin);
  };
  threads.run(0, threads.count, 1, body, &member);
  for (const std::exception_ptr& error : errors) {
    if (error) std::rethrow_exception(error);
  }
}

}  // namespace effops
