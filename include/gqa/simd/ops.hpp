// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The contract that each instruction set fulfils: a Pack of float or double and the few operations
// that attention needs of it. Kernels are written against this page only.
//
//   Pack<T>                          size lanes of T (float or double)
//   Pack<T>::load(p), store(p)       any alignment
//   Pack<T>::broadcast(x), zero()
//   a + b, a - b, a * b, a / b
//   fma(a, b, c)                     a * b + c, rounded once where the machine can
//   larger(a, b)                     a > b ? a : b, so a NaN in `a` gives b
//   where_greater(a, b, x, y)        a > b ? x : y, lane by lane
//   any_greater(a, b)                does some lane of `a` exceed b? NaN exceeds nothing
//   reduce_add(a), reduce_max(a)     one fixed order of lanes
//   nearest(a)                       the nearest integer, of two the even one; |a| < 2^22 (double:
//                                    2^51)
//   exp2(a)                          2^a within 2 ULP; 0 below -126 (double: -1022), +inf from 128
//                                    (1024) on, NaN for NaN
//   tanh(a)                          within 3 ULP; NaN for NaN
//   iota<T>()                        0, 1, 2, …
//   transpose(rows)                  size packs of float become their columns, bits as they are
//   widen(p, packs)                  Storage to accumulators, see below
//   Dot<Storage>                     how a tile multiplies Storage, see there
//
// Storage is what keys and values are kept in. Of a strip (layout/strips.hpp), `packing<Storage>`
// elements belong to one lane: widen(p, packs) reads size lanes and yields packs[0] from the first
// element of each lane, packs[1] from the second.
#pragma once

#include <array>
#include <cfloat>
#include <cstdint>
#include <cstring>

#include "gqa/core/scalar.hpp"

