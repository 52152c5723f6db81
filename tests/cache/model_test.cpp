// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Thousands of random operations on every cache, NaN tokens among them, against a model that can't
// be wrong: vectors of token numbers. What a cache holds must be what the model says, token by
// token and bit by bit; what it refuses must leave it as it was; after a sequence's end there must
// be zeros; and when all is over, no page may be missing. GQA_TEST_SEED repeats a run.
#include <gtest/gtest.h>

#include <cstring>
#include <optional>
#include <sstream>

#include "any_cache.hpp"
#include "gqa/cache/serialize.hpp"
#include "gqa/cache/transaction.hpp"
#include "gqa/module/context_shift.hpp"

namespace gqa::test {
namespace {

constexpr Index batch = 3, num_kv_heads = 2, head_dim = 5, value_dim = 7, capacity = 450;
constexpr Index window = 40, keep_first = 66, spare = 80;

const CacheShape& cache_shape() {
  static const CacheShape shape{.batch = batch,
                                .heads = {4, num_kv_heads, head_dim, value_dim},
                                .capacity = capacity,
                                .window = window,
                                .keep_first = keep_first,
                                .spare = spare};
  return shape;
}

/// Two layers of a model; paged ones share an allocator that is too small for all that may come.
template <typename Kind, typename Storage>
auto make_layers() {
  using Cache = typename Kind::template Cache<Storage>;
  std::vector<Cache> layers;
  if constexpr (requires(Cache& c) { c.allocator(); }) {
    layers.push_back(Kind::template make<Storage>(cache_shape()));
    const Index page_tokens = layers[0].page_tokens();
    const auto allocator = std::make_shared<PageAllocator>(PageAllocator::Options{
        .pages = 3 + 1000 / page_tokens, .page_bytes = layers[0].page_bytes()});
    std::memset(allocator->data(0), 0xff,
                static_cast<std::size_t>(allocator->pages() * allocator->page_bytes()));
    layers.clear();
    for (int i = 0; i < 2; ++i) {
      layers.emplace_back(allocator, typename Cache::Options{.batch = batch,
                                                             .capacity = capacity,
                                                             .page_tokens = page_tokens,
                                                             .heads = cache_shape().heads});
    }
  } else {
    for (int i = 0; i < 2; ++i) layers.push_back(Kind::template make<Storage>(cache_shape()));
  }
  return layers;
}

/// A token is a number, from which its keys and values follow; one in eight is NaN here and there.
using Token = std::uint64_t;
template <typename Storage>
void fill_row(Token token, Index head, bool value, Storage* row, Index dim) {
  Random random(token * 4 + static_cast<Token>(head * 2 + value));
  for (Index c = 0; c < dim; ++c) {
    const bool nan = token % 8 == 0 && random.chance(0.5);
    row[c] = convert<Storage>(nan ? TestTensor<Storage>::nan : random.uniform() * 2 - 1);
  }
}

template <typename Kind, typename Storage>
class Harness {
 public:
  using Cache = typename Kind::template Cache<Storage>;
  static constexpr bool is_ring = requires(Cache& c) { c.can_rollback(Index{}, Index{}); };
  static constexpr bool is_paged = requires(Cache& c) { c.allocator(); };

  explicit Harness(std::uint64_t seed) : random_(seed), layers_(make_layers<Kind, Storage>()) {}

  void run(int operations) {
    for (int i = 0; i < operations && !testing::Test::HasFatalFailure(); ++i) {
      operate();
      if (i % 24 == 0 || i == operations - 1) check();
    }
    if constexpr (is_paged) {
      prefix_.reset();
      for (Cache& cache : layers_) cache.clear();
      const PageStatistics s = layers_[0].allocator()->statistics();
      EXPECT_EQ(s.used, 0);
      EXPECT_EQ(s.claimed, 0);
      EXPECT_EQ(s.free, s.pages);
    }
    EXPECT_GT(refused_, 0);
    EXPECT_GT(done_, operations / 2);
  }

