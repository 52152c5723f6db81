// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The sequences of a cache, whatever its memory and its types are: how long they are, where they
// are, and what may be asked of them.
#pragma once

#include <algorithm>
#include <span>
#include <utility>

#include "gqa/core/dtype.hpp"
#include "gqa/core/error.hpp"
#include "gqa/core/unique_vector.hpp"
#include "gqa/core/view.hpp"
#include "gqa/layout/quantize.hpp"
#include "gqa/layout/strips.hpp"

namespace gqa::detail {

/// Tokens [begin, end) of a sequence.
struct TokenRange {
  Index begin = 0;
  Index end = 0;
};

/// Sequences live in slots: what sequence b holds is in slot(b), so that sequences change places
/// without being copied.
class StripSequences {
 public:
  GQA_TAG Index batch() const { return std::ssize(slots_); }
  GQA_TAG Index num_kv_heads() const { return num_kv_heads_; }
  GQA_TAG Index head_dim() const { return head_dim_; }
  GQA_TAG Index value_dim() const { return value_dim_; }
  /// Tokens that a sequence has seen. Throws std::invalid_argument.
  GQA_TAG Index length(Index sequence) const {
    check_sequence("length", sequence);
    return length_of(slot(sequence));
  }

 protected:
  GQA_TAG static std::size_t at(Index i) { return static_cast<std::size_t>(i); }

  GQA_TAG StripSequences(const char* name, Index batch, Dtype dtype, Index num_kv_heads,
                         Index head_dim, Index value_dim)
      : name_(name), num_kv_heads_(num_kv_heads), head_dim_(head_dim), value_dim_(value_dim) {
    require(batch > 0, name, ": batch must be positive, is ", batch);
    require(num_kv_heads > 0 && head_dim > 0 && value_dim > 0, name,
            ": heads are not set: num_kv_heads ", num_kv_heads, ", head_dim ", head_dim,
            ", value_dim ", value_dim);
    check_head_dim(name, dtype, head_dim);
    lengths_.resize(at(batch));
    slots_.resize(at(batch));
    for (Index b = 0; b < batch; ++b) slots_[at(b)] = b;
    next_slots_.resize(at(batch));
    wanted_.resize(at(batch));
  }
  GQA_TAG StripSequences(StripSequences&&) noexcept = default;
  GQA_TAG StripSequences& operator=(StripSequences&&) noexcept = default;
  GQA_TAG ~StripSequences() = default;

  GQA_TAG const char* name() const { return name_; }
  GQA_TAG Index slot(Index sequence) const { return slots_[at(sequence)]; }
  GQA_TAG Index length_of(Index slot) const { return lengths_[at(slot)]; }
  GQA_TAG void set_length(Index slot, Index length) { lengths_[at(slot)] = length; }

  /// Lengths and places of another cache of the same batch, for clone().
  GQA_TAG void copy_sequences(const StripSequences& other) noexcept {
    std::copy(other.lengths_.begin(), other.lengths_.end(), lengths_.begin());
    std::copy(other.slots_.begin(), other.slots_.end(), slots_.begin());
  }

  /// See StripCache::reorder(). copy(from, to) makes a slot equal to another one.
  template <typename Copy>
  GQA_TAG void reorder_slots(std::span<const Index> from, Copy copy) {
    require(std::ssize(from) == batch(), name_, "::reorder: ", std::ssize(from),
            " indices for a batch of ", batch());
    for (const Index b : from) check_sequence("reorder", b);
    // The first to want a sequence takes its slot; the others copy it to a slot that nobody wants.
    std::fill(wanted_.begin(), wanted_.end(), char{0});
    const auto take = [this](Index s) { return std::exchange(wanted_[at(s)], char{1}) == 0; };
    for (Index b = 0; b < batch(); ++b) {
      const Index s = slot(from[at(b)]);
      next_slots_[at(b)] = take(s) ? s : -1;
    }
    Index unwanted = 0;
    for (Index b = 0; b < batch(); ++b) {
      if (next_slots_[at(b)] >= 0) continue;
      while (!take(unwanted)) ++unwanted;
      copy(slot(from[at(b)]), unwanted);
      next_slots_[at(b)] = unwanted;
    }
    slots_.swap(next_slots_);
  }

  GQA_TAG void check_sequence(const char* who, Index sequence) const {
    require(sequence >= 0 && sequence < batch(), name_, "::", who, ": sequence ", sequence,
            " is outside of a batch of ", batch(), batch() == 0 ? " (it was moved from)" : "");
  }
  GQA_TAG void check_not_moved_from(const char* who) const {
    require(batch() > 0, name_, "::", who, ": the cache was moved from");
  }
  GQA_TAG void check_truncation(Index sequence, Index to) const {
    require(to >= 0 && to <= length(sequence), name_, "::truncate: length ", to,
            " is outside of [0, ", length(sequence), "] (sequence ", sequence, ")");
  }
  /// Throws std::length_error unless `count` more tokens stay within `capacity`.
  GQA_TAG void check_capacity(const char* who, Index sequence, Index count, Index capacity) const {
    const Index length = length_of(slot(sequence));
    if (count > capacity - length) {
      throw_length_error({name_, "::", who, ": ", count, " tokens on top of ", length,
                          " exceed the capacity of ", capacity, " (sequence ", sequence, ")"});
    }
  }
  GQA_TAG void check_tokens(const char* who, const TensorShape& k, const TensorShape& v,
                            Index batch) const {
    const TensorShape keys{batch, k.tokens, num_kv_heads(), head_dim()};
    const TensorShape values{batch, k.tokens, num_kv_heads(), value_dim()};
    require(k == keys, name_, "::", who, ": keys are ", k, ", expected ", keys);
    require(v == values, name_, "::", who, ": values are ", v, ", expected ", values);
  }
  GQA_TAG void check_counts(const char* who, std::span<const Index> counts, Index most) const {
    require(std::ssize(counts) == batch(), name_, "::", who, ": ", std::ssize(counts),
            " counts for a batch of ", batch());
    for (const Index n : counts) {
      require(n >= 0 && n <= most, name_, "::", who, ": a count of ", n, " is outside of [0, ",
              most, "]");
    }
  }

 private:
  const char* name_;
  Index num_kv_heads_;
  Index head_dim_;
  Index value_dim_;
  UniqueVector<Index> lengths_;     // [slots]
  UniqueVector<Index> slots_;       // [batch]
  UniqueVector<Index> next_slots_;  // [batch], reorder() at work
  UniqueVector<char> wanted_;       // [slots], the same
};

}  // namespace gqa::detail
