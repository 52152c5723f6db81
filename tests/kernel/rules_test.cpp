// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// attend() compiled for each mask and rule as users write them, against the reference. The sweeps
// (sweep.hpp) go through many more cases, but behind one type.
#include <gtest/gtest.h>

#include "support/attention_check.hpp"

namespace gqa::test {
namespace {

constexpr Index batch = 2, num_heads = 6, num_kv_heads = 2;

/// Decoding and prefilling shapes over a cache, with tables for the rules.
class AttendWith : public testing::TestWithParam<std::pair<Index, Index>> {
 protected:
  AttendWith() : random(1), q_len(GetParam().first), kv_len(GetParam().second) {
    input = {.q = random_tensor<float>(random, {batch, q_len, num_heads, 24}),
             .k = random_tensor<float>(random, {batch, kv_len, num_kv_heads, 24}),
             .v = random_tensor<float>(random, {batch, kv_len, num_kv_heads, 40}),
             .lengths = {kv_len, kv_len * 2 / 3}};
  }
  void check(const auto& rules) {
    expect_close(attend_over(input, input.cache(), rules), expect_attention(input, rules),
                 message("q_len ", q_len, ", kv_len ", kv_len));
  }
  std::vector<float> floats(Index n) {
    std::vector<float> numbers(static_cast<std::size_t>(n));
    for (float& x : numbers) x = static_cast<float>(random.normal());
    return numbers;
  }
  std::vector<int> ids(Index n) {
    std::vector<int> numbers(static_cast<std::size_t>(n));
    for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<int>(i / 40 % 3);
    return numbers;
  }

  Random random;
  Index q_len, kv_len;
  AttentionInput<float, float> input;
};
INSTANTIATE_TEST_SUITE_P(Shapes, AttendWith,
                         testing::Values(std::pair(1, 200), std::pair(5, 63), std::pair(70, 70),
                                         std::pair(3, 1200), std::pair(40, 30)));

TEST_P(AttendWith, NoMask) { check(NoMask{}); }
TEST_P(AttendWith, CausalTopLeft) { check(Causal::top_left()); }
TEST_P(AttendWith, WindowAndItsException) {
  check(Causal{} & SlidingWindow::from_hf(37) & KeepFirst{5});
}
TEST_P(AttendWith, TheLargestWindowsAndPrefixes) {
  constexpr Index most = std::numeric_limits<Index>::max();
  check(SlidingWindow::from_flash(most, most));
  check(SlidingWindow{.left = 3, .right = most});
  check(SlidingWindow{.left = 3, .right = 3} & KeepFirst{most});
  check(PrefixLm{.length = most});
  const auto all = attend_over(input, input.cache(), NoMask{});
  const auto same_as_all = [&](const auto& rules) {
    AttentionResult<float, float> exact(input.out_shape());
    reference(input.q.view(), input.cache(), exact.out.view(), rules, {{.lse = exact.lse_view()}});
    expect_close(exact, expect_attention(input, NoMask{}), "reference");
    return same_bits(attend_over(input, input.cache(), rules), all);
  };
  EXPECT_TRUE(same_as_all(SlidingWindow{.left = most}));
  EXPECT_TRUE(same_as_all(SlidingWindow{.right = most}));
  EXPECT_TRUE(same_as_all(SlidingWindow::from_flash(most, most)));
  EXPECT_TRUE(same_as_all(PrefixLm{.length = most}));
}
TEST_P(AttendWith, PositionsBeyondTheFarthest) {
  constexpr Index most = std::numeric_limits<Index>::max(), least = -most - 1;
  const auto table = floats(32 * num_heads);
  for (const auto& [given, counts_as] : {std::pair(most, farthest_position),
                                         {most - 1, farthest_position},
                                         {farthest_position, farthest_position},
                                         {-farthest_position, -farthest_position},
                                         {least, -farthest_position}}) {
    auto far = input;
    for (Index i = 0; i < batch * q_len; ++i) {
      far.positions.push_back(i % 3 == 0 ? 7 : given);
      input.positions.push_back(i % 3 == 0 ? 7 : counts_as);
    }
    const auto expect_same = [&](const auto& rules) {
      check(rules);
      EXPECT_TRUE(same_bits(attend_over(far, input.cache(), rules),
                            attend_over(input, input.cache(), rules)));
    };
    expect_same(as_rules(Causal{}));
    expect_same(as_rules(SlidingWindow{.left = 5, .right = 9}));
    expect_same(SlidingWindow{.left = most, .right = 2} & KeepFirst{3});
    expect_same(as_rules(PrefixLm{.length = 4}));
    expect_same(as_rules(RelativeBias{.table = table, .num_heads = num_heads}));
    input.positions.clear();
  }
}
TEST_P(AttendWith, PrefixLm) { check(PrefixLm{.length = kv_len / 2}); }
TEST_P(AttendWith, Documents) {
  const auto q_ids = ids(batch * q_len), k_ids = ids(batch * kv_len);
  check(Documents{.q_ids = q_ids, .k_ids = k_ids, .q_len = q_len, .kv_len = kv_len} & Causal{});
}
TEST_P(AttendWith, DenseMaskPerHead) {
  Eigen::Tensor<bool, 4, Eigen::RowMajor> mask(1, num_heads, q_len, kv_len);
  std::generate_n(mask.data(), mask.size(), [&] { return random.chance(0.6); });
  check(DenseMask{mask});
}
TEST_P(AttendWith, BiasPerHeadThatHides) {
  Eigen::Tensor<float, 4, Eigen::RowMajor> bias(batch, num_heads, 1, kv_len);
  std::generate_n(bias.data(), bias.size(), [&] {
    return random.chance(0.3) ? -std::numeric_limits<float>::infinity()
                              : static_cast<float>(random.normal());
  });
  check(AdditiveBias{DenseView<float>(bias)});
}
TEST_P(AttendWith, SoftCapAlibiAndSinks) {
  const auto logits = floats(num_heads);
  check(Causal{} & SoftCap{4.0f} & Alibi::standard(num_heads) & SinkLogits{logits});
}
TEST_P(AttendWith, RelativeBias) {
  const auto table = floats(32 * num_heads);
  check(RelativeBias{.table = table, .num_heads = num_heads} & Scale{1.0});
}
TEST_P(AttendWith, SinksAlone) {
  const auto logits = floats(num_heads);
  check(Causal{} & SinkLogits{logits});
}
TEST_P(AttendWith, UsersFunctions) {
  check(mask_function([](const Where& w) { return (w.k_pos ^ w.head) % 3 != 0; }) &
        score_function([](auto x, const Where& w) { return w.k_index % 2 == 0 ? x : x / 2; }));
}

}  // namespace
}  // namespace gqa::test
