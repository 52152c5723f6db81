// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// One flat list of tasks for a batch of sequences of different lengths, so that batch, heads, query
// rows and key splits all feed the same workers.
#pragma once

#include <algorithm>

#include "gqa/core/config.hpp"

namespace gqa {

/// A part of the work: the rows of one block of queries that read one KV head, against all keys or
/// one split of them.
struct Task {
  Index batch = 0;
  Index kv_head = 0;
  Index row_block = 0;
  Index split = 0;
};

/// How many parts a sequence has; a sequence without rows has none.
struct SequenceParts {
  Index row_blocks = 0;
  Index splits = 0;
};

/// The numbering of tasks. Later row blocks come first: under a causal mask they are the longest,
/// and started last they would keep one worker busy at the end. The KV heads of a split follow one
/// another: a user's rows hold all heads of a token side by side, and memory pages and L3 then
/// still have what the next head needs.
class TaskList {
 public:
  /// `first` has room for batch + 1 numbers. parts(b) gives the SequenceParts of sequence b.
  template <typename Parts>
  GQA_TAG TaskList(Index* first, Index batch, Index num_kv_heads, Parts parts)
      : first_(first), batch_(batch), num_kv_heads_(num_kv_heads) {
    first_[0] = 0;
    for (Index b = 0; b < batch; ++b) {
      const SequenceParts n = parts(b);
      first_[b + 1] = first_[b] + n.row_blocks * n.splits * num_kv_heads;
    }
  }

  GQA_TAG Index size() const { return first_[batch_]; }
  GQA_TAG Index sequence_of(Index task) const {
    return std::upper_bound(first_, first_ + batch_ + 1, task) - first_ - 1;
  }
  /// The task with this number; `parts` are those of its sequence.
  GQA_TAG Task operator()(Index task, Index batch, SequenceParts parts) const {
    Index i = task - first_[batch];
    Task t{.batch = batch};
    t.kv_head = i % num_kv_heads_;
    i /= num_kv_heads_;
    t.split = i % parts.splits;
    t.row_block = parts.row_blocks - 1 - i / parts.splits;
    return t;
  }
  /// The number of a task: the inverse.
  GQA_TAG Index number(const Task& t, SequenceParts parts) const {
    return first_[t.batch] +
           ((parts.row_blocks - 1 - t.row_block) * parts.splits + t.split) * num_kv_heads_ +
           t.kv_head;
  }

 private:
  Index* first_;
  Index batch_;
  Index num_kv_heads_;
};

}  // namespace gqa
