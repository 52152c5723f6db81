// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// attend() against the reference on each instruction set, row by row, with the same problems for
// all: this file is compiled for several (CMakeLists.txt here and in ../isa), and skipped where the
// machine lacks one.
#include "support/isa.hpp"

#include <gtest/gtest.h>

#include "support/attention_case.hpp"
#include "support/gradient_check.hpp"

namespace gqa::test {
namespace {

/// Sizes that lead through the kernels in different ways. The numbers of rows, group · q_len, meet
/// every height of the register tiles, one row block and several.
struct Path {
  Index q_len, kv_len, threads;
  bool splits = false;  ///< the splits of the keys are tasks of their own
};
constexpr Path paths[] = {
    {1, 1, 1},          {1, 33, 1}, {3, 130, 1}, {1, 600, 2, true},  // decode
    {2, 1100, 2, true}, {9, 64, 1}, {4, 600, 1}, {20, 90, 2},        // and prefill
};

template <typename Input, typename Source, typename RulesT>
bool splits_are_tasks(const Input& input, const Source& source, const RulesT& rules,
                      Index threads) {
  using Out = AccumulatorOf<ScalarOf<decltype(input.q.view())>>;
  const AttendOptions<Out> options{.q_lens = input.q_lens};
  TestTensor<Out> out(input.out_shape());
  return explain(input.q.view(), source, out.view(), rules, options, TestExecutor{threads})
      .split_kv;
}

template <Scalar Query, Scalar Storage>
void check() {
  GQA_TEST_SKIP_FOREIGN_ISA();
  using Out = AccumulatorOf<Query>;  // so that no rounding of outputs hides an error
  Random random(3);
  double worst = 0;
  for (const Index group : {1, 2, 4, 5, 6, 7, 12, 13, 50}) {
    for (const Path& path : paths) {
      AttentionCase c{
          .group = group, .num_kv_heads = 2, .q_len = path.q_len, .kv_len = path.kv_len};
      c.threads = path.threads;
      c.head_dim = random.pick(std::vector<Index>{8, 17, 64, 128});
      c.value_dim = random.pick(std::vector<Index>{8, 15, 48, 72, 128});
      if (!path.splits && random.chance(0.3)) c.ragged = Ragged::both;
      c.numbers = Numbers(random.integer(0, 2));
      c.mask = MaskChoice(random.integer(0, std::ssize(mask_names) - 1));
      if (path.splits && random.chance(0.7)) c.mask = MaskChoice::causal;
      c.score = ScoreChoice(random.integer(0, std::ssize(score_names) - 1));
      c.seed = random.bits();
      if (emulated && group != 1 && group != 13) continue;

      Random numbers(c.seed);
      const auto input = make_input<Query, Storage>(c, numbers);
      const auto cache = input.cache();
      RuleFactory factory(c.shape(), numbers);
      const auto rules = factory.masks_and_scores(factory.default_scale(), c.mask, c.score);
      const auto result = attend_over<Out>(input, cache, rules, TestExecutor{c.threads});
      worst = std::max(worst, expect_close(result, expect_attention(input, rules), to_string(c)));
      if (c.threads > 1) {
        EXPECT_TRUE(same_bits(result, attend_over<Out>(input, cache, rules, TestExecutor{1})))
            << "by " << c.threads << " threads and by one: " << to_string(c);
      }
      // (A mask under which one split is seen leaves nothing to share out.)
      const bool splits = splits_are_tasks(input, cache, rules, c.threads);
      if (c.mask == MaskChoice::causal || !path.splits) {
        EXPECT_EQ(splits, path.splits) << to_string(c);
      }
      if (testing::Test::HasFailure()) return;
    }
  }
  std::printf("%s: largest error %.3f of its tolerance\n", simd::isa_name, worst);
}

TEST(Isa, AttendEqualsReference_F32) { check<float, float>(); }
TEST(Isa, AttendEqualsReference_F64) { check<double, double>(); }
TEST(Isa, AttendEqualsReference_BF16) { check<bfloat16, bfloat16>(); }
TEST(Isa, AttendEqualsReference_F16) { check<half, half>(); }

TEST(Isa, BackwardEqualsReference_F32) {
  GQA_TEST_SKIP_FOREIGN_ISA();
  Random random(5);
  for (const Index group : {1, 5, 13}) {
    for (const Index dim : {17, 64}) {
      if (emulated && (group != 5 || dim != 17)) continue;
      const AttentionCase c{.group = group,
                            .num_kv_heads = 2,
                            .q_len = 70,
                            .kv_len = 100,
                            .head_dim = dim,
                            .value_dim = 81 - dim};
      const auto input = make_input<float, float>(c, random);
      RuleFactory factory(c.shape(), random);
      const auto rules = factory.masks_and_scores(factory.default_scale(), MaskChoice::causal,
                                                  ScoreChoice::soft_cap);
      const auto dout = random_tensor<float>(random, input.out_shape());
      auto forward = attend_over<float>(input, input.cache(), rules);
      const auto gradients = backward_of(input, dout, forward, rules);
      ExpectedGradients<float>(input, dout, rules).expect_close(gradients, to_string(c));
      EXPECT_TRUE(same_bits(backward_of(input, dout, forward, rules, TestExecutor{3}), gradients));
    }
  }
}

TEST(Isa, QuantizedWeightsThatAreNearlyNothingLeaveFiniteResults) {
  GQA_TEST_SKIP_FOREIGN_ISA();
  // Key 0 is 84 nats above all others, so that a block's largest weight is about 1e-37.
  KvCache<Int8> cache({.batch = 1, .capacity = 128, .heads = Heads<>(1, 1, 16)});
  TestTensor<float> q({1, 1, 1, 16}), k({1, 128, 1, 16}), v({1, 128, 1, 16}), out({1, 1, 1, 16});
  q.row(0, 0, 0)[0] = 1;
  k.row(0, 0, 0)[0] = 84;
  for (Index j = 0; j < 128; ++j) std::fill_n(v.row(0, j, 0), 16, j == 0 ? 1.0f : -1.0f);
  cache.append(k.view(), v.view());
  attend(q.view(), cache, out.view(), Scale{1});
  for (Index c = 0; c < 16; ++c) EXPECT_NEAR(out.row(0, 0, 0)[c], 1, 0.01);
}

TEST(Isa, PromptGivesTheSameBitsWholeAndTokenByToken) {
  GQA_TEST_SKIP_FOREIGN_ISA();
  Random random(4);
  for (const Index group : {1, 5}) {
    AttentionCase c{.group = group, .q_len = 140, .kv_len = 560, .head_dim = 33, .value_dim = 40};
    const auto input = make_input<float, float>(c, random);
    const auto cache = input.cache();
    const auto rules = erase_masks(Causal{});
    const auto whole = attend_over(input, cache, rules);
    for (Index i = 0; i < c.q_len; ++i) {
      AttentionInput<float, float> one{.q = TestTensor<float>({1, 1, group, 33}),
                                       .k = input.k,
                                       .v = input.v,
                                       .positions = {input.q_pos(0, i)}};
      for (Index h = 0; h < group; ++h) std::copy_n(input.q.row(0, i, h), 33, one.q.row(0, 0, h));
      const auto alone = attend_over(one, cache, rules);
      for (Index h = 0; h < group; ++h) {
        ASSERT_EQ(alone.lse[static_cast<std::size_t>(h)],
                  whole.lse[static_cast<std::size_t>(h * c.q_len + i)]);
        ASSERT_EQ(0,
                  std::memcmp(alone.out.row(0, 0, h), whole.out.row(0, i, h), 40 * sizeof(float)));
      }
    }
  }
}

}  // namespace
}  // namespace gqa::test
