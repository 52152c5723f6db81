// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// JoinedCall: the queries of several sequences as those of one, so that what they share is one
// product with all of their rows, for shared_prefix.hpp. Rules are still asked about the sequence
// that a query belongs to.
#pragma once

#include <algorithm>

#include "gqa/kernel/call.hpp"

namespace gqa::detail {
inline namespace GQA_ISA {

/// The queries of several sequences, one after the other, as one sequence: which of them is which.
struct JoinedQueries {
  const Index* sequences;  // [count]
  const Index* first;      // [count + 1], each one's first query; from any number on
  Index count;

  Index member(Index q_index) const {
    return std::upper_bound(first, first + count + 1, q_index + first[0]) - first - 1;
  }
  Index sequence(Index q_index) const { return sequences[member(q_index)]; }
  Index own_index(Index q_index) const { return q_index + first[0] - first[member(q_index)]; }
};

/// The rules of a call, asked about joined queries. Keys and their positions are the same for all.
template <typename RulesT>
class JoinedRules {
 public:
  static constexpr bool has_scores = RulesT::has_scores;
  template <typename T>
  static constexpr bool has_pack_scores = RulesT::template has_pack_scores<T>;
  static constexpr bool has_range = RulesT::has_range;

  JoinedRules(const RulesT& rules, const JoinedQueries& queries)
      : rules_(rules), queries_(queries) {}

  double scale(Index head_dim) const { return rules_.scale(head_dim); }
  bool visible(const Where& where) const { return rules_.visible(own(where)); }
  KeyRange range(const Where& where) const { return rules_.range(own(where)); }
  template <typename T>
  T score(T x, const Where& where) const {
    return rules_.score(x, own(where));
  }
  template <typename PackT>
  PackT scores(PackT x, const Where& first) const {
    return rules_.scores(x, own(first));
  }
  /// What all sequences of the tile agree on, or partial.
  Coverage tile(const Tile& tile, Index first_head, Index num_heads) const {
    const auto of_member = [&](Index m) {
      const Index first = queries_.first[m] - queries_.first[0];
      Tile part = tile;
      part.batch = queries_.sequences[m];
      part.q_begin = (std::max)(tile.q_begin - first, Index{0});
      part.q_end = (std::min)(tile.q_end - first, queries_.first[m + 1] - queries_.first[m]);
      return rules_.tile(part, first_head, num_heads);
    };
    const Index begin = queries_.member(tile.q_begin), end = queries_.member(tile.q_end - 1) + 1;
    Coverage seen = of_member(begin);
    for (Index m = begin + 1; m < end && seen != Coverage::partial; ++m) {
      const bool empty = queries_.first[m] == queries_.first[m + 1];
      if (!empty && of_member(m) != seen) seen = Coverage::partial;
    }
    return seen;
  }

 private:
  Where own(Where where) const {
    where.batch = queries_.sequence(where.q_index);
    where.q_index = queries_.own_index(where.q_index);
    return where;
  }

  const RulesT& rules_;
  JoinedQueries queries_;
};

/// A call of several sequences with joined queries, as far as RowBlock asks.
template <typename CallT>
struct JoinedCall {
  using Source = typename CallT::Source;
  using T = typename CallT::T;
  using Storage = typename CallT::Storage;
  using Rules = JoinedRules<typename CallT::Rules>;
  JoinedCall(const CallT& call, const JoinedQueries& joined)
      : queries(joined),
        original(call),
        source(call.source),
        options(call.options),
        rules(call.rules, joined),
        shape(call.shape) {}
  Index q_pos(Index, Index q_index) const {
    return original.q_pos(queries.sequence(q_index), queries.own_index(q_index));
  }
  auto* q_row(Index, Index q_index, Index head) const {
    return original.q_row(queries.sequence(q_index), queries.own_index(q_index), head);
  }

  JoinedQueries queries;
  const CallT& original;
  const Source& source;
  const AttendOptions<T>& options;
  Rules rules;
  const AttentionShape& shape;
};

}  // namespace GQA_ISA
}  // namespace gqa::detail
