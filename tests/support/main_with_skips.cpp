// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// main() of tests that need the data of others: it ends with 77, which ctest shows as skipped,
// where nothing failed and something was skipped.
#include <gtest/gtest.h>

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const int failed = RUN_ALL_TESTS();
  const bool skipped = testing::UnitTest::GetInstance()->skipped_test_count() > 0;
  return failed == 0 && skipped ? 77 : failed;
}
