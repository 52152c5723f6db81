// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Context shift: a full context goes on without its middle. Tokens [begin, end) are dropped, those
// behind move up, and their keys, which were turned by rotary embedding to where they stood, are
// turned back by end - begin positions (StreamingLLM: Xiao et al. 2023, arXiv 2309.17453;
// llama.cpp's K-shift). Keys and values of deeper layers were computed with the dropped tokens in
// view and stay what they are: that is what makes a shift cheap, and an approximation of a fresh
// computation.
//
//   | kept | dropped | moves up |   ->   | kept | moved up |
#pragma once

#include <cmath>
#include <variant>
#include <vector>

#include "gqa/cache/strip_cache.hpp"
#include "gqa/ops/rope.hpp"

namespace gqa {
namespace detail {

/// The keys and values [first, length) of a sequence, as rows.
template <typename T>
class CachedTokens {
 public:
  template <KvStore Cache>
  GQA_TAG CachedTokens(const Cache& cache, Index sequence, Index first) {
    const Index tokens = cache.length(sequence) - first;
    keys_.resize(static_cast<std::size_t>(tokens * cache.num_kv_heads() * cache.head_dim()));
    values_.resize(static_cast<std::size_t>(tokens * cache.num_kv_heads() * cache.value_dim()));
    k = {keys_.data(), {1, tokens, cache.num_kv_heads(), cache.head_dim()}};
    v = {values_.data(), {1, tokens, cache.num_kv_heads(), cache.value_dim()}};
    cache.read(sequence, first, k, v);
  }

  TensorView<T> k, v;  // [1, tokens, num_kv_heads, …]

 private:
  std::vector<T> keys_, values_;
};

/// Replaces tokens [first, length) of a sequence by these, which are fewer; in full or not at all.
template <KvStore Cache, typename T>
GQA_TAG void replace_tail(Cache& cache, Index sequence, Index first, const CachedTokens<T>& rows) {
  if constexpr (requires { cache.share_prefix(sequence, first); }) {
    // Pages that others share don't become free: the new ones come first.
    Cache fresh(cache.allocator(), {.batch = 1,
                                    .capacity = cache.capacity(),
                                    .page_tokens = cache.page_tokens(),
                                    .heads = cache.heads()});
    fresh.start_with(0, cache.share_prefix(sequence, first));
    fresh.append(Index{0}, rows.k, rows.v);
    cache.start_with(sequence, fresh.share_prefix(0, fresh.length(0)));
  } else {
    Index at_once = rows.k.tokens();
    if constexpr (requires { cache.options().spare; }) {
      at_once = std::min(at_once, cache.options().spare);
    }
    cache.truncate(sequence, first);
    for (Index t = 0; t < rows.k.tokens(); t += at_once) {
      const Index count = std::min(at_once, rows.k.tokens() - t);
      cache.append(sequence, rows.k.tokens_slice(t, count), rows.v.tokens_slice(t, count));
    }
  }
}

inline namespace GQA_ISA {

/// Turns keys back by `count` positions.
template <typename T>
void rotate_back(const RopeTable<T>& rope, const TensorView<T>& k, Index count) {
  // Not apply_rope(), which would multiply by YaRN's attention factor once more.
  const auto pairs = static_cast<std::size_t>(rope.pairs());
  std::vector<T> cos(pairs), sin(pairs);
  for (std::size_t i = 0; i < pairs; ++i) {
    const double angle = -static_cast<double>(count) * rope.frequency(static_cast<Index>(i));
    cos[i] = static_cast<T>(std::cos(angle));
    sin[i] = static_cast<T>(std::sin(angle));
  }
  for (Index t = 0; t < k.tokens(); ++t) {
    for (Index h = 0; h < k.heads(); ++h) {
      rotate_row(k.row(0, t, h), rope.style(), rope.pairs(), 0, rope.pairs(), cos.data(),
                 sin.data());
    }
  }
}

}  // namespace GQA_ISA

template <KvStore Cache>
GQA_TAG void check_dropped(const Cache& cache, Index sequence, Index begin, Index end) {
  require(begin >= 0 && begin <= end && end <= cache.length(sequence), "drop_tokens: tokens [",
          begin, ", ", end, ") are outside of [0, ", cache.length(sequence), ") (sequence ",
          sequence, ")");
}

}  // namespace detail

/// Drops tokens [begin, end) of one sequence of a cache whose keys have no positions in them.
///
/// Values and keys that move keep their numbers. The tokens behind `end` are copied; a
/// PagedKvCache shares what is before `begin` as before, and needs free pages for the rest while
/// the old ones are still there. Throws std::invalid_argument, std::length_error (no pages; a ring
/// that has forgotten what it would go back to, or some of the tokens behind), std::bad_alloc; the
/// cache is then as it was.
template <KvStore Cache>
GQA_TAG void drop_tokens(Cache& cache, Index sequence, Index begin, Index end) {
  using T = AccumulatorOf<typename Cache::Storage>;
  detail::check_dropped(cache, sequence, begin, end);
  if (begin == end) return;
  detail::replace_tail(cache, sequence, begin, detail::CachedTokens<T>(cache, sequence, end));
}

inline namespace GQA_ISA {

/// The same of a cache whose keys `rope` has turned: those behind are turned back by end - begin
/// positions and rounded to storage once more. For f32 and f64 that is a few last bits, for bf16
/// and f16 half of one, for Int8 and Int4 half a step of a key's scale, at each shift; the values'
/// integers stay what they are. Throws std::invalid_argument, too, for a RopeTable from given
/// tables or with dynamic NTK scaling, whose frequencies change with the length: there, keys of a
/// cache have no one angle to be turned back by.
template <KvStore Cache>
void drop_tokens(Cache& cache, Index sequence, Index begin, Index end,
                 const RopeTable<AccumulatorOf<typename Cache::Storage>>& rope) {
  using T = AccumulatorOf<typename Cache::Storage>;
  detail::check_dropped(cache, sequence, begin, end);
  require(rope.head_dim() == cache.head_dim(), "drop_tokens: the cache has head_dim ",
          cache.head_dim(), ", the RopeTable ", rope.head_dim());
  require(!std::holds_alternative<DynamicNtkRopeScaling>(rope.config().scaling),
          "drop_tokens: with dynamic NTK scaling, keys can't be moved");
  rope.check_position(begin - end - 1);  // given tables have no negative positions
  if (begin == end) return;
  const detail::CachedTokens<T> rows(cache, sequence, end);
  detail::rotate_back(rope, rows.k, end - begin);
  detail::replace_tail(cache, sequence, begin, rows);
}

}  // namespace GQA_ISA
}  // namespace gqa
