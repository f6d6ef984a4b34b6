// Advice to the operating system about memory that is about to be written.
#pragma once

#include <cstdint>

namespace effops {

// Asks for huge pages behind a large fresh buffer. The allocator returns blocks of this size to the system after every
// call, so they fault again page by page: for 4 KiB pages that costs several times the writing itself.
void advise_huge_pages(void* data, int64_t bytes);

}  // namespace effops
