// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Saved caches come back bit by bit, in any kind of cache; what isn't a whole, sound file of the
// right kind is refused with the reason and the byte, and then nothing has changed.
#include "gqa/cache/serialize.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <sstream>

#include "any_cache.hpp"
#include "failing_new.hpp"
#include "support/errors.hpp"

namespace gqa::test {
namespace {

constexpr Index num_kv_heads = 2, head_dim = 5, value_dim = 19;

CacheShape shape_of(Index batch, Index capacity = 400) {
  return {.batch = batch,
          .heads = {4, num_kv_heads, head_dim, value_dim},
          .capacity = capacity,
          .window = 70,
          .keep_first = 3,
          .spare = 40};
}

/// Everything that attention may see, padding included: lengths, which keys there are, all bytes.
template <typename Cache>
std::vector<std::byte> state_of(const Cache& cache) {
  const StripLayout<typename Cache::Storage> layout(cache.head_dim(), cache.value_dim());
  std::vector<std::byte> state;
  const auto add = [&](const void* data, Index bytes) {
    const auto* from = static_cast<const std::byte*>(data);
    state.insert(state.end(), from, from + bytes);
  };
  for (Index b = 0; b < cache.batch(); ++b) {
    const Index length = cache.length(b);
    add(&length, sizeof(length));
    for (Index h = 0; h < cache.num_kv_heads(); ++h) {
      cache.for_each_run(b, h, 0, length, [&](const StripRun& run) {
        for (Index i = 0; i < ceil_div(run.count, block_keys); ++i) {
          const Index first = run.first + i * block_keys;
          add(&first, sizeof(first));
          add(run.blocks + i * layout.block_bytes(), layout.block_bytes());
        }
      });
    }
  }
  return state;
}

template <typename Cache>
void append_random(Cache& cache, Index sequence, Index count, std::uint64_t seed, Index step = 40) {
  using T = AccumulatorOf<typename Cache::Storage>;
  Random random(seed);
  for (; count > 0; count -= step) {
    const Index n = std::min(count, step);
    auto k = random_tensor<T>(random, {1, n, num_kv_heads, head_dim});
    auto v = random_tensor<T>(random, {1, n, num_kv_heads, value_dim});
    k.row(0, 0, 1)[2] = std::numeric_limits<T>::quiet_NaN();
    v.row(0, n - 1, 0)[3] = std::numeric_limits<T>::infinity();
    cache.append(sequence, k.view(), v.view());
  }
}

template <typename Cache>
std::string saved(const Cache& cache) {
  std::ostringstream out;
  save(cache, out);
  return out.str();
}
template <typename Cache>
std::string saved(const Cache& cache, Index sequence) {
  std::ostringstream out;
  save(cache, sequence, out);
  return out.str();
}
template <typename Cache>
void load_from(const std::string& file, Cache& cache) {
  std::istringstream in(file);
  load(cache, in, "a file");
}
template <typename Cache>
void load_from(const std::string& file, Cache& cache, Index sequence) {
  std::istringstream in(file);
  load(cache, sequence, in, "a file");
}
/// What a file is refused with.
template <typename Error = std::runtime_error, typename Cache, typename... Sequence>
std::string refusal(const std::string& file, Cache& cache, Sequence... sequence) {
  return error_of<Error>([&] { load_from(file, cache, sequence...); });
}

template <typename KindT, typename StorageT>
struct Pair {
  using Kind = KindT;
  using Storage = StorageT;
};
template <typename P>
class Saved : public testing::Test {};
template <typename... Kinds>
struct WithStorages {
  using Types =
      testing::Types<Pair<Kinds, float>..., Pair<Kinds, double>..., Pair<Kinds, bfloat16>...,
                     Pair<Kinds, half>..., Pair<Kinds, Int8>..., Pair<Kinds, Int4>...>;
};
using Pairs = WithStorages<GrowingKind, RingKind, PagedKind<192>>::Types;
TYPED_TEST_SUITE(Saved, Pairs);

TYPED_TEST(Saved, WholeCachesComeBackBitByBit) {
  using Kind = typename TypeParam::Kind;
  auto cache = Kind::template make<typename TypeParam::Storage>(shape_of(3));
  append_random(cache, 0, 350, 1);
  append_random(cache, 2, 129, 2);
  cache.truncate(0, 330);  // of a ring, tokens are gone that another history would have kept
  const std::vector<Index> beams{2, 1, 0};
  cache.reorder(beams);
  const std::string file = saved(cache);
  auto other = Kind::template make<typename TypeParam::Storage>(shape_of(3));
  append_random(other, 1, 77, 3);
  load_from(file, other);
  EXPECT_EQ(state_of(other), state_of(cache));
  EXPECT_EQ(saved(other), file);
  // It goes on like the first.
  for (auto* one : {&cache, &other}) {
    append_random(*one, 0, 40, 4);
    append_random(*one, 1, 1, 5);
    one->truncate(2, 300);
  }
  EXPECT_EQ(state_of(other), state_of(cache));
}

TYPED_TEST(Saved, OneSequenceLoadsIntoAnyCache) {
  using Storage = typename TypeParam::Storage;
  for (const Index length : {0, 1, 63, 64, 65, 110}) {
    auto cache = TypeParam::Kind::template make<Storage>(shape_of(2));
    append_random(cache, 1, length, 6);
    const std::string file = saved(cache, 1);
    const auto state = state_of(cache);
    const auto expect_loads = [&](auto other, Index before) {
      append_random(other, 0, 30, 7);
      append_random(other, 1, before, 8);
      append_random(other, 2, 40, 7);
      const std::string left = saved(other, 0), right = saved(other, 2);
      load_from(file, other, 1);
      EXPECT_EQ(saved(other, 1), file);
      EXPECT_EQ(saved(other, 0), left);
      EXPECT_EQ(saved(other, 2), right);
      other.fork(1, 2);
      other.clear(0);
      other.reorder(std::vector<Index>{0, 1, 0});
      EXPECT_EQ(saved(other, 1), file);
    };
    for (const Index before : {0, 100}) {
      expect_loads(FixedKind::make<Storage>(shape_of(3)), before);
      expect_loads(GrowingKind::make<Storage>(shape_of(3)), before);
      expect_loads(RingKind::make<Storage>(shape_of(3)), before);
      expect_loads(PagedKind<64>::make<Storage>(shape_of(3)), before);
      expect_loads(PagedKind<192>::make<Storage>(shape_of(3)), before);
    }
    EXPECT_EQ(state_of(cache), state);
  }
}

TEST(SavedRing, LoadsOnlyWhereTheMissingTokensArentNeeded) {
  auto shape = shape_of(1, 1000);
  auto ring = RingKind::make<float>(shape);
  append_random(ring, 0, 600, 1);
  ASSERT_FALSE(ring.holds(0, 300));
  const std::string file = saved(ring);
  auto contiguous = FixedKind::make<float>(shape);
  EXPECT_EQ(
      refusal(file, contiguous),
      "a file: byte 60: tokens [64, 448) of 600 are gone, and this KvCache needs some of them");
  // A ring that needs more before the last token, or at the start.
  shape.window = 200;
  auto wide = RingKind::make<float>(shape);
  EXPECT_EQ(refusal(file, wide),
            "a file: byte 60: tokens [64, 448) of 600 are gone, and this RingKvCache needs some of "
            "them");
  shape.window = 70;
  shape.keep_first = 65;
  auto keeps_more = RingKind::make<float>(shape);
  EXPECT_NE(refusal(file, keeps_more), "no exception");
  // One that needs less.
  shape.window = 50;
  shape.keep_first = 0;
  shape.spare = 300;
  auto narrow = RingKind::make<float>(shape);
  load_from(file, narrow);
  EXPECT_TRUE(narrow.holds(0, 448));
  EXPECT_FALSE(narrow.holds(0, 447));
  EXPECT_TRUE(narrow.can_rollback(0, 600 - 498));
  EXPECT_FALSE(narrow.can_rollback(0, 600 - 497));
}

TEST(SavedRing, TakesWhatItHasRoomForOfAnotherCache) {
  const auto shape = shape_of(1, 1000);
  auto contiguous = FixedKind::make<Int8>(shape);
  auto ring = RingKind::make<Int8>(shape);
  auto loaded = RingKind::make<Int8>(shape);
  append_random(contiguous, 0, 900, 1);
  append_random(ring, 0, 900, 1);
  load_from(saved(contiguous), loaded);
  EXPECT_EQ(state_of(loaded), state_of(ring));
}

TEST(SavedFile, SeveralFollowEachOtherInAStream) {
  auto a = FixedKind::make<float>(shape_of(2));
  auto b = PagedKind<64>::make<bfloat16>(shape_of(1));
  append_random(a, 1, 100, 1);
  append_random(b, 0, 70, 2);
  std::stringstream stream;
  save(a, stream);
  save(b, stream);
  auto a2 = FixedKind::make<float>(shape_of(2));
  auto b2 = PagedKind<64>::make<bfloat16>(shape_of(1));
  load(a2, stream);
  load(b2, stream);
  EXPECT_EQ(state_of(a2), state_of(a));
  EXPECT_EQ(state_of(b2), state_of(b));
  EXPECT_EQ(stream.peek(), std::stringstream::traits_type::eof());
}

/// A file of one sequence of 66 tokens, small, and caches that keep what they have when refusing
/// it.
template <typename F>
void for_each_victim(F fn) {
  const Heads<> heads(1, 1, 1, 1);
  const CacheShape shape{.batch = 1, .heads = heads, .capacity = 200, .window = 70, .spare = 80};
  const auto run = [&](auto cache) {
    using Storage = typename decltype(cache)::Storage;
    TestTensor<float> x({1, 66, 1, 1});
    Random random(1);
    x.fill_normal(random);
    auto source = FixedKind::make<Storage>(shape);
    source.append(0, x.view(), x.view());
    x.fill_normal(random);
    cache.append(0, x.view(), x.view());
    fn(saved(source), cache);
  };
  run(GrowingKind::make<Int8>(shape));
  run(RingKind::make<Int8>(shape));
  run(RingKind::make<Int4>(shape));
  run(PagedKind<64>::make<bfloat16>(shape));
}

TEST(DamagedFile, IsRefusedWhereverAByteIsFlipped) {
  for_each_victim([](const std::string& file, auto& cache) {
    const auto state = state_of(cache);
    for (std::size_t i = 0; i < file.size(); ++i) {
      for (const char flip : {char(1), char(0x80), char(0xff)}) {
        std::string damaged = file;
        damaged[i] = static_cast<char>(damaged[i] ^ flip);
        const std::string reason = refusal(damaged, cache);
        ASSERT_TRUE(reason.starts_with("a file: byte ")) << i << ": " << reason;
        ASSERT_EQ(state_of(cache), state) << i;
      }
    }
    load_from(file, cache);
    EXPECT_EQ(saved(cache), file);
  });
}

TEST(DamagedFile, IsRefusedWhereverItEnds) {
  for_each_victim([](const std::string& file, auto& cache) {
    const auto state = state_of(cache);
    for (std::size_t size = 0; size < file.size(); ++size) {
      ASSERT_EQ(refusal(file.substr(0, size), cache, Index{0}),
                "a file: byte " + std::to_string(size) + ": the file ends too early");
      ASSERT_EQ(state_of(cache), state) << size;
    }
    if constexpr (requires { cache.allocator(); }) {
      EXPECT_EQ(cache.allocator()->statistics().used, cache.pages());
    }
  });
}

TEST(DamagedFile, IsRefusedWithChunksSwapped) {
  const auto shape = shape_of(1, 200);
  auto cache = FixedKind::make<float>(shape);
  append_random(cache, 0, 128, 1);
  std::string file = saved(cache);
  const std::size_t chunk = 64 * num_kv_heads * (head_dim + value_dim) * sizeof(float) + 4;
  ASSERT_EQ(file.size(), 52 + 28 + 2 * chunk);
  std::swap_ranges(file.begin() + 80, file.begin() + 80 + chunk, file.begin() + 80 + chunk);
  EXPECT_TRUE(refusal(file, cache).starts_with("a file: byte 12368: a chunk of tokens is damaged"));
}

/// A file of one sequence with a header of one's own, its checksums right, and no tokens.
std::string file_with(std::uint32_t version, std::uint32_t storage,
                      const std::vector<std::uint64_t>& shape,
                      const std::vector<std::uint64_t>& sequence) {
  std::ostringstream out;
  const std::string name = "x";
  detail::CheckedWriter writer(out, name);
  writer.bytes(detail::saved_cache_magic, 8);
  writer.number(version);
  writer.number(storage);
  for (const std::uint64_t n : shape) writer.number(n);
  writer.checksum();
  for (const std::uint64_t n : sequence) writer.number(n);
  writer.checksum();
  return out.str();
}

TEST(ForeignFile, IsRefusedWithTheReason) {
  auto cache = FixedKind::make<float>(shape_of(1, 100));
  append_random(cache, 0, 10, 1);
  const auto state = state_of(cache);
  EXPECT_EQ(refusal("GGUF but longer than the first bytes", cache),
            "a file: byte 0: this is no saved cache");
  EXPECT_EQ(refusal(file_with(2, 0, {1, 2, 5, 19}, {0, 0, 0}), cache),
            "a file: byte 8: version 2 is none that this library reads; its newest is 1");
  EXPECT_EQ(refusal(file_with(1, 2, {1, 2, 5, 19}, {0, 0, 0}), cache),
            "a file: byte 12: the tokens are stored as bf16, the cache's as f32");
  EXPECT_EQ(refusal(file_with(1, 99, {1, 2, 5, 19}, {0, 0, 0}), cache),
            "a file: byte 12: the tokens are stored as another type, the cache's as f32");
  EXPECT_EQ(refusal(file_with(1, 0, {2, 2, 5, 19}, {0, 0, 0}), cache),
            "a file: byte 16: the number of sequences is 2, expected 1");
  EXPECT_EQ(refusal(file_with(1, 0, {1, 4, 5, 19}, {0, 0, 0}), cache),
            "a file: byte 24: num_kv_heads is 4, expected 2");
  EXPECT_EQ(refusal(file_with(1, 0, {1, 2, std::uint64_t{1} << 63, 19}, {0, 0, 0}), cache),
            "a file: byte 32: head_dim is 9223372036854775808, expected 5");
  EXPECT_EQ(refusal(file_with(1, 0, {1, 2, 5, 20}, {0, 0, 0}), cache),
            "a file: byte 40: value_dim is 20, expected 19");
  EXPECT_EQ(refusal<std::length_error>(file_with(1, 0, {1, 2, 5, 19}, {101, 0, 0}), cache),
            "KvCache::load: 101 tokens on top of 0 exceed the capacity of 100 (sequence 0)");
  for (const std::vector<std::uint64_t>& gone :
       {std::vector<std::uint64_t>{64, 0}, {1, 64}, {0, 65}, {0, 128}, {64, 192}}) {
    EXPECT_EQ(
        refusal(file_with(1, 0, {1, 2, 5, 19}, {128, gone[0], gone[1]}), cache),
        message("a file: byte 60: tokens [", gone[0], ", ", gone[1], ") of 128 can't be gone"));
  }
  EXPECT_EQ(error_of([&] { load_from("", cache, 1); }),
            "KvCache::length: sequence 1 is outside of a batch of 1");
  EXPECT_EQ(state_of(cache), state);
}

TEST(ForeignFile, TakesNoMemoryForTokensThatItDoesntHave) {
  // Nearly 2^63 tokens in a file of 80 bytes.
  const auto shape = shape_of(1, 100);
  auto ring = RingKind::make<float>(shape);
  EXPECT_EQ(refusal(file_with(1, 0, {1, 2, 5, 19}, {(std::uint64_t{1} << 63) - 65, 0, 0}), ring),
            "a file: byte 80: the file ends too early");
  EXPECT_EQ(refusal(file_with(1, 0, {1, 2, 5, 19}, {(std::uint64_t{1} << 63) - 64, 0, 0}), ring),
            "a file: byte 52: a sequence can't have 9223372036854775744 tokens");
  KvCache<float> growing({.capacity = 10, .heads = shape.heads, .max_capacity = Index{1} << 60});
  EXPECT_EQ(refusal(file_with(1, 0, {1, 2, 5, 19}, {std::uint64_t{1} << 59, 0, 0}), growing),
            "a file: byte 80: the file ends too early");
  EXPECT_EQ(growing.allocated(), 10);
}

template <typename Stack>
std::vector<std::byte> state_of_layers(const Stack& stack) {
  std::vector<std::byte> all;
  for (const auto& layer : stack) {
    const auto state = state_of(layer);
    all.insert(all.end(), state.begin(), state.end());
  }
  return all;
}

TEST(SavedStack, LoadsInAllLayersOrInNone) {
  const CacheShape shape = shape_of(2);
  const auto run = [&](auto stack) {
    for (Index i = 0; i < 3; ++i) {
      append_random(stack[i], 0, 90, static_cast<std::uint64_t>(i));
      append_random(stack[i], 1, 20, static_cast<std::uint64_t>(i + 3));
    }
    std::ostringstream whole_out, one_out;
    save(stack, whole_out);
    save(stack, 0, one_out);
    const std::string whole = whole_out.str(), one = one_out.str();
    const auto saved_state = state_of_layers(stack);
    for (auto& layer : stack) append_random(layer, 1, 50, 9);
    const auto state = state_of_layers(stack);
    const auto load_into = [&](const std::string& file, auto... sequence) {
      std::istringstream in(file);
      load(stack, sequence..., in, "a file");
    };
    // Each byte that is missing or wrong; of the whole file, some.
    for (std::size_t i = 0; i < one.size(); i += 37) {
      EXPECT_NE(error_of<std::runtime_error>([&] { load_into(one.substr(0, i), Index{1}); }),
                "no exception");
      std::string damaged = one;
      damaged[i] = static_cast<char>(damaged[i] ^ 4);
      EXPECT_NE(error_of<std::runtime_error>([&] { load_into(damaged, Index{1}); }),
                "no exception");
      ASSERT_EQ(state_of_layers(stack), state);
    }
    // The last layer's end.
    EXPECT_NE(error_of<std::runtime_error>([&] { load_into(whole.substr(0, whole.size() - 1)); }),
              "no exception");
    ASSERT_EQ(state_of_layers(stack), state);
    EXPECT_EQ(error_of<std::runtime_error>([&] { load_into(saved(stack[0])); }),
              "a file: byte 0: this is no saved stack of caches");
    // Layers of different lengths.
    std::ostringstream mixed;
    detail::SavedCache::write_stack_header(3, mixed, "x");
    mixed << saved(stack[0], 0) << saved(stack[1], 0) << saved(stack[2], 1);
    EXPECT_EQ(error_of<std::runtime_error>([&] { load_into(mixed.str(), Index{1}); }),
              "a file, layer 2: sequence 0 has 70 tokens, in layer 0 it has 90");
    std::ostringstream shallow;
    detail::SavedCache::write_stack_header(2, shallow, "x");
    EXPECT_EQ(error_of<std::runtime_error>([&] { load_into(shallow.str()); }),
              "a file: byte 12: the number of layers is 2, expected 3");
    // Out of memory in any layer.
    for (long n = 0;; ++n) {
      std::istringstream in(one);
      bool failed = false;
      fail_allocation(n);
      try {
        load(stack, 1, in);
      } catch (const std::bad_alloc&) {
        failed = true;
      }
      fail_allocation(-1);
      if (!failed) break;
      ASSERT_EQ(state_of_layers(stack), state) << n;
    }
    for (Index i = 0; i < 3; ++i) EXPECT_EQ(saved(stack[i], 1), saved(stack[i], 0));
    load_into(whole);
    EXPECT_EQ(state_of_layers(stack), saved_state);
  };
  run(KvCacheStack<KvCache<float>>(
      3, {.batch = 2, .capacity = 10, .heads = shape.heads, .max_capacity = 300}));
  const auto pages = std::make_shared<PageAllocator>(PageAllocator::Options{
      .pages = 30, .page_bytes = PagedKvCache<Int8>::page_bytes(shape.heads)});
  run(KvCacheStack<PagedKvCache<Int8>>(3, pages,
                                       {.batch = 2, .capacity = 300, .heads = shape.heads}));
}

TEST(SavedFile, NeedsFreePagesForTheNewTokensBesideTheOld) {
  const Heads<> heads(1, 1, 1, 1);
  const auto pages = std::make_shared<PageAllocator>(
      PageAllocator::Options{.pages = 3, .page_bytes = PagedKvCache<float>::page_bytes(heads)});
  PagedKvCache<float> cache(pages, {.capacity = 200, .heads = heads});
  TestTensor<float> x({1, 65, 1, 1});
  cache.append(0, x.view(), x.view());
  const std::string file = saved(cache);
  EXPECT_EQ(refusal<std::length_error>(file, cache),
            "PageAllocator: 1 pages are needed, 0 of 3 are free");
  EXPECT_EQ(saved(cache), file);
  EXPECT_EQ(pages->statistics().free, 1);
  cache.clear();
  load_from(file, cache);
  EXPECT_EQ(saved(cache), file);
}

TEST(SavedFile, IsReportedWhenItCantBeWritten) {
  const auto cache = FixedKind::make<float>(shape_of(1, 100));
  std::ostringstream out;
  out.setstate(std::ios::badbit);
  EXPECT_EQ(error_of<std::runtime_error>([&] { save(cache, out, "a file"); }),
            "a file: byte 0: writing failed");
  struct FullDisk : std::stringbuf {  // which shows when what was buffered is written
    int sync() override { return -1; }
  } disk;
  std::ostream file(&disk);
  EXPECT_EQ(error_of<std::runtime_error>([&] { save(cache, file, "a file"); }),
            "a file: byte " + std::to_string(saved(cache).size()) + ": writing failed");
  EXPECT_EQ(error_of([&] { save(cache, 1, out); }),
            "KvCache::length: sequence 1 is outside of a batch of 1");
}

/// Loads with the first allocation failing, then the second, … until it succeeds.
template <typename Cache, typename... Sequence>
void load_without_memory(const std::string& file, Cache& cache, Sequence... sequence) {
  const auto state = state_of(cache);
  for (long n = 0;; ++n) {
    std::istringstream in(file);
    bool failed = false;
    fail_allocation(n);
    try {
      load(cache, sequence..., in);
    } catch (const std::bad_alloc&) {
      failed = true;
    }
    fail_allocation(-1);
    if (!failed) {
      EXPECT_GT(n, 2);
      return;
    }
    ASSERT_EQ(state_of(cache), state) << n;
  }
}

TEST(OutOfMemory, LoadingChangesNothing) {
  const auto run = [](auto cache) {
    append_random(cache, 0, 100, 1);
    append_random(cache, 1, 20, 2);
    const std::string whole = saved(cache), one = saved(cache, 0);
    append_random(cache, 1, 7, 3);
    load_without_memory(one, cache, Index{1});
    EXPECT_EQ(saved(cache, 1), one);
    load_without_memory(whole, cache);
    EXPECT_EQ(saved(cache), whole);
  };
  run(FixedKind::make<float>(shape_of(2)));
  run(GrowingKind::make<float>(shape_of(2)));
  run(RingKind::make<float>(shape_of(2)));
  run(PagedKind<64>::make<float>(shape_of(2)));
}

}  // namespace
}  // namespace gqa::test
