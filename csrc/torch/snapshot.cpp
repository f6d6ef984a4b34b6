// Whether Python's objects are as they were (effops/nn/prepared.py), thousands of comparisons in one call.
//
// A network has just gone through the caches, so that every object is a miss; most of the time would be waiting. All
// that is compared is fetched ahead of the comparison.
#include "snapshot.h"

#include <utility>
#include <vector>

namespace effops {
namespace {

namespace py = pybind11;

constexpr size_t kAhead = 16;
constexpr uintptr_t kLine = 64;

inline void fetch(const void* at) { __builtin_prefetch(at, 0, 2); }

inline void fetch_lines(uintptr_t at, uintptr_t count) {
  for (uintptr_t i = 0; i < count; ++i) fetch(reinterpret_cast<const void*>((at & ~(kLine - 1)) + i * kLine));
}

// The places of one dictionary that are compared: [first, last).
struct Group {
  PyObject* dict;
  size_t first, last;
};

struct Place {
  PyObject *key, *object;
};

// An unsigned number that every tensor has, by the attribute or the method of its class, which is not looked up again
// for each of them.
class Number {
 public:
  explicit Number(py::object of_class) : of_class_(std::move(of_class)) {
    PyObject* found = of_class_.ptr();
    if (Py_IS_TYPE(found, &PyGetSetDescr_Type)) {
      attribute_ = reinterpret_cast<PyGetSetDescrObject*>(found)->d_getset;
    } else if (Py_IS_TYPE(found, &PyMethodDescr_Type)) {
      PyMethodDef* method = reinterpret_cast<PyMethodDescrObject*>(found)->d_method;
      if (method->ml_flags == METH_NOARGS) method_ = method->ml_meth;
    }
    if (!attribute_ && !method_)
      throw py::type_error("the class of tensors has neither this attribute nor this method");
    type_ = reinterpret_cast<PyDescrObject*>(found)->d_type;
  }

  bool belongs_to(py::handle tensor) const { return PyObject_TypeCheck(tensor.ptr(), type_); }

  uint64_t operator()(PyObject* tensor) const {
    PyObject* made = attribute_ ? attribute_->get(tensor, attribute_->closure) : method_(tensor, nullptr);
    if (!made) throw py::error_already_set();
    const uint64_t value = PyLong_AsUnsignedLongLong(made);
    Py_DECREF(made);
    if (PyErr_Occurred()) throw py::error_already_set();
    return value;
  }

 private:
  py::object of_class_;
  PyTypeObject* type_ = nullptr;
  PyGetSetDef* attribute_ = nullptr;
  PyCFunction method_ = nullptr;
};

// With where torch keeps its fields, and those of its storage.
struct Watched {
  PyObject* tensor;
  uintptr_t fields, storage;
  uint64_t version, address;
};

py::type_error no_dictionaries() { return py::type_error("owners and empty must be dictionaries"); }

// All pointers are borrowed: whoever makes a snapshot keeps the objects alive.
class Snapshot {
 public:
  Snapshot(const py::tuple& owners, const py::tuple& keys, const py::tuple& objects, const py::tuple& modules,
           const py::tuple& empty, const py::tuple& tensors, py::object version, py::object address)
      : version_(std::move(version)), address_(std::move(address)) {
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
    for (const py::handle tensor : tensors) {
      if (!version_.belongs_to(tensor) || !address_.belongs_to(tensor)) throw py::type_error("tensors must be tensors");
      const auto fields = [](py::handle object) { return object.attr("_cdata").cast<uintptr_t>(); };
      // First what tensors may be without.
      const uint64_t version = version_(tensor.ptr()), address = address_(tensor.ptr());
      const uintptr_t storage = fields(tensor.attr("untyped_storage")());
      watched_.push_back({tensor.ptr(), fields(tensor), storage, version, address});
    }
  }

  bool holds() const { return types_hold() && none_filled() && all_held() && none_written(); }

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

  bool none_written() const {
    for (size_t i = 0; i < watched_.size(); ++i) {
      if (i + kAhead < watched_.size()) {
        const Watched& next = watched_[i + kAhead];
        fetch_lines(reinterpret_cast<uintptr_t>(next.tensor), 2);
        // The counter of its versions was made after it, and often lies behind it.
        fetch_lines(next.fields, 6);
        fetch_lines(next.storage, 2);
      }
      const Watched& here = watched_[i];
      if (version_(here.tensor) != here.version || address_(here.tensor) != here.address) return false;
    }
    return true;
  }

  std::vector<Group> groups_;
  std::vector<Place> places_;
  std::vector<std::pair<PyObject*, PyTypeObject*>> types_;
  std::vector<PyObject*> empty_;
  Number version_, address_;
  std::vector<Watched> watched_;
};

}  // namespace

bool snapshot_holds(const py::object& snapshot) { return snapshot.cast<const Snapshot&>().holds(); }

void define_snapshot(py::module_& m) {
  py::class_<Snapshot>(
      m, "Snapshot",
      "Which objects dictionaries held, of which type modules were, what was empty, and tensors' versions.")
      .def(
          py::init<const py::tuple&, const py::tuple&, const py::tuple&, const py::tuple&, const py::tuple&,
                   const py::tuple&, py::object, py::object>(),
          py::arg("owners"), py::arg("keys"), py::arg("objects"), py::arg("modules"), py::arg("empty"),
          py::arg("tensors"), py::arg("version"), py::arg("address"),
          "It keeps nothing alive: whoever makes it holds all of these for as long. The last two are the attribute and "
          "the method of the class of tensors.")
      .def("holds", &Snapshot::holds, "Whether all is as it was.");
}

}  // namespace effops
