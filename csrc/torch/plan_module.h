#pragma once

#include <pybind11/pybind11.h>

namespace effops {

// Adds the classes Plan and WeightStore to the module.
void define_plan(pybind11::module_& m);

}  // namespace effops