 private:
  using Sequence = std::vector<Token>;
  using Model = std::vector<Sequence>;  // [batch]

  static std::size_t at(Index i) { return static_cast<std::size_t>(i); }
  Index sequence() { return random_.integer(0, batch - 1); }
  Index length(Index layer, Index b) const { return std::ssize(models_[at(layer)][at(b)]); }
  /// Mostly few tokens, sometimes many, so that lengths go up and down.
  Index some_count() {
    return random_.chance(0.7) ? random_.integer(0, 6) : random_.integer(0, 90);
  }

  void operate() {
    const Index layer = random_.integer(0, 1);
    Cache& cache = layers_[at(layer)];
    Model& model = models_[at(layer)];
    const Index a = sequence(), b = sequence();
    switch (random_.integer(0, 16)) {
      case 0:
      case 1:
      case 2: {
        const Index count = some_count();
        const auto [tokens, k, v] = make_tokens(1, count);
        attempt(must_take(layer, a, count),
                [&, &k = k, &v = v] { cache.append(a, k.view(), v.view()); }) &&
            extend(model[at(a)], tokens, 0, count);
        break;
      }
      case 3:
      case 4:
      case 5: {
        const auto counts = some_counts();
        const Index most = *std::max_element(counts.begin(), counts.end());
        const auto [tokens, k, v] = make_tokens(batch, most);
        if (attempt(must_take_all(layer, counts),
                    [&, &k = k, &v = v] { cache.append(k.view(), v.view(), counts); })) {
          for (Index i = 0; i < batch; ++i) extend(model[at(i)], tokens, i * most, counts[at(i)]);
        }
        break;
      }
      case 6:
      case 7: {
        if (random_.chance(0.3)) break;
        const Index to = random_.chance(0.95) ? std::max<Index>(length(layer, a) - some_count(), 0)
                                              : random_.integer(0, length(layer, a));
        attempt(must_go_back(layer, a, to), [&] { cache.truncate(a, to); }) &&
            (model[at(a)].resize(at(to)), true);
        break;
      }
      case 8: {
        if (random_.chance(0.8)) break;
        Index to = capacity;
        std::optional<bool> expected = true;
        for (Index i = 0; i < batch; ++i) to = std::min(to, length(layer, i));
        to = std::max<Index>(to - some_count(), 0);
        for (Index i = 0; i < batch; ++i) expected = both(expected, must_go_back(layer, i, to));
        if (attempt(expected, [&] { cache.truncate_all(to); })) {
          for (Sequence& s : model) s.resize(at(to));
        }
        break;
      }
      case 9:
        if (random_.chance(0.3))
          attempt(true, [&] { cache.clear(a); }) && (model[at(a)].clear(), true);
        break;
      case 10:
        if (random_.chance(0.5)) break;
        attempt(true, [&] { cache.fork(a, b); }) && (model[at(b)] = Sequence(model[at(a)]), true);
        break;
      case 11: {
        std::vector<Index> from;
        for (Index i = 0; i < batch; ++i) from.push_back(sequence());
        attempt(true, [&] { cache.reorder(from); });
        const Model before = model;
        for (Index i = 0; i < batch; ++i) model[at(i)] = before[at(from[at(i)])];
        break;
      }
      case 12: {  // another cache takes over, and the first one ends
        Cache copy = cache.clone();
        if (random_.chance(0.5)) copy = std::move(cache);
        cache = std::move(copy);
        break;
      }
      case 13:
        transaction();
        break;
      case 14:
        if constexpr (is_paged) prefixes(cache, model[at(a)], a);
        break;
      case 15: {  // a fork by way of a file
        std::stringstream file;
        save(cache, a, file);
        attempt(must_load(layer, a), [&] { load(cache, b, file); }) &&
            (model[at(b)] = Sequence(model[at(a)]), true);
        break;
      }
      case 16: {
        const Index end = random_.integer(0, length(layer, a));
        const Index begin = std::max<Index>(end - some_count(), 0);
        Sequence& s = model[at(a)];
        attempt(must_drop(layer, a, begin, end), [&] { drop_tokens(cache, a, begin, end); }) &&
            (s.erase(s.begin() + begin, s.begin() + end), true);
        break;
      }
    }
  }

