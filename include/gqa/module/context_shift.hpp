// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Context shift: a full context goes on without its middle. Tokens [begin, end) are dropped, those
// after them move up, and their keys, which were turned by rotary embedding to where they stood,
// are turned back by end - begin positions (StreamingLLM: Xiao et al. 2023, arXiv 2309.17453;
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
inline namespace GQA_ISA {

/// The tokens [first, length) of a sequence as they are stored, so that they move without being
/// rounded once more.
struct TokensToMove {
  Vector<std::byte> bytes;  // [tokens][num_kv_heads][StripLayout::token_bytes()]

  template <typename Cache, typename Storage, typename HeadsT>
  TokensToMove(const StripCache<Cache, Storage, HeadsT>& cache, Index sequence, Index first)
      : bytes(cache.stored_from(sequence, first)) {}

  /// Calls turn(key) for the key of each token and head, numbers of T, and stores it again.
  template <typename T, typename Cache, typename Storage, typename HeadsT, typename Turn>
  void turn_keys(const StripCache<Cache, Storage, HeadsT>& cache, Turn turn) {
    const StripLayout<Native<Storage>>& layout = cache.strips();
    Vector<Native<Storage>> block(static_cast<std::size_t>(layout.block_elements()));
    Vector<T> key(static_cast<std::size_t>(layout.head_dim()));
    const auto token_bytes = static_cast<std::size_t>(layout.token_bytes());
    for (std::size_t at = 0; at < bytes.size(); at += token_bytes) {
      put_stored_token(layout, block.data(), 0, bytes.data() + at);
      get_token(layout, block.data(), 0, key.data(), static_cast<T*>(nullptr));
      turn(key.data());
      put_key(layout, block.data(), 0, key.data());
      get_stored_token(layout, block.data(), 0, bytes.data() + at);
    }
  }

  template <typename Cache>
  Index count(const Cache& cache) const {
    return std::ssize(bytes) / cache.bytes_per_token();
  }
  template <typename Cache, typename Storage, typename HeadsT>
  void append_to(StripCache<Cache, Storage, HeadsT>& cache, Index sequence) const {
    cache.append_stored("append", sequence, count(cache), bytes.data());
  }
};

/// Replaces tokens [first, length) of a sequence by these, which are fewer; in full or not at all.
template <KvStore Cache>
void replace_tail(Cache& cache, Index sequence, Index first, const TokensToMove& tokens) {
  if constexpr (requires { cache.share_prefix(sequence, first); }) {
    // Pages that others share don't become free: the new ones come first.
    Cache fresh(cache.allocator(), {.batch = 1,
                                    .capacity = cache.capacity(),
                                    .page_tokens = cache.page_tokens(),
                                    .heads = cache.heads()});
    fresh.start_with(0, cache.share_prefix(sequence, first));
    fresh.reserve(Index{0}, tokens.count(cache));
    tokens.append_to(fresh, 0);
    cache.start_with(sequence, fresh.share_prefix(0, fresh.length(0)));
  } else {
    cache.truncate(sequence, first);
    tokens.append_to(cache, sequence);
  }
}

/// Turns keys back by `count` positions.
template <typename T>
class TurnBack {
 public:
  TurnBack(const RopeTable<T>& rope, Index count)
      : rope_(rope),
        cos_(static_cast<std::size_t>(rope.pairs())),
        sin_(static_cast<std::size_t>(rope.pairs())) {
    for (std::size_t i = 0; i < cos_.size(); ++i) {
      const double angle = -static_cast<double>(count) * rope.frequency(static_cast<Index>(i));
      cos_[i] = static_cast<T>(std::cos(angle));
      sin_[i] = static_cast<T>(std::sin(angle));
    }
  }
  /// Not as apply_rope() does it, which would multiply by YaRN's attention factor once more.
  void operator()(T* key) const {
    rotate_row(key, rope_.style(), rope_.pairs(), 0, rope_.pairs(), cos_.data(), sin_.data());
  }

 private:
  const RopeTable<T>& rope_;
  Vector<T> cos_, sin_;
};

template <KvStore Cache>
void check_dropped(const Cache& cache, Index sequence, Index begin, Index end) {
  require(begin >= 0 && begin <= end && end <= cache.length(sequence), "drop_tokens: tokens [",
          begin, ", ", end, ") are outside of [0, ", cache.length(sequence), ") (sequence ",
          sequence, ")");
}

}  // namespace GQA_ISA
}  // namespace detail

/// Drops tokens [begin, end) of one sequence of a cache whose keys have no positions in them.
///
/// Values and keys that move keep their bits, whatever their storage. The tokens from `end` on are
/// copied; a PagedKvCache shares what is before `begin` as before, and needs free pages for the
/// rest while the old ones are still there. Throws std::invalid_argument, std::length_error (no
/// pages; a ring that has forgotten what it would go back to, or some of the tokens after),
/// std::bad_alloc; the cache is then as it was.
template <KvStore Cache>
GQA_TAG void drop_tokens(Cache& cache, Index sequence, Index begin, Index end) {
  detail::check_dropped(cache, sequence, begin, end);
  if (begin == end) return;
  detail::replace_tail(cache, sequence, begin, detail::TokensToMove(cache, sequence, end));
}

inline namespace GQA_ISA {

/// The same of a cache whose keys `rope` has turned: those after are turned back by end - begin
/// positions and rounded to storage once more. For f32 and f64 that is a few last bits, for bf16
/// and f16 half of one, for Int8 and Int4 half a step of a key's scale, at each shift; values
/// keep their bits. Throws std::invalid_argument, too, for a RopeTable from given
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
  detail::TokensToMove tokens(cache, sequence, end);
  tokens.turn_keys<T>(cache, detail::TurnBack<T>(rope, end - begin));
  detail::replace_tail(cache, sequence, begin, tokens);
}

}  // namespace GQA_ISA
}  // namespace gqa
