// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Tests that are compiled for an instruction set which the machine may lack.
#pragma once

#include <gtest/gtest.h>

#include "gqa/simd/arch.hpp"

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace gqa::test {

/// Does this machine have the instructions that this translation unit is compiled for? The compiler
/// uses them anywhere in it, so main() of such a program is a plain one (GTest's).
inline bool machine_has_isa() {
#if defined(__x86_64__) && defined(GQA_ISA_AVX512)
  bool has = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
             __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
#if defined(__AVX512BF16__)
  has = has && __builtin_cpu_supports("avx512bf16");
#endif
#if defined(__AVX512VNNI__)
  has = has && __builtin_cpu_supports("avx512vnni");
#endif
  return has;
#elif defined(__x86_64__) && defined(GQA_ISA_AVX2)
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#elif defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC) && defined(__linux__)
  return (getauxval(AT_HWCAP2) & HWCAP2_BF16) != 0;
#else
  return true;
#endif
}

/// Is this compiled for an emulator (tests/isa)? Tests then take fewer numbers, each of which costs
/// ten times as much or more.
#if defined(GQA_TEST_EMULATED)
inline constexpr bool emulated = true;
#else
inline constexpr bool emulated = false;
#endif

}  // namespace gqa::test

#define GQA_TEST_SKIP_FOREIGN_ISA()                                              \
  if (!gqa::test::machine_has_isa()) {                                           \
    GTEST_SKIP() << "this machine lacks the instructions of " << simd::isa_name; \
  }
