// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// How calls use an executor: behind a type of ours, so that kernels are compiled once for all of
// them; how many of its workers have scratch; what becomes of exceptions that a user's mask, rule
// or source throws in a task; and what an executor that fails leaves behind.
#pragma once

#include <algorithm>
#include <atomic>
#include <exception>

#include "gqa/core/error.hpp"
#include "gqa/parallel/executor.hpp"

namespace gqa::detail {

/// An executor of any type; it is not owned. Itself an Executor.
class AnyExecutor {
 public:
  GQA_TAG AnyExecutor() = default;  ///< Serial
  /// Throws std::invalid_argument unless the executor's concurrency is positive.
  template <typename ExecutorT>
    requires(!std::same_as<std::remove_const_t<ExecutorT>, AnyExecutor>)
  GQA_TAG explicit AnyExecutor(ExecutorT& executor) {
    static_assert(Executor<ExecutorT>, "gqa: the last argument must model gqa::Executor");
    if constexpr (!std::same_as<std::remove_const_t<ExecutorT>, Serial>) {
      concurrency_ = executor.concurrency();
      require(concurrency_ > 0, "the executor's concurrency() must be positive, is ", concurrency_);
      executor_ = const_cast<std::remove_const_t<ExecutorT>*>(&executor);
      run_ = [](void* object, Index n, const TaskFunction& fn) {
        static_cast<ExecutorT*>(object)->run(n, fn);
      };
    }
  }

  GQA_TAG Index concurrency() const { return concurrency_; }
  GQA_TAG bool is_serial() const { return run_ == nullptr; }
  template <typename F>
  GQA_TAG void run(Index n, const F& fn) const {
    if (is_serial()) return Serial{}.run(n, fn);
    run_(executor_, n, TaskFunction(fn));
  }

 private:
  void* executor_ = nullptr;
  void (*run_)(void*, Index, const TaskFunction&) = nullptr;
  Index concurrency_ = 1;
};
/// Whose scratch a task uses. An executor of 1,024 workers has few of them busy with 8 tasks, and
/// they may be any: then each task has a scratch of its own.
struct ScratchSlots {
  Index count = 1;
  bool per_task = false;

  /// For calls of run_tasks() with up to `tasks` tasks.
  GQA_TAG static ScratchSlots of(Index concurrency, Index tasks) {
    const Index most = std::max<Index>(tasks, 1);
    return {.count = (std::min)(concurrency, most), .per_task = concurrency > most};
  }
  GQA_TAG Index operator()(Index task, Index worker) const {
    const Index slot = per_task ? task : worker;
    GQA_ASSERT(slot >= 0 && slot < count);
    return slot;
  }
};

inline namespace GQA_ISA {

/// Runs fn(task, worker) for n tasks. An executor's tasks must not throw; these may: the first
/// exception is thrown here once all tasks have ended, and tasks that have not begun by then are
/// left out.
template <typename ExecutorT, typename F>
void run_tasks(const ExecutorT& executor, Index n, const F& fn) {
  if (executor.is_serial()) return Serial{}.run(n, fn);
  std::atomic<bool> failed = false;
  std::exception_ptr error;
  executor.run(n, [&](Index task, Index worker) noexcept {
    if (failed.load(std::memory_order_relaxed)) return;
    try {
      fn(task, worker);
    } catch (...) {
      if (!failed.exchange(true)) error = std::current_exception();
    }
  });
  if (error) std::rethrow_exception(error);
}

/// An executor for several runs that write what the caller will see. If the first of them fails,
/// nothing has been written, and it throws; after it there is no way back, and the caller does the
/// tasks of a run that fails.
class CommittedExecutor {
 public:
  explicit CommittedExecutor(const AnyExecutor& executor) : executor_(executor) {}

  Index concurrency() const { return executor_.concurrency(); }
  bool is_serial() const { return executor_.is_serial(); }

  template <typename F>
  void run(Index n, const F& fn) const {
    if (n <= 0) return;
    std::atomic<Index> done = 0;
    try {
      executor_.run(n, [&](Index task, Index worker) noexcept {
        fn(task, worker);
        done.fetch_add(1, std::memory_order_relaxed);
      });
    } catch (...) {
      const bool none = done == 0, all = done == n;
      if (!all && !(none && has_written_)) throw;
      if (!all) Serial{}.run(n, fn);
    }
    has_written_ = true;
  }

 private:
  const AnyExecutor& executor_;
  mutable bool has_written_ = false;
};

}  // namespace GQA_ISA
}  // namespace gqa::detail