  /// One step of both layers, which may fail at the start, be given up half-way, or succeed.
  void transaction() {
    AppendTransaction step;
    const auto counts = some_counts();
    const Index most = *std::max_element(counts.begin(), counts.end());
    Model before[2] = {models_[0], models_[1]};
    for (Index layer = 0; layer < 2; ++layer) {
      std::optional<bool> expected = must_take_all(layer, counts);
      if (!attempt(expected, [&] { step.plan(layers_[at(layer)], counts); })) return;
    }
    for (Index layer = 0; layer < 2; ++layer) {
      const auto [tokens, k, v] = make_tokens(batch, most);
      for (Index b = 0; b < batch; ++b) {
        // In pieces, and not always as many as planned.
        const Index all = random_.chance(0.8) ? counts[at(b)] : random_.integer(0, counts[at(b)]);
        const Index first = random_.integer(0, all);
        for (const auto& [begin, n] : {std::pair(Index{0}, first), std::pair(first, all - first)}) {
          attempt(true, [&, &k = k, &v = v, begin = begin, n = n] {
            layers_[at(layer)].append(b, k.view().sequence(b).tokens_slice(begin, n),
                                      v.view().sequence(b).tokens_slice(begin, n));
          });
          extend(models_[at(layer)][at(b)], tokens, b * most + begin, n);
        }
      }
      if (random_.chance(0.2)) break;
    }
    if (random_.chance(0.5)) {
      step.commit();
    } else {
      if (random_.chance(0.5)) step.roll_back();  // or at its end
      models_[0] = before[0];
      models_[1] = before[1];
    }
  }

  void prefixes(Cache& cache, Sequence& model, Index b) {
    if (prefix_ && random_.chance(0.5)) {
      attempt(true, [&] { cache.start_with(b, *prefix_); });
      model = prefix_tokens_;
      return;
    }
    const Index tokens = random_.integer(0, std::ssize(model));
    if (attempt(free_pages() >= 1 ? std::optional(true) : std::nullopt,
                [&] { prefix_.emplace(cache.share_prefix(b, tokens)); })) {
      prefix_tokens_.assign(model.begin(), model.begin() + tokens);
    }
  }

  // --- what must happen: true, false, or nothing where it depends on how pages are shared

  static std::optional<bool> both(std::optional<bool> a, std::optional<bool> b) {
    if (a == false || b == false) return false;
    return a && b ? std::optional(true) : std::nullopt;
  }
  Index free_pages() const {
    if constexpr (is_paged) return layers_[0].allocator()->statistics().free;
    return 0;
  }
  std::optional<bool> must_take_all(Index layer, const std::vector<Index>& counts) const {
    if constexpr (is_paged) {
      Index least = 0, most = 0;
      for (Index b = 0; b < batch; ++b) {
        const Index n = counts[at(b)], have = length(layer, b), tokens = layers_[0].page_tokens();
        if (n > capacity - have) return false;
        least += ceil_div(have + n, tokens) - ceil_div(have, tokens);
        most += n > 0 && have % tokens != 0;  // a copy of the last page
      }
      if (least > free_pages()) return false;
      return least + most <= free_pages() ? std::optional(true) : std::nullopt;
    }
    for (Index b = 0; b < batch; ++b) {
      if (counts[at(b)] > (is_ring ? spare : capacity - length(layer, b))) return false;
    }
    return true;
  }
  std::optional<bool> must_take(Index layer, Index b, Index count) const {
    std::vector<Index> counts(at(batch), 0);
    counts[at(b)] = count;
    return must_take_all(layer, counts);
  }
  std::optional<bool> must_go_back(Index layer, Index b, Index to) const {
    if constexpr (is_ring) {
      const bool can = layers_[at(layer)].can_rollback(b, length(layer, b) - to);
      EXPECT_TRUE(can || to > 0);
      return can;
    }
    if (is_paged && to < length(layer, b) && to % block_keys != 0 && free_pages() < batch) {
      return std::nullopt;
    }
    return true;
  }

