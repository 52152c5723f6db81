// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// simd/ops.hpp for every other machine: 16 bytes of plain numbers, which compilers turn into SSE2
// or whatever there is. One template serves float and double.
#pragma once

#include <bit>
#include <limits>

#include "gqa/simd/ops.hpp"

namespace gqa::simd {
inline namespace GQA_ISA {

template <typename T>
struct Pack {
  static constexpr Index size = 16 / sizeof(T);
#if defined(__GNUC__) || defined(__clang__)
  typedef T Lanes __attribute__((vector_size(16)));
#else
  using Lanes = std::array<T, size>;
#endif
  Lanes v;

  /// The pack whose lane i is f(i).
  template <typename F>
  static GQA_INLINE Pack lanes(F f) {
    Pack r;
    GQA_UNROLL
    for (int i = 0; i < size; ++i) r.v[i] = f(i);
    return r;
  }

  static GQA_INLINE Pack load(const T* p) {
    Pack r;
    std::memcpy(&r.v, p, sizeof r.v);
    return r;
  }
  static GQA_INLINE Pack broadcast(T x) {
    return lanes([x](int) { return x; });
  }
  static GQA_INLINE Pack zero() { return broadcast(T(0)); }
  GQA_INLINE void store(T* p) const { std::memcpy(p, &v, sizeof v); }

#if defined(__GNUC__) || defined(__clang__)
  friend GQA_INLINE Pack operator+(Pack a, Pack b) { return {a.v + b.v}; }
  friend GQA_INLINE Pack operator-(Pack a, Pack b) { return {a.v - b.v}; }
  friend GQA_INLINE Pack operator*(Pack a, Pack b) { return {a.v * b.v}; }
  friend GQA_INLINE Pack operator/(Pack a, Pack b) { return {a.v / b.v}; }
  friend GQA_INLINE Pack fma(Pack a, Pack b, Pack c) {
#if defined(__FMA__)  // a compiler would fuse a * b + c in most tiles, but not in all
    if constexpr (sizeof(T) == 4) {
      return {__builtin_ia32_vfmaddps(a.v, b.v, c.v)};
    } else {
      return {__builtin_ia32_vfmaddpd(a.v, b.v, c.v)};
    }
#else
    return {a.v * b.v + c.v};
#endif
  }
#else
  friend Pack operator+(Pack a, Pack b) {
    return lanes([&](int i) { return a.v[i] + b.v[i]; });
  }
  friend Pack operator-(Pack a, Pack b) {
    return lanes([&](int i) { return a.v[i] - b.v[i]; });
  }
  friend Pack operator*(Pack a, Pack b) {
    return lanes([&](int i) { return a.v[i] * b.v[i]; });
  }
  friend Pack operator/(Pack a, Pack b) {
    return lanes([&](int i) { return a.v[i] / b.v[i]; });
  }
  friend Pack fma(Pack a, Pack b, Pack c) { return a * b + c; }
#endif
  friend GQA_INLINE Pack larger(Pack a, Pack b) {
    return lanes([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
  }
  friend GQA_INLINE Pack where_greater(Pack a, Pack b, Pack x, Pack y) {
    return lanes([&](int i) { return a.v[i] > b.v[i] ? x.v[i] : y.v[i]; });
  }
  friend GQA_INLINE bool any_greater(Pack a, Pack b) {
    bool any = false;
    GQA_UNROLL
    for (int i = 0; i < size; ++i) any |= a.v[i] > b.v[i];
    return any;
  }
  friend GQA_INLINE T reduce_add(Pack a) {
    if constexpr (size == 2) {
      return a.v[0] + a.v[1];
    } else {
      return (a.v[0] + a.v[2]) + (a.v[1] + a.v[3]);
    }
  }
  friend GQA_INLINE T reduce_max(Pack a) {
    T m = a.v[0];
    GQA_UNROLL
    for (int i = 1; i < size; ++i) m = a.v[i] > m ? a.v[i] : m;
    return m;
  }
  friend GQA_INLINE Pack exp2(Pack x) {
    // An integer n in the low bits.
    const Pack shifted = settled(x + broadcast(rounding_shift<T>));
    const Pack n = settled(shifted - broadcast(rounding_shift<T>));
    const Pack p = exp2_polynomial(x - n);
    return lanes([&](int i) -> T {
      const T xi = x.v[i];
      if (xi < exp2_min<T>) return T(0);
      if (xi >= exp2_max<T>) return std::numeric_limits<T>::infinity();
      if (xi != xi) return xi;
      using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
      const Bits exponent = std::bit_cast<Bits>(T(shifted.v[i]))
                            << (std::numeric_limits<T>::digits - 1);
      return std::bit_cast<T>(static_cast<Bits>(std::bit_cast<Bits>(T(p.v[i])) + exponent));
    });
  }
};

/// Plain loads and stores: compilers make shuffles of them where they can.
GQA_INLINE void transpose(Pack<float> (&rows)[Pack<float>::size]) {
  constexpr int n = static_cast<int>(Pack<float>::size);
  float numbers[n][n];
  GQA_UNROLL
  for (int i = 0; i < n; ++i) rows[i].store(numbers[i]);
  GQA_UNROLL
  for (int i = 0; i < n; ++i) {
    float column[n];
    GQA_UNROLL
    for (int j = 0; j < n; ++j) column[j] = numbers[j][i];
    rows[i] = Pack<float>::load(column);
  }
}

GQA_INLINE void widen(const float* p, Pack<float> (&packs)[1]) { packs[0] = Pack<float>::load(p); }
GQA_INLINE void widen(const double* p, Pack<double> (&packs)[1]) {
  packs[0] = Pack<double>::load(p);
}
template <detail::IsHalf T>
GQA_INLINE void widen(const T* p, Pack<float> (&packs)[1]) {
  packs[0] = Pack<float>::lanes([p](int i) { return static_cast<float>(p[i]); });
}
template <detail::IsBfloat16 T>
GQA_INLINE void widen(const T* p, Pack<float> (&packs)[2]) {
  packs[0] = Pack<float>::lanes([p](int i) { return static_cast<float>(p[2 * i]); });
  packs[1] = Pack<float>::lanes([p](int i) { return static_cast<float>(p[2 * i + 1]); });
}
GQA_INLINE void widen(const Int8* p, Pack<float> (&packs)[4]) {
  GQA_UNROLL
  for (int e = 0; e < 4; ++e) {
    packs[e] = Pack<float>::lanes([=](int i) { return static_cast<float>(p[4 * i + e].value); });
  }
}
GQA_INLINE void widen(const Int4* p, Pack<float> (&packs)[8]) {
  GQA_UNROLL
  for (int e = 0; e < 8; ++e) {
    packs[e] = Pack<float>::lanes(
        [=](int i) { return static_cast<float>(integer_of(p[4 * i + e % 4], e / 4)); });
  }
}

}  // namespace GQA_ISA
}  // namespace gqa::simd
