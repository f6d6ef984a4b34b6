// Loops of a team: every unit once, whoever runs it and however late the others come.
#include "cpu/team.h"

#include <atomic>
#include <chrono>
#include <exception>
#include <stdexcept>

#include "check.h"
#include "cpu/parallel.h"

using namespace effops;
using namespace effops_test;

namespace {

// So many threads, of which all but the first come `late`.
template <int kThreads, int kLateMicroseconds>
void real_threads(void*, int64_t begin, int64_t end, int64_t, ParallelBody body, void* context) {
  std::vector<std::thread> others;
  const auto from = [&](int64_t i) { return begin + (end - begin) * i / kThreads; };
  for (int64_t i = 1; i < kThreads; ++i) {
    others.emplace_back([&, i] {
      std::this_thread::sleep_for(std::chrono::microseconds(kLateMicroseconds));
      body(from(i), from(i + 1), context);
    });
  }
  std::exception_ptr error;
  try {
    body(from(0), from(1), context);
  } catch (...) {
    error = std::current_exception();
  }
  for (std::thread& other : others) other.join();
  if (error) std::rethrow_exception(error);
}

// As torch does inside of another parallel region: all on this thread.
void one_after_the_other(void*, int64_t begin, int64_t end, int64_t, ParallelBody body, void* context) {
  body(begin, end, context);
}

void every_unit_once(const Threads& threads, const std::string& what) {
  const int64_t sizes[] = {0, 1, 2, 3, 5, 7, 9, 17, 64, 100, 1000};
  int64_t loops = 0;
  run_as_team(threads, [&](const Threads& team) {
    for (int64_t round = 0; round < 40; ++round) {
      for (const int64_t size : sizes) {
        for (const int64_t grain : {int64_t{1}, int64_t{4}, size}) {
          std::vector<int> seen(static_cast<size_t>(size));
          std::atomic<int64_t> largest{0};
          parallel_by(team, size, grain, [&](int64_t begin, int64_t end) {
            for (int64_t i = begin; i < end; ++i) ++seen[static_cast<size_t>(i)];
            int64_t before = largest;
            while (before < end - begin && !largest.compare_exchange_weak(before, end - begin)) {
            }
          });
          const std::string units = what + ": " + std::to_string(size) + " units by " + std::to_string(grain);
          check(std::count(seen.begin(), seen.end(), 1) == size, units);
          const int64_t most = (size + grain - 1) / std::max<int64_t>(1, grain);
          const int64_t ranges = std::clamp<int64_t>(std::min(threads.count, most), 1, 64);
          check(largest <= (size + ranges - 1) / ranges, units + ": an equal share at most");
          ++loops;
        }
      }
    }
  });
  check(loops == 40 * 11 * 3, what + ": the leader ran once");
}

void few_ranges() {
  for (const int64_t size : {2, 5, 7, 100}) {
    run_as_team({real_threads<3, 0>, 3}, [&](const Threads& team) {
      std::atomic<int> ranges{0};
      parallel_in_few(team, size, [&](int64_t, int64_t) { ++ranges; });
      check(ranges <= 3, "no more ranges than threads for " + std::to_string(size));
    });
  }
}

// An error in any part comes out where the loop was called, and the team goes on.
void errors_come_out() {
  for (const int64_t bad : {0, 50, 99}) {
    int caught = 0;
    int64_t after = 0;
    run_as_team({real_threads<2, 0>, 2}, [&](const Threads& team) {
      for (int round = 0; round < 50; ++round) {
        try {
          parallel_by(team, 100, 1, [&](int64_t begin, int64_t end) {
            if (begin <= bad && bad < end) throw std::runtime_error("a part");
          });
        } catch (const std::runtime_error&) {
          ++caught;
        }
      }
      std::atomic<int64_t> units{0};
      parallel_by(team, 100, 1, [&](int64_t begin, int64_t end) { units += end - begin; });
      after = units;
    });
    check(caught == 50 && after == 100, "an error in unit " + std::to_string(bad));
  }
  try {
    run_as_team({real_threads<2, 0>, 2}, [](const Threads&) { throw std::runtime_error("the leader"); });
    check(false, "an error of the leader was lost");
  } catch (const std::runtime_error&) {
  }
}

// What this thread does beside: once, on this thread, while another begins if there is one; its errors come out.
void something_beside() {
  const std::thread::id here = std::this_thread::get_id();
  const auto others_begin = [&](const Threads& threads, bool together, const std::string& what) {
    std::atomic<int64_t> begun{0}, units{0};
    int beside = 0;
    run_as_team(
        threads,
        [&](const Threads& team) {
          ++begun;
          for (int round = 0; round < 20; ++round) {
            parallel_by(team, 100, 1, [&](int64_t begin, int64_t end) { units += end - begin; });
          }
        },
        [&] {
          ++beside;
          check(std::this_thread::get_id() == here, what + ": beside on the calling thread");
          while (together && units < 2000) std::this_thread::yield();
          return true;
        });
    check(begun == 1 && units == 2000 && beside == 1, what + ": all of it once");
  };
  others_begin(kOneThread, false, "one thread");
  others_begin({one_after_the_other, 4}, false, "four members on one thread");
  others_begin({real_threads<2, 0>, 2}, true, "one goes on without the other");
  others_begin({real_threads<5, 0>, 7}, true, "four go on without the fifth");
  others_begin({real_threads<3, 2000>, 3}, false, "who is there first leads");
  for (const bool leader : {false, true}) {
    std::atomic<bool> led{false};
    try {
      const auto error = [](bool thrown) {
        if (thrown) throw std::runtime_error("thrown");
      };
      run_as_team(
          {real_threads<2, 0>, 2}, [&](const Threads&) { led = true, error(leader); },
          [&] {
            while (!led) std::this_thread::yield();
            error(!leader);
            return true;
          });
      check(false, "an error was lost");
    } catch (const std::runtime_error&) {
      check(led, "an error beside stops nobody");
    }
  }
  for (const Threads& threads : {kOneThread, Threads{one_after_the_other, 4}}) {
    bool ran = false;
    run_as_team(threads, [&](const Threads&) { ran = true; }, [] { return false; });
    check(!ran, "what nobody wants any more is not begun");
  }
}

}  // namespace

int main() {
  every_unit_once(kOneThread, "one thread");
  every_unit_once({one_after_the_other, 4}, "four members on one thread");
  every_unit_once({real_threads<2, 0>, 2}, "two threads");
  every_unit_once({real_threads<5, 0>, 5}, "five threads");
  every_unit_once({real_threads<2, 0>, 7}, "seven members on two threads");
  every_unit_once({real_threads<3, 2000>, 3}, "threads that come late");
  every_unit_once({real_threads<4, 0>, 100}, "more members than parts");
  for (const int64_t members : {3, 8, 31, 32, 33, 63, 64}) {
    every_unit_once({real_threads<2, 0>, members}, std::to_string(members) + " members");
  }
  few_ranges();
  errors_come_out();
  something_beside();
  return failures != 0;
}
