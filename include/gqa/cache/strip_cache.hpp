// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What all caches of this library have in common. KvStore names the interface; StripCache is the
// part of it that doesn't depend on where blocks of strips lie in memory: appending, rolling back,
// reading back, beams (strip_sequences.hpp has what doesn't depend on types either). A cache adds
// the memory (contiguous.hpp is the simplest one).
#pragma once

#include <algorithm>
#include <limits>
#include <span>
#include <utility>

#include "gqa/cache/strip_sequences.hpp"
#include "gqa/core/any_rows.hpp"
#include "gqa/core/heads.hpp"
#include "gqa/core/kv_source.hpp"
#include "gqa/core/vector.hpp"
#include "gqa/core/view.hpp"
#include "gqa/layout/strip_functions.hpp"

namespace gqa {

/// A KvSource that owns its keys and values and may be changed: what an engine may do with any
/// cache. See StripCache for what the operations mean.
template <typename C>
concept KvStore =
    NotConst<C> && KvSource<C> &&
    requires(C& cache, const C& seen, Index i,
             TensorView<const AccumulatorOf<typename C::Storage>> rows,
             TensorView<AccumulatorOf<typename C::Storage>> to, std::span<const Index> numbers) {
      cache.append(rows, rows, numbers);
      cache.append(i, rows, rows);
      cache.reserve(numbers);
      cache.reserve(i, i);
      cache.truncate(i, i);
      cache.truncate_all(i);
      cache.clear();
      cache.clear(i);
      cache.fork(i, i);
      cache.reorder(numbers);
      seen.read(i, to, to);
      seen.read(i, i, to, to);
      { seen.clone() } -> std::same_as<C>;
      { seen.capacity() } -> std::convertible_to<Index>;
      { seen.bytes() } -> std::convertible_to<Index>;
      { seen.bytes_per_token() } -> std::convertible_to<Index>;
    };

namespace detail {

struct SavedCache;  // serialize.hpp
inline namespace GQA_ISA {
struct TokensToMove;  // context_shift.hpp
}

/// For what truncate(length) was; KvCacheStack's, too.
template <typename Length>
GQA_TAG void refuse_truncate_of_all() {
  static_assert(sizeof(Length) == 0,
                "truncate(0) would not say whether it means sequence 0 or no tokens: write "
                "truncate_all(length) for every sequence, or truncate(sequence, length) for one");
}

/// Base of the cache `Cache`.
///
/// A cache that was moved from has no sequences: batch() and bytes() are 0, what concerns every
/// sequence does nothing, and what names one, clone() and save() throw std::invalid_argument, until
/// another cache is moved to it. A cache that is moved to itself stays as it is.
///
/// A Cache provides, for this class alone:
/// - block(slot, kv_head, i): where the keys and values [64 i, 64 i + 64) of a slot are;
/// - make_room(who, begin, end, count): throws, or sees to it that count(b) tokens more can
///   be written to each sequence in [begin, end);
/// - begin_write(slot, count): count > 0 tokens are about to be written;
/// - drop(begin, end, to): shortens the sequences to `to` tokens, all of them or throws;
/// - copy_slot(from, to): makes slot `to` equal to slot `from`, length aside;
/// - check_held(who, sequence, begin, end): throws unless it still has these tokens;
/// - reuses_blocks: whether a block may hold old tokens when its first one is written;
/// and for serialize.hpp:
/// - gone(slot): the tokens that are no longer held, whole blocks;
/// - can_skip(gone, length): can a sequence of `length` tokens do without these?
/// - skip(slot, to): the next token to be written is `to`, and those that weren't are gone;
/// - empty_like(batch): a cache of its kind and capacity;
/// - prepare_take(sequence, other): sees to it that take() can't fail, or throws;
/// - take(sequence, other): makes a sequence what the only one of `other` is.
template <typename Cache, StorageType StorageT, typename HeadsT>
class StripCache : public StripSequences {
  friend SavedCache;
  friend TokensToMove;

 public:
  using Storage = StorageT;
  static constexpr KvLayout layout = KvLayout::strips;