  std::optional<bool> must_load(Index layer, Index b) const {
    if constexpr (is_paged) {
      return ceil_div(length(layer, b), layers_[0].page_tokens()) <= free_pages();
    }
    return true;
  }
  std::optional<bool> must_drop(Index layer, Index b, Index begin, Index end) const {
    if constexpr (is_paged) return begin == end ? std::optional(true) : std::nullopt;
    if constexpr (is_ring) {
      bool can = layers_[at(layer)].can_rollback(b, length(layer, b) - begin);
      for (Index t = end; t < length(layer, b); ++t) can &= layers_[at(layer)].holds(b, t);
      return can || begin == end;
    }
    return true;
  }

  /// Does it, or finds it refused with nothing changed. Returns whether it was done.
  template <typename F>
  bool attempt(std::optional<bool> expected, F operation) {
    const Index free_before = free_pages();
    try {
      operation();
      EXPECT_TRUE(expected.value_or(true));
      ++done_;
      return true;
    } catch (const std::length_error& error) {
      EXPECT_FALSE(expected.value_or(false)) << error.what();
      EXPECT_EQ(free_pages(), free_before) << error.what();
      ++refused_;
      check();
      return false;
    }
  }

  struct Tokens {
    std::vector<Token> numbers;  // [batch, count]
    TestTensor<Storage> k, v;
  };
  Tokens make_tokens(Index sequences, Index count) {
    Tokens t{{},
             TestTensor<Storage>({sequences, count, num_kv_heads, head_dim}),
             TestTensor<Storage>({sequences, count, num_kv_heads, value_dim})};
    for (Index b = 0; b < sequences; ++b) {
      for (Index i = 0; i < count; ++i) {
        t.numbers.push_back(next_token_++);
        for (Index h = 0; h < num_kv_heads; ++h) {
          fill_row(t.numbers.back(), h, false, t.k.row(b, i, h), head_dim);
          fill_row(t.numbers.back(), h, true, t.v.row(b, i, h), value_dim);
        }
      }
    }
    return t;
  }
  std::vector<Index> some_counts() {
    std::vector<Index> counts;
    for (Index b = 0; b < batch; ++b) counts.push_back(random_.chance(0.2) ? 0 : some_count());
    return counts;
  }
  static bool extend(Sequence& sequence, const std::vector<Token>& tokens, Index from,
                     Index count) {
    sequence.insert(sequence.end(), tokens.begin() + from, tokens.begin() + from + count);
    return true;
  }

  // --- does everything hold?

