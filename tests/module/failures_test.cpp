// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Passes whose executor fails, which find no memory, or whose mask throws: y, the cache and the
// gradients are then as they were.
#include <gtest/gtest.h>

#include <cstring>

#include "../cache/failing_new.hpp"
#include "layer.hpp"
#include "support/failing_executor.hpp"

namespace gqa::test {
namespace {

using Layer = MultiHeadAttention<float>;

bool same(const Hidden<float>& a, const Hidden<float>& b) {
  return std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.size()) * sizeof(float)) == 0;
}
bool same(std::span<const float> a, std::span<const float> b) {
  return std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

/// What a cache holds: of each sequence, its keys and values.
template <typename Cache>
std::vector<std::vector<float>> contents(const Cache& cache) {
  std::vector<std::vector<float>> all;
  for (Index b = 0; b < cache.batch(); ++b) {
    const TensorShape keys{1, cache.length(b), cache.num_kv_heads(), cache.head_dim()};
    for (int values = 0; values < 2; ++values) {
      all.emplace_back(static_cast<std::size_t>(keys.tokens * keys.heads * keys.dim));
    }
    cache.read(b, 0, TensorView<float>(all[all.size() - 2].data(), keys),
               TensorView<float>(all.back().data(), keys));
  }
  return all;
}

const MultiHeadAttentionConfig config{.hidden_size = 96,
                                      .num_heads = 6,
                                      .num_kv_heads = 2,
                                      .qkv_bias = true,
                                      .out_bias = true,
                                      .rope = RopeConfig{},
                                      .qk_norm = QkNorm{}};
const std::vector<Index> q_lens{70, 20};

struct Passes : testing::Test {
  Layer layer = random_layer<float>(config);
  Hidden<float> prompt = random_hidden<float>(2, 10, 96, 1);
  Hidden<float> x = random_hidden<float>(2, 70, 96, 2);
  Hidden<float> untouched = random_hidden<float>(2, 70, 96, 3);
  Hidden<float> y = untouched;

  /// Fails every run of a pass that goes on from the prompt in a cache.
  template <typename MakeCache>
  void fail_with(MakeCache make_cache) {
    std::optional cache(make_cache());
    const auto forward = [&](const auto& executor) {
      layer.forward(x, y, &*cache, nullptr, Causal{}, executor, q_lens);
    };
    Hidden<float> scratch(prompt.dimensions());
    const auto start = [&] {
      y = untouched;
      cache.emplace(make_cache());
      layer.forward(prompt, scratch, &*cache);
    };
    start();
    const auto before = contents(*cache);
    forward(Serial{});
    const auto after = contents(*cache);
    const Hidden<float> expected = y;
    const int thrown = fail_at_every_run(
        start, forward, [&] { return same(y, untouched) && contents(*cache) == before; },
        [&] { return same(y, expected) && contents(*cache) == after; });
    EXPECT_GE(thrown, 3);  // projections in, attention, projection out

    // A failed pass leaves nothing behind that the next one would see.
    start();
    EXPECT_THROW(forward(FailingExecutor{.fails_at = thrown}), ExecutorFailure);
    forward(Serial{});
    EXPECT_TRUE(same(y, expected) && contents(*cache) == after);

    struct Refuses {
      bool visible(const Where& w) const {
        return w.k_pos == 50 ? throw ExecutorFailure() : w.k_pos <= w.q_pos;
      }
      Coverage tile(const Tile&) const { return Coverage::partial; }
    };
    start();
    EXPECT_THROW(layer.forward(x, y, &*cache, nullptr, Refuses{}, Serial{}, q_lens),
                 ExecutorFailure);
    EXPECT_TRUE(same(y, untouched) && contents(*cache) == before);
  }
};

TEST_F(Passes, LeaveAContiguousCacheAsItWas) {
  fail_with([&] { return KvCache<float>({.batch = 2, .capacity = 80, .heads = layer.heads()}); });
}
TEST_F(Passes, LeaveARingAsItWas) {
  fail_with([&] {
    return RingKvCache<float>({.batch = 2, .window = 100, .spare = 70, .heads = layer.heads()});
  });
}
TEST_F(Passes, LeavePagesAsTheyWere) {
  const auto pages = std::make_shared<PageAllocator>(PageAllocator::Options{
      .pages = 20, .page_bytes = PagedKvCache<float>::page_bytes(layer.heads())});
  fail_with([&] {
    return PagedKvCache<float>(pages, {.batch = 2, .capacity = 80, .heads = layer.heads()});
  });
}

TEST_F(Passes, WithoutACacheLeaveYAsItWas) {
  const auto forward = [&](const auto& executor) {
    layer.forward(x, y, nullptr, nullptr, Causal{}, executor, q_lens);
  };
  forward(Serial{});
  const Hidden<float> expected = y;
  EXPECT_GE(fail_at_every_run([&] { y = untouched; }, forward, [&] { return same(y, untouched); },
                              [&] { return same(y, expected); }),
            3);
}

TEST_F(Passes, WithoutMemoryLeaveACacheAsItWas) {
  Eigen::ThreadPool pool(2);
  long failures = 0;
  for (long number = 0;; ++number) {
    KvCache<float> cache({.batch = 2, .capacity = 80, .heads = layer.heads()});
    Hidden<float> scratch(prompt.dimensions());
    layer.forward(prompt, scratch, &cache);
    const auto before = contents(cache);
    y = untouched;
    bool failed = false;
    fail_allocation(number);
    try {
      layer.forward(x, y, &cache, nullptr, Causal{}, EigenPool(pool), q_lens);
    } catch (const std::bad_alloc&) {
      failed = true;
    }
    fail_allocation(-1);
    if (failed) {
      ++failures;
      EXPECT_TRUE(same(y, untouched) && contents(cache) == before) << number;
    } else {
      EXPECT_EQ(cache.length(0), 80);
    }
    if (number > 60) break;  // more than a pass makes
  }
  EXPECT_GE(failures, 2);  // the pass's scratch, attention's
}

/// Cross-attention, and its two halves.
struct CrossPasses : testing::Test {
  Layer layer = [] {
    auto cross = config;
    cross.rope = {};
    cross.kv_hidden_size = 40;
    return random_layer<float>(cross);
  }();
  Hidden<float> x = random_hidden<float>(2, 5, 96, 2);
  Hidden<float> memory = random_hidden<float>(2, 70, 40, 4);
  Hidden<float> untouched = random_hidden<float>(2, 5, 96, 3);
  Hidden<float> y = untouched;
};

TEST_F(CrossPasses, LeaveTheMemorysCacheAndYAsTheyWere) {
  std::optional<KvCache<float>> cache;
  const auto start = [&] {
    cache.emplace(KvCache<float>::Options{.batch = 2, .capacity = 70, .heads = layer.heads()});
  };
  const auto project = [&](const auto& executor) {
    layer.project_memory(memory, *cache, nullptr, executor, q_lens);
  };
  start();
  const auto empty = contents(*cache);
  project(Serial{});
  const auto full = contents(*cache);
  EXPECT_EQ(fail_at_every_run(
                start, project, [&] { return contents(*cache) == empty; },
                [&] { return contents(*cache) == full; }),
            1);

  const auto cross = [&](const auto& executor) {
    layer.cross(x, y, *cache, nullptr, NoMask{}, executor);
  };
  cross(Serial{});
  const Hidden<float> expected = y;
  EXPECT_GE(fail_at_every_run([&] { y = untouched; }, cross, [&] { return same(y, untouched); },
                              [&] { return same(y, expected); }),
            3);
}

/// The gradients of a pass, all of which an optimiser would use.
struct AllGradients {
  Hidden<float> dx, dmemory;
  std::unique_ptr<AttentionWeights<float>> weights;

  void copy_from(const AllGradients& other) {
    dx = other.dx;
    dmemory = other.dmemory;
    std::ranges::copy(other.weights->numbers(), weights->numbers().begin());
  }
  bool operator==(const AllGradients& other) const {
    return same(dx, other.dx) && same(dmemory, other.dmemory) &&
           same(weights->numbers(), other.weights->numbers());
  }
};
AllGradients make_gradients(const Layer& layer, const Hidden<float>& x,
                            const Hidden<float>& memory) {
  AllGradients gradients{x, memory, std::make_unique<AttentionWeights<float>>(layer.config())};
  gradients.dx.setConstant(-7);
  gradients.dmemory.setConstant(-7);
  std::ranges::fill(gradients.weights->numbers(), 0.25f);
  return gradients;
}

/// Fails every run of a pass there, pass(record, y, executor), and back,
/// back(record, gradients, executor).
template <typename Pass, typename Back>
void fail_training(const Layer& layer, const Hidden<float>& x, const Hidden<float>& memory,
                   Pass pass, Back back) {
  const Hidden<float> untouched = random_hidden<float>(x.dimension(0), x.dimension(1), 96, 9);
  Hidden<float> y = untouched;
  AttentionRecord<float> record;
  pass(record, y, Serial{});
  const Hidden<float> expected_y = y;
  EXPECT_GE(
      fail_at_every_run([&] { y = untouched; },
                        [&](const FailingExecutor& executor) { pass(record, y, executor); },
                        [&] { return same(y, untouched); }, [&] { return same(y, expected_y); }),
      4);

  pass(record, y, Serial{});
  const AllGradients before = make_gradients(layer, x, memory);
  AllGradients expected = make_gradients(layer, x, memory);
  AllGradients result = make_gradients(layer, x, memory);
  back(record, expected, Serial{});
  EXPECT_GE(
      fail_at_every_run([&] { result.copy_from(before); },
                        [&](const FailingExecutor& executor) { back(record, result, executor); },
                        [&] { return result == before; }, [&] { return result == expected; }),
      4);
}

TEST_F(Passes, OfTrainingLeaveYAndAllGradientsAsTheyWere) {
  const Hidden<float> dy = random_hidden<float>(2, 70, 96, 5), none(1, 1, 1);
  fail_training(
      layer, x, none,
      [&](auto& record, auto& out, const auto& executor) {
        layer.forward(x, out, record, nullptr, Causal{}, executor, q_lens);
      },
      [&](const auto& record, auto& gradients, const auto& executor) {
        layer.backward(x, dy, gradients.dx, record, *gradients.weights, nullptr, Causal{}, executor,
                       q_lens);
      });
}

TEST_F(CrossPasses, OfTrainingLeaveYAndAllGradientsAsTheyWere) {
  const Hidden<float> dy = random_hidden<float>(2, 5, 96, 5);
  fail_training(
      layer, x, memory,
      [&](auto& record, auto& out, const auto& executor) {
        layer.cross(x, memory, out, record, nullptr, NoMask{}, executor, {}, q_lens);
      },
      [&](const auto& record, auto& gradients, const auto& executor) {
        layer.cross_backward(x, memory, dy, gradients.dx, gradients.dmemory, record,
                             *gradients.weights, nullptr, NoMask{}, executor, {}, q_lens);
      });
}

}  // namespace
}  // namespace gqa::test