  GQA_TAG const HeadsT& heads() const { return heads_; }
  /// What one token of one sequence costs, padding excluded.
  GQA_TAG Index bytes_per_token() const { return num_kv_heads() * strips_.token_bytes(); }

  /// Appends tokens to every sequence: k [batch, tokens, num_kv_heads, head_dim] and
  /// v [batch, tokens, num_kv_heads, value_dim], of any Scalar type, rounded to Storage. `counts`,
  /// [batch], says how many of the tokens each sequence takes, where they differ.
  template <typename Key, typename Value>
  GQA_TAG void append(const Key& k, const Value& v, std::span<const Index> counts = {}) {
    append_rows(ConstRows(view(k)), ConstRows(view(v)), counts, functions_of_rows<Key, Value>());
  }

  /// Appends tokens to one sequence: k [1, tokens, num_kv_heads, head_dim], or of rank 3.
  template <typename Key, typename Value>
  GQA_TAG void append(Index sequence, const Key& k, const Value& v) {
    check_sequence("append", sequence);
    append_rows(sequence, ConstRows(view(k)), ConstRows(view(v)), functions_of_rows<Key, Value>());
  }

  /// Makes sure that the next appends to a sequence, up to `count` tokens together, can't fail.
  /// Throws what append would.
  GQA_TAG void reserve(Index sequence, Index count) {
    check_sequence("reserve", sequence);
    require(count >= 0, name(), "::reserve: a count of ", count, " is negative");
    cache().make_room("reserve", sequence, sequence + 1, [&](Index) { return count; });
  }
  /// The same for every sequence, counts [batch]: for all of them, or for none.
  GQA_TAG void reserve(std::span<const Index> counts) {
    check_counts("reserve", counts, (std::numeric_limits<Index>::max)());
    cache().make_room("reserve", 0, batch(),
                      [&](Index b) { return counts[static_cast<std::size_t>(b)]; });
  }

  /// Forgets all tokens of a sequence but the first `length`: an exact rollback.
  GQA_TAG void truncate(Index sequence, Index length) {
    check_sequence("truncate", sequence);
    check_truncation(sequence, length);
    cache().drop(sequence, sequence + 1, length);
  }
  /// The same for every sequence.
  GQA_TAG void truncate_all(Index length) {
    for (Index b = 0; b < batch(); ++b) check_truncation(b, length);
    cache().drop(0, batch(), length);
  }
  template <typename Length>
  GQA_TAG void truncate(Length) {
    refuse_truncate_of_all<Length>();
  }
  /// Forgets everything, of all sequences or of one.
  GQA_TAG void clear() { truncate_all(0); }
  GQA_TAG void clear(Index sequence) { truncate(sequence, 0); }

  /// Makes sequence `to` equal to sequence `from`, whatever it held before.
  GQA_TAG void fork(Index from, Index to) {
    check_sequence("fork", from);
    check_sequence("fork", to);
    if (from != to) copy(slot(from), slot(to));
  }

  /// Makes each sequence b what sequence from[b] was, as beam search wants it; from is [batch].
  /// Sequences that only change places are not copied.
  GQA_TAG void reorder(std::span<const Index> from) {
    reorder_slots(from, [this](Index source, Index to) { copy(source, to); });
  }

  /// Copies all tokens of a sequence into row-major k [1, length, num_kv_heads, head_dim] and
  /// v [1, length, num_kv_heads, value_dim], converted to their type.
  template <typename Key, typename Value>
  GQA_TAG void read(Index sequence, Key&& k, Value&& v) const {
    check_sequence("read", sequence);
    const Rows keys(view(k)), values(view(v));
    check_tokens("read", keys.shape, values.shape, 1);
    require(keys.shape.tokens == length(sequence), name(), "::read: sequence ", sequence, " holds ",
            length(sequence), " tokens, the tensors ", keys.shape.tokens);
    read_rows(sequence, 0, keys, key_reader<Key>(), values, value_reader<Value>());
  }
  /// Copies the tokens from `first` on, as many as the tensors hold.
  template <typename Key, typename Value>
  GQA_TAG void read(Index sequence, Index first, Key&& k, Value&& v) const {
    check_sequence("read", sequence);
    const Rows keys(view(k)), values(view(v));
    check_tokens("read", keys.shape, values.shape, 1);
    require(first >= 0 && first <= length(sequence) - keys.shape.tokens, name(), "::read: tokens [",
            first, ", ", saturated_sum(first, keys.shape.tokens), ") are outside of [0, ",
            length(sequence), ") (sequence ", sequence, ")");
    read_rows(sequence, first, keys, key_reader<Key>(), values, value_reader<Value>());
  }

