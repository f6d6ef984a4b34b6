// What tests ask of the bindings. Outputs start as NaN and lie between guards that are looked at when the tensor is
// gone.
#pragma once

#include <cstdint>

namespace effops::host {

void* take_guarded(int64_t bytes);
void give_back_guarded(void* data);

// Whether a block of a network runs as one kernel wherever that is possible, not only where it pays: samples are small.
bool fuses_what_fits();

}  // namespace effops::host
