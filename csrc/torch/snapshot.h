#pragma once

#include <pybind11/pybind11.h>

namespace effops {

// Adds the class Snapshot to the module.
void define_snapshot(pybind11::module_& m);

}  // namespace effops
