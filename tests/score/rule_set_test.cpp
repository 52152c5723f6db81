// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
#include "gqa/score/rule_set.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "gqa/cache/contiguous.hpp"
#include "gqa/kernel/attend.hpp"
#include "gqa/kernel/backward.hpp"
#include "support/errors.hpp"

namespace gqa::test {
namespace {

/// A part of a user's own that counts its copies.
struct CountedMask {
  int* alive;

  explicit CountedMask(int* count) : alive(count) { ++*alive; }
  CountedMask(const CountedMask& other) : alive(other.alive) { ++*alive; }
  CountedMask& operator=(const CountedMask&) = delete;
  ~CountedMask() { --*alive; }
  bool visible(const Where& w) const { return w.k_index % 3 != 1; }
  Coverage tile(const Tile&) const { return Coverage::partial; }
};

/// out, then lse, of 5 queries and 70 keys.
template <typename RulesT>
std::vector<float> attended(const RulesT& rules) {
  constexpr Index heads = 4, kv_heads = 2, dim = 16, tokens = 5, keys = 70;
  const auto numbers = [](Index n) {
    std::vector<float> x(static_cast<std::size_t>(n));
    for (std::size_t i = 0; i < x.size(); ++i) {
      x[i] = static_cast<float>(static_cast<int>(i * 37 % 101) - 50) / 25;
    }
    return x;
  };
  const auto q = numbers(tokens * heads * dim), k = numbers(keys * kv_heads * dim);
  std::vector<float> out(q.size()), lse(static_cast<std::size_t>(heads * tokens));
  attend(TensorView<const float>(q.data(), {1, tokens, heads, dim}),
         rows_kv(TensorView<const float>(k.data(), {1, keys, kv_heads, dim}),
                 TensorView<const float>(k.data(), {1, keys, kv_heads, dim})),
         TensorView<float>(out.data(), {1, tokens, heads, dim}), rules,
         {.lse = LseView<float>(lse.data(), 1, heads, tokens)});
  out.insert(out.end(), lse.begin(), lse.end());
  return out;
}

TEST(RuleSet, GivesTheBitsOfItsPartsJoined) {
  int alive = 0;
  const CountedMask own(&alive);
  const std::vector<float> sinks{0.5f, -1, 2, 0};
  RuleSet rules;
  EXPECT_TRUE(rules.empty());
  EXPECT_EQ(attended(rules), attended(NoMask{}));
  rules.add(Causal{});
  EXPECT_EQ(attended(rules), attended(Causal{}));
  rules.add(SlidingWindow::from_hf(40) & KeepFirst{3}).add(SoftCap{5.0f});
  EXPECT_EQ(attended(rules),
            attended(Causal{} & SlidingWindow::from_hf(40) & KeepFirst{3} & SoftCap{5.0f}));
  rules.add(own).add(SinkLogits{sinks}).add(Scale{0.3}).add(Alibi::standard(4));
  EXPECT_EQ(attended(rules),
            attended(Causal{} & SlidingWindow::from_hf(40) & KeepFirst{3} & SoftCap{5.0f} & own &
                     SinkLogits{sinks} & Scale{0.3} & Alibi::standard(4)));
}

TEST(RuleSet, JoinsWithPartsOnEitherSide) {
  const RuleSet causal = Causal{};
  EXPECT_EQ(attended(causal & SoftCap{5.0f}), attended(Causal{} & SoftCap{5.0f}));
  EXPECT_EQ(attended(SoftCap{5.0f} & causal), attended(Causal{} & SoftCap{5.0f}));
  EXPECT_EQ(attended(causal & RuleSet(SoftCap{5.0f})), attended(Causal{} & SoftCap{5.0f}));
}

TEST(RuleSet, OwnsCopiesOfItsParts) {
  int alive = 0;
  {
    RuleSet rules;
    {
      const CountedMask own(&alive);
      rules.add(own);
    }
    EXPECT_EQ(alive, 1);
    RuleSet copy = rules;
    EXPECT_EQ(alive, 2);
    RuleSet moved = std::move(copy);
    EXPECT_EQ(alive, 2);
    copy = moved;
    EXPECT_EQ(alive, 3);
    rules = RuleSet();
    EXPECT_EQ(alive, 2);
    const RuleSet* const same = &moved;
    moved = *same;
    moved.add(moved);
    EXPECT_EQ(alive, 3);
  }
  EXPECT_EQ(alive, 0);
}

TEST(RuleSet, HasOneScaleAndOneSetOfSinksAndStaysAsItWas) {
  const std::vector<float> sinks{0.5f, -1, 2, 0};
  int alive = 0;
  RuleSet rules = Scale{0.3};
  rules.add(SinkLogits{sinks});
  const auto before = attended(rules);
  EXPECT_EQ(error_of([&] { rules.add(CountedMask(&alive) & Scale{0.2}); }),
            "RuleSet: more than one Scale");
  EXPECT_EQ(error_of([&] { rules.add(SinkLogits{sinks}); }), "RuleSet: more than one SinkLogits");
  EXPECT_EQ(alive, 0);
  EXPECT_EQ(attended(rules), before);
}

TEST(RuleSet, IsAskedForDerivativesWhenGradientsNeedThem) {
  const RuleSet rules = score_function([](auto x, const Where&) { return x * 2; });
  std::vector<float> x(16, 1.0f), lse(1, 0.0f), dx(16);
  const TensorView<const float> view(x.data(), {1, 1, 1, 16});
  const TensorView<float> to(dx.data(), {1, 1, 1, 16});
  EXPECT_EQ(error_of([&] {
              attend_backward(view, view, rows_kv(view, view), view,
                              LseView<const float>(lse.data(), 1, 1, 1), to, to, to, rules);
            }),
            "attend_backward: a score rule has no derivative: give it derivative(x, where), or "
            "`static constexpr bool is_shift = true` if it only adds to x");
}

}  // namespace
}  // namespace gqa::test
