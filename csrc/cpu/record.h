// Whole ops as steps of a plan: the same arguments as in run.h, the weights copied and packed once.
#pragma once

#include "plan.h"
#include "run_expand_depthwise.h"
#include "run_fused_mbconv.h"
#include "run_mbconv.h"

namespace effops {

void record_depthwise(Plan& plan, const DepthwiseParams& params, const WeightView& weight, const VectorView& bias,
                      float* pooled);
void record_gemm(Plan& plan, const GemmParams& params, const WeightView& weight, const VectorView& bias);
void record_se_gate(Plan& plan, const SeGateParams& params, const SeWeights& weights);
void record_mean(Plan& plan, const ImageParams& params, float* mean);
// The same, with the means rounded to bfloat16 at params.y.
void record_rounded_mean(Plan& plan, const ImageParams& params);
void record_scale(Plan& plan, const ImageParams& params);
void record_add(Plan& plan, const AddParams& params);
void record_convert(Plan& plan, const ConvertParams& params);
void record_mbconv(Plan& plan, const MbconvParams& params, const MbconvWeights& weights);
void record_fused_mbconv(Plan& plan, const FusedMbconvParams& params, const FusedMbconvWeights& weights);

}  // namespace effops
