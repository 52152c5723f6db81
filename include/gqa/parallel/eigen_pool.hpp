// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// EigenPool: an Eigen::ThreadPool, or any Eigen::ThreadPoolInterface of your own, as Executor.
#pragma once

#if __has_include(<unsupported/Eigen/CXX11/ThreadPool>)
#include <unsupported/Eigen/CXX11/ThreadPool>
#else
#include <Eigen/ThreadPool>
#endif

#include <algorithm>
#include <atomic>
#include <memory>

#include "gqa/parallel/executor.hpp"

namespace gqa {

/// Runs tasks in the caller and in up to `threads - 1` threads of the pool, which must outlive it.
/// The pool may be shared, busy, of one thread, or the one that the caller runs in.
///
/// Each run() allocates a little: the pool's own closures. Eigen's parallelFor is not used since it
/// stays in the caller for tasks as short as a decode step's.
class EigenPool {
 public:
  GQA_TAG explicit EigenPool(Eigen::ThreadPoolInterface& pool)
      : EigenPool(pool, pool.NumThreads() + 1) {}
  GQA_TAG EigenPool(Eigen::ThreadPoolInterface& pool, Index threads)
      : pool_(&pool), threads_(std::max<Index>(threads, 1)) {}

  GQA_TAG Index concurrency() const { return threads_; }

  template <typename F>
  GQA_TAG void run(Index n, F&& fn) const {
    const Index helpers = (std::min)(threads_, n) - 1;
    if (helpers <= 0) return Serial{}.run(n, fn);
    // Helpers may begin long after this call has returned, in a busy pool: the counters outlive it,
    // and a late helper finds no task left and touches nothing else.
    std::shared_ptr<Work> work;
    // With helpers under way nothing may throw: fn must stay until they are done. Without memory
    // for all of them, there are fewer, or none.
    try {
      work = std::make_shared<Work>();
      work->tasks = n;
      for (Index helper = 1; helper <= helpers; ++helper) {
        pool_->Schedule(
            [work, helper, call = std::addressof(fn)] { work->take_tasks(*call, helper); });
      }
    } catch (const std::bad_alloc&) {
      if (!work) return Serial{}.run(n, fn);
    }
    work->take_tasks(fn, 0);
    work->wait();
  }

 private:
  struct Work {
    template <typename F>
    GQA_TAG void take_tasks(F& fn, Index worker) {
      Index finished = 0;
      for (Index task; (task = next.fetch_add(1, std::memory_order_relaxed)) < tasks; ++finished) {
        fn(task, worker);
      }
      if (finished > 0 && done.fetch_add(finished, std::memory_order_acq_rel) + finished == tasks) {
        done.notify_all();
      }
    }
    GQA_TAG void wait() {
      for (Index seen; (seen = done.load(std::memory_order_acquire)) != tasks;) done.wait(seen);
    }

    Index tasks = 0;
    alignas(alignment) std::atomic<Index> next{0};
    alignas(alignment) std::atomic<Index> done{0};
  };

  Eigen::ThreadPoolInterface* pool_;
  Index threads_;
};
}  // namespace gqa
