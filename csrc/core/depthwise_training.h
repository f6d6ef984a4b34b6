// What the depthwise training kernels take, and how their work is cut: by the shape alone, so that no result depends on
// the number of threads.
#pragma once

#include <algorithm>

#include "params.h"

namespace effops {

// Channels that pass through a kernel together, and the distance in floats of two columns of a row in scratch.
constexpr int64_t kPanel = 64;

// One unit of work: a group of channels of the rows [row0, row1) of the images [n0, n1). `part` counts the units of
// one group.
struct DepthwiseUnit {
  int64_t part, n0, n1, band, row0, row1, c0, channels;
};

struct DepthwiseSplit {
  int64_t n, rows, c;        // what is cut
  int64_t run, band, group;  // images, rows and channels of a unit
  int64_t width;             // channels of a panel, at most kPanel
  int64_t bands, parts, groups;

  DepthwiseSplit() = default;
  // A unit's rows in scratch take `bytes` bytes a channel.
  DepthwiseSplit(int64_t images, int64_t all_rows, int64_t channels, int64_t bytes)
      : n(images), rows(all_rows), c(channels) {
    constexpr int64_t kScratchBytes = 192 * 1024;  // half of a second-level cache of 512 KiB, less the images' rows
    constexpr int64_t kGroup = 256;                // longer runs of a pixel's channels are not read any faster
    constexpr int64_t kUnits = 32;                 // enough for any number of threads that shares a batch
    constexpr int64_t kBandRows = 16;              // a band reads some rows of its neighbours
    constexpr int64_t kLine = 16;                  // floats of a cache line
    const int64_t panels = (c + kPanel - 1) / kPanel;
    width = ((c + panels - 1) / panels + kLine - 1) / kLine * kLine;
    const int64_t fitting = std::max<int64_t>(1, std::min(kScratchBytes / bytes, kGroup) / width);
    groups = (panels + fitting - 1) / fitting;
    group = (panels + groups - 1) / groups * width;
    groups = (c + group - 1) / group;
    const int64_t units = std::max<int64_t>(1, n * groups);
    run = std::max<int64_t>(1, units / kUnits);
    bands = std::max<int64_t>(1, std::min(kUnits / units, rows / kBandRows));
    band = (rows + bands - 1) / bands;
    bands = (rows + band - 1) / band;
    parts = (n + run - 1) / run * bands;
  }
  int64_t units() const { return parts * groups; }
  // Units of neighbouring channels follow each other: they share cache lines and pages.
  DepthwiseUnit unit(int64_t i) const {
    const int64_t part = i / groups, n0 = part / bands * run, row0 = part % bands * band, c0 = i % groups * group;
    return {
        part, n0, std::min(n0 + run, n), part % bands, row0, std::min(row0 + band, rows), c0, std::min(group, c - c0)};
  }
};

// Adds values with this mean and sum of squared deviations to those of the `before` values before them; `share` is
// their part of all (Chan, Golub and LeVeque, The American Statistician 37, 1983). Inlined, as it is compiled with the
// flags of every tier.
__attribute__((always_inline)) inline void join_moments(double part_mean, double part_m2, double before, double share,
                                                        double& mean, double& m2) {
  const double away = part_mean - mean;
  m2 += std::max(0.0, part_m2) + away * away * before * share;
  mean += away * share;
}

// u = depthwise convolution of view(x), and the sums behind its mean and variance.
struct DepthwiseStatsParams {
  ConvShape shape;
  DType dtype;
  View view;
  const float* weight;   // (kh, kw, c)
  void* u;               // (n, oh, ow, c)
  DepthwiseSplit split;  // of the output rows
  double* moments;       // (parts, 2, c): mean and sum of squared deviations of each part
};

struct DepthwiseBackwardParams {
  ConvShape shape;
  DType dtype;
  GradView grad;
  View view;
  const float* weight;   // (kh, kw, c)
  DepthwiseSplit split;  // of the input rows
  void* dx;              // (n, h, w, c) or null
  float* sums;           // (n, bands, kGradSums, c) or null
  float* dweight;        // (parts, kh * kw, c) or null
};

}  // namespace effops
