// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// load() of any bytes into each kind of cache. It must refuse them, the cache being as it was, or
// make the cache hold what is then saved as the same bytes. Checksums, which random changes never
// hit, are put right in most inputs; and the first inputs are saved caches, which the mutator
// makes.
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <sstream>
#include <string>

#include "gqa/cache/contiguous.hpp"
#include "gqa/cache/paged.hpp"
#include "gqa/cache/ring.hpp"
#include "gqa/cache/serialize.hpp"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

namespace {

using namespace gqa;

// Small tokens: libFuzzer's inputs have 4096 bytes at most. Even numbers: of an odd one's last
// int4, a file has four bits too many.
constexpr Index num_kv_heads = 1, head_dim = 2, value_dim = 2;
const Heads<> heads(1, num_kv_heads, head_dim, value_dim);

/// The first byte of an input: what to do with the others.
struct Choice {
  bool repairs;       // checksums
  bool one_sequence;  // load(cache, sequence, …)
  int kind;           // of cache
  int storage;        // f32, int8 or int4

  explicit Choice(std::uint8_t byte)
      : repairs((byte & 3) != 0),
        one_sequence((byte & 4) != 0),
        kind((byte >> 3) % 3),
        storage((byte >> 5) % 3) {}
};

void check(bool condition) {
  if (!condition) std::abort();
}

template <typename Cache>
std::string saved(const Cache& cache) {
  std::ostringstream out;
  save(cache, out);
  return out.str();
}

template <typename Cache>
void append(Cache& cache, Index sequence, Index count, float seed) {
  for (Index i = 0; i < count; ++i) {
    float k[num_kv_heads * head_dim], v[num_kv_heads * value_dim];
    for (float& x : k) x = seed = seed * 1.7f - static_cast<float>(static_cast<int>(seed * 1.7f));
    for (float& x : v) x = seed = seed * 1.3f + 0.1f;
    cache.append(sequence, TensorView<const float>(k, {1, 1, num_kv_heads, head_dim}),
                 TensorView<const float>(v, {1, 1, num_kv_heads, value_dim}));
  }
}

/// fn(an empty cache of two sequences).
template <typename Storage, typename F>
void with_cache_of(const Choice& choice, F fn) {
  if (choice.kind == 0) {
    fn(KvCache<Storage>({.batch = 2, .capacity = 3, .heads = heads, .max_capacity = 300}));
  } else if (choice.kind == 1) {
    fn(RingKvCache<Storage>(
        {.batch = 2, .window = 10, .keep_first = 2, .spare = 20, .heads = heads}));
  } else {
    const auto pages = std::make_shared<PageAllocator>(
        PageAllocator::Options{.pages = 9, .page_bytes = PagedKvCache<Storage>::page_bytes(heads)});
    fn(PagedKvCache<Storage>(pages, {.batch = 2, .capacity = 300, .heads = heads}));
  }
}
template <typename F>
void with_cache(const Choice& choice, F fn) {
  if (choice.storage == 0) return with_cache_of<float>(choice, fn);
  choice.storage == 1 ? with_cache_of<Int8>(choice, fn) : with_cache_of<Int4>(choice, fn);
}

/// Puts all checksums right, as far as the file goes on.
void repair(std::string& file, Index token_bytes) {
  std::uint32_t checksum = 0;
  std::size_t at = 0;
  const auto part = [&](std::size_t bytes) {
    if (file.size() - at < bytes + 4) return false;
    checksum = detail::crc32(reinterpret_cast<const std::byte*>(file.data() + at), bytes, checksum);
    copy_little_endian(&checksum, file.data() + at + bytes, 4);
    at += bytes + 4;
    return true;
  };
  if (!part(48)) return;
  for (;;) {
    std::uint64_t numbers[3];  // length, gone
    if (file.size() - at < 28) return;
    for (int i = 0; i < 3; ++i) copy_little_endian(file.data() + at + 8 * i, &numbers[i], 8);
    if (!part(24)) return;
    for (std::uint64_t first = 0; first < numbers[0];) {
      if (first == numbers[1] && numbers[1] < numbers[2]) first = numbers[2];
      if (first >= numbers[0]) break;
      const std::uint64_t count = std::min(numbers[0] - first, 64 - first % 64);
      if (!part(static_cast<std::size_t>(count) * static_cast<std::size_t>(token_bytes))) return;
      first += count;
    }
  }
}

std::string seed_file(const Choice& choice, unsigned seed) {
  std::string file;
  with_cache(choice, [&](auto cache) {
    append(cache, 0, seed / 7 % 240, 0.3f);
    append(cache, 1, seed / 7 % 3, 0.4f);
    if (choice.one_sequence) {
      std::ostringstream out;
      save(cache, 0, out);
      file = out.str();
    } else {
      file = saved(cache);
    }
  });
  return file;
}

}  // namespace

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t max_size, unsigned seed) {
  if (seed % 61 != 0 && size > 1) return LLVMFuzzerMutate(data, size, max_size);
  const auto byte = static_cast<std::uint8_t>(seed / 61);
  const std::string file = seed_file(Choice(byte), seed / 61);
  if (file.size() + 1 > max_size) return LLVMFuzzerMutate(data, size, max_size);
  data[0] = byte;
  std::memcpy(data + 1, file.data(), file.size());
  return file.size() + 1;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const Choice choice(data[0]);
  std::string file(reinterpret_cast<const char*>(data + 1), size - 1);
  with_cache(choice, [&](auto cache) {
    append(cache, 0, 90, 0.2f);
    append(cache, 1, 18, 0.1f);
    if (choice.repairs) repair(file, cache.bytes_per_token());
    const std::string before = saved(cache);
    std::istringstream in(file);
    try {
      choice.one_sequence ? load(cache, 1, in) : load(cache, in);
    } catch (const std::runtime_error&) {
      check(saved(cache) == before);
      return;
    } catch (const std::length_error&) {
      check(saved(cache) == before);
      return;
    }
    std::ostringstream again;
    choice.one_sequence ? save(cache, 1, again) : save(cache, again);
    // A ring may have dropped tokens, and then begins a file of its own.
    const auto used = static_cast<std::size_t>(in.tellg());
    check(choice.kind == 1 || again.str() == file.substr(0, used));
    append(cache, 1, 1, 0.7f);
    check(cache.length(1) > 0);
  });
  return 0;
}
