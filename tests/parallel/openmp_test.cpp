// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Compiled with OpenMP.
#include "gqa/parallel/openmp.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <vector>

#include "support/attention_case.hpp"

namespace gqa::test {

void run_without_openmp(Index tasks, void (*task)(Index task, Index worker));

namespace {

TEST(OpenMp, RunsEachTaskOnceUnderAWorkersNumber) {
  for (const Index threads : {-1, 0, 1, 2, 3, 8}) {
    const OpenMp executor(threads);
    EXPECT_EQ(executor.concurrency(), std::max<Index>(threads, 1));
    for (const Index tasks : {0, 1, 2, 7, 100}) {
      std::vector<std::atomic<int>> runs(static_cast<std::size_t>(tasks));
      std::atomic<int> wrong_worker = 0;
      executor.run(tasks, [&](Index task, Index worker) noexcept {
        ++runs[static_cast<std::size_t>(task)];
        wrong_worker += worker < 0 || worker >= executor.concurrency();
      });
      EXPECT_EQ(wrong_worker, 0);
      for (const auto& n : runs) EXPECT_EQ(n, 1);
    }
  }
}

TEST(OpenMp, TakesTheTeamsSizeByDefault) {
  EXPECT_EQ(OpenMp().concurrency(), omp_get_max_threads());
}

TEST(OpenMp, IsAnotherTypeInFilesCompiledWithoutOpenMp) {
  // Of one type, the linker would give both files the run() of whichever it met first.
  static std::atomic<int> in_teams;
  void (*task)(Index, Index) = [](Index, Index) noexcept { in_teams += omp_in_parallel() ? 1 : 0; };
  in_teams = 0;
  run_without_openmp(8, task);
  EXPECT_EQ(in_teams, 0);
  OpenMp(4).run(8, task);
  EXPECT_EQ(in_teams, 8);
}

TEST(OpenMp, NestedCallsEnd) {
  const OpenMp executor(3);
  std::atomic<int> count = 0;
  executor.run(
      5, [&](Index, Index) noexcept { executor.run(5, [&](Index, Index) noexcept { ++count; }); });
  EXPECT_EQ(count, 25);
}

TEST(OpenMp, AttendGivesTheBitsOfSerial) {
  Random random(1);
  for (const Index q_len : {1, 40}) {
    AttentionCase c{.group = 3,
                    .num_kv_heads = 2,
                    .q_len = q_len,
                    .kv_len = 1100,
                    .head_dim = 16,
                    .value_dim = 16,
                    .batch = 2};
    c.ragged = Ragged::both;
    const auto input = make_input<float, float>(c, random);
    const auto serial = attend_over(input, input.rows_kv(), Causal{});
    for (const Index threads : {1, 2, 3, 8}) {
      EXPECT_TRUE(
          same_bits(attend_over(input, input.rows_kv(), Causal{}, OpenMp(threads)), serial));
    }
  }
}

}  // namespace
}  // namespace gqa::test
