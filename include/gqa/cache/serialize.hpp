// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Saving caches and loading them: a prompt that is computed once, a conversation that goes on
// another day. What is saved are tokens as they are stored, so that the cache has the same bits
// after loading; how a cache keeps them in memory is not: a file of one kind of cache, page size or
// instruction set loads into any other of the same storage type and heads.
//
//   header     "\x89GQAKV\r\n", u32 version, u32 storage, u64 sequences, num_kv_heads, head_dim,
//              value_dim, u32 checksum
//   sequence   u64 length, u64 gone_begin, gone_end (the tokens that a ring has forgotten),
//              u32 checksum; then chunk after chunk
//   chunk      tokens [64 i, 64 i + 64), or those of them that there are: [tokens][num_kv_heads],
//              each as in layout/stored.hpp; u32 checksum
//
// A stack of layers is such a file for each layer, one after the other, and in front of them
// "\x89GQAKS\r\n", u32 version, u32 layers, u32 checksum.
//
// All numbers are little-endian. A checksum covers everything in front of it, but for checksums.
#pragma once

#include <string_view>
#include <vector>

#include "gqa/cache/checked_stream.hpp"
#include "gqa/cache/kv_cache_stack.hpp"
#include "gqa/cache/strip_cache.hpp"

namespace gqa {
namespace detail {

inline constexpr char saved_cache_magic[] = "\x89GQAKV\r\n";  // a transfer as text breaks it
inline constexpr char saved_stack_magic[] = "\x89GQAKS\r\n";
inline constexpr std::uint32_t saved_cache_version = 1;

/// The storage types' numbers in files; they never change.
inline constexpr const char* saved_storage_names[] = {"f32", "f64", "bf16", "f16", "int8", "int4"};
template <StorageType Storage>
GQA_TAG constexpr std::uint32_t saved_storage() {
  std::uint32_t i = 0;
  while (std::string_view(saved_storage_names[i]) != scalar_name<Storage>()) ++i;
  return i;
}

/// Reads how a file begins, up to its version.
GQA_TAG inline void check_magic(const char* expected, const char* what, CheckedReader& in) {
  char magic[8];
  in.bytes(magic, sizeof(magic));
  if (!std::equal(magic, magic + 8, expected)) in.fail(0, "this is no saved ", what);
  const auto version = in.number<std::uint32_t>();
  if (version == 0 || version > saved_cache_version) {
    in.fail(8, "version ", version, " is none that this library reads; its newest is ",
            saved_cache_version);
  }
}

/// What save() and load() do, with the access to a cache's inside that they need.
struct SavedCache {
  /// Tokens that a chunk holds from `first` on, of a sequence that goes on up to `end`.
  GQA_TAG static Index chunk(Index first, Index end) {
    return (std::min)(end, (first / block_keys + 1) * block_keys) - first;
  }
  template <typename Base>
  GQA_TAG static detail::Vector<std::byte> buffer(const Base& cache) {
    return detail::Vector<std::byte>(
        static_cast<std::size_t>(block_keys * cache.bytes_per_token()));
  }

  template <typename Base>
  GQA_TAG static void write_header(const Base& cache, Index sequences, CheckedWriter& out) {
    out.bytes(saved_cache_magic, 8);
    out.number(saved_cache_version);
    out.number(saved_storage<typename Base::Storage>());
    for (const Index n : {sequences, cache.num_kv_heads(), cache.head_dim(), cache.value_dim()}) {
      out.index(n);
    }
    out.checksum();
  }

