// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// An executor that fails: its n-th run() throws before any task has begun, as that of a pool
// without memory. Calls are taken through all of their runs, one failure at a time.
#pragma once

#include <gtest/gtest.h>

#include <stdexcept>

#include "gqa/core/config.hpp"

namespace gqa::test {

struct ExecutorFailure : std::runtime_error {
  ExecutorFailure() : std::runtime_error("no memory for tasks") {}
};

struct FailingExecutor {
  Index fails_at = 0;  // 1: the first run(); 0: none
  Index workers = 3;
  mutable Index runs = 0;

  Index concurrency() const { return workers; }
  template <typename F>
  void run(Index n, F&& fn) const {
    if (++runs == fails_at) throw ExecutorFailure();
    for (Index task = 0; task < n; ++task) fn(task, task % workers);
  }
};

/// Makes call(executor) fail at each run() in turn. Where it throws, `unchanged` must hold
/// afterwards; where it gets over the failure, `complete` must. Returns how often it has thrown.
template <typename Prepare, typename Call, typename Unchanged, typename Complete>
int fail_at_every_run(Prepare prepare, Call call, Unchanged unchanged, Complete complete) {
  int thrown = 0;
  for (Index n = 1;; ++n) {
    prepare();
    const FailingExecutor executor{.fails_at = n};
    try {
      call(executor);
      EXPECT_TRUE(complete()) << "after a failure of run " << n;
    } catch (const ExecutorFailure&) {
      ++thrown;
      EXPECT_TRUE(unchanged()) << "by a failure of run " << n;
    }
    if (executor.runs < n) return thrown;
  }
}

}  // namespace gqa::test
