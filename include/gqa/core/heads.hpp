// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Heads: how many query heads share how many key/value heads, and how wide they are. MHA, GQA and
// MQA differ in nothing else. A number is a template argument where the program knows it, or
// Dynamic, Eigen's word for "known at run time".
#pragma once

#include "gqa/core/error.hpp"

namespace gqa {

/// Known only at run time (as Eigen::Dynamic).
inline constexpr int Dynamic = -1;

namespace detail {

GQA_TAG constexpr bool divides_or_dynamic(int num_heads, int num_kv_heads) {
  return num_heads == Dynamic || num_kv_heads == Dynamic || num_heads % num_kv_heads == 0;
}
GQA_TAG constexpr bool positive_or_dynamic(int n) { return n == Dynamic || n > 0; }

/// A number that is a constant (N) or a member (N == Dynamic).
template <int N>
class Extent {
 public:
  GQA_TAG constexpr Extent() = default;
  GQA_TAG Extent(Index value, const char* name) {
    require(value == N, name, " is ", value, " here but ", N, " in the type");
  }
  GQA_TAG static constexpr Index value() { return N; }
};

template <>
class Extent<Dynamic> {
 public:
  GQA_TAG constexpr Extent() = default;
  GQA_TAG Extent(Index value, const char* name) : value_(value) {
    require(value > 0, name, " must be positive, is ", value);
  }
  GQA_TAG constexpr Index value() const { return value_; }

 private:
  Index value_ = 0;
};

}  // namespace detail

/// The head configuration of one attention layer. Query head h reads key/value head h / group().
/// `Heads<32, 8, 128>` is all static, `Heads<>` all run-time, mixtures are fine. HeadDim is the
/// width of queries and keys, ValueDim that of values and outputs.
template <int NumHeads = Dynamic, int NumKvHeads = Dynamic, int HeadDim = Dynamic,
          int ValueDim = HeadDim>
class Heads {
  static_assert(detail::positive_or_dynamic(NumHeads), "gqa::Heads: NumHeads must be positive");
  static_assert(detail::positive_or_dynamic(NumKvHeads), "gqa::Heads: NumKvHeads must be positive");
  static_assert(detail::positive_or_dynamic(HeadDim), "gqa::Heads: HeadDim must be positive");
  static_assert(detail::positive_or_dynamic(ValueDim), "gqa::Heads: ValueDim must be positive");
  static_assert(detail::divides_or_dynamic(NumHeads, NumKvHeads),
                "gqa::Heads: NumKvHeads must divide NumHeads");

 public:
  static constexpr bool is_static =
      NumHeads != Dynamic && NumKvHeads != Dynamic && HeadDim != Dynamic && ValueDim != Dynamic;

  /// All numbers are in the type. (With a Dynamic one, the object is an empty placeholder that
  /// every user of it refuses: its numbers are 0.)
  GQA_TAG constexpr Heads() = default;

  /// Throws std::invalid_argument if a number contradicts the type, isn't positive, or if
  /// num_kv_heads does not divide num_heads.
  GQA_TAG Heads(Index num_heads, Index num_kv_heads, Index head_dim)
      : Heads(num_heads, num_kv_heads, head_dim, ValueDim == Dynamic ? head_dim : ValueDim) {}

  GQA_TAG Heads(Index num_heads, Index num_kv_heads, Index head_dim, Index value_dim)
      : num_heads_(num_heads, "num_heads"),
        num_kv_heads_(num_kv_heads, "num_kv_heads"),
        head_dim_(head_dim, "head_dim"),
        value_dim_(value_dim, "value_dim") {
    require(num_heads % num_kv_heads == 0, "num_kv_heads ", num_kv_heads,
            " does not divide num_heads ", num_heads);
  }

  GQA_TAG constexpr Index num_heads() const { return num_heads_.value(); }
  GQA_TAG constexpr Index num_kv_heads() const { return num_kv_heads_.value(); }
  GQA_TAG constexpr Index head_dim() const { return head_dim_.value(); }
  GQA_TAG constexpr Index value_dim() const { return value_dim_.value(); }

  /// Query heads per key/value head.
  GQA_TAG constexpr Index group() const { return num_heads() / num_kv_heads(); }
  GQA_TAG constexpr Index kv_head_of(Index head) const { return head / group(); }

 private:
  [[no_unique_address]] detail::Extent<NumHeads> num_heads_;
  [[no_unique_address]] detail::Extent<NumKvHeads> num_kv_heads_;
  [[no_unique_address]] detail::Extent<HeadDim> head_dim_;
  [[no_unique_address]] detail::Extent<ValueDim> value_dim_;
};

/// One key/value head per query head (Vaswani et al. 2017, arXiv 1706.03762).
template <int NumHeads, int HeadDim, int ValueDim = HeadDim>
using Mha = Heads<NumHeads, NumHeads, HeadDim, ValueDim>;

/// One key/value head per group of query heads (Ainslie et al. 2023, arXiv 2305.13245).
template <int NumHeads, int NumKvHeads, int HeadDim, int ValueDim = HeadDim>
using Gqa = Heads<NumHeads, NumKvHeads, HeadDim, ValueDim>;

/// One key/value head for all query heads (Shazeer 2019, arXiv 1911.02150).
template <int NumHeads, int HeadDim, int ValueDim = HeadDim>
using Mqa = Heads<NumHeads, 1, HeadDim, ValueDim>;

}  // namespace gqa
