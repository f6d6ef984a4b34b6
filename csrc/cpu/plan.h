// A stretch of a network with everything decided: which kernels run, on weights packed once, and where every tensor
// lies.
//
// A plan is recorded by calling the ops as always (run.h): instead of running, each adds its step, with the addresses
// that it would read and write. finish() then finds out which step reads what, gives every tensor that stays inside a
// place in one arena, those that do not live at the same time the same place, and takes the others from whoever runs
// the plan.
//
// Where every step treats the images of a batch each by itself, as the networks here do, threads take a few of them
// through all steps at a time: they wait for nobody, and tensors that small stay in their caches.
#pragma once

#include <any>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "run.h"

namespace effops {

// Weights in the form that kernels read, in huge pages. Equal ones are kept once: the plans of one network for images
// of several sizes share them.
class WeightStore {
 public:
  ~WeightStore();
  // The values that `write` writes to where it is told, 64-byte aligned.
  const float* keep(int64_t count, const std::function<void(float*)>& write);
  // Memory of somebody else, which `owner` keeps: what lies there is not copied.
  void borrow(const void* data, int64_t bytes, std::shared_ptr<void> owner) {
    borrowed_.push_back({static_cast<const char*>(data), bytes, std::move(owner), false});
  }
  // Whether the values lie in borrowed memory, which a plan then reads.
  bool lends(const float* values, int64_t bytes);
  // The owners of what plans read.
  std::vector<std::shared_ptr<void>> lenders() const;
  int64_t bytes() const { return used_; }
  // Gives back pages that hold no weights.
  void trim();

 private:
  struct Entry {
    const float* data;
    int64_t count;
    uint64_t hash;
  };
  struct Chunk {
    char* data;
    int64_t size, used;
  };
  struct Borrowed {
    const char* data;
    int64_t bytes;
    std::shared_ptr<void> owner;
    bool read;
  };
  Chunk& with_room(int64_t bytes);

  std::vector<Entry> entries_;
  std::vector<Chunk> chunks_;
  std::vector<Borrowed> borrowed_;
  int64_t used_ = 0;
};

// A tensor that a step reads or writes; null for one that an op does without. Its images lie one after the other.
struct Operand {
  const void* address;
  int64_t bytes;
  bool written;
};
inline Operand reads(const void* address, int64_t bytes) { return {address, bytes, false}; }
inline Operand writes(const void* address, int64_t bytes) { return {address, bytes, true}; }

// How many of the recorded images a kernel gets.
struct Slice {
  int64_t images, recorded;
  // What is left of a count over all of them: images, rows, values.
  int64_t operator()(int64_t count) const { return count / recorded * images; }
};

// A tensor that lies outside of the plan: handed in by whoever runs it.
struct Outside {
  const void* address;
  int64_t bytes;
};

class Plan {
 public:
  // Runs a slice, whose first image is where the operands begin.
  using Kernel = std::function<void(void* const* operands, const Slice&, const Threads&)>;

  explicit Plan(std::shared_ptr<WeightStore> weights) : weights_(std::move(weights)) {}

  // A step, in the order of the network. It and its operands consist of `parts` equal parts, images or rows, none of
  // which needs another. `form` is what its recorder wants to find in last_form(), for offer().
  void add(std::string name, int64_t parts, std::vector<Operand> operands, Kernel kernel, std::any form = {});
  // What the last step left of itself.
  const std::any& last_form() const;
  // Another step in place of the last two, if it turns out that nothing else reads what the first of them writes.
  void offer(std::string name, int64_t parts, std::vector<Operand> operands, Kernel kernel);
  // Weights of so many bytes for its steps, where the store has them. `values` of null stay null.
  const float* keep(const float* values, int64_t bytes);
  // The same of what `write` writes.
  const float* keep(int64_t count, const std::function<void(float*)>& write) { return weights_->keep(count, write); }

  // Ends the recording, of a batch of so many images. Throws std::runtime_error when a step reads what is neither
  // written before nor outside.
  void finish(const std::vector<Outside>& outside, int64_t images = 1);

  // `outside`: other tensors in the places of those that finish() was given. This thread first does what there is to do
  // beside it, if anything, while others begin; whether it is still wanted comes out of that.
  void run(void* const* outside, const Threads& threads, const std::function<bool()>& beside = nullptr) const;
  // The same, and the seconds that every step took; of what threads do side by side, their share of it.
  std::vector<double> profile(void* const* outside, const Threads& threads) const;

  std::vector<std::string> steps() const;
  // What a run on so many threads takes for the tensors that stay inside.
  int64_t arena_bytes(int64_t threads) const;

 private:
  struct Place {
    int base;        // 0: none, 1: the arena, 2 and above: a tensor outside
    int64_t offset;  // in the arena, of a slice of one image: of one of several it is as many times that
    int64_t stride;  // of images outside
  };
  struct Step {
    std::string name;
    int64_t parts;
    Kernel kernel;
    std::vector<Operand> operands;
    std::vector<Place> places;
    std::any form;
  };
  // Something that one step writes and others read.
  struct Value;
  // The value behind an operand, or kNone, and where in it the operand lies.
  struct Source {
    size_t value;
    int64_t offset;
  };
  static constexpr size_t kNone = static_cast<size_t>(-1);

  std::vector<Value> values() const;
  void place_outside(const std::vector<Outside>& outside, std::vector<Value>& values) const;
  // Of every operand of every step; notes in the values who reads them.
  std::vector<std::vector<Source>> sources(std::vector<Value>& values) const;
  void take_offers(const std::vector<Outside>& outside);
  bool can_be_sliced(const std::vector<Value>& values, const std::vector<std::vector<Source>>& sources,
                     int64_t images) const;
  void assign(std::vector<Value>& values);
  int64_t slice_images(int64_t threads) const;
  template <class F>
  void run_slice(void* const* outside, char* arena, int64_t first, int64_t images, const Threads& threads,
                 const F& run_step) const;
  template <class F>
  void run_slices(void* const* outside, const Threads& threads, const std::function<bool()>& beside,
                  const F& run_step) const;

  std::shared_ptr<WeightStore> weights_;
  std::vector<Step> steps_;
  std::vector<std::pair<size_t, Step>> offers_;  // by the second of the steps in whose place they are
  int64_t images_ = 1;                           // that slices may consist of
  int64_t arena_bytes_ = 0;                      // of one of them
};

// The plan that records what this thread runs, or null.
Plan* recording();
// Records into a plan from now on, or into none.
void record_into(Plan* plan);

}  // namespace effops
