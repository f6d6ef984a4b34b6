// Plans: what they run equals the ops that they recorded, whatever places their tensors got.
#include "cpu/plan.h"

#include <stdexcept>

#include "check.h"
#include "cpu/record.h"

using namespace effops;
using namespace effops_test;

namespace {

constexpr int64_t kPixels = 12, kIn = 16, kHidden = 24, kOut = 8;

using Floats = std::vector<float>;

Floats values(int64_t size, unsigned seed) { return random_values(size, seed); }

void pointwise(const Floats& x, const Floats& weight, int64_t k, int64_t n, const float* residual, float* y) {
  GemmParams p{};
  p.m = kPixels, p.n = n, p.k = k, p.dtype = DType::kFloat32, p.act = Act::kRelu, p.rows_per_image = kPixels;
  p.x = x.data(), p.y = y, p.residual = residual;
  run_gemm(p, {weight.data(), DType::kFloat32, n, 1, 1, k, k, 0, 0, 1}, {}, kOneThread);
}

void mean(const float* x, float* y) {
  ImageParams p{};
  p.n = 1, p.pixels = kPixels, p.c = kOut, p.dtype = DType::kFloat32, p.x = x;
  run_mean(p, y, kOneThread);
}

struct Network {
  Floats first = values(kHidden * kIn, 1), second = values(kHidden * kHidden, 2), third = values(kOut * kHidden, 3);

  // x -> h0 -> h1 = f(h0) + h0 -> h2 -> mean, every map in memory of its own.
  Floats run(const Floats& x, Floats& h0, Floats& h1, Floats& h2) const {
    Floats y(kOut);
    pointwise(x, first, kIn, kHidden, nullptr, h0.data());
    pointwise(h0, second, kHidden, kHidden, h0.data(), h1.data());
    pointwise(h1, third, kHidden, kOut, nullptr, h2.data());
    mean(h2.data(), y.data());
    return y;
  }
};

int64_t bytes(const Floats& v) { return static_cast<int64_t>(v.size() * sizeof(float)); }

void same_as_recorded() {
  const Network network;
  auto weights = std::make_shared<WeightStore>();
  Plan plan(weights), again(weights);
  const Floats x = values(kPixels * kIn, 4);
  Floats h0(kPixels * kHidden), h1(kPixels * kHidden), h2(kPixels * kOut);
  record_into(&plan);
  network.run(x, h0, h1, h2);
  record_into(nullptr);
  check(h0 == Floats(h0.size()) && h2 == Floats(h2.size()), "a recording computes nothing");
  const int64_t kept = weights->bytes();
  check(plan.steps() == std::vector<std::string>{"pointwise", "pointwise", "pointwise", "mean"}, "names of the steps");

  // The second time with the last map outside, and without its mean.
  record_into(&again);
  Floats h[3] = {h0, h1, h2};
  pointwise(x, network.first, kIn, kHidden, nullptr, h[0].data());
  pointwise(h[0], network.second, kHidden, kHidden, h[0].data(), h[1].data());
  pointwise(h[1], network.third, kHidden, kOut, nullptr, h[2].data());
  record_into(nullptr);
  check(weights->bytes() == kept, "equal weights are kept once");
  again.finish({{x.data(), bytes(x)}, {h[2].data(), bytes(h[2])}});
  check(again.arena_bytes(1) == 2 * bytes(h0), "two maps live at the same time");

  Floats input = values(kPixels * kIn, 5), map(kPixels * kOut);
  network.run(input, h0, h1, h2);
  void* outside[] = {input.data(), map.data()};
  for (const Threads& threads : {kOneThread, kTwoThreads}) {
    std::fill(map.begin(), map.end(), -1.0f);
    again.run(outside, threads);
    check(map == h2, "a plan on another input");
  }
  check(again.profile(outside, kOneThread).size() == 3, "a time a step");
}

// A block that is freed and used again is another tensor.
void addresses_come_again() {
  const Network network;
  Plan plan(std::make_shared<WeightStore>());
  const Floats x = values(kPixels * kIn, 6);
  Floats a(kPixels * kHidden), b(kPixels * kHidden), y(kPixels * kHidden);
  for (Plan* into : {&plan, static_cast<Plan*>(nullptr)}) {  // recorded, then run
    record_into(into);
    pointwise(x, network.first, kIn, kHidden, nullptr, a.data());
    pointwise(a, network.second, kHidden, kHidden, nullptr, b.data());
    pointwise(b, network.second, kHidden, kHidden, nullptr, a.data());
    pointwise(a, network.second, kHidden, kHidden, b.data(), y.data());
  }
  plan.finish({{x.data(), bytes(x)}, {y.data(), bytes(y)}});
  Floats input = x, got(y.size());
  void* outside[] = {input.data(), got.data()};
  plan.run(outside, kOneThread);
  check(got == y, "addresses that are used again");
  check(plan.arena_bytes(1) == 2 * bytes(a), "places are used again");
}

constexpr int64_t kSide = 64, kStem = 40;

// What follows the stem: a depthwise convolution with its mean; a whole block without expansion; one with a residual.
enum class First { kDepthwise, kBlock, kResidual };

// The stem and the start of the first block of a network. `stem` receives the dense convolution.
struct Stem {
  First next;
  int64_t stride = next == First::kResidual ? 1 : 2, side = kSide / stride, out = stride == 1 ? kStem : 8;
  Floats dense = values(kStem * 27, 10), taps = values(kStem * 9, 11), bias = values(kStem, 12);
  Floats project = values(out * kStem, 13);
  ConvShape first{1, 3, kSide, kSide, kStem, kSide, kSide, 3, 3, 1, 1, 1, 1, 1, 1};
  ConvShape second{1, kStem, kSide, kSide, kStem, side, side, 3, 3, stride, stride, 1, 1, 1, 1};

