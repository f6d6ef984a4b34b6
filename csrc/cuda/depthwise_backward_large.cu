// 7x7, and any kernel, stride and dilation.
#include "depthwise_backward.cuh"

namespace effops::cuda {
namespace {

// Any kernel, stride and dilation: a thread computes some columns of an input row of one channel, and du anew for each
// tap from the caches. Moves the bytes of the tuned kernels from memory, and kh kw times as much of grad and u from the
// caches; arithmetic: 4 operations and du an output and tap.
template <class T>
__global__ void __launch_bounds__(256, 2) depthwise_backward_general_kernel(const DepthwiseBackwardArgs p) {
  constexpr int kColumns = kGeneralColumns;
  EFFOPS_SHARED_DYNAMIC(float, shared);
  const ConvShape& s = p.shape;
  const DepthwiseBackwardTiling& t = p.tiling;
  const int channel = threadIdx.x % t.channels, item = threadIdx.x / t.channels;
  const int64_t c0 = blockIdx.x % t.channel_tiles * t.channels, c = c0 + channel, part = blockIdx.x / t.channel_tiles;
  const bool present = c < s.c;
  const float mean = present && p.view.affine ? p.view.affine[c] : 0.0f;
  const float scale = present && p.view.affine ? p.view.affine[s.c + c] : 1.0f;
  const float shift = present && p.view.affine ? p.view.affine[2 * s.c + c] : 0.0f;
  // The sum over the items of a block, in their order, for the first thread of every channel.
  const auto summed = [&](float own) {
    __syncthreads();
    shared[item * t.channels + channel] = own;
    __syncthreads();
    float sum = 0.0f;
    if (item == 0) {
      for (int i = 0; i < t.items(); ++i) sum += shared[i * t.channels + channel];
    }
    return sum;
  };
  const bool first = item == 0 && present;
  for (int64_t tile = part * t.run; tile < min(t.tiles, (part + 1) * t.run); ++tile) {
    const int64_t in_image = tile % t.tiles_of_image(), n = tile / t.tiles_of_image();
    const int64_t iy = in_image / t.tiles_x * t.rows() + item / t.column_items;
    const int64_t ix0 = in_image % t.tiles_x * t.columns() + item % t.column_items * kColumns;
    const int64_t row = ((n * s.h + iy) * s.w + ix0) * s.c + c;
    const auto inside = [&](int j) { return present && iy < s.h && ix0 + j < s.w; };
    float x[kColumns] = {}, view[kColumns] = {}, dx[kColumns] = {};
#pragma unroll
    for (int j = 0; j < kColumns; ++j) {
      if (inside(j)) x[j] = to_float(static_cast<const T*>(p.view.x)[row + j * s.c]);
    }
    with_activation(p.view.act, [&](auto f) {
#pragma unroll
      for (int j = 0; j < kColumns; ++j) {
        if (inside(j)) view[j] = f.apply(fmaf(x[j] - mean, scale, shift));
      }
    });
    const GradCoef<1> coef(p.grad, n, s.c, c);
    for (int64_t tap = 0; tap < s.kh * s.kw; ++tap) {
      const int64_t kh = tap / s.kw, kw = tap % s.kw;
      const int64_t y = iy + s.pad_top - kh * s.dilation_h, oy = y / s.stride_h;
      const bool met = y >= 0 && y % s.stride_h == 0 && oy < s.oh;
      const float weight =
          present ? to_float(static_cast<const T*>(
                        p.weight.data)[c * p.weight.stride_n + kh * p.weight.stride_kh + kw * p.weight.stride_kw])
                  : 0.0f;
      float dw = 0.0f;
      with_activation(p.grad.act, [&](auto f) {
#pragma unroll
        for (int j = 0; j < kColumns; ++j) {
          const int64_t across = ix0 + j + s.pad_left - kw * s.dilation_w, ox = across / s.stride_w;
          if (!met || !inside(j) || across < 0 || across % s.stride_w != 0 || ox >= s.ow) continue;
          const int64_t from = ((n * s.oh + oy) * s.ow + ox) * s.c + c;
          const float u = p.grad.coef ? to_float(static_cast<const T*>(p.grad.u)[from]) : 0.0f;
          const float du = coef.du(f, to_float(static_cast<const T*>(p.grad.grad)[from]), u, 0);
          dx[j] = fmaf(du, weight, dx[j]);
          dw = fmaf(du, view[j], dw);
        }
      });
      if (!p.dweight) continue;
      const float sum = summed(dw);
      float* to = p.dweight + (part * s.c + c) * s.kh * s.kw + tap;
      if (first) *to = tile == part * t.run ? sum : *to + sum;
    }
    if (!p.dx) continue;
    float sums[kGradSums] = {};
    with_activation(p.view.act, [&](auto f) {
#pragma unroll
      for (int j = 0; j < kColumns; ++j) {
        if (!inside(j)) continue;
        T stored;
        from_float(dx[j], stored);
        static_cast<T*>(p.dx)[row + j * s.c] = stored;
        const float away = x[j] - mean;
        add_grad_sums(to_float(stored), f.both(fmaf(away, scale, shift)), away, sums);
      }
    });
    if (!p.sums) continue;
#pragma unroll
    for (int i = 0; i < kGradSums; ++i) {
      const float sum = summed(sums[i]);
      if (first) p.sums[((i * s.n + n) * t.tiles_of_image() + in_image) * s.c + c] = sum;
    }
  }
}

}  // namespace

void launch_depthwise_backward_large(const DepthwiseBackwardArgs& p, Stream stream) {
  with_dtype(p.weight.dtype, [&](auto element) {
    using T = decltype(element);
    return p.tiling.stride == 1 ? launch_depthwise_backward<T, 7, 1>(p, stream)
                                : launch_depthwise_backward<T, 7, 2>(p, stream);
  });
}

void launch_depthwise_backward_general(const DepthwiseBackwardArgs& p, Stream stream) {
  const DepthwiseBackwardTiling& t = p.tiling;
  with_dtype(p.weight.dtype, [&](auto element) {
    launch(depthwise_backward_general_kernel<decltype(element)>, dim3(static_cast<unsigned>(t.blocks())),
           dim3(t.threads()), t.shared_bytes, stream, p);
  });
}

}  // namespace effops::cuda
