// Whether Python's objects are as they were (effops/nn/prepared.py), thousands of comparisons in one call.
//
// A network has just gone through the caches, so that every object is a miss; most of the time would be waiting. All
// that is compared is fetched ahead of the comparison.
#include "snapshot.h"

#include <pybind11/stl.h>

#include <utility>
#include <vector>

namespace effops {
namespace {

namespace py = pybind11;

constexpr size_t kAhead = 16;
constexpr uintptr_t kLine = 64;
// What of an object is fetched: its fields, and what its maker allocated behind it.
constexpr uintptr_t kObjectBytes = 5 * kLine;

inline void fetch(const void* at) { __builtin_prefetch(at, 0, 2); }

// The places of one dictionary that are compared: [first, last).
struct Group {
  PyObject* dict;
  size_t first, last;
};

struct Place {
  PyObject *key, *object;
};

py::type_error no_dictionaries() { return py::type_error("owners and empty must be dictionaries"); }

// All pointers are borrowed: whoever makes a snapshot keeps the objects alive. They are compared, and but for
// dictionaries and modules never looked into; `near` are addresses worth fetching.
class Snapshot {
 public:
  Snapshot(const py::tuple& owners, const py::tuple& keys, const py::tuple& objects, const py::tuple& modules,
           const py::tuple& empty, std::vector<uintptr_t> near)
      : near_(std::move(near)) {
    if (owners.size() != keys.size() || owners.size() != objects.size()) {
      throw py::value_error("owners, keys and objects must have the same length");
    }
    for (size_t i = 0; i < owners.size(); ++i) {
      PyObject* dict = PyTuple_GET_ITEM(owners.ptr(), i);
      if (!PyDict_Check(dict)) throw no_dictionaries();
      if (groups_.empty() || groups_.back().dict != dict) groups_.push_back({dict, i, i});
      groups_.back().last = i + 1;
      places_.push_back({PyTuple_GET_ITEM(keys.ptr(), i), PyTuple_GET_ITEM(objects.ptr(), i)});
    }
    for (const py::handle module : modules) types_.emplace_back(module.ptr(), Py_TYPE(module.ptr()));
    for (const py::handle dict : empty) {
      if (!PyDict_Check(dict.ptr())) throw no_dictionaries();
      empty_.push_back(dict.ptr());
    }
  }

  bool holds() const { return types_hold() && none_filled() && all_held() && fetch_near(); }

 private:
  bool types_hold() const {
    for (size_t i = 0; i < types_.size(); ++i) {
      if (i + kAhead < types_.size()) fetch(types_[i + kAhead].first);
      if (Py_TYPE(types_[i].first) != types_[i].second) return false;
    }
    return true;
  }

  bool none_filled() const {
    for (size_t i = 0; i < empty_.size(); ++i) {
      if (i + kAhead < empty_.size()) fetch(empty_[i + kAhead]);
      if (PyDict_GET_SIZE(empty_[i])) return false;
    }
    return true;
  }

  // Every dictionary holds that very object under that key; None stands for nothing too.
  bool all_held() const {
    for (size_t g = 0; g < groups_.size(); ++g) {
      if (g + 2 * kAhead < groups_.size()) fetch(groups_[g + 2 * kAhead].dict);
      if (g + kAhead < groups_.size()) fetch_entries(groups_[g + kAhead].dict);
      for (size_t i = groups_[g].first; i < groups_[g].last; ++i) {
        PyObject* held = PyDict_GetItemWithError(groups_[g].dict, places_[i].key);
        if (!held && PyErr_Occurred()) throw py::error_already_set();
        if ((held ? held : Py_None) != places_[i].object) return false;
      }
    }
    return true;
  }

  static void fetch_entries(PyObject* dict) {
    const auto* entries = reinterpret_cast<const char*>(reinterpret_cast<PyDictObject*>(dict)->ma_keys);
    for (uintptr_t line = 0; line < 6; ++line) fetch(entries + line * kLine);
    fetch(reinterpret_cast<PyDictObject*>(dict)->ma_values);
  }

  // For the comparisons that Python makes after these.
  bool fetch_near() const {
    for (const uintptr_t at : near_) {
      for (uintptr_t line = at & ~(kLine - 1); line < at + kObjectBytes; line += kLine) {
        fetch(reinterpret_cast<const void*>(line));
      }
    }
    return true;
  }

  std::vector<Group> groups_;
  std::vector<Place> places_;
  std::vector<std::pair<PyObject*, PyTypeObject*>> types_;
  std::vector<PyObject*> empty_;
  std::vector<uintptr_t> near_;
};

}  // namespace

void define_snapshot(py::module_& m) {
  py::class_<Snapshot>(m, "Snapshot", "Which objects dictionaries held, of which type modules were, what was empty.")
      .def(py::init<const py::tuple&, const py::tuple&, const py::tuple&, const py::tuple&, const py::tuple&,
                    std::vector<uintptr_t>>(),
           py::arg("owners"), py::arg("keys"), py::arg("objects"), py::arg("modules"), py::arg("empty"),
           py::arg("near"), "It keeps nothing alive: whoever makes it holds all of these for as long.")
      .def("holds", &Snapshot::holds, "Whether all is as it was; then what is near is on its way to the caches.");
}

}  // namespace effops