  /// Throws unless what follows are `sequences` sequences that the cache may hold.
  template <typename Base>
  GQA_TAG static void read_header(const Base& cache, Index sequences, CheckedReader& in) {
    check_magic(saved_cache_magic, "cache", in);
    const auto storage = in.number<std::uint32_t>();
    struct Number {
      Index at;
      const char* name;
      Index ours;
      std::uint64_t theirs = 0;
    };
    Number numbers[]{{16, "the number of sequences", sequences},
                     {24, "num_kv_heads", cache.num_kv_heads()},
                     {32, "head_dim", cache.head_dim()},
                     {40, "value_dim", cache.value_dim()}};
    for (Number& n : numbers) n.theirs = in.number<std::uint64_t>();
    in.checksum("the header");
    if (storage != saved_storage<typename Base::Storage>()) {
      const bool known = storage < std::size(saved_storage_names);
      in.fail(12, "the tokens are stored as ",
              known ? saved_storage_names[storage] : "another type", ", the cache's as ",
              scalar_name<typename Base::Storage>());
    }
    for (const Number& n : numbers) {
      if (n.theirs != static_cast<std::uint64_t>(n.ours)) {
        in.fail(n.at, n.name, " is ", n.theirs, ", expected ", n.ours);
      }
    }
  }

  template <typename Base>
  GQA_TAG static void write_sequence(const Base& cache, Index sequence, CheckedWriter& out) {
    const Index slot = cache.slot(sequence), length = cache.length_of(slot);
    const TokenRange gone = cache.cache().gone(slot);
    out.index(length);
    out.index(gone.begin);
    out.index(gone.end);
    out.checksum();
    detail::Vector<std::byte> bytes = buffer(cache);
    for (Index first = 0; first < length;) {
      if (first == gone.begin) first = gone.end;
      const Index count = chunk(first, length);
      cache.get_stored(slot, first, count, bytes.data());
      out.bytes(bytes.data(), static_cast<std::size_t>(count * cache.bytes_per_token()));
      out.checksum();
      first += count;
    }
  }

  /// Reads a sequence into one that is empty.
  template <typename Base>
  GQA_TAG static void read_sequence(Base& cache, Index sequence, CheckedReader& in) {
    const Index at = in.at();
    std::uint64_t numbers[3];
    for (std::uint64_t& n : numbers) n = in.number<std::uint64_t>();
    in.checksum("the head of a sequence");
    const auto most = static_cast<std::uint64_t>((std::numeric_limits<Index>::max)() - block_keys);
    if (numbers[0] > most) in.fail(at, "a sequence can't have ", numbers[0], " tokens");
    const auto length = static_cast<Index>(numbers[0]);
    // Blocks are forgotten as a whole, and never the last one.
    if (numbers[1] > numbers[2] || numbers[2] > numbers[0] || numbers[1] % block_keys != 0 ||
        numbers[2] % block_keys != 0 || (numbers[1] != numbers[2] && numbers[2] == numbers[0])) {
      in.fail(at + 8, "tokens [", numbers[1], ", ", numbers[2], ") of ", length, " can't be gone");
    }
    const TokenRange gone{static_cast<Index>(numbers[1]), static_cast<Index>(numbers[2])};
    cache.check_capacity("load", sequence, length, cache.cache().capacity());
    if (gone.begin != gone.end && !cache.cache().can_skip(gone, length)) {
      in.fail(at + 8, "tokens [", gone.begin, ", ", gone.end, ") of ", length,
              " are gone, and this ", cache.name(), " needs some of them");
    }
    detail::Vector<std::byte> bytes = buffer(cache);
    for (Index first = 0; first < length;) {
      if (first == gone.begin && first != gone.end) {
        first = gone.end;
        cache.cache().skip(cache.slot(sequence), first);
        cache.set_length(cache.slot(sequence), first);
      }
      const Index count = chunk(first, length);
      in.bytes(bytes.data(), static_cast<std::size_t>(count * cache.bytes_per_token()));
      in.checksum("a chunk of tokens");
      cache.append_stored("load", sequence, count, bytes.data());
      first += count;
    }
  }

