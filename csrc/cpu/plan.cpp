#include "plan.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <new>
#include <numeric>
#include <stdexcept>

#include "memory.h"
#include "parallel.h"
#include "team.h"

namespace effops {
namespace {

constexpr int64_t kAlignment = 64;
constexpr int64_t kChunkBytes = 8 * kHugePage;
// What the tensors of a slice take at most, if it has more images than so few: the steps that need it all are few, the
// others stay in the L2 cache.
constexpr int64_t kSliceBytes = 3 << 20, kFewestImages = 2;
// Slices with less than that, and fewer images, would read the weights too often for what they do with them.
constexpr int64_t kSmallSliceBytes = 1 << 20, kEnoughImages = 4;

int64_t aligned(int64_t bytes, int64_t to = kAlignment) { return (bytes + to - 1) / to * to; }

// FNV-1a over words: only to tell most unequal weights apart.
uint64_t hash_of(const float* values, int64_t count) {
  uint64_t hash = 1469598103934665603u;
  for (int64_t i = 0; i < count; ++i) {
    uint32_t word;
    std::memcpy(&word, values + i, sizeof word);
    hash = (hash ^ word) * 1099511628211u;
  }
  return hash;
}

const char* end_of(const void* address, int64_t bytes) { return static_cast<const char*>(address) + bytes; }

bool within(const void* address, const void* begin, int64_t bytes) {
  return address == begin || (address > begin && address < end_of(begin, bytes));
}

int64_t distance(const void* from, const void* to) {
  return static_cast<const char*>(to) - static_cast<const char*>(from);
}

// The buffer of a run: from the kept ones, so that the steady state allocates nothing and threads do not share.
class Arena {
 public:
  explicit Arena(int64_t bytes) : data_(bytes ? take_buffer(bytes) : nullptr) {
    if (bytes && !data_) throw std::bad_alloc();
  }
  ~Arena() {
    if (data_) give_back_buffer(data_);
  }
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  char* data() const { return static_cast<char*>(data_); }