 protected:
  GQA_TAG StripCache(const char* name, Index batch, const HeadsT& heads)
      : StripCache(name, batch, heads, {heads.head_dim(), heads.value_dim()}) {}
  GQA_TAG StripCache(StripCache&&) noexcept = default;
  GQA_TAG StripCache& operator=(StripCache&&) noexcept = default;
  GQA_TAG ~StripCache() = default;

  GQA_TAG const StripLayout<Native<Storage>>& strips() const { return strips_; }

  /// Zeroes the tokens [to, length) of a slot that share a block with tokens before `to`.
  GQA_TAG void zero_behind(Index slot, Index to) {
    const Index length = length_of(slot), begin = to % block_keys;
    if (begin == 0 || to >= length) return;
    const Index end = (std::min)(block_keys, length - to + begin);
    for (Index h = 0; h < num_kv_heads(); ++h) {
      strip_functions<Storage>().zero(dims(), writable_block(slot, h, to / block_keys), begin, end);
    }
  }

 private:
  GQA_TAG StripCache(const char* name, Index batch, const HeadsT& heads,
                     const StripLayout<Native<Storage>>& strips)
      : StripSequences(name, batch, dtype_of<Storage>, heads.num_kv_heads(), strips.head_dim(),
                       strips.value_dim()),
        heads_(heads),
        strips_(strips) {}

  GQA_TAG Cache& cache() { return static_cast<Cache&>(*this); }
  GQA_TAG const Cache& cache() const { return static_cast<const Cache&>(*this); }
  GQA_TAG StripDims dims() const { return {head_dim(), value_dim()}; }
  GQA_TAG const std::byte* held_block(Index slot, Index kv_head, Index i) const {
    return reinterpret_cast<const std::byte*>(cache().block(slot, kv_head, i));
  }
  GQA_TAG std::byte* writable_block(Index slot, Index kv_head, Index i) {
    return const_cast<std::byte*>(held_block(slot, kv_head, i));
  }

  using Rows = AnyRows<std::byte>;
  using ConstRows = AnyRows<const std::byte>;
  template <typename Key, typename Value>
  GQA_TAG static const StripRowFunctions& functions_of_rows() {
    static_assert(std::same_as<Native<ScalarOf<const Key>>, Native<ScalarOf<const Value>>>,
                  "keys and values to append are of one type");
    return strip_row_functions<Storage, ScalarOf<const Key>>();
  }
  template <typename Key>
  GQA_TAG static auto key_reader() {
    return strip_row_functions<Storage, ScalarOf<Key>>().get_key;
  }
  template <typename Value>
  GQA_TAG static auto value_reader() {
    return strip_row_functions<Storage, ScalarOf<Value>>().get_value;
  }

  GQA_TAG void copy(Index from, Index to) {
    cache().copy_slot(from, to);
    set_length(to, length_of(from));
  }

