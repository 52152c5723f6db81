// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The only file that defines macros (version.hpp aside); all are called GQA_…. It also names the
// instruction set that this translation unit is compiled for, see GQA_ISA.
#pragma once

#include <cassert>
#include <cstddef>

// Hidden scores are -inf and the softmax relies on (-inf) arithmetic: a compiler that may assume
// finite numbers would silently return garbage. Define GQA_ALLOW_FINITE_MATH_ONLY to take that
// risk.
#if defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__ && !defined(GQA_ALLOW_FINITE_MATH_ONLY)
#error \
    "gqa needs infinities: compile without -ffinite-math-only (part of -ffast-math), or define GQA_ALLOW_FINITE_MATH_ONLY"
#endif

/// Checked in debug builds only. Kernels assert; the front doors throw.
#define GQA_ASSERT(condition) assert(condition)

#if defined(__GNUC__) || defined(__clang__)
#define GQA_RESTRICT __restrict__
#define GQA_INLINE inline __attribute__((always_inline))
#define GQA_UNROLL _Pragma("GCC unroll 16")
#elif defined(_MSC_VER)
#define GQA_RESTRICT __restrict
#define GQA_INLINE __forceinline
#define GQA_UNROLL
#else
#define GQA_RESTRICT
#define GQA_INLINE inline
#define GQA_UNROLL
#endif

// Which instructions the simd/ layer may use. Each is a feature that changes code of ours.
#if defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#define GQA_ISA_AVX512 1
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#define GQA_ISA_AVX2 1
#elif defined(__aarch64__) && defined(__ARM_NEON) && !defined(__AARCH64EB__)
#define GQA_ISA_NEON 1
#else
#define GQA_ISA_GENERIC 1
#endif

/// An inline namespace around every function that touches SIMD. Translation units compiled with
/// different -march get different symbols, so they link, and run side by side, where a plain inline
/// function would be merged into whichever copy the linker met first. Data types stay outside of
/// it: they are the same for every instruction set, and cross translation units.
#if defined(GQA_ISA_AVX512) && defined(__AVX512BF16__) && defined(__AVX512VNNI__)
#define GQA_ISA isa_avx512_bf16_vnni
#elif defined(GQA_ISA_AVX512) && defined(__AVX512BF16__)
#define GQA_ISA isa_avx512_bf16
#elif defined(GQA_ISA_AVX512) && defined(__AVX512VNNI__)
#define GQA_ISA isa_avx512_vnni
#elif defined(GQA_ISA_AVX512)
#define GQA_ISA isa_avx512
#elif defined(GQA_ISA_AVX2)
#define GQA_ISA isa_avx2
#elif defined(GQA_ISA_NEON) && defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
#define GQA_ISA isa_neon_bf16
#elif defined(GQA_ISA_NEON)
#define GQA_ISA isa_neon
#elif defined(__FMA__)
#define GQA_ISA isa_generic_fma
#else
#define GQA_ISA isa_generic
#endif

/// What a macro stands for, as a string.
#define GQA_QUOTED_VALUE(macro) GQA_QUOTED(macro)
#define GQA_QUOTED(text) #text

namespace gqa {

/// Sizes and positions: signed, as wide as a pointer, as in Eigen.
using Index = std::ptrdiff_t;

/// Every buffer of the library starts at a multiple of this, for any instruction set.
inline constexpr std::size_t alignment = 64;

}  // namespace gqa