  template <typename Base>
  GQA_TAG static void save(const Base& cache, Index begin, Index end, std::ostream& out,
                           const std::string& name) {
    cache.check_not_moved_from("save");
    CheckedWriter writer(out, name);
    write_header(cache, end - begin, writer);
    for (Index b = begin; b < end; ++b) write_sequence(cache, b, writer);
    writer.finish();
  }
  /// What a file holds, in a cache of its own that is like this one, but for the batch.
  template <typename Base>
  GQA_TAG static auto read(const Base& cache, Index sequences, std::istream& in,
                           const std::string& name) {
    cache.check_not_moved_from("load");
    CheckedReader reader(in, name);
    read_header(cache, sequences, reader);
    auto fresh = cache.cache().empty_like(sequences);
    for (Index b = 0; b < sequences; ++b) read_sequence(base(fresh), b, reader);
    return fresh;
  }
  template <typename Base, typename Cache>
  GQA_TAG static void prepare_take(Base& cache, Index sequence, const Cache& fresh) {
    cache.cache().prepare_take(sequence, fresh);
  }
  template <typename Base, typename Cache>
  GQA_TAG static void take(Base& cache, Index sequence, Cache& fresh) {
    cache.cache().take(sequence, fresh);
  }

  /// Layers of a stack are files of their own after this.
  GQA_TAG static void write_stack_header(Index layers, std::ostream& out, const std::string& name) {
    require(layers > 0, "KvCacheStack::save: the stack was moved from");
    CheckedWriter writer(out, name);
    writer.bytes(saved_stack_magic, 8);
    writer.number(saved_cache_version);
    writer.number(static_cast<std::uint32_t>(layers));
    writer.checksum();
  }
  GQA_TAG static void read_stack_header(Index layers, std::istream& in, const std::string& name) {
    require(layers > 0, "KvCacheStack::load: the stack was moved from");
    CheckedReader reader(in, name);
    check_magic(saved_stack_magic, "stack of caches", reader);
    const auto theirs = reader.number<std::uint32_t>();
    reader.checksum("the header");
    if (static_cast<std::int64_t>(theirs) != layers) {
      reader.fail(12, "the number of layers is ", theirs, ", expected ", layers);
    }
  }
  /// `read(layer, name)` for all layers; throws unless each has the lengths of the first one.
  template <typename Cache, typename Read>
  GQA_TAG static UniqueVector<Cache> read_layers(Index layers, std::istream& in,
                                                 const std::string& name, Read read) {
    read_stack_header(layers, in, name);
    UniqueVector<Cache> fresh;
    fresh.reserve(static_cast<std::size_t>(layers));
    for (Index i = 0; i < layers; ++i) {
      fresh.push_back(read(i, message(name, ", layer ", i)));
      for (Index b = 0; b < fresh.front().batch(); ++b) {
        const Index length = fresh.back().length(b), expected = fresh.front().length(b);
        if (length != expected) {
          throw std::runtime_error(message(name, ", layer ", i, ": sequence ", b, " has ", length,
                                           " tokens, in layer 0 it has ", expected));
        }
      }
    }
    return fresh;
  }

