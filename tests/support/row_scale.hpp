// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The one table of tolerances. How far attention in floating point may be from the exact formula
// follows from what it computes, per output row:
//
//   eps (c1 sqrt(kv_len) + c2 sqrt(head_dim) max_j scale |q| |k_j|) max_j |v_j|
//
// over the keys j that the row sees. The second term is the error of a score: a sum of head_dim
// products, whose errors walk randomly (sqrt), each at most as large as |q| |k_j| times the scale.
// A score's absolute error is its weight's relative one. The first is the error of the sums of
// weights and of weighted values over kv_len keys, exp2's 2 ULP included. c1 = c2 = 4.
//
// More roundings happen in some calls, and add what they must:
//   - a bias b on a score is rounded as a number of its size: eps |b| beside the error of the
//   product;
//   - outputs of 16 bits are rounded once at the end: half a unit in the last place of the result;
//   - where an instruction set multiplies 16-bit numbers, queries and weights are rounded to them
//   (simd::Factor): at most u scale |q| |k_j| in a score, and u in each weight, hence in the result
//   2 u max_j |v_j|, as the sum is that of the rounded weights.
// Keys and values of 16 bits are given to both sides as they are stored, so storing adds nothing.
#pragma once

#include <cmath>
#include <limits>

#include "gqa/core/scalar.hpp"
#include "gqa/simd/arch.hpp"

namespace gqa::test {

inline constexpr double c1 = 4;
inline constexpr double c2 = 4;

/// Distance from 1 to the next larger number of the type that sums are kept in.
template <typename Accumulator>
inline constexpr double epsilon = std::numeric_limits<Accumulator>::epsilon();

/// The largest relative error of rounding to T: half an epsilon.
template <Scalar T>
constexpr double unit_roundoff() {
  if constexpr (std::same_as<T, bfloat16>) {
    return 0x1p-8;  // 8 significant bits: eps is 2^-7
  } else if constexpr (std::same_as<T, half>) {
    return 0x1p-11;  // 11 significant bits
  } else {
    return epsilon<T> / 2;
  }
}

/// The largest absolute error of rounding a number so small that T holds it as a denormal.
template <Scalar T>
constexpr double denormal_roundoff() {
  if constexpr (std::same_as<T, half>) {
    return 0x1p-25;
  } else {
    return std::numeric_limits<float>::denorm_min();  // bfloat16 and float share their exponents
  }
}

/// What one row's tolerance depends on, gathered by the reference's side in double.
struct RowScale {
  double kv_len = 0;  ///< keys that the row sees
  double head_dim = 0;
  double max_score = 0;        ///< max_j scale |q| |k_j| over the keys that it sees
  double max_bias = 0;         ///< max_j |what score rules add| over the keys that it sees
  double max_value = 0;        ///< max_j |v_j|, the largest element, over the keys that it sees
  double query_roundoff = 0;   ///< u of the queries' rounding, see above
  double weight_roundoff = 0;  ///< u of the weights'

  /// For queries of one type against keys and values of another.
  template <Scalar Query, Scalar Storage>
  static RowScale of(double head_dim) {
    using Factor = simd::Factor<Storage, Product::scores>;
    constexpr bool rounds = !std::same_as<Factor, AccumulatorOf<Storage>>;
    RowScale row{.head_dim = head_dim};
    if (rounds) row.weight_roundoff = unit_roundoff<Factor>();
    if (rounds && !std::same_as<Factor, Query>) row.query_roundoff = unit_roundoff<Factor>();
    return row;
  }

  /// The error of the row's scores and sums, relative to its weights.
  template <typename Accumulator>
  double relative() const {
    return epsilon<Accumulator> *
               (c1 * std::sqrt(kv_len) + c2 * std::sqrt(head_dim) * max_score + c2 * max_bias) +
           query_roundoff * max_score + 2 * weight_roundoff;
  }

  /// How far an element of out may be from the exact `expected`.
  template <typename Accumulator, Scalar Out>
  double out_tolerance(double expected) const {
    const double computed = relative<Accumulator>() * max_value;
    if constexpr (std::same_as<Out, Accumulator>) {
      return computed;
    } else {
      return computed + unit_roundoff<Out>() * (std::abs(expected) + computed) +
             denormal_roundoff<Out>();
    }
  }

  /// How far the natural lse may be: its error is the relative one of the sum, and it is rounded as
  /// a number of its size.
  template <typename Accumulator>
  double lse_tolerance(double expected) const {
    return relative<Accumulator>() + 2 * epsilon<Accumulator> * std::abs(expected);
  }
};

}  // namespace gqa::test
