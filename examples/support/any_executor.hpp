// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// An executor whose type is known only at run time, so that what takes one needn't be a template:
// the example model is compiled once, for whatever runs its tasks.
#pragma once

#include <functional>
#include <gqa/parallel/executor.hpp>

namespace gqa::examples {

/// Models Executor by the one that it was made of, by default Serial. A copy of that one is kept: a
/// light handle, as executors are.
class AnyExecutor {
 public:
  AnyExecutor() : AnyExecutor(Serial{}) {}
  template <Executor E>
    requires(!std::same_as<E, AnyExecutor>)
  AnyExecutor(const E& executor)  // implicit: any executor will do
      : concurrency_(executor.concurrency()),
        run_([executor](Index n, const Task& task) { executor.run(n, task); }) {}

  Index concurrency() const { return concurrency_; }
  template <typename F>
  void run(Index n, F&& fn) const {
    run_(n, std::ref(fn));
  }

 private:
  using Task = std::function<void(Index, Index)>;
  Index concurrency_;
  std::function<void(Index, const Task&)> run_;
};

}  // namespace gqa::examples