 private:
  template <typename Cache, typename Storage, typename HeadsT>
  GQA_TAG static auto& base(StripCache<Cache, Storage, HeadsT>& cache) {
    return cache;
  }
};

}  // namespace detail

/// Saves all sequences of a KvCache, RingKvCache or PagedKvCache. `name` is what messages call the
/// file. Several caches may follow each other in a stream. Throws std::runtime_error if the stream
/// fails, std::bad_alloc.
template <typename Cache, StorageType Storage, typename HeadsT>
GQA_TAG void save(const detail::StripCache<Cache, Storage, HeadsT>& cache, std::ostream& out,
                  const std::string& name = "saved cache") {
  detail::SavedCache::save(cache, 0, cache.batch(), out, name);
}
/// Saves one sequence. Throws std::invalid_argument, too.
template <typename Cache, StorageType Storage, typename HeadsT>
GQA_TAG void save(const detail::StripCache<Cache, Storage, HeadsT>& cache, Index sequence,
                  std::ostream& out, const std::string& name = "saved cache") {
  (void)cache.length(sequence);  // throws
  detail::SavedCache::save(cache, sequence, sequence + 1, out, name);
}

/// Makes a cache hold what was saved, as many sequences of the same storage type and heads,
/// whatever kind of cache they were in; a ring drops what it has no room for, and only a ring takes
/// sequences of which tokens are gone. Reads exactly what save() wrote.
///
/// The tokens come into memory of their own, or pages of the same allocator, which take the place
/// of the old ones at the end; no more is taken than the file proves to hold. Throws
/// std::runtime_error with the byte for a file that is damaged, cut off, foreign, too new or
/// doesn't fit, std::length_error for more tokens than the capacity or the free pages,
/// std::bad_alloc; the cache is then as it was.
template <typename Cache, StorageType Storage, typename HeadsT>
GQA_TAG void load(detail::StripCache<Cache, Storage, HeadsT>& cache, std::istream& in,
                  const std::string& name = "saved cache") {
  static_cast<Cache&>(cache) = detail::SavedCache::read(cache, cache.batch(), in, name);
}
/// The same for one sequence, from a file of one. The others stay as they are.
template <typename Cache, StorageType Storage, typename HeadsT>
GQA_TAG void load(detail::StripCache<Cache, Storage, HeadsT>& cache, Index sequence,
                  std::istream& in, const std::string& name = "saved cache") {
  (void)cache.length(sequence);  // throws
  auto fresh = detail::SavedCache::read(cache, 1, in, name);
  detail::SavedCache::prepare_take(cache, sequence, fresh);
  detail::SavedCache::take(cache, sequence, fresh);
}

/// Saves a stack, layer by layer, or one sequence of it. Throws as above.
template <typename Cache>
GQA_TAG void save(const KvCacheStack<Cache>& stack, std::ostream& out,
                  const std::string& name = "saved stack") {
  detail::SavedCache::write_stack_header(stack.num_layers(), out, name);
  for (const Cache& layer : stack) save(layer, out, name);
}
template <typename Cache>
GQA_TAG void save(const KvCacheStack<Cache>& stack, Index sequence, std::ostream& out,
                  const std::string& name = "saved stack") {
  (void)stack.length(sequence);  // throws
  detail::SavedCache::write_stack_header(stack.num_layers(), out, name);
  for (const Cache& layer : stack) save(layer, sequence, out, name);
}

/// Loads a stack of as many layers, or one sequence of it: all layers, or none. Messages count
/// bytes from where a layer begins. Throws as above.
template <typename Cache>
GQA_TAG void load(KvCacheStack<Cache>& stack, std::istream& in,
                  const std::string& name = "saved stack") {
  auto fresh = detail::SavedCache::read_layers<Cache>(
      stack.num_layers(), in, name, [&](Index i, const std::string& layer) {
        return detail::SavedCache::read(stack[i], stack.batch(), in, layer);
      });
  for (Index i = 0; i < stack.num_layers(); ++i) {
    stack[i] = std::move(fresh[static_cast<std::size_t>(i)]);
  }
}
template <typename Cache>
GQA_TAG void load(KvCacheStack<Cache>& stack, Index sequence, std::istream& in,
                  const std::string& name = "saved stack") {
  (void)stack.length(sequence);  // throws
  auto fresh = detail::SavedCache::read_layers<Cache>(
      stack.num_layers(), in, name, [&](Index i, const std::string& layer) {
        return detail::SavedCache::read(stack[i], 1, in, layer);
      });
  for (Index i = 0; i < stack.num_layers(); ++i) {
    detail::SavedCache::prepare_take(stack[i], sequence, fresh[static_cast<std::size_t>(i)]);
  }
  for (Index i = 0; i < stack.num_layers(); ++i) {
    detail::SavedCache::take(stack[i], sequence, fresh[static_cast<std::size_t>(i)]);
  }
}

}  // namespace gqa
