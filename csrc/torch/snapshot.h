#pragma once

#include <pybind11/pybind11.h>

namespace effops {

// Adds the class Snapshot to the module.
void define_snapshot(pybind11::module_& m);

// Whether all is as it was when this Snapshot was made.
bool snapshot_holds(const pybind11::object& snapshot);

}  // namespace effops
