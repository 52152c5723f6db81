// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
#include "gqa/kernel/explain.hpp"

#include <gtest/gtest.h>

#include "support/attention_case.hpp"
#include "support/errors.hpp"

namespace gqa::test {
namespace {

constexpr Index dim = 64;

struct Call {
  TestTensor<float> q, out;
  KvCache<float> cache;
  Workspace workspace;

  Call(Index q_len, Index kv_len, Index num_heads, Index num_kv_heads)
      : q({1, q_len, num_heads, dim}),
        out({1, q_len, num_heads, dim}),
        cache({.capacity = kv_len, .heads = {num_heads, num_kv_heads, dim, dim}}) {
    q.fill(1);
    TestTensor<float> k({1, kv_len, num_kv_heads, dim});
    k.fill(1);
    cache.append(k.view(), k.view());
  }
  template <typename RulesT>
  Explanation explain(const RulesT& rules, Index threads = 1) {
    return gqa::explain(q.view(), cache, out.view(), rules, {.workspace = &workspace},
                        TestExecutor{threads});
  }
};

TEST(Explain, DecodeReadsEachKvHeadOnceWhateverTheGroup) {
  const double block = 64.0 * 2 * dim * sizeof(float);
  for (const Index num_kv_heads : {16, 4, 1}) {
    const Explanation e = Call(1, 1000, 16, num_kv_heads).explain(Causal{});
    EXPECT_EQ(e.kv_bytes, block * 16 * double(num_kv_heads)) << num_kv_heads;
    EXPECT_EQ(e.flops, 2.0 * 2 * dim * 16 * 1000);
    EXPECT_EQ(e.block_rows, 16 / num_kv_heads);
    EXPECT_EQ(e.tasks, num_kv_heads);
    EXPECT_FALSE(e.split_kv);
  }
  EXPECT_TRUE(Call(1, 1000, 16, 16).explain(Causal{}).memory_bound());
  EXPECT_FALSE(Call(1, 1000, 64, 1).explain(Causal{}).memory_bound());
}

TEST(Explain, WorkersThatLackRowBlocksAreGivenSplits) {
  const Explanation e = Call(1, 2000, 8, 1).explain(Causal{}, 4);
  EXPECT_TRUE(e.split_kv);
  EXPECT_EQ(e.tasks, 4);  // of 512 keys
  EXPECT_EQ(e.workers, 4);
}

TEST(Explain, FewRowsReadAStreamWhereTheProgramReadsMoreThanCachesHold) {
  Call one_row(1, 1000, 4, 4), many_rows(1, 1000, 24, 4);
  EXPECT_FALSE(one_row.explain(Causal{}).streams_kv);
  for (Call* call : {&one_row, &many_rows}) call->workspace.set_working_set(large_kv_bytes);
  EXPECT_TRUE(one_row.explain(Causal{}).streams_kv);
  EXPECT_NE(one_row.explain(Causal{}).text().find("read as a stream"), std::string::npos);
  EXPECT_FALSE(many_rows.explain(Causal{}).streams_kv);
  EXPECT_TRUE(Call(1, large_kv_bytes / (2 * dim * 4) + 1, 1, 1).explain(Causal{}).streams_kv);
}

TEST(Explain, WhatAMaskHidesIsNotCounted) {
  const Explanation whole = Call(1, 1024, 4, 4).explain(Causal{});
  const Explanation window = Call(1, 1024, 4, 4).explain(Causal{} & SlidingWindow::from_hf(128));
  EXPECT_EQ(window.kv_bytes, whole.kv_bytes / 8);
  EXPECT_EQ(window.flops, whole.flops / 8);
  const Explanation prefill = Call(1024, 1024, 4, 4).explain(Causal{});
  EXPECT_LT(prefill.flops, 0.6 * 1024 * whole.flops);
  EXPECT_EQ(prefill.kv_bytes, whole.kv_bytes);
}

TEST(Explain, WhatARingHasDroppedIsNotCounted) {
  RingKvCache<float> ring({.batch = 1, .window = 128, .spare = 64, .heads = Heads<>(4, 2, dim)});
  TestTensor<float> k({1, 1, 2, dim}), q({1, 1, 4, dim}), out({1, 1, 4, dim});
  for (Index i = 0; i < 1000; ++i) ring.append(k.view(), k.view());
  const auto rules = Causal{} & SlidingWindow::from_hf(128);
  const Explanation e = explain(q.view(), ring, out.view(), rules);
  EXPECT_GE(e.kv_bytes, 128 * ring.bytes_per_token());
  EXPECT_LE(e.kv_bytes, 320 * ring.bytes_per_token());
}

TEST(Explain, ScratchIsWhatTheWorkspaceWillHold) {
  for (const Index q_len : {1, 5, 300}) {
    for (const Index threads : {1, 3}) {
      Call c(q_len, 700, 6, 2);
      const Explanation e = c.explain(Causal{}, threads);
      attend(c.q.view(), c.cache, c.out.view(), Causal{}, {.workspace = &c.workspace},
             TestExecutor{threads});
      EXPECT_EQ(c.workspace.bytes(), e.scratch_bytes);
    }
  }
}

TEST(Explain, ShortRequestsBesideALongOneTakeLittleScratch) {
  // Splits have room for their own sequence's rows, not for those of the longest request.
  const auto scratch = [](Index batch, std::vector<Index> q_lens) {
    TestTensor<float> q({batch, 128, 4, dim}), out({batch, 128, 4, dim});
    KvCache<float> cache({.batch = batch, .capacity = 8192, .heads = Heads<>(4, 1, dim)});
    TestTensor<float> k({batch, 8192, 1, dim});
    cache.append(k.view(), k.view());
    const Explanation e =
        explain(q.view(), cache, out.view(), Causal{}, {.q_lens = q_lens}, TestExecutor{8});
    EXPECT_TRUE(e.split_kv);
    return e.scratch_bytes;
  };
  EXPECT_LT(static_cast<double>(scratch(3, {128, 1, 1})),
            1.2 * static_cast<double>(scratch(1, {128})));
}

TEST(Explain, RowsAreMultipliedWhereFewQueriesReadThemAndPackedOnceWhereManyDo) {
  const auto explain_rows = [](Index q_len) {
    TestTensor<float> q({1, q_len, 4, dim}), k({1, 500, 2, dim}), out({1, q_len, 4, dim});
    return explain(q.view(), RowsKv<float>(k.view(), k.view()), out.view(), Causal{});
  };
  EXPECT_TRUE(explain_rows(1).multiplies_rows);
  EXPECT_FALSE(explain_rows(1).packs_blocks || explain_rows(1).packs_kv);
  EXPECT_TRUE(explain_rows(20).packs_blocks);
  EXPECT_FALSE(explain_rows(20).multiplies_rows || explain_rows(20).packs_kv);
  EXPECT_TRUE(explain_rows(400).packs_kv);
}

TEST(Explain, TextNamesPathInstructionsAndBound) {
  const std::string text = Call(1, 1000, 16, 4).explain(Causal{}).text();
  for (const char* part :
       {"row blocks", simd::isa_name, "f32", "FMA", "4 rows", "64 keys", "512 keys",
        "4 tasks for 1 workers", "2.1 MB of keys", "bound by memory"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << " in:\n" << text;
  }
}

TEST(Explain, RefusesWhatAttendRefuses) {
  Call c(1, 10, 4, 2);
  TestTensor<float> wrong({1, 1, 4, dim + 1});
  EXPECT_THROW(explain(c.q.view(), c.cache, wrong.view(), Causal{}), std::invalid_argument);
}

}  // namespace
}  // namespace gqa::test
