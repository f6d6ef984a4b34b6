// Batches that threads take through a plan a few images at a time: the same bits as all images together, step by step.
#include "check.h"
#include "cpu/plan.h"
#include "cpu/record.h"

using namespace effops;
using namespace effops_test;

namespace {

constexpr int64_t kSide = 12, kHalf = kSide / 2, kStem = 16, kHidden = 24, kReduced = 4, kClasses = 10;
// Of images so large that the stem is merged with what follows.
constexpr int64_t kLargeSide = 88, kLargeStem = 40;

// A buffer of values of a dtype, as bytes.
using Bytes = std::vector<char>;

struct Network {
  int64_t n;
  DType dtype;
  std::vector<std::vector<float>> weights = {};
  std::vector<Bytes> tensors = {};
  size_t next_weight = 0, next_tensor = 0;

  const float* weight(int64_t count) {
    if (next_weight == weights.size()) {
      weights.push_back(random_values(count, static_cast<unsigned>(next_weight) + 1));
      for (float& value : weights.back()) value *= 0.3f;
    }
    return weights[next_weight++].data();
  }
  Bytes& tensor(int64_t values, DType type) {
    if (next_tensor == tensors.size()) tensors.emplace_back(static_cast<size_t>(values * bytes_of(type)));
    return tensors[next_tensor++];
  }
  WeightView matrix(int64_t out, int64_t in) { return {weight(out * in), DType::kFloat32, out, 1, 1, in, in, 0, 0, 1}; }
  WeightView dense(int64_t out, int64_t in) {
    return {weight(out * in * 9), DType::kFloat32, out, 3, 3, in, 9 * in, 3, 1, 9};
  }
  WeightView taps(int64_t c) { return {weight(c * 9), DType::kFloat32, c, 3, 3, 1, 9, 3, 1, 1}; }
  SeWeights gate_weights(int64_t c) {
    return {{weight(c * kReduced), DType::kFloat32, c * kReduced},
            {},
            {weight(c * kReduced), DType::kFloat32, c * kReduced},
            {}};
  }
  ConvShape shape(int64_t in, int64_t h, int64_t out, int64_t stride) const {
    return {n, in, h, h, out, h / stride, h / stride, 3, 3, stride, stride, 1, 1, 1, 1};
  }

  // Every kind of step but those of stems that are merged. The last tensor is what comes out.
  void record(Plan& plan, const void* images) {
    const void* x = stem(images, kSide, kStem);
    x = block(x, 0), x = block(x, kReduced), x = fused_block(x), x = layers(x);
    classify(plan, x);
  }

  // The stem and, in one step with it, a depthwise convolution or a block that does not expand; a product.
  void record_stem(const void* images, bool whole_block) {
    const void* x = stem(images, kLargeSide, kLargeStem);
    const ConvShape s = shape(kLargeStem, kLargeSide, kLargeStem, 2);
    const int64_t pixels = n * s.oh * s.ow;
    if (whole_block) {
      MbconvParams p{};
      p.conv = s, p.in = kLargeStem, p.out = kStem, p.dtype = dtype, p.act = Act::kRelu;
      p.x = x, p.y = tensor(pixels * kStem, dtype).data();
      MbconvWeights w{};
      w.depthwise = taps(kLargeStem), w.project = matrix(kStem, kLargeStem);
      run_mbconv(p, w, kOneThread);
      product(p.y, pixels, kStem, kStem, nullptr, 0);
    } else {
      DepthwiseParams p{};
      p.shape = s, p.dtype = dtype, p.act = Act::kRelu, p.x = x, p.y = tensor(pixels * kLargeStem, dtype).data();
      run_depthwise(p, taps(kLargeStem), {}, nullptr, kOneThread);
      product(p.y, pixels, kStem, kLargeStem, nullptr, 0);
    }
  }

  // Of images in channels-first order.
  const void* stem(const void* images, int64_t side, int64_t channels) {
    const ConvShape s = shape(3, side, channels, 1);
    GemmParams p{};
    p.m = n * side * side, p.n = channels, p.k = 27, p.dtype = dtype, p.act = Act::kSilu, p.conv = &s, p.x = images;
    p.x_stride_n = 3 * side * side, p.x_stride_c = side * side, p.x_stride_h = side, p.x_stride_w = 1;
    p.y = tensor(p.m * channels, dtype).data();
    run_gemm(p, dense(channels, 3), {}, kOneThread);
    return p.y;
  }

