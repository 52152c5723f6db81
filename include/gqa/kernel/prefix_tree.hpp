// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// PrefixTree: which sequences of a source begin in the same memory, for shared_prefix.hpp. Groups
// within groups: all sequences share a system prompt, and some of them a document after it.
#pragma once

#include <algorithm>
#include <array>

#include "gqa/kernel/splits.hpp"

namespace gqa::detail {
inline namespace GQA_ISA {

/// Sequences whose splits [split_begin, split_end) lie in the same memory: places [begin, end) of
/// PrefixTree's order. A single sequence goes on to its end.
struct PrefixNode {
  Index begin = 0;
  Index end = 0;
  Index split_begin = 0;
  Index split_end = 0;
  Index depth = 0;

  bool is_leaf() const { return end - begin == 1; }
  Index splits() const { return split_end - split_begin; }
};

/// Which sequences share which splits. Found by where blocks lie, not by what is in them.
class PrefixTree {
 public:
  /// Nothing is allocated: `order` is [batch], `nodes` [2 batch].
  PrefixTree(const AnySource& source, Index block_bytes, Index* order, PrefixNode* nodes)
      : source_(source), block_bytes_(block_bytes), order_(order), nodes_(nodes) {
    const Index batch = source.batch();
    for (Index b = 0; b < batch; ++b) order_[b] = b;
    if (batch > 0) add({.end = batch});
    for (Index i = 0; i < size_; ++i) {  // parents before their children
      if (!nodes_[i].is_leaf()) divide(i);
    }
  }

  Index size() const { return size_; }
  const PrefixNode& operator[](Index node) const { return nodes_[node]; }
  Index sequence(Index place) const { return order_[place]; }
  /// Does any split serve two sequences?
  bool shares() const {
    return std::any_of(nodes_, nodes_ + size_,
                       [](const PrefixNode& node) { return !node.is_leaf() && node.splits() > 0; });
  }

 private:
  void add(PrefixNode node) {
    if (node.is_leaf()) node.split_end = ceil_div(source_.length(order_[node.begin]), split_keys);
    nodes_[size_++] = node;
  }
  /// Extends a node by the splits that all of its sequences share, and groups them after that.
  /// Each division leaves two groups or more, so that there are fewer inner nodes than sequences.
  void divide(Index i) {
    PrefixNode& node = nodes_[i];
    Index together = node.end;
    while ((together = group(node.begin, node.end, node.split_end)) == node.end) ++node.split_end;
    for (Index begin = node.begin; begin < node.end; begin = together) {
      together = group(begin, node.end, node.split_end);
      add({.begin = begin,
           .end = together,
           .split_begin = node.split_end,
           .split_end = node.split_end,
           .depth = node.depth + 1});
    }
  }
  /// Moves the sequences that share a split with the first one of [begin, end) after it, and
  /// returns where they end.
  Index group(Index begin, Index end, Index split) {
    for (Index h = 0; h < source_.num_kv_heads(); ++h) {
      const Blocks first = blocks(order_[begin], h, split);
      Index together = begin + 1;
      for (Index place = together; place < end && first.back(); ++place) {
        if (blocks(order_[place], h, split) != first ||
            source_.first_position(order_[place]) != source_.first_position(order_[begin])) {
          continue;
        }
        std::rotate(order_ + together, order_ + place, order_ + place + 1);
        ++together;
      }
      end = together;
    }
    return end;
  }
  /// Where the blocks of a split are; the last is null where the sequence has no whole split.
  using Blocks = std::array<const std::byte*, split_keys / block_keys>;
  Blocks blocks(Index sequence, Index kv_head, Index split) const {
    const Index begin = split * split_keys, end = begin + split_keys;
    Blocks at{};
    if (source_.length(sequence) < end) return at;
    source_.for_each_run<StripRun>(sequence, kv_head, begin, end, [&](const StripRun& run) {
      for (Index i = 0; i * block_keys < run.count; ++i) {
        at[static_cast<std::size_t>((run.first - begin) / block_keys + i)] =
            run.blocks + i * block_bytes_;
      }
    });
    return at;
  }

  AnySource source_;
  Index block_bytes_;
  Index* order_;
  PrefixNode* nodes_;
  Index size_ = 0;
};

}  // namespace GQA_ISA
}  // namespace gqa::detail
