// The AVX-512 intrinsics: the compiler's, or SIMDe's portable ones where the tests run them on another processor.
#pragma once

#if defined(EFFOPS_EMULATE_AVX512)
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#else
#include <immintrin.h>
#endif
