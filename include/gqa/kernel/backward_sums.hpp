// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Sums that the backward pass finds anew. A row's weights are 2^(S - lse), as the forward pass left
// lse; but where all of a row's scores share a large offset, as under a mask of -1e9, lse is a
// float of that size whose last place is worth more than log(sum): the weights would no longer add
// up to 1. Such a row first goes past the keys once more, for
//
//   largest = max_j s_j,   sum = Σ_j 2^((s_j - largest) log2(e)),   delta = Σ_j p_j dp_j,
//
// from the very scores that its gradients are then taken from. Differences of scores know no
// offset, and delta = Σ_c out dout would have the roundings of the forward pass. This costs the
// rows of a block two products of five; no other row pays for it.
#pragma once

#include <cmath>
#include <limits>

#include "gqa/core/workspace.hpp"
#include "gqa/ops/softmax_state.hpp"

namespace gqa {

/// Up to this |lse| weights are 2^(S - lse). Rounding lse, lse log2(e) and S log2(e) as numbers of
/// that size costs a weight 150 to 250 eps there, about what its score's error is anyway: with 64
/// channels and |q| |k| = 64, 4 sqrt(64) 64 / sqrt(64) = 256 eps.
inline constexpr int largest_exact_lse = 256;

namespace detail {
inline namespace GQA_ISA {

/// Is lse too coarse to tell weights by? Not where a row sees no key, -inf, or something that isn't
/// finite.
template <typename T>
bool is_coarse(T lse) {
  const T size = (std::abs)(lse);
  return size > T(largest_exact_lse) && size <= (std::numeric_limits<T>::max)();
}

/// largest, sum and delta of one row on its way past the keys, if its lse is coarse.
template <typename T>
class RowSum {
 public:
  using Pack = simd::Pack<T>;

  RowSum() = default;
  explicit RowSum(T lse) : is_wanted_(is_coarse(lse)) {}

  /// Are the row's weights to be told by this sum? Otherwise by lse, as those of a row that turns
  /// out to see no key.
  bool is_wanted() const { return is_wanted_; }
  T largest() const { return largest_; }
  T sum() const { return sum_; }
  T delta() const { return dot_ / sum_; }
  /// 2^((s - largest) log2(e)) / sum.
  Pack weight(Pack score) const { return power(score) * Pack::broadcast(T(1) / sum_); }
  T weight(T score) const { return power(score) / sum_; }

  /// `count` scores more, a multiple of a pack; hidden ones are -inf, and their dp 0.
  void add(const T* scores, const T* dp, Index count) {
    Pack highest = Pack::load(scores);
    for (Index j = Pack::size; j < count; j += Pack::size) {
      highest = larger(highest, Pack::load(scores + j));
    }
    raise(reduce_max(highest));
    Pack sum = Pack::zero(), dot = Pack::zero();
    for (Index j = 0; j < count; j += Pack::size) {
      const Pack p = power(Pack::load(scores + j));
      sum = sum + p;
      dot = fma(p, Pack::load(dp + j), dot);
    }
    sum_ += reduce_add(sum);
    dot_ += reduce_add(dot);
  }
  /// When all keys have been added: the sink logit, -inf if there is none.
  void finish(T sink) {
    raise(sink);
    sum_ += power(sink);
    is_wanted_ = sum_ != 0;
  }

 private:
  Pack power(Pack score) const {
    return exp2((score - Pack::broadcast(safe_max(largest_))) * Pack::broadcast(T(log2e)));
  }
  T power(T score) const { return simd::exp2((score - safe_max(largest_)) * T(log2e)); }
  void raise(T score) {
    if (!(score > largest_)) return;
    const T before = largest_;
    largest_ = score;
    const T factor = power(before);
    sum_ *= factor;
    dot_ *= factor;
  }

  bool is_wanted_ = false;
  T largest_ = SoftmaxState<T>::empty_max;
  T sum_ = 0;
  T dot_ = 0;  // Σ_j p_j dp_j, times sum
};

/// What the gradients of rows are found with, [batch, num_heads, q_len].
template <typename T>
struct RowSums {
  T* delta = nullptr;
  RowSum<T>* own = nullptr;  // null unless the gradient of sinks is wanted

  RowSums(Carver& carver, Index rows, bool has_sink_gradient)
      : delta(carver.take<T>(rows)),
        own(has_sink_gradient ? carver.take<RowSum<T>>(rows) : nullptr) {}
};

}  // namespace GQA_ISA
}  // namespace detail
}  // namespace gqa
