// Plans for Python (effops/tape): tensors are addresses here, and Python keeps them alive.
#include "plan_module.h"

#include <pybind11/stl.h>

#include <optional>

#include "../cpu/kernels.h"
#include "../cpu/record.h"
#include "snapshot.h"
#include "tensors.h"

namespace effops {
namespace {

namespace py = pybind11;
using Address = uintptr_t;

const void* input(Address address) { return reinterpret_cast<const void*>(address); }
void* output(Address address) { return reinterpret_cast<void*>(address); }

DType dtype_named(const std::string& name) {
  if (name == "float32") return DType::kFloat32;
  if (name == "bfloat16") return DType::kBFloat16;
  throw py::value_error("dtype must be float32 or bfloat16; got " + name);
}

void add_mean(Plan& plan, Address x, Address mean, int64_t n, int64_t pixels, int64_t c, const std::string& from,
              const std::string& to) {
  ImageParams p{};
  p.n = n, p.pixels = pixels, p.c = c, p.dtype = dtype_named(from), p.x = input(x), p.y = output(mean);
  if (dtype_named(to) == DType::kFloat32) return record_mean(plan, p, static_cast<float*>(p.y));
  record_rounded_mean(plan, p);
}

void add_convert(Plan& plan, Address x, Address y, int64_t count, const std::string& from, const std::string& to) {
  record_convert(plan, {count, dtype_named(from), dtype_named(to), input(x), output(y)});
}

void add_sum(Plan& plan, Address a, Address b, Address y, int64_t count, const std::string& dtype) {
  record_add(plan, {count, dtype_named(dtype), input(a), input(b), output(y)});
}

// y (m, n) = x (m, k) W + bias, with element (n, k) of W at n * stride_n + k * stride_k.
void add_linear(Plan& plan, Address x, Address weight, Address bias, Address y, int64_t m, int64_t n, int64_t k,
                int64_t stride_n, int64_t stride_k, const std::string& dtype) {
  const DType type = dtype_named(dtype);
  GemmParams p{};
  p.m = m, p.n = n, p.k = k, p.dtype = type, p.act = Act::kIdentity, p.rows_per_image = m;
  p.x = input(x), p.y = output(y);
  record_gemm(plan, p, {input(weight), type, n, 1, 1, k, stride_n, 0, 0, stride_k}, {input(bias), type, bias ? n : 0});
}

// Keeps a Python object for a part that knows nothing of Python.
std::shared_ptr<void> held(py::object object) {
  return {new py::object(std::move(object)), [](py::object* kept) {
            const py::gil_scoped_acquire gil;
            delete kept;
          }};
}

// Which kernels the packed weights are for; a plan runs on no others.
struct BoundPlan {
  Plan plan;
  std::string isa;

  explicit BoundPlan(std::shared_ptr<WeightStore> weights) : plan(std::move(weights)), isa(kernels().isa) {}
};

std::vector<void*> places(const BoundPlan& bound, const std::vector<Address>& outside) {
  if (bound.isa != kernels().isa) throw py::value_error("the plan is for " + bound.isa + " kernels");
  std::vector<void*> tensors;
  for (const Address address : outside) tensors.push_back(output(address));
  return tensors;
}

// Whether the snapshot holds; this thread looks while others begin with the plan.
bool run_beside(const BoundPlan& bound, const std::vector<Address>& outside, const py::object& snapshot) {
  const std::vector<void*> tensors = places(bound, outside);
  bool holds = false;
  std::optional<py::gil_scoped_release> release;
  bound.plan.run(tensors.data(), threads(), [&] {
    holds = snapshot_holds(snapshot);
    release.emplace();
    return holds;
  });
  return holds;
}

}  // namespace

void define_plan(py::module_& m) {
  py::class_<WeightStore, std::shared_ptr<WeightStore>>(m, "WeightStore", "Packed weights that plans share.")
      .def(py::init<>())
      .def(
          "borrow",
          [](WeightStore& store, Address data, int64_t bytes, py::object owner) {
            store.borrow(input(data), bytes, held(std::move(owner)));
          },
          py::arg("data"), py::arg("bytes"), py::arg("owner"),
          "Memory that the owner keeps: weights that lie there in the form that kernels read are not copied.")
      .def_property_readonly(
          "lenders",
          [](const WeightStore& store) {
            std::vector<py::object> owners;
            for (const auto& owner : store.lenders()) owners.push_back(*static_cast<py::object*>(owner.get()));
            return owners;
          },
          "The owners of borrowed memory that plans read.")
      .def("trim", &WeightStore::trim, "Return memory that holds no weights.")
      .def_property_readonly("bytes", &WeightStore::bytes);
  py::class_<BoundPlan>(m, "Plan", "Kernel calls with packed weights and places for every tensor.")
      .def(py::init<std::shared_ptr<WeightStore>>(), py::arg("weights"))
      .def(
          "start", [](BoundPlan& bound) { record_into(&bound.plan); }, "Record the CPU ops of this thread from now on.")
      .def_static(
          "stop", [] { record_into(nullptr); }, "Record no more.")
      .def(
          "mean",
          [](BoundPlan& b, Address x, Address y, int64_t n, int64_t pixels, int64_t c, const std::string& from,
             const std::string& to) { add_mean(b.plan, x, y, n, pixels, c, from, to); },
          "Mean (n, c) of an image (n, pixels, c), in one dtype from another.")
      .def("convert", [](BoundPlan& b, Address x, Address y, int64_t count, const std::string& from,
                         const std::string& to) { add_convert(b.plan, x, y, count, from, to); })
      .def("add", [](BoundPlan& b, Address x, Address z, Address y, int64_t count,
                     const std::string& dtype) { add_sum(b.plan, x, z, y, count, dtype); })
      .def("linear",
           [](BoundPlan& b, Address x, Address weight, Address bias, Address y, int64_t rows, int64_t n, int64_t k,
              int64_t stride_n, int64_t stride_k, const std::string& dtype) {
             add_linear(b.plan, x, weight, bias, y, rows, n, k, stride_n, stride_k, dtype);
           })
      .def(
          "finish",
          [](BoundPlan& bound, const std::vector<std::pair<Address, int64_t>>& outside, int64_t images) {
            std::vector<Outside> tensors;
            for (const auto& [address, bytes] : outside) tensors.push_back({input(address), bytes});
            bound.plan.finish(tensors, images);
          },
          py::arg("outside"), py::arg("images"),
          "Decide where tensors lie; `outside` are (address, bytes) of those that run() gets, for a batch of `images`.")
      .def(
          "run",
          [](const BoundPlan& bound, const std::vector<Address>& outside) {
            const std::vector<void*> tensors = places(bound, outside);
            const py::gil_scoped_release release;
            bound.plan.run(tensors.data(), threads());
          },
          py::arg("outside"))
      .def("run_beside", run_beside, py::arg("outside"), py::arg("snapshot"),
           "Run, and whether a Snapshot holds: what was computed is worth something only then.")
      .def(
          "profile",
          [](const BoundPlan& bound, const std::vector<Address>& outside) {
            const std::vector<void*> tensors = places(bound, outside);
            const py::gil_scoped_release release;
            return bound.plan.profile(tensors.data(), threads());
          },
          py::arg("outside"), "Run, and the seconds that every step took.")
      .def_readonly("isa", &BoundPlan::isa)
      .def_property_readonly("steps", [](const BoundPlan& bound) { return bound.plan.steps(); })
      .def_property_readonly("arena_bytes",
                             [](const BoundPlan& bound) { return bound.plan.arena_bytes(threads().count); });
}

}  // namespace effops
