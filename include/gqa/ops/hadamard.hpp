// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Two things to do to keys before they are rounded to few bits, neither of which changes attention.
//
// Rotation: (H q)·(H k) = q·k for an orthogonal H, and Hadamard's spreads a channel that is much
// larger than the others, which would set the scale for all, over all of them (QuaRot: Ashkboos et
// al. 2024, arXiv 2404.00456). Both q and k are turned, after rotary embedding.
//
// Mean: q·(k - m) = q·k - q·m, and what is the same for all keys drops out of the softmax
// (SageAttention: Zhang et al. 2024, arXiv 2410.02367). What keys have in common then costs no
// bits. m must stay the same for all keys of a sequence: choose it before the first append.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "gqa/core/scalar.hpp"
#include "gqa/core/vector.hpp"
#include "gqa/core/view.hpp"

namespace gqa {

/// The largest power of two that divides head_dim: rows are rotated in blocks of so many channels.
GQA_TAG constexpr Index hadamard_block(Index head_dim) { return head_dim & -head_dim; }

namespace detail {
inline namespace GQA_ISA {

/// x = H x of n = 2^i numbers, H having entries ± 1 / sqrt(n).
template <typename T>
void hadamard_row(T* GQA_RESTRICT x, Index n) {
  for (Index half = 1; half < n; half *= 2) {
    for (Index begin = 0; begin < n; begin += 2 * half) {
      for (Index i = begin; i < begin + half; ++i) {
        const T a = x[i], b = x[i + half];
        x[i] = a + b;
        x[i + half] = a - b;
      }
    }
  }
  const T factor = T(1) / std::sqrt(static_cast<T>(n));
  for (Index i = 0; i < n; ++i) x[i] *= factor;
}

}  // namespace GQA_ISA
}  // namespace detail

inline namespace GQA_ISA {

/// Rotates each row of x [batch, tokens, heads, head_dim], queries or keys in float or double, in
/// place. Twice is x again. An odd head_dim has blocks of 1, and nothing happens.
template <typename Tensor>
void apply_hadamard(Tensor&& x) {
  const auto rows = view(x);
  using T = typename decltype(rows)::Element;
  static_assert(std::same_as<T, AccumulatorOf<T>>,
                "apply_hadamard rotates mutable float or double tensors, before they are rounded");
  const Index block = hadamard_block(rows.dim());
  if (block <= 1) return;
  for (Index b = 0; b < rows.batch(); ++b) {
    for (Index t = 0; t < rows.tokens(); ++t) {
      for (Index h = 0; h < rows.heads(); ++h) {
        T* row = rows.row(b, t, h);
        for (Index c = 0; c < rows.dim(); c += block) detail::hadamard_row(row + c, block);
      }
    }
  }
}

}  // namespace GQA_ISA

/// A mean of keys, for each head and channel.
template <typename Real = float>
class KeyMean {
 public:
  /// Of k [batch, tokens, num_kv_heads, head_dim], over sequences and tokens: the keys of a prompt,
  /// say, or of a text to calibrate with; as they are appended, so after rotary embedding, and
  /// after apply_hadamard() where that is used. Without tokens it is 0.
  template <typename Key>
  GQA_TAG explicit KeyMean(const Key& k) {
    const auto keys = view(k);
    heads_ = keys.heads();
    dim_ = keys.dim();
    memory_bytes("KeyMean", {heads_, dim_, Index{sizeof(double)}});
    detail::Vector<double> sums(at(heads_, 0));
    for_each_row(keys, [&](const auto* row, Index h) {
      for (Index c = 0; c < dim_; ++c) sums[at(h, c)] += convert<double>(row[c]);
    });
    const auto count = static_cast<double>((std::max)(keys.batch() * keys.tokens(), Index{1}));
    for (const double sum : sums) mean_.push_back(static_cast<Real>(sum / count));
  }

  GQA_TAG Index num_kv_heads() const { return heads_; }
  GQA_TAG Index head_dim() const { return dim_; }
  /// Of one head, [head_dim].
  GQA_TAG const Real* head(Index kv_head) const { return mean_.data() + at(kv_head, 0); }

  /// k - mean, in place, before each append; k is of type Real. attend() then gives the same out,
  /// and an lse that is less by shift(). Not with SoftCap, which bends scores. Throws
  /// std::invalid_argument for other heads.
  template <typename Key>
  GQA_TAG void subtract_from(Key&& k) const {
    const auto keys = view(k);
    static_assert(std::same_as<typename decltype(keys)::Element, Real>,
                  "KeyMean: subtract from mutable keys of its own type, before they are rounded");
    require(keys.heads() == heads_ && keys.dim() == dim_, "KeyMean::subtract_from: keys have ",
            keys.heads(), " heads of ", keys.dim(), ", the mean ", heads_, " of ", dim_);
    for_each_row(keys, [&](auto* row, Index h) {
      for (Index c = 0; c < dim_; ++c) row[c] -= mean_[at(h, c)];
    });
  }
  /// What the scores of a query row [head_dim] lose by it: scale · q·mean.
  template <Scalar T>
  GQA_TAG double shift(const T* q, Index kv_head, double scale) const {
    double sum = 0;
    for (Index c = 0; c < dim_; ++c) sum += convert<double>(q[c]) * double{mean_[at(kv_head, c)]};
    return scale * sum;
  }

 private:
  GQA_TAG std::size_t at(Index h, Index c) const { return static_cast<std::size_t>(h * dim_ + c); }
  template <typename Rows, typename F>
  GQA_TAG static void for_each_row(const Rows& rows, F fn) {
    for (Index b = 0; b < rows.batch(); ++b) {
      for (Index t = 0; t < rows.tokens(); ++t) {
        for (Index h = 0; h < rows.heads(); ++h) fn(rows.row(b, t, h), h);
      }
    }
  }

  Index heads_ = 0;
  Index dim_ = 0;
  std::vector<Real> mean_;  // [num_kv_heads][head_dim]
};

}  // namespace gqa
