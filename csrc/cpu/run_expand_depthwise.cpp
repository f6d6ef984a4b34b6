#include "run_expand_depthwise.h"

#include <algorithm>

#include "depth_first.h"
#include "kernels.h"
#include "parallel.h"
#include "scratch.h"

namespace effops {
namespace {

// What the expanded channels that are made at a time take of the L2 cache, and where one panel of them takes more, the
// most of that.
constexpr int64_t kChannelBytes = 64 * 1024, kWidestPanelBytes = 96 * 1024;
// The rows of the highest tiles.
constexpr int64_t kFewestPixels = 16;

// Panels [begin, end) of one image.
void run_channels(const ExpandDepthwise& block, float* pooled, int64_t n, int64_t begin, int64_t end) {
  const Kernels& k = kernels();
  const ConvShape& s = block.depthwise.shape;
  const int64_t pixels = s.h * s.w, value = bytes_of(block.expand.dtype);
  const int64_t first = k.panel_column(s.c, begin), last = k.panel_column(s.c, end), pitch = last - first;
  GemmParams expand = block.expand;
  DepthwiseParams depthwise = block.depthwise;
  const auto expanded = reinterpret_cast<intptr_t>(scratch<char>(Slot::kExpandedRows, pixels * pitch * value));
  // Both count the pixels of all images and the channels of all panels: where the first of them would lie is no address
  // in the scratch.
  expand.y = reinterpret_cast<void*>(expanded - (n * pixels * pitch + first) * value);
  depthwise.x = expand.y;
  k.gemm(expand, n * pixels, (n + 1) * pixels, begin, end, pitch);
  k.depthwise(depthwise, n * s.oh, (n + 1) * s.oh, {first, last, pitch});
  if (pooled) mean_of_rows(depthwise.row_sums + n * s.oh * s.c, s.oh, s.c, s.oh * s.ow, first, last, pooled + n * s.c);
}

}  // namespace

bool pays_by_channels(const ExpandDepthwise& block) {
  const ConvShape& s = block.depthwise.shape;
  const Kernels& k = kernels();
  const int64_t panels = k.panel_count(s.c), columns = (s.c + panels - 1) / panels;
  return (s.n == 1 || s.h * s.w >= kFewestPixels) &&
         s.h * s.w * columns * bytes_of(block.expand.dtype) <= kWidestPanelBytes;
}

void execute_by_channels(ExpandDepthwise block, float* pooled, const Threads& threads) {
  const Kernels& k = kernels();
  const ConvShape& s = block.depthwise.shape;
  const int64_t panels = k.panel_count(s.c);
  const int64_t panel_bytes = s.h * s.w * s.c * bytes_of(block.expand.dtype) / panels;
  const int64_t most = std::max<int64_t>(1, kChannelBytes / std::max<int64_t>(1, panel_bytes));
  block.depthwise.row_sums = pooled ? scratch<float>(Slot::kSums, s.n * s.oh * s.c) : nullptr;
  const int64_t work = (s.h * s.w * block.expand.k + s.oh * s.ow * s.kh * s.kw) * s.c / panels;
  parallel(threads, s.n * panels, work, [&](int64_t begin, int64_t end) {
    for (int64_t next = begin, count; next < end; next += count) {
      const int64_t panel = next % panels, left = std::min(panels - panel, end - next);
      // Groups of equal size.
      const int64_t groups = (left + most - 1) / most;
      count = (left + groups - 1) / groups;
      run_channels(block, pooled, next / panels, panel, panel + count);
    }
  });
}

}  // namespace effops