namespace gqa {

/// Elements of one lane that lie side by side in a strip: bfloat16 comes in pairs, for the pair dot
/// products of VDPBF16PS and BFDOT, Int8 in fours, for VPDPBUSD and SDOT. Of an Int4's eight in
/// four bytes, the first four are the bytes' lower halves and the others the upper ones: two fours
/// as well.
template <typename Storage>
inline constexpr int packing = std::same_as<Storage, Int4>   ? 8
                               : is_quantized<Storage>       ? 4
                               : detail::IsBfloat16<Storage> ? 2
                                                             : 1;
/// Objects that these elements are.
template <typename Storage>
inline constexpr int lane_objects = packing<Storage> / elements_per<Storage>;

/// The two products of attention: S = Q Kᵀ and O += P V.
enum class Product { scores, outputs };

namespace simd {

/// 2^f = 1 + f (c0 + f (c1 + …)) on [-0.5, 0.5]: minimax fits, relative error before
/// rounding 2.0e-9 (float) and 4.2e-20 (double).
template <typename T>
inline constexpr std::array<T, 1> exp2_coefficients{};
template <>
inline constexpr std::array<float, 6> exp2_coefficients<float>{
    0.6931472028559704f,  0.24022647913498998f,   0.05550332469693873f,
    0.00961843736641887f, 0.0013398874866602268f, 0.00015353360629290448f};
template <>
inline constexpr std::array<double, 12> exp2_coefficients<double>{
    0.69314718055994530855,   0.24022650695910071507,   0.055504108664821687121,
    0.0096181291076283295517, 0.0013333558146392689296, 0.00015403530393640735768,
    0.000015252733854319592,  1.3215486594903681657e-6, 1.0178051941471408125e-7,
    7.0549744804272475986e-9, 4.45657057689047294e-10,  2.5625418839740308218e-11};

/// tanh x = x (1 + z (c0 + z (c1 + …))), z = x², for |x| below 0.63: Chebyshev fits, relative error
/// 6.9e-10 (float) and 2.8e-21 (double).
template <typename T>
inline constexpr std::array<T, 1> tanh_coefficients{};
template <>
inline constexpr std::array<float, 6> tanh_coefficients<float>{
    -0.33333333149374507f, 0.13333300146188915f,    -0.053958461627452201f,
    0.021762502907359264f, -0.0083231870582787745f, 0.0022695016841623540f};
template <>
inline constexpr std::array<double, 14> tanh_coefficients<double>{
    -0.33333333333333333333,   0.13333333333333332622,      -0.053968253968252809292,
    0.021869488536080744161,   -0.0088632355274013171307,   0.0035921279861448631654,
    -0.0014558337264772230165, 0.00059002154565090968765,   -0.00023909225607937784483,
    0.00009675175218326438376, -0.000038762027320133520449, 0.00001477463474551532683,
    -4.7175184255083209527e-6, 8.9560645481586557491e-7};

/// Keeps a vector in a register until it is used. g++ 12 rather reads it again from memory for each
/// of two to four products, and a tile of few rows is then bound by loads: on Zen 4 four rows reach
/// 0.75 of the peak instead of 0.97.
template <typename Vector>
GQA_INLINE void keep_in_register([[maybe_unused]] Vector& v) {
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__)
  __asm__("" : "+v"(v));
#endif
}

/// Added to a number of up to a quarter of it, it leaves no fraction, and the nearest integer (of
/// two the even one) in the low bits; 1.5 · 2^23 (double: 2^52).
template <typename T>
inline constexpr T rounding_shift = std::same_as<T, double> ? T(0x1.8p52) : T(0x1.8p23);

/// Below it, exp2 is 0: no denormal numbers, which some machines multiply slowly.
template <typename T>
inline constexpr T exp2_min = std::same_as<T, double> ? T(-1022) : T(-126);
/// From it on, exp2 is +inf.
template <typename T>
inline constexpr T exp2_max = std::same_as<T, double> ? T(1024) : T(128);

inline namespace GQA_ISA {

/// Size lanes of T; one specialisation per instruction set.
template <typename T>
struct Pack;

/// x, computed by here: what follows isn't merged with what came before, as in (a + b) - b = a
/// where sums may be reordered (-fassociative-math), and no lane has more bits than T, as x87's
/// registers have.
template <typename T>
GQA_INLINE Pack<T> settled(Pack<T> x) {
#if defined(__AVX512F__)
  __asm__("" : "+v"(x.v));
#elif defined(__SSE2__)
  __asm__("" : "+x"(x.v));
#elif defined(__aarch64__)
  __asm__("" : "+w"(x.v));
#elif defined(__GNUC__) || defined(__clang__)
  __asm__("" : "+m"(x.v));
#else
  static_assert(FLT_EVAL_METHOD == 0, "gqa needs registers that are as wide as float and double");
#endif
  return x;
}

/// The polynomial part of exp2: p(f) = 2^f for f in [-0.5, 0.5].
template <typename T>
GQA_INLINE Pack<T> exp2_polynomial(Pack<T> f) {
  constexpr auto& c = exp2_coefficients<T>;
  Pack<T> p = Pack<T>::broadcast(c.back());
  GQA_UNROLL
  for (int i = static_cast<int>(c.size()) - 2; i >= 0; --i) {
    p = fma(p, f, Pack<T>::broadcast(c[static_cast<std::size_t>(i)]));
  }
  return fma(p, f, Pack<T>::broadcast(T(1)));
}

template <typename T>
GQA_INLINE Pack<T> nearest(Pack<T> x) {
  const Pack<T> shift = Pack<T>::broadcast(rounding_shift<T>);
  return settled(settled(x + shift) - shift);
}

template <typename T>
GQA_INLINE Pack<T> tanh(Pack<T> x) {
  const auto number = [](double value) { return Pack<T>::broadcast(static_cast<T>(value)); };
  // |x| < 0.63: no cancellation.
  constexpr auto& c = tanh_coefficients<T>;
  const Pack<T> z = x * x;
  Pack<T> p = Pack<T>::broadcast(c.back());
  GQA_UNROLL
  for (int i = static_cast<int>(c.size()) - 2; i >= 0; --i) {
    p = fma(p, z, Pack<T>::broadcast(c[static_cast<std::size_t>(i)]));
  }
  const Pack<T> near_zero = fma(x * z, p, x);
  // Beyond: tanh |x| = 1 - 2 / (e^(2 |x|) + 1).
  const Pack<T> size = larger(Pack<T>::zero() - x, x);
  const Pack<T> power = exp2(size * number(2 * 1.4426950408889634074));
  const Pack<T> large = number(1) - number(2) / (power + number(1));
  const Pack<T> signed_large = where_greater(Pack<T>::zero(), x, Pack<T>::zero() - large, large);
  return where_greater(number(0.63), size, near_zero, signed_large);
}

template <typename T>
GQA_INLINE Pack<T> iota() {
  T ramp[Pack<T>::size];
  GQA_UNROLL
  for (int i = 0; i < static_cast<int>(Pack<T>::size); ++i) ramp[i] = static_cast<T>(i);
  return Pack<T>::load(ramp);
}

/// How a tile multiplies keys or values with what stands against them, the factors: queries or
/// weights. This one widens; an instruction set with dot products of Storage specialises it, its
/// factors then being rounded to such numbers as well.
///
/// Of quantised storage only the integers are multiplied, the factors being integers, too, queries
/// in [-127, 127] and weights in [0, 255]. Sums are exact up to head_dim 512 (in float, 24 bits,
/// with the keys' bias), and fit their type up to max_head_dim (layout/quantize.hpp).
template <typename Storage, Product product>
struct Dot {
  using T = AccumulatorOf<Storage>;
  using Factor = T;
  using Sum = Pack<T>;
  struct Lanes {
    Pack<T> elements[packing<Storage>];
  };
  static constexpr int key_bias = 0;  ///< lanes of quantised keys are the integers plus this

  /// The elements of Pack<T>::size lanes of a strip.
  static GQA_INLINE Lanes load(const Storage* p) {
    Lanes lanes;
    widen(p, lanes.elements);
    GQA_UNROLL
    for (int e = 0; e < packing<Storage>; ++e) keep_in_register(lanes.elements[e].v);
    return lanes;
  }
  /// sum + factors · lanes, over the elements of a lane: packing<Storage> factors for all lanes.
  static GQA_INLINE Sum add(Sum sum, const Factor* factors, const Lanes& lanes) {
    GQA_UNROLL
    for (int e = 0; e < packing<Storage>; ++e) {
      sum = fma(Pack<T>::broadcast(factors[e]), lanes.elements[e], sum);
    }
    return sum;
  }
  static GQA_INLINE Pack<T> result(Sum sum) { return sum; }

  /// Stores x as factors, and returns what they are now.
  static GQA_INLINE Pack<T> store(Pack<T> x, Factor* to) {
    if constexpr (is_quantized<Storage>) x = nearest(x);
    x.store(to);
    return x;
  }
};

/// What queries and weights are kept as, to be multiplied with Storage.
template <typename Storage, Product product>
using Factor = typename Dot<Storage, product>::Factor;

}  // namespace GQA_ISA
}  // namespace simd
}  // namespace gqa