  const void* block(const void* x, int64_t reduced) {
    MbconvParams p{};
    p.conv = shape(kHidden, kSide, kHidden, 1), p.in = p.out = kStem, p.expands = true, p.dtype = dtype;
    p.act = Act::kHardswish, p.residual = true, p.x = x;
    if (reduced) {
      p.hidden = tensor(n * kSide * kSide * kHidden, dtype).data();
      p.pooled = floats(n * kHidden), p.gate = floats(n * kHidden);
    }
    MbconvWeights w{};
    w.expand = matrix(kHidden, kStem), w.depthwise = taps(kHidden), w.project = matrix(kStem, kHidden);
    w.reduced = reduced, w.reduced_act = Act::kRelu, w.gate = Gate::kSigmoid;
    if (reduced) w.squeeze_excite = gate_weights(kHidden);
    p.y = tensor(n * kSide * kSide * kStem, dtype).data();
    run_mbconv(p, w, kOneThread);
    return p.y;
  }

  const void* fused_block(const void* x) {
    FusedMbconvParams p{};
    p.conv = shape(kStem, kSide, kHidden, 1), p.out = kStem, p.dtype = dtype, p.act = Act::kRelu;
    p.x = x, p.x_stride_n = kSide * kSide * kStem, p.x_stride_h = kSide * kStem, p.x_stride_w = kStem, p.x_stride_c = 1;
    p.residual = x, p.y = tensor(n * kSide * kSide * kStem, dtype).data();
    run_fused_mbconv(p, {dense(kHidden, kStem), matrix(kStem, kHidden), {}, {}}, kOneThread);
    return p.y;
  }

  // Expansion, depthwise convolution with its means, gate, gated projection, scaling by the gate.
  const void* layers(const void* x) {
    const int64_t pixels = kHalf * kHalf;
    void* const hidden = product(x, n * kSide * kSide, kHidden, kStem, nullptr, 0);
    DepthwiseParams d{};
    d.shape = shape(kHidden, kSide, kHidden, 2), d.dtype = dtype, d.act = Act::kRelu6, d.x = hidden;
    d.y = tensor(n * pixels * kHidden, dtype).data();
    float* const pooled = floats(n * kHidden);
    run_depthwise(d, taps(kHidden), {}, pooled, kOneThread);
    SeGateParams se{};
    se.n = n, se.c = kHidden, se.r = kReduced, se.act = Act::kRelu, se.gate = Gate::kHardsigmoid;
    se.pooled = pooled, se.out = floats(n * kHidden);
    run_se_gate(se, gate_weights(kHidden), kOneThread);
    ImageParams scaled{n, pixels, kHidden, dtype, d.y, se.out, tensor(n * pixels * kHidden, dtype).data()};
    run_scale(scaled, kOneThread);
    return product(scaled.y, n * pixels, kStem, kHidden, se.out, pixels);
  }

  // Sum with itself, mean, conversion, product: the classifier.
  void classify(Plan& plan, const void* x) {
    const int64_t pixels = kHalf * kHalf, count = n * pixels * kStem;
    void* const sum = tensor(count, dtype).data();
    record_add(plan, {count, dtype, x, x, sum});
    float* const mean = floats(n * kStem);
    run_mean({n, pixels, kStem, dtype, sum, nullptr, nullptr}, mean, kOneThread);
    void* const rounded = tensor(n * kStem, dtype).data();
    if (dtype == DType::kFloat32) {
      record_add(plan, {n * kStem, dtype, mean, mean, rounded});
    } else {
      record_convert(plan, {n * kStem, DType::kFloat32, dtype, mean, rounded});
    }
    product(rounded, n, kClasses, kStem, nullptr, 0);
  }

