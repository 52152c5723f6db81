// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Who runs the tasks of a call. The library starts no thread: without an executor everything runs
// in the caller. Results are the same bits with any executor.
#pragma once

#include <concepts>

#include "gqa/core/config.hpp"

namespace gqa {

namespace detail {
/// What an executor is given to run: a function whose type is forgotten. It is not owned.
class TaskFunction {
 public:
  template <typename F>
  GQA_TAG explicit TaskFunction(const F& fn)
      : fn_(&fn), call_([](const void* f, Index task, Index worker) noexcept {
          (*static_cast<const F*>(f))(task, worker);
        }) {}
  GQA_TAG void operator()(Index task, Index worker) const noexcept { call_(fn_, task, worker); }

 private:
  const void* fn_;
  void (*call_)(const void*, Index, Index) noexcept;
};
}  // namespace detail

/// `concurrency()` is the largest number of tasks that run at once; `run(n, fn)` calls
/// fn(task, worker) once for each task in [0, n), in any order, and returns when all are done;
/// worker is in [0, concurrency()), which is 1 or more, and no two tasks run at once under the same
/// number. fn doesn't throw. The caller takes part, and waits only for tasks that have begun, so
/// that nested calls and busy pools can't deadlock. run() may throw as long as no task has begun:
/// the library's calls then leave everything as it was.
template <typename E>
concept Executor = requires(E& executor, Index n, detail::TaskFunction task) {
  { executor.concurrency() } -> std::convertible_to<Index>;
  executor.run(n, task);
};

/// Everything in the caller, in order.
struct Serial {
  GQA_TAG static constexpr Index concurrency() { return 1; }
  template <typename F>
  GQA_TAG void run(Index n, F&& fn) const {
    for (Index task = 0; task < n; ++task) fn(task, Index{0});
  }
};
}  // namespace gqa
