// Small operands in the form that kernels read: float32, and depthwise weights tap by tap.
#pragma once

#include "panels.h"
#include "run.h"
#include "scratch.h"

namespace effops {

// The vector in float32: itself, or a converted copy in scratch.
inline const float* as_floats(const VectorView& v, Slot slot) {
  if (!v.data || v.dtype == DType::kFloat32) return static_cast<const float*>(v.data);
  float* out = scratch<float>(slot, v.size);
  const bf16* in = static_cast<const bf16*>(v.data);
  for (int64_t i = 0; i < v.size; ++i) out[i] = widen(in[i]);
  return out;
}

// The layers of a gate: weights of one dtype as they lie, others and biases in float32.
inline void set_gate(SeGateParams& p, const SeWeights& w) {
  const bool same = w.reduce_weight.dtype == w.expand_weight.dtype;
  const auto weight = [&](const VectorView& v, Slot slot) {
    return same ? static_cast<const float*>(v.data) : as_floats(v, slot);
  };
  p.weights = same ? w.reduce_weight.dtype : DType::kFloat32;
  p.reduce_weight = weight(w.reduce_weight, Slot::kReduceWeight);
  p.expand_weight = weight(w.expand_weight, Slot::kExpandWeight);
  p.reduce_bias = as_floats(w.reduce_bias, Slot::kReduceBias);
  p.expand_bias = as_floats(w.expand_bias, Slot::kExpandBias);
}

// A depthwise weight as float32 (kh, kw, c): itself, or a copy in scratch.
inline const float* tap_major(const WeightView& w) {
  if (w.dtype == DType::kFloat32 && w.stride_n == 1 && w.stride_kw == w.n && w.stride_kh == w.kw * w.n) {
    return static_cast<const float*>(w.data);
  }
  float* out = scratch<float>(Slot::kWeight, w.kh * w.kw * w.n);
  for (int64_t c = 0; c < w.n; ++c) {
    auto put = [&](int64_t tap, auto value) { out[tap * w.n + c] = widen(value); };
    if (w.dtype == DType::kFloat32) {
      for_column<float>(w, c, put);
    } else {
      for_column<bf16>(w, c, put);
    }
  }
  return out;
}

}  // namespace effops
