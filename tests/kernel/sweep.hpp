// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The sweeps of attend() against the reference, one translation unit for a few types, so that they
// build side by side.
#pragma once

#include <gtest/gtest.h>

#include <cstdio>

#include "support/attention_case.hpp"

namespace gqa::test {

/// Runs the designed cases of some types and as many random ones, and prints the largest error.
template <Scalar Query, Scalar Storage, Scalar Out, bool Brief = false>
void sweep(Types types, Index random_count) {
  double worst = 0;
  const auto check = [&](const AttentionCase& c) {
    if (testing::Test::HasFailure()) return;  // the first tells all
    SCOPED_TRACE(to_string(c));
    worst = std::max(worst, check_case<Query, Storage, Out, Brief>(c));
  };
  const auto designed = designed_cases(types);
  for (const AttentionCase& c : designed) check(c);
  for (const AttentionCase& c : random_cases(types, random_count)) check(c);
  std::printf(
      "%zu designed and %td random cases, seed %llu (GQA_TEST_SEED); largest error %.3f of "
      "its tolerance\n",
      designed.size(), random_count, static_cast<unsigned long long>(run_seed()), worst);
}

}  // namespace gqa::test
