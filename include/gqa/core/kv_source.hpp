// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Where caches and kernels meet. A KvSource owns or borrows the keys and values of a batch of
// sequences and hands them out in runs: contiguous stretches of one KV head. Page tables and
// wrap-around stay on its side, so a new cache needs no new kernel.
#pragma once

#include <concepts>
#include <cstddef>
#include <limits>

#include "gqa/core/scalar.hpp"

namespace gqa {

/// How a source keeps keys and values: blocks of strips (layout/strips.hpp), which the kernels read
/// as they are, or rows of head_dim numbers per token, which are packed into strips on the way.
enum class KvLayout { strips, rows };

/// A stretch of keys and values in whole blocks of 64 tokens, the last perhaps partly filled (the
/// rest of it zero).
struct StripRun {
  const std::byte* blocks = nullptr;  ///< the first block; the others follow it
  Index first = 0;                    ///< index of its first key in the sequence, a multiple of 64
  Index count = 0;                    ///< keys in the run
  const std::byte* next = nullptr;    ///< where the next run begins, for prefetching; may be null
};

/// A stretch of keys and values as rows, [count][head_dim] and [count][value_dim].
template <typename T>
struct RowRun {
  const T* keys = nullptr;
  Index key_stride = 0;  ///< elements from one token's key to the next one's
  const T* values = nullptr;
  Index value_stride = 0;
  Index first = 0;  ///< index of its first key in the sequence
  Index count = 0;  ///< keys in the run
};

/// The run type of a layout.
template <typename Storage, KvLayout L>
using RunOf = std::conditional_t<L == KvLayout::strips, StripRun, RowRun<Storage>>;

namespace detail {
struct AnyRunHandler {
  template <typename Run>
  GQA_TAG void operator()(const Run&) const {}
};
}  // namespace detail

/// Keys and values of a batch of sequences.
/// - `Storage` and `layout` say what a run points at;
/// - `length(b)` is the number of tokens that sequence b has seen: its keys are 0 … length(b) - 1;
/// - `for_each_run(b, kv_head, begin, end, fn)` calls fn(run) for the stretches that make up the
///   keys [begin, end), in order. `begin` is a multiple of 64. A source of strips may leave out
///   whole blocks that it dropped, which hides them; a source of rows hands out every key.
///   It is const and safe to call from several threads. What it throws reaches the caller of
///   attend(), whose out is then partly written;
/// - optional: `first_position(b)`, the position of key 0; 0 if there is no such function.
///   Positions of a sequence are consecutive;
/// - optional, of a source that drops keys: `next_held(b, key)`, the first key from `key` on that
///   it still has, or length(b), so that nobody looks for keys where there are none: attend()
///   refuses masks that show a query one of the others. `next_dropped(b, key)`, the first key from
///   `key` on that it no longer has, or length(b), spares asking for each block. And
///   `oldest_query(b)`, the first position whose query finds every key that it may see: attend()
///   refuses queries before that.
template <typename S>
concept KvSource = requires(const S& source, Index i) {
  typename S::Storage;
  { S::layout } -> std::convertible_to<KvLayout>;
  { source.batch() } -> std::convertible_to<Index>;
  { source.num_kv_heads() } -> std::convertible_to<Index>;
  { source.head_dim() } -> std::convertible_to<Index>;
  { source.value_dim() } -> std::convertible_to<Index>;
  { source.length(i) } -> std::convertible_to<Index>;
  source.for_each_run(i, i, i, i, detail::AnyRunHandler{});
};

/// What keys and values may be appended to: compilers name this where a cache is const.
template <typename C>
concept NotConst = !std::is_const_v<C>;

/// The position of key 0 of sequence b.
template <KvSource S>
GQA_TAG Index first_position(const S& source, Index b) {
  if constexpr (requires { source.first_position(b); }) {
    return source.first_position(b);
  } else {
    return 0;
  }
}

/// The first key from `key` on that sequence b still has; length(b) or more if there is none.
template <KvSource S>
GQA_TAG Index next_held(const S& source, Index b, Index key) {
  if constexpr (requires { source.next_held(b, key); }) {
    return source.next_held(b, key);
  } else {
    return key;
  }
}

/// The first key from `key` on that sequence b no longer has; length(b) or more if there is none.
template <KvSource S>
GQA_TAG Index next_dropped(const S& source, Index b, Index key) {
  if constexpr (requires { source.next_dropped(b, key); }) {
    return source.next_dropped(b, key);
  } else if constexpr (requires { source.next_held(b, key); }) {
    const Index length = source.length(b);  // blocks of 64 are dropped as a whole
    while (key < length && source.next_held(b, key) == key) key = (key / 64 + 1) * 64;
    return key;
  } else {
    return source.length(b);
  }
}

/// The first position whose query finds every key of sequence b that it may see.
template <KvSource S>
GQA_TAG Index oldest_query(const S& source, Index b) {
  if constexpr (requires { source.oldest_query(b); }) {
    return source.oldest_query(b);
  } else {
    return (std::numeric_limits<Index>::min)();
  }
}

}  // namespace gqa