 private:
  void* data_;
};

thread_local Plan* recording_plan = nullptr;

}  // namespace

Plan* recording() { return recording_plan; }
void record_into(Plan* plan) { recording_plan = plan; }

WeightStore::~WeightStore() {
  for (const Chunk& chunk : chunks_) unmap_pages(chunk.data, chunk.size);
}

// The fullest chunk with room for so much: small weights fill what large ones have left.
WeightStore::Chunk& WeightStore::with_room(int64_t bytes) {
  Chunk* found = nullptr;
  for (Chunk& chunk : chunks_) {
    const int64_t room = chunk.size - chunk.used;
    if (room >= bytes && (!found || room < found->size - found->used)) found = &chunk;
  }
  if (found) return *found;
  const int64_t size = std::max(aligned(bytes, kHugePage), kChunkBytes);
  void* data = map_pages(size);
  if (!data) throw std::bad_alloc();
  chunks_.push_back({static_cast<char*>(data), size, 0});
  return chunks_.back();
}

const float* WeightStore::keep(int64_t count, const std::function<void(float*)>& write) {
  const int64_t bytes = count * static_cast<int64_t>(sizeof(float));
  Chunk& chunk = with_room(aligned(bytes));
  // Written to where it will lie, so that it is never there twice; not taken where it is there already.
  float* data = reinterpret_cast<float*>(chunk.data + chunk.used);
  write(data);
  const uint64_t hash = hash_of(data, count);
  for (const Entry& entry : entries_) {
    if (entry.hash == hash && entry.count == count && std::memcmp(entry.data, data, bytes) == 0) return entry.data;
  }
  entries_.push_back({data, count, hash});
  chunk.used += aligned(bytes), used_ += aligned(bytes);
  return data;
}

bool WeightStore::lends(const float* values, int64_t bytes) {
  const char* begin = reinterpret_cast<const char*>(values);
  const char* end = begin + bytes;
  const auto found = std::find_if(borrowed_.begin(), borrowed_.end(), [&](const Borrowed& memory) {
    return begin >= memory.data && end <= memory.data + memory.bytes;
  });
  if (found == borrowed_.end()) return false;
  return found->read = true;
}

std::vector<std::shared_ptr<void>> WeightStore::lenders() const {
  std::vector<std::shared_ptr<void>> owners;
  for (const Borrowed& memory : borrowed_) {
    if (memory.read) owners.push_back(memory.owner);
  }
  return owners;
}

void WeightStore::trim() {
  for (const Chunk& chunk : chunks_) {
    const int64_t used = aligned(chunk.used, kHugePage);
    if (used < chunk.size) forget_pages(chunk.data + used, chunk.size - used);
  }
}

struct Plan::Value {
  const void* address;
  int64_t bytes;
  size_t first, last;  // steps
  int readers = 0, base = 1;
  int64_t offset = 0;
};

void Plan::add(std::string name, int64_t parts, std::vector<Operand> operands, Kernel kernel, std::any form) {
  steps_.push_back({std::move(name), parts, std::move(kernel), std::move(operands), {}, std::move(form)});
}

const std::any& Plan::last_form() const {
  static const std::any kNothing;
  return steps_.empty() ? kNothing : steps_.back().form;
}

void Plan::offer(std::string name, int64_t parts, std::vector<Operand> operands, Kernel kernel) {
  offers_.emplace_back(steps_.size() - 1, Step{std::move(name), parts, std::move(kernel), std::move(operands), {}, {}});
}

const float* Plan::keep(const float* values, int64_t bytes) {
  if (!values || weights_->lends(values, bytes)) return values;
  const int64_t count = (bytes + 3) / 4;
  return weights_->keep(count, [&](float* to) {
    if (count > 0) to[count - 1] = 0.0f;  // behind the last of an odd number of bfloat16
    std::memcpy(to, values, static_cast<size_t>(bytes));
  });
}

// Every write makes a new value, whatever its address was used for before.
std::vector<Plan::Value> Plan::values() const {
  std::vector<Value> values;
  for (size_t i = 0; i < steps_.size(); ++i) {
    for (const Operand& operand : steps_[i].operands) {
      if (operand.address && operand.written) values.push_back({operand.address, operand.bytes, i, i});
    }
  }
  return values;
}

// What lies outside at the end is the last that was written there.
void Plan::place_outside(const std::vector<Outside>& outside, std::vector<Value>& values) const {
  for (size_t i = 0; i < outside.size(); ++i) {
    const auto last = std::find_if(values.rbegin(), values.rend(), [&](const Value& value) {
      return within(value.address, outside[i].address, outside[i].bytes);
    });
    if (last == values.rend()) continue;
    last->base = static_cast<int>(i) + 2;
    last->offset = distance(outside[i].address, last->address);
  }
}

std::vector<std::vector<Plan::Source>> Plan::sources(std::vector<Value>& values) const {
  std::vector<std::vector<Source>> sources(steps_.size());
  size_t written = 0;
  for (size_t i = 0; i < steps_.size(); ++i) {
    const size_t before = written;
    for (const Operand& operand : steps_[i].operands) {
      size_t found = kNone;
      if (operand.address && operand.written) found = written++;
      for (size_t v = before; operand.address && !operand.written && found == kNone && v-- > 0;) {
        if (within(operand.address, values[v].address, values[v].bytes)) found = v;
      }
      if (found != kNone) values[found].last = i, values[found].readers += !operand.written;
      sources[i].push_back({found, found == kNone ? 0 : distance(values[found].address, operand.address)});
    }
  }
  return sources;
}

// An offer stands if the values of its first step stay inside and have one reader, the second.
void Plan::take_offers(const std::vector<Outside>& outside) {
  std::vector<Value> values = this->values();
  place_outside(outside, values);
  sources(values);
  for (auto offer = offers_.rbegin(); offer != offers_.rend(); ++offer) {
    const size_t second = offer->first;
    const bool stands = std::all_of(values.begin(), values.end(), [&](const Value& value) {
      return value.first + 1 != second || (value.base == 1 && value.readers == 1 && value.last == second);
    });
    if (!stands) continue;
    steps_[second] = std::move(offer->second);
    steps_.erase(steps_.begin() + static_cast<std::ptrdiff_t>(second) - 1);
  }
  offers_.clear();
}

// Every step has to consist of them, and to read values whole: the same part of all that it reads and writes is then
// what the same images lead to.
bool Plan::can_be_sliced(const std::vector<Value>& values, const std::vector<std::vector<Source>>& sources,
                         int64_t images) const {
  for (size_t i = 0; i < steps_.size(); ++i) {
    if (steps_[i].parts % images) return false;
    for (size_t j = 0; j < sources[i].size(); ++j) {
      const Operand& operand = steps_[i].operands[j];
      const auto [v, offset] = sources[i][j];
      if (operand.address && operand.bytes % images) return false;
      if (v != kNone && (offset != 0 || operand.bytes != values[v].bytes)) return false;
    }
  }
  return true;
}

void Plan::finish(const std::vector<Outside>& outside, int64_t images) {
  take_offers(outside);
  std::vector<Value> values = this->values();
  place_outside(outside, values);
  const std::vector<std::vector<Source>> sources = this->sources(values);
  if (images > 1 && can_be_sliced(values, sources, images)) images_ = images;
  assign(values);
  for (size_t i = 0; i < steps_.size(); ++i) {
    Step& step = steps_[i];
    for (size_t j = 0; j < step.operands.size(); ++j) {
      const auto [v, offset] = sources[i][j];
      const auto [address, bytes, written] = step.operands[j];
      Place place{0, 0, bytes / images_};
      if (v != kNone) {
        place.base = values[v].base, place.offset = values[v].offset + offset;
      } else if (address) {
        const auto from = std::find_if(outside.begin(), outside.end(), [&, at = address](const Outside& tensor) {
          return within(at, tensor.address, tensor.bytes);
        });
        if (from == outside.end()) throw std::runtime_error(step.name + " reads a tensor that no step has written");
        place.base = static_cast<int>(from - outside.begin()) + 2, place.offset = distance(from->address, address);
      }
      step.places.push_back(place);
    }
    step.operands.clear();
    step.form.reset();
  }
}

// Of one image: the largest first, each at the lowest offset where nothing lies that lives at the same time.
void Plan::assign(std::vector<Value>& values) {
  std::vector<Value*> order, placed;
  for (Value& value : values) {
    if (value.base == 1) order.push_back(&value);
  }
  const auto bytes = [&](const Value* value) { return aligned(value->bytes / images_); };
  std::stable_sort(order.begin(), order.end(), [](const Value* a, const Value* b) { return a->bytes > b->bytes; });
  for (Value* value : order) {
    value->offset = 0;
    for (const Value* other : placed) {  // by offset
      if (other->last < value->first || value->last < other->first) continue;
      if (value->offset + bytes(value) <= other->offset) break;
      value->offset = std::max(value->offset, other->offset + bytes(other));
    }
    arena_bytes_ = std::max(arena_bytes_, value->offset + bytes(value));
    const auto after = [](const Value* a, const Value* b) { return a->offset < b->offset; };
    placed.insert(std::upper_bound(placed.begin(), placed.end(), value, after), value);
  }
}

// How many images a thread takes through all steps at a time; 0: they are too few, so that all threads share them.
int64_t Plan::slice_images(int64_t threads) const {
  if (images_ == 1 || arena_bytes_ == 0) return 0;
  const int64_t share = images_ / threads, least = std::min(kSmallSliceBytes / arena_bytes_, kEnoughImages);
  return share < least ? 0 : std::min(share, std::max(kFewestImages, kSliceBytes / arena_bytes_));
}

int64_t Plan::arena_bytes(int64_t threads) const {
  const int64_t images = slice_images(threads);
  return arena_bytes_ * (images ? images * threads : images_);
}

// Images [first, first + images) through all steps.
template <class F>
void Plan::run_slice(void* const* outside, char* arena, int64_t first, int64_t images, const Threads& threads,
                     const F& run_step) const {
  std::vector<void*> operands;
  const Slice slice{images, images_};
  for (size_t i = 0; i < steps_.size(); ++i) {
    operands.clear();
    for (const Place& place : steps_[i].places) {
      char* at = nullptr;
      if (place.base == 1) at = arena + place.offset * images;
      if (place.base >= 2) at = static_cast<char*>(outside[place.base - 2]) + place.offset + place.stride * first;
      operands.push_back(at);
    }
    run_step(i, [&] { steps_[i].kernel(operands.data(), slice, threads); });
  }
}

template <class F>
void Plan::run_slices(void* const* outside, const Threads& threads, const std::function<bool()>& beside,
                      const F& run_step) const {
  const int64_t count = std::max<int64_t>(1, threads.count), most = slice_images(count);
  const auto run_all = [&](const Threads& team) {
    int64_t first = 0;
    // As many as come out even for the threads; what is left in smaller slices, and the last images together. Buffers
    // are equally large, so that all of them are used again.
    for (int64_t images = most; images > 0; images /= 2) {
      const int64_t last = images_ - (images_ - first) % (images * count);
      std::atomic<int64_t> next{first};
      first = last;
      parallel_by(team, last > next ? count : 0, 1, [&](int64_t, int64_t) {
        const Arena arena(arena_bytes_ * most);
        for (int64_t at; (at = next.fetch_add(images, std::memory_order_relaxed)) < last;) {
          run_slice(outside, arena.data(), at, images, {nullptr, 1},
                    [&](size_t i, const auto& step) { run_step(i, count, step); });
        }
      });
    }
    if (first == images_) return;
    const Arena arena(arena_bytes_ * std::max(most, images_ - first));
    run_slice(outside, arena.data(), first, images_ - first, team,
              [&](size_t i, const auto& step) { run_step(i, 1, step); });
  };
  run_as_team(threads, run_all, beside);
}

void Plan::run(void* const* outside, const Threads& threads, const std::function<bool()>& beside) const {
  run_slices(outside, threads, beside, [](size_t, int64_t, const auto& step) { step(); });
}

std::vector<double> Plan::profile(void* const* outside, const Threads& threads) const {
  using Nanoseconds = std::chrono::nanoseconds;
  std::vector<std::atomic<int64_t>> taken(steps_.size());
  run_slices(outside, threads, nullptr, [&](size_t i, int64_t side_by_side, const auto& step) {
    const auto begin = std::chrono::steady_clock::now();
    step();
    const auto time = std::chrono::duration_cast<Nanoseconds>(std::chrono::steady_clock::now() - begin);
    taken[i].fetch_add(time.count() / side_by_side, std::memory_order_relaxed);
  });
  std::vector<double> seconds;
  for (const auto& time : taken) seconds.push_back(std::chrono::duration<double>(Nanoseconds(time.load())).count());
  return seconds;
}

std::vector<std::string> Plan::steps() const {
  std::vector<std::string> names;
  for (const Step& step : steps_) names.push_back(step.name);
  return names;
}

}  // namespace effops