  // y: of the block, or of the depthwise convolution.
  int64_t values_of_y() const { return side * side * (next == First::kDepthwise ? kStem : out); }

  void run(const Floats& x, Floats& stem, Floats& pooled, Floats& y) const {
    GemmParams p{};
    p.m = kSide * kSide, p.n = kStem, p.k = 27, p.dtype = DType::kFloat32, p.act = Act::kSilu, p.conv = &first;
    p.x = x.data(), p.x_stride_n = 3 * kSide * kSide, p.x_stride_c = kSide * kSide, p.x_stride_h = kSide;
    p.x_stride_w = 1, p.y = stem.data();
    const VectorView stem_bias{bias.data(), DType::kFloat32, kStem};
    run_gemm(p, {dense.data(), DType::kFloat32, kStem, 3, 3, 3, 27, 3, 1, 9}, stem_bias, kTwoThreads);
    const WeightView depthwise{taps.data(), DType::kFloat32, kStem, 3, 3, 1, 9, 3, 1, 1};
    if (next != First::kDepthwise) {
      MbconvParams block{};
      block.conv = second, block.in = kStem, block.out = out, block.dtype = DType::kFloat32, block.act = Act::kSilu;
      block.residual = next == First::kResidual, block.x = stem.data(), block.y = y.data();
      MbconvWeights weights{};
      weights.depthwise = depthwise;
      weights.project = {project.data(), DType::kFloat32, out, 1, 1, kStem, kStem, 0, 0, 1};
      run_mbconv(block, weights, kTwoThreads);
    } else {
      DepthwiseParams d{};
      d.shape = second, d.dtype = DType::kFloat32, d.act = Act::kSilu, d.x = stem.data(), d.y = y.data();
      run_depthwise(d, depthwise, {}, pooled.data(), kTwoThreads);
    }
  }
};

void stems_are_merged() {
  const Floats x = values(3 * kSide * kSide, 14);
  for (const First next : {First::kDepthwise, First::kBlock, First::kResidual}) {
    const Stem network{next};
    const bool block = next != First::kDepthwise;
    Floats stem(kSide * kSide * kStem), pooled(kStem), y(network.values_of_y());
    for (const bool read_again : {false, true}) {
      const std::string name = block ? "dense_mbconv" : "dense_depthwise";
      Plan plan(std::make_shared<WeightStore>());
      Floats mean(kStem);
      for (Plan* into : {&plan, static_cast<Plan*>(nullptr)}) {  // recorded, then run
        record_into(into);
        network.run(x, stem, pooled, y);
        ImageParams p{};
        p.n = 1, p.pixels = kSide * kSide, p.c = kStem, p.dtype = DType::kFloat32, p.x = stem.data();
        if (read_again) run_mean(p, mean.data(), kTwoThreads);
      }
      Floats input = x, got_y(y.size()), got_pooled(kStem), got_mean(kStem);
      plan.finish(
          {{x.data(), bytes(x)}, {y.data(), bytes(y)}, {pooled.data(), bytes(pooled)}, {mean.data(), bytes(mean)}});
      check((plan.steps()[0] == name) == !read_again, name + (read_again ? " taken" : " not taken"));
      check((plan.arena_bytes(1) < bytes(stem)) == !read_again, name + ": the tensor between is not kept");
      for (const Threads& threads : {kOneThread, kTwoThreads}) {
        void* places[] = {input.data(), got_y.data(), got_pooled.data(), got_mean.data()};
        plan.run(places, threads);
        check(got_y == y && (block || got_pooled == pooled), name + " on one thread and two");
        check(!read_again || got_mean == mean, name + ": what reads the stem, too");
      }
    }
  }
}

void reads_of_nothing_are_errors() {
  const Network network;
  Plan plan(std::make_shared<WeightStore>());
  const Floats x = values(kPixels * kIn, 7);
  Floats y(kPixels * kHidden);
  record_into(&plan);
  pointwise(x, network.first, kIn, kHidden, nullptr, y.data());
  record_into(nullptr);
  try {
    plan.finish({{y.data(), bytes(y)}});
    check(false, "an input that is nowhere was taken");
  } catch (const std::runtime_error& error) {
    check(std::string(error.what()).find("pointwise reads a tensor") == 0, error.what());
  }
}

// What kernels read as it lies stays where it is, for as long as the store; panels are packed all the same.
void borrowed_weights_are_not_copied() {
  const int64_t n = 2, c = kHidden, r = kOut;
  auto memory = std::make_shared<Floats>(values(2 * c * r, 10));
  const std::weak_ptr<Floats> watch = memory;
  Floats& weights = *memory;
  const Floats pooled = values(n * c, 11);
  Floats want(n * c), got(n * c);
  SeGateParams p{};
  p.n = n, p.c = c, p.r = r, p.act = Act::kRelu, p.gate = Gate::kSigmoid, p.pooled = pooled.data();
  const auto gate = [&](Floats& out) {
    p.out = out.data();
    run_se_gate(p, {{weights.data(), DType::kFloat32, c * r}, {}, {weights.data() + c * r, DType::kFloat32, c * r}, {}},
                kOneThread);
  };
  auto store = std::make_shared<WeightStore>();
  store->borrow(weights.data(), bytes(weights), memory);
  {
    Plan plan(store);
    record_into(&plan);
    gate(got);
    record_into(nullptr);
    plan.finish({{pooled.data(), bytes(pooled)}, {got.data(), bytes(got)}});
    check(store->bytes() == 0, "borrowed weights are not copied");
    gate(want);
    memory.reset();
    Floats input = pooled;
    void* outside[] = {input.data(), got.data()};
    plan.run(outside, kOneThread);
    check(got == want, "a plan on borrowed weights");

    Floats x = values(kPixels * c, 12), y(kPixels * r);
    record_into(&plan);
    pointwise(x, weights, c, r, nullptr, y.data());
    record_into(nullptr);
    check(store->bytes() > 0, "panels are packed");
  }
  const int64_t before = store->bytes();
  store->trim();
  check(store->bytes() == before && !watch.expired(), "trimming keeps what is there");
  store.reset();
  check(watch.expired(), "borrowed memory goes with the store");
}

// A gate's weights in bfloat16 stay so, also an odd number of them; where the two differ, both are float32.
void gates_in_bfloat16() {
  const int64_t n = 3, c = 23, r = 5;
  Guarded reduce(values(r * c, 13), DType::kBFloat16), expand(values(c * r, 14), DType::kBFloat16);
  Floats wide(static_cast<size_t>(c * r)), pooled = values(n * c, 15), want(n * c), got(n * c);
  for (size_t i = 0; i < wide.size(); ++i) wide[i] = expand[static_cast<int64_t>(i)];
  int64_t kept[2] = {};
  for (const bool same : {true, false}) {
    const VectorView second{same ? expand.data() : wide.data(), same ? DType::kBFloat16 : DType::kFloat32, c * r};
    SeGateParams p{};
    p.n = n, p.c = c, p.r = r, p.act = Act::kRelu, p.gate = Gate::kSigmoid, p.pooled = pooled.data();
    auto store = std::make_shared<WeightStore>();
    Plan plan(store);
    for (Plan* into : {&plan, static_cast<Plan*>(nullptr)}) {  // recorded, then run
      record_into(into);
      p.out = into ? got.data() : want.data();
      run_se_gate(p, {{reduce.data(), DType::kBFloat16, r * c}, {}, second, {}}, kTwoThreads);
    }
    plan.finish({{pooled.data(), bytes(pooled)}, {got.data(), bytes(got)}});
    void* outside[] = {pooled.data(), got.data()};
    for (const Threads& threads : {kOneThread, kTwoThreads}) {
      std::fill(got.begin(), got.end(), -1.0f);
      plan.run(outside, threads);
      check(got == want, "a gate with weights in bfloat16");
    }
    kept[same] = store->bytes();
  }
  check(kept[true] < kept[false], "weights in bfloat16 are kept so");
}

// Small weights fill what large ones leave, and are not written over by others.
void weights_keep_their_places() {
  WeightStore store;
  std::vector<std::pair<const float*, Floats>> kept;
  for (const int64_t count : {700000, 40, 900000, 3000000, 300000, 40, 17}) {
    const Floats made = values(count, static_cast<unsigned>(count + kept.size()));
    kept.push_back({store.keep(count, [&](float* to) { std::copy(made.begin(), made.end(), to); }), made});
  }
  const int64_t before = store.bytes();
  for (const auto& [data, made] : kept) {
    check(std::equal(made.begin(), made.end(), data), "weights in the store");
    check(reinterpret_cast<uintptr_t>(data) % 64 == 0, "weights are aligned");
    const auto again = store.keep(static_cast<int64_t>(made.size()),
                                  [&, &values = made](float* to) { std::copy(values.begin(), values.end(), to); });
    check(again == data, "equal weights are kept once");
  }
  check(store.bytes() == before, "equal weights take no room");
  store.trim();
  for (const auto& [data, made] : kept) check(std::equal(made.begin(), made.end(), data), "weights after trimming");
}

void sums() {
  for (const int64_t count : {1, 7, 8, 100, 100000}) {
    const Floats a = values(count, 8), b = values(count, 9);
    Floats y(static_cast<size_t>(count)), want = a;
    for (size_t i = 0; i < want.size(); ++i) want[i] += b[i];
    execute_add({count, DType::kFloat32, a.data(), b.data(), y.data()}, kTwoThreads);
    check(y == want, "sum of " + std::to_string(count));
  }
}

}  // namespace

int main() {
  return for_every_tier([](const std::string&, DType dtype) {
    if (dtype != DType::kFloat32) return;
    same_as_recorded();
    addresses_come_again();
    stems_are_merged();
    reads_of_nothing_are_errors();
    borrowed_weights_are_not_copied();
    gates_in_bfloat16();
    weights_keep_their_places();
    sums();
  });
}
