// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Which level this is. The macros are the compiler's own for the options that the cases are
// compiled with; this file, which runs before anybody knows whether the processor has them, is
// compiled with them as well, but does nothing that a compiler would use them for.
#include "report.hpp"

namespace gqa::bits {

const char* const level = GQA_BITS_LEVEL;

bool processor_has_level() {
#if defined(__AVX512F__)
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512dq") ||
      !__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512vl")) {
    return false;
  }
#endif
#if defined(__AVX512VNNI__)
  if (!__builtin_cpu_supports("avx512vnni")) return false;
#endif
#if defined(__AVX512BF16__)
  if (!__builtin_cpu_supports("avx512bf16")) return false;
#endif
#if defined(__AVX2__)
  if (!__builtin_cpu_supports("avx2")) return false;
#endif
  // Whatever the level: where the processor lacks it, glibc takes other sines and hyperbolic
  // tangents.
  return __builtin_cpu_supports("fma");
}

}  // namespace gqa::bits
