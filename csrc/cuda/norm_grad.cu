#include "norm_grad.cuh"

namespace effops::cuda {

void prepare_norm_grad(NormGradArgs& p) {
  p.pass.prepare({p.view.grad, p.view.u, p.view.coef, p.view.gate, p.view.pool_grad, p.y});
}

void run_norm_grad(const NormGradArgs& p, Stream stream) {
  launch_pass(p, stream, [](auto element) { return norm_grad_kernel<PassTraits<decltype(element), 2>>; });
}

}  // namespace effops::cuda
