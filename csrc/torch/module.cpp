// The Python module effops._C. No tensor crosses it: importing it registers the ops (static initialisers of
// ops_cpu.cpp), its functions tell how it was built and choose the instruction set, and its plans take addresses.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <map>
#include <string>

#include "../cpu/kernels.h"
#include "../cpu/memory.h"
#include "effops_build_info.h"
#include "plan_module.h"
#include "snapshot.h"

#define EFFOPS_STRING_(x) #x
#define EFFOPS_STRING(x) EFFOPS_STRING_(x)

namespace {

std::map<std::string, std::string> build_info() {
  return {{"compiler", EFFOPS_COMPILER},
          {"torch", EFFOPS_BUILD_TORCH},
          {"torch_target", EFFOPS_STRING(TORCH_TARGET_VERSION)},
          {"flags", EFFOPS_BUILD_FLAGS},
#if defined(EFFOPS_BUILD_CUDA)
          {"cuda", EFFOPS_BUILD_CUDA},
#endif
          {"tiers", EFFOPS_BUILD_TIERS}};
}

void set_isa(const std::string& name) {
  if (effops::set_isa(name)) return;
  std::string known;
  for (const std::string& isa : effops::available_isas()) known += (known.empty() ? "" : ", ") + isa;
  throw pybind11::value_error("isa must be one of " + known + " on this processor; got '" + name + "'");
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "C++ kernels of effops: build facts and the choice of instruction set.";
  m.def("build_info", &build_info, "Compiler, torch version and flags of this build.");
  m.def(
      "cpu_features",
      [] {
        std::map<std::string, bool> features;
        for (const auto& [name, present] : effops::cpu_features()) features[name] = present;
        return features;
      },
      "What processor and operating system offer.");
  m.def("available_isas", &effops::available_isas, "Tiers that run here, slowest first.");
  m.def("isa", [] { return std::string(effops::kernels().isa); }, "The tier in use.");
  m.def("release_heap", &effops::release_heap, "Return what the C library's allocator holds free.");
  m.def(
      "page_out", [](uintptr_t data, int64_t bytes) { effops::page_out(reinterpret_cast<void*>(data), bytes); },
      "Take pages of a mapped file out of this process.");
  m.def("release_buffers", &effops::release_buffers, "Return kept buffers to the system; how many bytes.");
  effops::define_plan(m);
  effops::define_snapshot(m);
  m.def("set_isa", &set_isa, pybind11::arg("name"), "Choose a tier for the whole process.");
}
