// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The only file that defines macros (version.hpp aside); all are called GQA_…. It also names the
// instruction set that this translation unit is compiled for, see GQA_ISA.
#pragma once

#include <cassert>
#include <cstddef>

// What the library can't do without is asked for in one sentence. The header that doesn't exist
// keeps compilers from hundreds of errors that follow from it.
#if defined(_MSVC_LANG)  // MSVC's __cplusplus stays at 1998 without /Zc:__cplusplus
#define GQA_CPLUSPLUS _MSVC_LANG
#else
#define GQA_CPLUSPLUS __cplusplus
#endif
#if GQA_CPLUSPLUS < 202002L
#error "gqa needs C++20: compile with -std=c++20 (or /std:c++20), or newer"
#include <see the error above>
#elif !defined(__cpp_exceptions) && !defined(_CPPUNWIND)
#error "gqa reports errors as exceptions: compile without -fno-exceptions"
#include <see the error above>
#endif

// Hidden scores are -inf and the softmax relies on (-inf) arithmetic: a compiler that may assume
// finite numbers would silently return garbage. Define GQA_ALLOW_FINITE_MATH_ONLY to take that
// risk. The rest of -ffast-math may reorder sums, at the price of promises about bits (README), and
// nothing else. MSVC's /fp:fast has no such parts.
#if !defined(GQA_ALLOW_FINITE_MATH_ONLY)
#if defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__
#error \
    "gqa needs infinities: compile without -ffinite-math-only (add -fno-finite-math-only after -ffast-math), or define GQA_ALLOW_FINITE_MATH_ONLY"
#elif defined(_M_FP_FAST)
#error "gqa needs infinities: compile without /fp:fast, or define GQA_ALLOW_FINITE_MATH_ONLY"
#endif
#endif

/// Checked in debug builds only. Kernels assert; the front doors throw.
#define GQA_ASSERT(condition) assert(condition)

#if defined(__GNUC__) || defined(__clang__)
#define GQA_RESTRICT __restrict__
#define GQA_MAY_ALIAS __attribute__((may_alias))
#define GQA_INLINE inline __attribute__((always_inline))
#define GQA_COLD __attribute__((cold, noinline))
#define GQA_NOINLINE __attribute__((noinline))
#define GQA_UNROLL _Pragma("GCC unroll 16")
#elif defined(_MSC_VER)
#define GQA_RESTRICT __restrict
#define GQA_MAY_ALIAS
#define GQA_INLINE __forceinline
#define GQA_COLD __declspec(noinline)
#define GQA_NOINLINE __declspec(noinline)
#define GQA_UNROLL
#else
#define GQA_RESTRICT
#define GQA_MAY_ALIAS
#define GQA_INLINE inline
#define GQA_COLD
#define GQA_NOINLINE
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

// Conversions of half by the processor, one at a time.
#if defined(__F16C__) && (defined(__GNUC__) || defined(__clang__))
#define GQA_F16C 1
#endif

// What explain() and benchmarks call it.
#if defined(GQA_ISA_AVX512) && defined(__AVX512BF16__) && defined(__AVX512VNNI__)
#define GQA_ISA_NAME avx512_bf16_vnni
#elif defined(GQA_ISA_AVX512) && defined(__AVX512BF16__)
#define GQA_ISA_NAME avx512_bf16
#elif defined(GQA_ISA_AVX512) && defined(__AVX512VNNI__)
#define GQA_ISA_NAME avx512_vnni
#elif defined(GQA_ISA_AVX512)
#define GQA_ISA_NAME avx512
#elif defined(GQA_ISA_AVX2)
#define GQA_ISA_NAME avx2
#elif defined(GQA_ISA_NEON) && defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
#define GQA_ISA_NAME neon_bf16
#elif defined(GQA_ISA_NEON)
#define GQA_ISA_NAME neon
#else
#define GQA_ISA_NAME generic
#endif

// GQA_IF_1(feature, letter) is the letter where the feature's macro is 1, else nothing.
#define GQA_IF_1(feature, letter) GQA_IF_1_EXPANDED(feature, letter)
#define GQA_IF_1_EXPANDED(value, letter) GQA_SECOND_OF(GQA_COMMA_BEFORE_##value letter, , )
#define GQA_COMMA_BEFORE_1 ,
#define GQA_SECOND_OF(...) GQA_SECOND(__VA_ARGS__)
#define GQA_SECOND(first, second, ...) second
#define GQA_JOIN(...) GQA_JOIN_EXPANDED(__VA_ARGS__)
#define GQA_JOIN_EXPANDED(a, b, c, d, e, f, g, h, i, j, k) a##b##c##d##e##f##g##h##i##j##k

