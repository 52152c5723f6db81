// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The online softmax (Milakov & Gimelshein 2018, arXiv 1805.02867) as an algebra: what has been
// seen of a row so far is a state {max, sum, out}, with
//
//   sum = Σ_j 2^(s_j - max),   out = Σ_j 2^(s_j - max) v_j,   s_j the scores times log2(e),
//
// and states of disjoint keys merge. The empty state is {-inf, 0, 0}. This file is the only place
// where -inf is discussed: (-inf) - (-inf) is NaN, so wherever a maximum is subtracted, safe_max()
// puts 0 in place of -inf; 2^(-inf - 0) is then the 0 that it should be, and a NaN that was seen
// stays NaN.
//
// A finite score times log2(e) may be infinite: masks of the lowest float are. Kernels therefore
// keep scores and maxima in units of 2: times log2(e) / 2, which is less than 1. Differences are
// doubled, and may be -inf: their weight is 0. Doubling is exact, so that the unit changes no bit.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "gqa/core/view.hpp"
#include "gqa/simd/arch.hpp"

namespace gqa {

inline constexpr double log2e = 1.4426950408889634074;
inline constexpr double ln2 = 0.69314718055994530942;

/// Max and sum of one row; its `out` lies beside it in an array. T is float or double. Unit is a
/// power of two.
template <typename T, int Unit = 1>
struct SoftmaxState {
  static constexpr T empty_max = -std::numeric_limits<T>::infinity();
  static constexpr T unit = Unit;
  /// What a score is multiplied by to be in it.
  static constexpr T score_factor = static_cast<T>(log2e / Unit);

  T max = empty_max;  ///< times log2(e) / Unit
  T sum = 0;

  /// No key was visible. (A visible NaN makes sum NaN.)
  GQA_TAG bool empty() const { return sum == 0; }
  /// Natural logarithm of the sum of e^score; -inf for the empty state.
  GQA_TAG T lse() const {
    if (empty()) return empty_max;
    const T lse = max * (T(ln2) * unit) + std::log(sum);
    // The largest numbers may come back a last bit too large, which is infinite.
    const bool too_large = std::isinf(lse) && !std::isinf(max);
    return too_large ? std::copysign((std::numeric_limits<T>::max)(), max) : lse;
  }
};

/// What kernels keep of a row.
template <typename T>
using RowState = SoftmaxState<T, 2>;

template <typename T>
GQA_TAG constexpr T safe_max(T max) {
  return max == SoftmaxState<T>::empty_max ? T(0) : max;
}

/// e^x of a score less its maximum. Of -inf that is 0, also for x87's instructions, which
/// -funsafe-math-optimizations puts in the place of std::exp, and which make NaN of it.
template <typename T>
GQA_TAG T exp_of_difference(T x) {
  return x == SoftmaxState<T>::empty_max ? T(0) : std::exp(x);
}

inline namespace GQA_ISA {

/// into = merge(into, from), out and from_out being `dim` numbers each, padded to whole packs.
/// Merging the empty state, either way, changes no bit. Written with explicit fma: a compiler that
/// may contract a·x + b·y would choose which product to round, here one way and there the other.
template <typename T, int Unit>
void merge(SoftmaxState<T, Unit>& into, T* GQA_RESTRICT out, const SoftmaxState<T, Unit>& from,
           const T* GQA_RESTRICT from_out, Index dim) {
  using Pack = simd::Pack<T>;
  if (from.empty()) return;
  if (into.empty()) {
    into = from;
    std::copy_n(from_out, dim, out);
    return;
  }
  constexpr T unit = Unit;
  const T max = from.max > into.max ? from.max : into.max;
  const T a = simd::exp2((into.max - safe_max(max)) * unit);
  const T b = simd::exp2((from.max - safe_max(max)) * unit);
  into.sum = simd::fma(a, into.sum, b * from.sum);
  into.max = max;
  const Pack wa = Pack::broadcast(a), wb = Pack::broadcast(b);
  for (Index i = 0; i < dim; i += Pack::size) {
    fma(wa, Pack::load(out + i), wb * Pack::load(from_out + i)).store(out + i);
  }
}

}  // namespace GQA_ISA

/// Merges attention over disjoint sets of keys: `out` and `lse` become what attend() gives over
/// both (FlashInfer's merge_state; natural logarithms). Shapes [batch, q_len, num_heads, value_dim]
/// and [batch, num_heads, q_len]. SinkLogits belong to exactly one of the parts.
///
/// A row that saw no key has lse -inf, or +inf as FlashAttention-2 says; its out isn't read, on
/// either side, and may be anything. Two such rows give one as attend() does: out = 0 and lse -inf.
/// Weights are as exact as lse is: its type's last place at the size of a row's scores.
template <typename T>
GQA_TAG void merge_states(TensorView<T> out, LseView<T> lse, TensorView<const T> other_out,
                          LseView<const T> other_lse) {
  require(out.shape() == other_out.shape(), "merge_states: out is ", out.shape(),
          ", the other out ", other_out.shape());
  for (const auto& [name, b, h, q] :
       {std::tuple("lse", lse.batch(), lse.num_heads(), lse.q_len()),
        std::tuple("the other lse", other_lse.batch(), other_lse.num_heads(), other_lse.q_len())}) {
    require(b == out.batch() && h == out.heads() && q == out.tokens(), "merge_states: ", name,
            " is [", b, ", ", h, ", ", q, "] for out ", out.shape());
  }
  for (Index b = 0; b < out.batch(); ++b) {
    for (Index q = 0; q < out.tokens(); ++q) {
      for (Index h = 0; h < out.heads(); ++h) {
        T& la = lse(b, h, q);
        const T lb = other_lse(b, h, q);
        T* a = out.row(b, q, h);
        const T* o = other_out.row(b, q, h);
        if (std::isinf(la)) {  // empty
          const bool both = std::isinf(lb);
          la = both ? SoftmaxState<T>::empty_max : lb;
          for (Index i = 0; i < out.dim(); ++i) a[i] = both ? T(0) : o[i];
          continue;
        }
        if (std::isinf(lb)) continue;
        const T max = lb > la ? lb : la;
        const T wa = exp_of_difference(la - max), wb = exp_of_difference(lb - max);
        for (Index i = 0; i < out.dim(); ++i) a[i] = (wa * a[i] + wb * o[i]) / (wa + wb);
        la = max + std::log(wa + wb);
      }
    }
  }
}

}  // namespace gqa
