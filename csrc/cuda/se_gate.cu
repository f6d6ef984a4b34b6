#include "se_gate.cuh"

namespace effops::cuda {

void run_se_gate(SeGateArgs p, Stream stream) {
  prepare_gate(p.weights, p.pooled, p.hidden);
  launch_gate(p, stream, se_gate_kernel<1>, se_gate_kernel<4>);
}

}  // namespace effops::cuda