  void* product(const void* x, int64_t m, int64_t out, int64_t in, const float* gate, int64_t rows_per_image) {
    GemmParams p{};
    p.m = m, p.n = out, p.k = in, p.dtype = dtype, p.act = Act::kIdentity, p.x = x;
    p.gate = gate, p.rows_per_image = gate ? rows_per_image : m;
    p.y = tensor(m * out, dtype).data();
    run_gemm(p, matrix(out, in), {}, kOneThread);
    return p.y;
  }
  float* floats(int64_t count) { return reinterpret_cast<float*>(tensor(count, DType::kFloat32).data()); }
};

// Records n images of a side with and without slices, and compares what comes out on one thread and two.
template <class F>
void same_bits(const std::string& what, Network network, int64_t side, const std::string& step, const F& record) {
  const int64_t values = network.n * 3 * side * side;
  Guarded images(random_values(values, 99), network.dtype);
  auto weights = std::make_shared<WeightStore>();
  Plan whole(weights), sliced(weights);
  for (Plan* plan : {&whole, &sliced}) {
    network.next_weight = network.next_tensor = 0;
    record_into(plan);
    record(network, *plan, images.data());
    record_into(nullptr);
    const Bytes& y = network.tensors.back();
    plan->finish({{images.data(), values * bytes_of(network.dtype)}, {y.data(), static_cast<int64_t>(y.size())}},
                 plan == &whole ? 1 : network.n);
  }
  const std::vector<std::string> steps = sliced.steps();
  check(std::find(steps.begin(), steps.end(), step) != steps.end(), what + ": no step " + step);
  for (const Threads& threads : {kOneThread, kTwoThreads}) {
    Bytes want(network.tensors.back().size()), got(want.size(), 0x7f);
    void* outside[] = {images.data(), want.data()};
    whole.run(outside, threads);
    outside[1] = got.data();
    sliced.run(outside, threads);
    check(got == want, what + " on " + std::to_string(threads.count) + " threads");
    std::fill(got.begin(), got.end(), 0x7f);
    check(sliced.profile(outside, threads).size() == steps.size() && got == want, what + ": a time a step");
  }
  // Both threads have a slice of eleven, and both work on the last image.
  if (network.n == 23) check(sliced.arena_bytes(2) * 23 == sliced.arena_bytes(1) * 22, what + ": no slices");
}

void same_bits(const std::string& tier, DType dtype) {
  for (const int64_t n : {1, 2, 7, 8, 23}) {
    same_bits(tier + std::to_string(n) + " images", {n, dtype}, kSide, "expand_depthwise",
              [](Network& network, Plan& plan, const void* images) { network.record(plan, images); });
  }
  for (const bool block : {false, true}) {
    const std::string step = block ? "dense_mbconv" : "dense_depthwise";
    same_bits(tier + step, {8, dtype}, kLargeSide, step,
              [&](Network& network, Plan&, const void* images) { network.record_stem(images, block); });
  }
}

// Three products in a row, of a MiB an image. The second reads `rows` of the first one's from row `begin` on and is one
// of the tensors outside, though the third reads it.
struct Chain {
  static constexpr int64_t kImages = 8, kK = 16, kRows = 16384, kImage = kRows * kK * 4;
  std::vector<float> weight = random_values(kK * kK, 1), x = random_values(kImages * kImage / 4, 2);
  std::vector<float> first = x, second = x, third = x;
  int64_t begin, rows;

  explicit Chain(int64_t from = 0, int64_t count = kImages * kRows) : begin(from), rows(count) {}

  Plan plan(int64_t images) const {
    Plan plan(std::make_shared<WeightStore>());
    const auto product = [&](const float* from, int64_t m, const float* to) {
      GemmParams p{};
      p.m = m, p.n = p.k = kK, p.dtype = DType::kFloat32, p.act = Act::kHardswish, p.rows_per_image = m, p.x = from;
      p.y = const_cast<float*>(to);
      run_gemm(p, {weight.data(), DType::kFloat32, kK, 1, 1, kK, kK, 0, 0, 1}, {}, kOneThread);
    };
    record_into(&plan);
    product(x.data(), kImages * kRows, first.data());
    product(first.data() + begin * kK, rows, second.data());
    product(second.data(), rows, third.data());
    record_into(nullptr);
    const int64_t bytes = kImages * kImage;
    plan.finish({{x.data(), bytes}, {second.data(), bytes}, {third.data(), bytes}}, images);
    return plan;
  }
};

void sizes_of_slices() {
  const Plan sliced = Chain().plan(Chain::kImages);
  check(sliced.arena_bytes(1) == 3 * Chain::kImage, "as many images as three MiB hold");
  check(sliced.arena_bytes(2) == 2 * 3 * Chain::kImage, "a slice a thread");
  check(sliced.arena_bytes(8) == 8 * Chain::kImage, "an image a thread");
  check(sliced.arena_bytes(9) == 8 * Chain::kImage, "more threads than images share them");
  const auto whole = [](const Chain& chain) {
    return chain.plan(Chain::kImages).arena_bytes(1) == Chain::kImages * Chain::kImage;
  };
  check(whole(Chain(0, 4 * Chain::kRows)), "who reads half of a tensor needs it whole");
  check(whole(Chain(Chain::kRows, 7 * Chain::kRows)), "who reads a later part of a tensor needs it whole");
}

// Slices of three images, then of one; outside tensors that are read inside.
void slices_of_several_sizes() {
  Chain chain;
  const Plan whole = chain.plan(1), sliced = chain.plan(Chain::kImages);
  void* outside[] = {chain.x.data(), chain.second.data(), chain.third.data()};
  whole.run(outside, kOneThread);
  const std::vector<float> second = chain.second, third = chain.third;
  for (const Threads& threads : {kOneThread, kTwoThreads}) {
    std::fill(chain.second.begin(), chain.second.end(), 0.0f);
    std::fill(chain.third.begin(), chain.third.end(), 0.0f);
    sliced.run(outside, threads);
    check(chain.second == second && chain.third == third, "slices of several sizes");
  }
}

}  // namespace

int main() {
  sizes_of_slices();
  slices_of_several_sizes();
  return for_every_tier([](const std::string& tier, DType dtype) { same_bits(tier, dtype); });
}
