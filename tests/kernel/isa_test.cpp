// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// attend() against the reference on each instruction set: this file is compiled for several
// (CMakeLists.txt), and skipped where the machine lacks one.
#include "support/isa.hpp"

#include <gtest/gtest.h>

#include "support/attention_case.hpp"

namespace gqa::test {
namespace {

template <Scalar Query, Scalar Storage>
void check() {
  GQA_TEST_SKIP_FOREIGN_ISA();
  Random random(3);
  double worst = 0;
  for (const Index group : {1, 2, 4, 5, 6, 7, 12, 13, 50}) {
    for (const Index q_len : {1, 3, 9}) {
      for (const Index kv_len : {1, 33, 64, 130, 600}) {
        AttentionCase c{.group = group, .num_kv_heads = 2, .q_len = q_len, .kv_len = kv_len};
        c.head_dim = random.pick(std::vector<Index>{8, 17, 64, 128});
        c.value_dim = random.pick(std::vector<Index>{8, 15, 48, 72, 128});
        c.ragged = random.chance(0.3) ? Ragged::both : Ragged::none;
        c.numbers = Numbers(random.integer(0, 2));
        c.mask = MaskChoice(random.integer(0, std::ssize(mask_names) - 1));
        c.score = ScoreChoice(random.integer(0, std::ssize(score_names) - 1));
        c.seed = random.bits();
        worst = std::max(worst, check_case<Query, Storage, Query, true>(c));
        if (testing::Test::HasFailure()) return;
      }
    }
  }
  std::printf("%s: largest error %.3f of its tolerance\n", simd::isa_name, worst);
}

TEST(Isa, AttendEqualsReference_F32) { check<float, float>(); }
TEST(Isa, AttendEqualsReference_F64) { check<double, double>(); }
TEST(Isa, AttendEqualsReference_BF16) { check<float, bfloat16>(); }
TEST(Isa, AttendEqualsReference_F16) { check<float, half>(); }

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
