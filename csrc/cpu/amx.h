// Whether the tiles of AMX can be used.
#pragma once

namespace effops {

// What the processor has and the operating system would save.
struct AmxFeatures {
  bool tile, bf16;
};
AmxFeatures amx_features();

// Asks the operating system for the tiles, once and for all threads of the process; false where it refuses.
bool may_use_tiles();

}  // namespace effops
