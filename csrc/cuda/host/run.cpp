#include "run.h"

#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace effops::host {

uint3 thread_index, block_index;
dim3 block_size, grid_size;

namespace {

constexpr unsigned kWarp = 32;
constexpr size_t kStack = 64 * 1024, kPage = 4096;
// Bytes before and after every shared array that nobody may write.
constexpr size_t kZone = 64;
constexpr unsigned char kPoison = 0xff;  // NaN in every floating type
constexpr unsigned char kZoneByte = 0xa5;
constexpr size_t kCopyBytes = 16;

enum class State { kReady, kBarrier, kWarpWait, kDone };

struct Fiber {
  void* stack;
  ucontext_t start;
  jmp_buf at;
  State state = State::kDone;
  bool started = false;
  Site site{"", 0};
  std::vector<std::pair<void*, const void*>> copies;  // under way

  Fiber() : stack(mmap(nullptr, kStack + kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {
    if (stack == MAP_FAILED) throw std::runtime_error("no memory for the stacks of a block");
    mprotect(stack, kPage, PROT_NONE);
    getcontext(&start);
    start.uc_stack.ss_sp = static_cast<char*>(stack) + kPage;
    start.uc_stack.ss_size = kStack;
    start.uc_link = nullptr;
  }
  Fiber(const Fiber&) = delete;
  ~Fiber() { munmap(stack, kStack + kPage); }
};

struct WarpWait {
  unsigned mask = 0, arrived = 0;
  Site site{"", 0};
  uint64_t values[kWarp], results[kWarp];
};

struct SharedArea {
  std::unique_ptr<unsigned char[]> memory;
  size_t bytes = 0;
  unsigned char* data() const {
    void* p = memory.get() + kZone;
    size_t space = bytes + kZone;
    return static_cast<unsigned char*>(std::align(16, bytes, p, space));
  }
  explicit SharedArea(size_t size) : memory(new unsigned char[size + 3 * kZone]), bytes(size) {
    std::fill_n(memory.get(), size + 3 * kZone, kZoneByte);
    std::fill_n(data(), size, kPoison);
  }
  bool intact() const {
    const auto untouched = [](unsigned char b) { return b == kZoneByte; };
    return std::all_of(memory.get(), data(), untouched) &&
           std::all_of(data() + bytes, memory.get() + bytes + 3 * kZone, untouched);
  }
};

// Everything of the one launch that runs; the stacks stay for the next.
struct Machine {
  std::mutex one_launch;
  Order order = Order::kForward;
  std::mt19937_64 random;
  std::vector<std::unique_ptr<Fiber>> fibers;
  std::vector<WarpWait> warps;
  std::map<const void*, SharedArea> shared;
  unsigned current = 0, threads = 0;
  jmp_buf scheduler;
  void (*thread)(void*) = nullptr;
  void* context = nullptr;
  std::string error;
} machine;

const char kDynamicKey = 0;

std::string describe(Site site) {
  const char* slash = strrchr(site.file, '/');
  return std::string(slash ? slash + 1 : site.file) + ":" + std::to_string(site.line);
}

bool same(Site a, Site b) { return a.line == b.line && !strcmp(a.file, b.file); }

std::string thread_name(unsigned i) { return "thread " + std::to_string(i); }

// Leaves the fiber; comes back when the scheduler picks it again.
void leave(State state, Site site) {
  Fiber& fiber = *machine.fibers[machine.current];
  fiber.state = state;
  fiber.site = site;
  if (_setjmp(fiber.at) == 0) _longjmp(machine.scheduler, 1);
}

// A fiber serves one thread after another, so that a context is made once.
void fiber_main() {
  for (;;) {
    try {
      machine.thread(machine.context);
      if (!machine.fibers[machine.current]->copies.empty()) throw std::runtime_error("ends with copies under way");
    } catch (const std::exception& error) {
      if (machine.error.empty()) machine.error = thread_name(machine.current) + ": " + error.what();
    }
    leave(State::kDone, {"", 0});
  }
}

void make_fibers(unsigned count) {
  while (machine.fibers.size() < count) {
    auto fiber = std::make_unique<Fiber>();
    makecontext(&fiber->start, fiber_main, 0);
    machine.fibers.push_back(std::move(fiber));
  }
}

void resume(unsigned i) {
  Fiber& fiber = *machine.fibers[i];
  machine.current = i;
  thread_index = {i % block_size.x, i / block_size.x % block_size.y, i / (block_size.x * block_size.y)};
  if (_setjmp(machine.scheduler)) return;
  if (fiber.started) _longjmp(fiber.at, 1);
  fiber.started = true;
  setcontext(&fiber.start);
}

std::vector<unsigned> ordered(unsigned first, unsigned count) {
  std::vector<unsigned> order(count);
  std::iota(order.begin(), order.end(), first);
  if (machine.order == Order::kReverse) std::reverse(order.begin(), order.end());
  if (machine.order == Order::kShuffled) std::shuffle(order.begin(), order.end(), machine.random);
  return order;
}

void run_warp(unsigned warp) {
  const unsigned first = warp * kWarp;
  const std::vector<unsigned> lanes = ordered(first, std::min(kWarp, machine.threads - first));
  for (bool progress = true; progress && machine.error.empty();) {
    progress = false;
    for (const unsigned i : lanes) {
      if (machine.fibers[i]->state != State::kReady) continue;
      resume(i);
      progress = true;
    }
  }
}

// Whether the block goes on; releases its barrier.
bool pass_barrier() {
  const auto all = machine.fibers.begin(), end = all + machine.threads;
  const auto first = std::find_if(all, end, [](const auto& f) { return f->state != State::kDone; });
  if (first == end) return false;
  const auto other = std::find_if(
      all, end, [&](const auto& f) { return f->state != State::kBarrier || !same(f->site, (*first)->site); });
  if (other == end) {
    for (unsigned i = 0; i < machine.threads; ++i) machine.fibers[i]->state = State::kReady;
    return true;
  }
  const auto told = [&](auto f) {
    const std::string wait =
        (*f)->state == State::kBarrier ? " waits at the barrier of " : " waits in the warp operation of ";
    return thread_name(static_cast<unsigned>(f - all)) +
           ((*f)->state == State::kDone ? " has ended" : wait + describe((*f)->site));
  };
  machine.error = "divergent threads: " + told(first) + (other == first ? "" : ", " + told(other));
  return false;
}

void run_block(size_t shared_bytes) {
  machine.shared.clear();
  machine.shared.emplace(&kDynamicKey, SharedArea(shared_bytes));
  for (unsigned i = 0; i < machine.threads; ++i) machine.fibers[i]->state = State::kReady;
  std::fill(machine.warps.begin(), machine.warps.end(), WarpWait{});
  const unsigned warps = static_cast<unsigned>(machine.warps.size());
  do {
    for (const unsigned warp : ordered(0, warps)) run_warp(warp);
  } while (machine.error.empty() && pass_barrier());
  for (const auto& [key, area] : machine.shared) {
    if (machine.error.empty() && !area.intact()) machine.error = "a store past the end of a shared array";
  }
}

}  // namespace

void set_order(Order order, uint64_t seed) {
  machine.order = order;
  machine.random.seed(seed);
}

void barrier(Site site) { leave(State::kBarrier, site); }

unsigned lane() { return machine.current % kWarp; }

void copy_later(void* to, const void* from) {
  memset(to, kPoison, kCopyBytes);
  machine.fibers[machine.current]->copies.emplace_back(to, from);
}

void wait_for_copies() {
  auto& copies = machine.fibers[machine.current]->copies;
  for (const auto& [to, from] : copies) from ? memcpy(to, from, kCopyBytes) : memset(to, 0, kCopyBytes);
  copies.clear();
}

const uint64_t* exchange(unsigned mask, uint64_t value, Site site) {
  const unsigned me = lane(), first = machine.current - me;
  WarpWait& warp = machine.warps[machine.current / kWarp];
  const unsigned present = std::min(kWarp, machine.threads - first);
  const unsigned existing = present == kWarp ? ~0u : (1u << present) - 1;
  if (!(mask >> me & 1u) || (mask & ~existing)) {
    throw std::runtime_error("the mask of the warp operation of " + describe(site) +
                             " misses this lane or names lanes that the block has not");
  }
  if (warp.arrived == 0) {
    warp.mask = mask;
    warp.site = site;
  } else if (warp.mask != mask || !same(warp.site, site)) {
    throw std::runtime_error("divergent warp operations: " + describe(warp.site) + " and " + describe(site));
  }
  warp.values[me] = value;
  warp.arrived |= 1u << me;
  if (warp.arrived != mask) {
    leave(State::kWarpWait, site);
    return warp.results;
  }
  warp.arrived = 0;
  for (unsigned i = 0; i < kWarp; ++i) warp.results[i] = mask >> i & 1u ? warp.values[i] : ~uint64_t{0};
  for (unsigned i = 0; i < present; ++i) {
    if (i != me && (mask >> i & 1u)) machine.fibers[first + i]->state = State::kReady;
  }
  return warp.results;
}

void* shared_array(const void* key, size_t bytes) {
  return machine.shared.try_emplace(key, bytes).first->second.data();
}

void* shared_dynamic(size_t* bytes) {
  const SharedArea& area = machine.shared.at(&kDynamicKey);
  *bytes = area.bytes;
  return area.data();
}

void out_of_range(long long index, long long end, size_t size) {
  throw std::runtime_error("shared memory: element " + std::to_string(index) +
                           (end < 0 ? " is not aligned as its vector" : " is not in [0, " + std::to_string(end) + ")") +
                           " of " + std::to_string(size) + " bytes each");
}

void run(const char* kernel, dim3 grid, dim3 block, size_t shared_bytes, void (*thread)(void*), void* context) {
  const std::lock_guard<std::mutex> lock(machine.one_launch);
  const unsigned threads = block.x * block.y * block.z;
  if (threads == 0 || threads > 1024 || block.z > 64 || grid.y > 65535 || grid.z > 65535 || grid.x > 0x7fffffffu ||
      grid.x * grid.y * grid.z == 0 || shared_bytes > 227 * 1024) {
    throw std::runtime_error(std::string(kernel) + ": a launch that no device takes");
  }
  machine.threads = threads;
  machine.thread = thread;
  machine.context = context;
  machine.error.clear();
  machine.warps.resize((threads + kWarp - 1) / kWarp);
  make_fibers(threads);
  grid_size = grid;
  block_size = block;
  for (const unsigned i : ordered(0, grid.x * grid.y * grid.z)) {
    block_index = {i % grid.x, i / grid.x % grid.y, i / (grid.x * grid.y)};
    run_block(shared_bytes);
    if (machine.error.empty()) continue;
    // Threads that still wait are given up with their stacks' contents.
    machine.fibers.clear();
    throw std::runtime_error(std::string(kernel) + ", block " + std::to_string(i) + ": " + machine.error);
  }
}

}  // namespace effops::host