// A letter for each feature with which a compiler makes other code of the same functions; for each
// part of -ffast-math that gcc tells of, too.
#define GQA_ISA_MATH                                                              \
  GQA_JOIN(, GQA_IF_1(__ASSOCIATIVE_MATH__, r), GQA_IF_1(__RECIPROCAL_MATH__, q), \
           GQA_IF_1(__FINITE_MATH_ONLY__, y), GQA_IF_1(__SSE2_MATH__, 2), , , , , , )
#if defined(_MSC_VER) && !defined(__clang__)
#define GQA_ISA GQA_JOIN(isa_, GQA_ISA_NAME, , , , , , , , , )
#elif defined(__x86_64__) || defined(__i386__)
#define GQA_ISA_SSE                                                                  \
  GQA_JOIN(, GQA_IF_1(__SSE3__, 3), GQA_IF_1(__SSSE3__, s), GQA_IF_1(__SSE4_1__, 1), \
           GQA_IF_1(__SSE4_2__, 2), GQA_IF_1(__POPCNT__, p), GQA_IF_1(__LZCNT__, l), \
           GQA_IF_1(__BMI__, b), GQA_IF_1(__BMI2__, B), GQA_IF_1(__MOVBE__, m),      \
           GQA_IF_1(__SSE2__, S))
#define GQA_ISA_AVX                                                                       \
  GQA_JOIN(, GQA_IF_1(__AVX__, v), GQA_IF_1(__AVX2__, V), GQA_IF_1(__FMA__, f),           \
           GQA_IF_1(__F16C__, h), GQA_IF_1(__AVXVNNI__, n), GQA_IF_1(__AVXVNNIINT8__, i), \
           GQA_IF_1(__GFNI__, g), GQA_IF_1(__FMA4__, 4), GQA_IF_1(__XOP__, x),            \
           GQA_IF_1(__APX_F__, a))
#define GQA_ISA_512                                                                           \
  GQA_JOIN(, GQA_IF_1(__AVX512F__, F), GQA_IF_1(__AVX512CD__, C), GQA_IF_1(__AVX512DQ__, D),  \
           GQA_IF_1(__AVX512BW__, W), GQA_IF_1(__AVX512VL__, L), GQA_IF_1(__AVX512VBMI__, P), \
           GQA_IF_1(__AVX512VBMI2__, Q), GQA_IF_1(__AVX512BITALG__, A),                       \
           GQA_IF_1(__AVX512VPOPCNTDQ__, O), GQA_IF_1(__AVX512FP16__, H))
#define GQA_ISA \
  GQA_JOIN(isa_, GQA_ISA_NAME, _, GQA_ISA_SSE, GQA_ISA_AVX, GQA_ISA_512, GQA_ISA_MATH, , , , )
#else
#define GQA_ISA_ARM                                                                           \
  GQA_JOIN(, GQA_IF_1(__ARM_FEATURE_DOTPROD, d), GQA_IF_1(__ARM_FEATURE_MATMUL_INT8, m),      \
           GQA_IF_1(__ARM_FEATURE_FP16_VECTOR_ARITHMETIC, h), GQA_IF_1(__ARM_FEATURE_SVE, s), \
           GQA_IF_1(__ARM_FEATURE_SVE2, S), GQA_IF_1(__ARM_FEATURE_ATOMICS, a),               \
           GQA_IF_1(__ARM_FEATURE_QRDMX, q), GQA_IF_1(__ARM_FEATURE_COMPLEX, c), , )
#define GQA_ISA GQA_JOIN(isa_, GQA_ISA_NAME, _, GQA_ISA_ARM, GQA_ISA_MATH, , , , , , )
#endif

/// What a macro stands for, as a string.
#define GQA_QUOTED_VALUE(macro) GQA_QUOTED(macro)
#define GQA_QUOTED(text) #text

/// GQA_ISA, an inline namespace around functions. Translation units compiled with different -march
/// get different symbols, so they link, and run side by side, where a plain inline function would
/// be merged into whichever copy the linker met first. Data types stay outside of it: they are the
/// same for every instruction set, and cross translation units. Their member functions, and the
/// functions beside them, carry GQA_TAG instead: the function's symbol has the instruction set's
/// name in it, and the type's hasn't. That goes for all of them, since a compiler puts vector
/// instructions into any function, a constructor or a loop over lengths included.
#if defined(__GNUC__) || defined(__clang__)
#define GQA_TAG __attribute__((abi_tag(GQA_QUOTED_VALUE(GQA_ISA))))
#else
#define GQA_TAG
#endif

namespace gqa {

/// Sizes and positions: signed, as wide as a pointer, as in Eigen.
using Index = std::ptrdiff_t;

/// Every buffer of the library starts at a multiple of this, for any instruction set.
inline constexpr std::size_t alignment = 64;

}  // namespace gqa