  GQA_TAG void append_rows(const ConstRows& keys, const ConstRows& values,
                           std::span<const Index> counts, const StripRowFunctions& rows) {
    const Index tokens = keys.shape.tokens;
    check_tokens("append", keys.shape, values.shape, batch());
    if (!counts.empty()) check_counts("append", counts, tokens);
    const auto count = [&](Index b) { return counts.empty() ? tokens : counts[at(b)]; };
    cache().make_room("append", 0, batch(), count);
    for (Index b = 0; b < batch(); ++b) write(slot(b), keys, values, b, count(b), rows);
  }
  GQA_TAG void append_rows(Index sequence, const ConstRows& keys, const ConstRows& values,
                           const StripRowFunctions& rows) {
    check_tokens("append", keys.shape, values.shape, 1);
    cache().make_room("append", sequence, sequence + 1, [&](Index) { return keys.shape.tokens; });
    write(slot(sequence), keys, values, 0, keys.shape.tokens, rows);
  }
  GQA_TAG void write(Index slot, const ConstRows& keys, const ConstRows& values, Index from,
                     Index count, const StripRowFunctions& rows) {
    if (count == 0) return;
    cache().begin_write(slot, count);
    const Index length = length_of(slot);
    for (Index h = 0; h < num_kv_heads(); ++h) {
      for (Index t = 0; t < count;) {  // block by block
        const Index begin = (length + t) % block_keys;
        const Index tokens = (std::min)(count - t, block_keys - begin);
        std::byte* block = writable_block(slot, h, (length + t) / block_keys);
        if (Cache::reuses_blocks && begin == 0) zero_block(block);
        rows.put(dims(), block, begin, tokens, keys.row(from, t, h), keys.strides.token,
                 values.row(from, t, h), values.strides.token);
        t += tokens;
      }
    }
    set_length(slot, length + count);
  }
  GQA_TAG void zero_block(std::byte* block) {
    strip_functions<Storage>().zero(dims(), block, 0, block_keys);
  }

  GQA_TAG void read_rows(Index sequence, Index first, const Rows& keys,
                         decltype(StripRowFunctions::get_key) get_key, const Rows& values,
                         decltype(StripRowFunctions::get_value) get_value) const {
    cache().check_held("read", sequence, first, first + keys.shape.tokens);
    for (Index h = 0; h < num_kv_heads(); ++h) {
      for (Index i = 0; i < keys.shape.tokens; ++i) {
        const Index t = first + i;
        const std::byte* block = held_block(slot(sequence), h, t / block_keys);
        get_key(dims(), block, t % block_keys, keys.row(0, i, h));
        get_value(dims(), block, t % block_keys, values.row(0, i, h));
      }
    }
  }

  /// Tokens [first, first + count), all in one block, as files hold them: [count][num_kv_heads].
  GQA_TAG void get_stored(Index slot, Index first, Index count, std::byte* to) const {
    for (Index t = first; t < first + count; ++t) {
      for (Index h = 0; h < num_kv_heads(); ++h, to += strips_.token_bytes()) {
        strip_functions<Storage>().get_stored(dims(), held_block(slot, h, t / block_keys),
                                              t % block_keys, to);
      }
    }
  }
  /// The tokens from `first` on in this way; throws what read() would throw.
  GQA_TAG Vector<std::byte> stored_from(Index sequence, Index first) const {
    const Index length = this->length(sequence);
    cache().check_held("read", sequence, first, length);
    Vector<std::byte> bytes(at((length - first) * bytes_per_token()));
    for (Index t = first, end = 0; t < length; t = end) {
      end = (std::min)(length, (t / block_keys + 1) * block_keys);
      get_stored(slot(sequence), t, end - t, bytes.data() + (t - first) * bytes_per_token());
    }
    return bytes;
  }
  /// Appends such tokens, one by one: a ring with little to spare takes no more at once.
  GQA_TAG void append_stored(const char* who, Index sequence, Index count, const std::byte* from) {
    for (; count > 0; --count) {
      cache().make_room(who, sequence, sequence + 1, [](Index) { return Index{1}; });
      const Index at = slot(sequence), t = length_of(at);
      cache().begin_write(at, 1);
      for (Index h = 0; h < num_kv_heads(); ++h, from += strips_.token_bytes()) {
        std::byte* block = writable_block(at, h, t / block_keys);
        if (Cache::reuses_blocks && t % block_keys == 0) zero_block(block);
        strip_functions<Storage>().put_stored(dims(), block, t % block_keys, from);
      }
      set_length(at, t + 1);
    }
  }

  HeadsT heads_;
  StripLayout<Native<Storage>> strips_;
};

}  // namespace detail
}  // namespace gqa