  void check() {
    for (Index layer = 0; layer < 2; ++layer) {
      for (Index b = 0; b < batch; ++b) {
        ASSERT_EQ(layers_[at(layer)].length(b), length(layer, b)) << "sequence " << b;
        check_tokens(layers_[at(layer)], b, models_[at(layer)][at(b)]);
        check_blocks(layers_[at(layer)], b);
      }
    }
    if constexpr (is_paged) {
      const PageStatistics s = layers_[0].allocator()->statistics();
      ASSERT_EQ(s.free + s.used + s.claimed, s.pages);
      ASSERT_LE(s.shared, s.used);
    }
  }
  /// Each token that must be there, read back.
  void check_tokens(const Cache& cache, Index b, const Sequence& tokens) {
    const auto held = [&](Index t) {
      if constexpr (is_ring) {
        const bool must = t < keep_first || t >= std::ssize(tokens) - window;
        EXPECT_TRUE(!must || cache.holds(b, t)) << t;
        return cache.holds(b, t);
      }
      return true;
    };
    for (Index t = 0; t < std::ssize(tokens);) {
      if (!held(t)) {
        ++t;
        continue;
      }
      Index end = t + 1;
      while (end < std::ssize(tokens) && held(end)) ++end;
      TestTensor<Storage> k({1, end - t, num_kv_heads, head_dim});
      TestTensor<Storage> v({1, end - t, num_kv_heads, value_dim});
      cache.read(b, t, k.view(), v.view());
      for (Index i = 0; t < end; ++t, ++i) {
        for (Index h = 0; h < num_kv_heads; ++h) {
          Storage key[head_dim], value[value_dim];
          fill_row(tokens[at(t)], h, false, key, head_dim);
          fill_row(tokens[at(t)], h, true, value, value_dim);
          ASSERT_EQ(std::memcmp(key, k.row(0, i, h), sizeof key), 0) << "token " << t;
          ASSERT_EQ(std::memcmp(value, v.row(0, i, h), sizeof value), 0) << "token " << t;
        }
      }
    }
  }
  /// Runs are whole blocks in order; in the last one, there are zeros after the last token.
  void check_blocks(const Cache& cache, Index b) {
    const StripLayout<Storage> layout(head_dim, value_dim);
    const Index length = cache.length(b);
    for (Index h = 0; h < num_kv_heads; ++h) {
      Index next = 0;
      cache.for_each_run(b, h, 0, length, [&](const StripRun& run) {
        ASSERT_EQ(run.first % block_keys, 0);
        ASSERT_TRUE(is_ring || run.first == next);
        ASSERT_GE(run.first, next);
        next = run.first + run.count;
        ASSERT_TRUE(next == length || run.count % block_keys == 0);
      });
      ASSERT_EQ(next, length);
      if (length % block_keys == 0) continue;
      cache.for_each_run(b, h, length / block_keys * block_keys, length, [&](const StripRun& run) {
        const auto* block = reinterpret_cast<const Storage*>(run.blocks);
        const auto is_zero = [&](Index offset) {
          const Storage zero(0);
          return std::memcmp(block + offset, &zero, sizeof zero) == 0;
        };
        for (Index t = length % block_keys; t < block_keys; ++t) {
          for (Index c = 0; c < layout.padded_head_dim(); ++c) {
            ASSERT_TRUE(is_zero(layout.key_offset(t, c))) << "behind token " << length;
          }
          for (Index c = 0; c < layout.padded_value_dim(); ++c) {
            ASSERT_TRUE(is_zero(layout.value_offset(t, c))) << "behind token " << length;
          }
        }
      });
    }
  }

  struct NoPrefix {
    using Prefix = int;
  };
  using Prefix = typename std::conditional_t<is_paged, Cache, NoPrefix>::Prefix;

  Random random_;
  std::vector<Cache> layers_;  // [2]
  Model models_[2] = {Model(at(batch)), Model(at(batch))};
  std::optional<Prefix> prefix_;
  Sequence prefix_tokens_;
  Token next_token_ = 1;
  int done_ = 0, refused_ = 0;
};

template <typename Kind>
class CacheModel : public testing::Test {};
using Kinds = testing::Types<FixedKind, GrowingKind, RingKind, PagedKind<64>, PagedKind<192>>;
struct KindNames {
  template <typename Kind>
  static std::string GetName(int) {
    return Kind::name;
  }
};
TYPED_TEST_SUITE(CacheModel, Kinds, KindNames);

template <typename Kind, typename Storage>
void run(int operations) {
  const std::uint64_t seed = run_seed();
  SCOPED_TRACE(message("GQA_TEST_SEED=", seed, ", ", Kind::name, " of ", scalar_name<Storage>()));
  Harness<Kind, Storage>(seed).run(operations);
}

TYPED_TEST(CacheModel, AgreesAfterAnyOperations) { run<TypeParam, float>(5000); }
TYPED_TEST(CacheModel, AgreesWith16Bits) { run<TypeParam, bfloat16>(1000); }

}  // namespace
}  // namespace gqa::test
