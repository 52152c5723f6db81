// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Picks the instruction set that this translation unit is compiled for (core/config.hpp).
#pragma once

#include <cstdint>

#include "gqa/core/config.hpp"

#if defined(GQA_ISA_AVX512)
#include "gqa/simd/avx512.hpp"
#elif defined(GQA_ISA_AVX2)
#include "gqa/simd/avx2.hpp"
#elif defined(GQA_ISA_NEON)
#include "gqa/simd/neon.hpp"
#else
#include "gqa/simd/generic.hpp"
#endif

namespace gqa::simd {

/// Asks for the cache line `offset` bytes after p to come to L2. The address may be anything.
GQA_INLINE void prefetch([[maybe_unused]] const void* p, [[maybe_unused]] std::uintptr_t offset) {
#if defined(__GNUC__) || defined(__clang__)
  __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<std::uintptr_t>(p) + offset), 0,
                     2);
#endif
}

/// The same for a line that will be written.
GQA_INLINE void prefetch_to_write([[maybe_unused]] const void* p) {
#if defined(__GNUC__) || defined(__clang__)
  __builtin_prefetch(p, 1);
#endif
}

inline namespace GQA_ISA {

/// The registers' name, as explain() and benchmarks print it.
inline constexpr const char* isa_name = GQA_QUOTED_VALUE(GQA_ISA_NAME);

/// Vector registers that a tile may count on.
inline constexpr int registers =
#if defined(GQA_ISA_AVX512) || defined(GQA_ISA_NEON)
    32;
#else
    16;
#endif

/// 2^x for one number, the same bits as a lane of exp2(Pack).
template <typename T>
GQA_INLINE T exp2(T x) {
  T lanes[Pack<T>::size];
  exp2(Pack<T>::broadcast(x)).store(lanes);
  return lanes[0];
}

/// a * b + c for one number, the same bits as a lane of fma(Pack, Pack, Pack).
template <typename T>
GQA_INLINE T fma(T a, T b, T c) {
  T lanes[Pack<T>::size];
  fma(Pack<T>::broadcast(a), Pack<T>::broadcast(b), Pack<T>::broadcast(c)).store(lanes);
  return lanes[0];
}

}  // namespace GQA_ISA
}  // namespace gqa::simd
