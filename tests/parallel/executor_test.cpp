// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What every executor owes to its callers (parallel/executor.hpp), under ThreadSanitizer too.
#include "gqa/parallel/executor.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "gqa/parallel/eigen_pool.hpp"
#include "support/attention_case.hpp"

namespace gqa::test {
namespace {

/// Each task once, under a worker's number below concurrency(), no number in use twice at a time.
template <Executor ExecutorT>
void check_contract(const ExecutorT& executor, Index tasks) {
  const Index workers = executor.concurrency();
  std::vector<std::atomic<int>> runs(static_cast<std::size_t>(tasks));
  std::vector<std::atomic<bool>> busy(static_cast<std::size_t>(workers));
  std::atomic<int> wrong_worker = 0, shared_worker = 0;
  executor.run(tasks, [&](Index task, Index worker) noexcept {
    if (worker < 0 || worker >= workers) {
      ++wrong_worker;
      return;
    }
    if (busy[static_cast<std::size_t>(worker)].exchange(true)) ++shared_worker;
    ++runs[static_cast<std::size_t>(task)];
    if (task % 7 == 0) std::this_thread::yield();
    busy[static_cast<std::size_t>(worker)] = false;
  });
  EXPECT_EQ(wrong_worker, 0);
  EXPECT_EQ(shared_worker, 0);
  for (const auto& n : runs) EXPECT_EQ(n, 1);
}

constexpr std::array<Index, 7> task_counts{0, 1, 2, 3, 8, 100, 1000};

TEST(Serial, RunsTasksInOrderInTheCaller) {
  std::vector<Index> order;
  const auto caller = std::this_thread::get_id();
  Serial{}.run(5, [&](Index task, Index worker) noexcept {
    EXPECT_EQ(worker, 0);
    EXPECT_EQ(std::this_thread::get_id(), caller);
    order.push_back(task);
  });
  EXPECT_EQ(order, (std::vector<Index>{0, 1, 2, 3, 4}));
  EXPECT_EQ(Serial{}.concurrency(), 1);
  for (const Index tasks : task_counts) check_contract(Serial{}, tasks);
}

TEST(EigenPool, RunsEachTaskOnceWithPoolsOfAnySize) {
  for (const int pool_size : {1, 2, 3, 8}) {
    Eigen::ThreadPool pool(pool_size);
    const EigenPool executor(pool);
    EXPECT_EQ(executor.concurrency(), pool_size + 1);  // the caller works, too
    for (int round = 0; round < 20; ++round) {
      for (const Index tasks : task_counts) check_contract(executor, tasks);
    }
  }
}

TEST(EigenPool, KeepsToTheThreadsThatItIsGiven) {
  Eigen::ThreadPool pool(4);
  for (const Index threads : {-1, 0, 1, 2, 3, 20}) {
    const EigenPool executor(pool, threads);
    EXPECT_EQ(executor.concurrency(), std::max<Index>(threads, 1));
    std::mutex mutex;
    std::set<std::thread::id> seen;
    executor.run(500, [&](Index, Index) noexcept {
      const std::lock_guard lock(mutex);
      seen.insert(std::this_thread::get_id());
    });
    EXPECT_LE(std::ssize(seen), std::max<Index>(threads, 1));
    check_contract(executor, 100);
  }
}

TEST(EigenPool, OneThreadStaysInTheCaller) {
  Eigen::ThreadPool pool(2);
  const auto caller = std::this_thread::get_id();
  EigenPool(pool, 1).run(
      100, [&](Index, Index) noexcept { EXPECT_EQ(std::this_thread::get_id(), caller); });
}

TEST(EigenPool, NestedCallsEnd) {
  for (const int pool_size : {1, 2}) {
    Eigen::ThreadPool pool(pool_size);
    const EigenPool executor(pool);
    std::atomic<int> count = 0;
    executor.run(8, [&](Index, Index) noexcept {
      executor.run(8, [&](Index, Index) noexcept {
        executor.run(4, [&](Index, Index) noexcept { ++count; });
      });
    });
    EXPECT_EQ(count, 8 * 8 * 4);
  }
}

TEST(EigenPool, CallFromAThreadOfThePoolEnds) {
  Eigen::ThreadPool pool(1);  // its only thread is the caller: nobody else comes to help
  const EigenPool executor(pool);
  std::atomic<int> count = 0;
  Eigen::Barrier done(1);
  pool.Schedule([&] {
    executor.run(50, [&](Index, Index) noexcept { ++count; });
    done.Notify();
  });
  done.Wait();
  EXPECT_EQ(count, 50);
}

TEST(EigenPool, BusyPoolDoesNotHoldTheCallerUp) {
  // All threads of the pool are stuck until this run() has returned: waiting for a helper that has
  // not begun would never end. The helpers come late and find nothing to do.
  Eigen::ThreadPool pool(2);
  Eigen::Barrier release(1), ended(2);
  for (int i = 0; i < 2; ++i) {
    pool.Schedule([&] {
      release.Wait();
      ended.Notify();
    });
  }
  std::atomic<int> count = 0;
  EigenPool(pool).run(20, [&](Index, Index) noexcept { ++count; });
  EXPECT_EQ(count, 20);
  release.Notify();
  ended.Wait();
}

TEST(EigenPool, WithoutMemoryForAHelperTheOthersDoTheWork) {
  struct FewTasks : Eigen::ThreadPoolInterface {
    explicit FewTasks(Eigen::ThreadPool& of) : pool(of) {}
    void Schedule(std::function<void()> task) override {
      if (left-- == 0) throw std::bad_alloc();
      pool.Schedule(std::move(task));
    }
    int NumThreads() const override { return pool.NumThreads(); }
    int CurrentThreadId() const override { return pool.CurrentThreadId(); }
    Eigen::ThreadPool& pool;
    int left = 2;
  };
  Eigen::ThreadPool threads(4);
  FewTasks pool(threads);
  check_contract(EigenPool(pool), 100);
}

TEST(EigenPool, SeveralCallersShareAPool) {
  Eigen::ThreadPool pool(2);
  const EigenPool executor(pool);
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i) {
    callers.emplace_back([&] {
      for (int round = 0; round < 50; ++round) check_contract(executor, 37);
    });
  }
  for (std::thread& caller : callers) caller.join();
}

TEST(EigenPool, WritesOfTasksAreSeenAfterRun) {
  Eigen::ThreadPool pool(3);
  const EigenPool executor(pool);
  for (int round = 0; round < 200; ++round) {
    std::vector<Index> squares(64);  // plain memory: a missing synchronisation is a race
    executor.run(64, [&](Index task, Index) noexcept {
      squares[static_cast<std::size_t>(task)] = task * task;
    });
    for (Index i = 0; i < 64; ++i) ASSERT_EQ(squares[static_cast<std::size_t>(i)], i * i);
  }
}

/// A user's own executor: one thread per worker, started for each run.
struct Threads {
  Index count = 3;
  Index concurrency() const { return count; }
  template <typename F>
  void run(Index n, F&& fn) const {
    std::atomic<Index> next = 0;
    const auto work = [&](Index worker) {
      for (Index task; (task = next++) < n;) fn(task, worker);
    };
    std::vector<std::thread> threads;
    for (Index worker = 1; worker < count; ++worker) threads.emplace_back(work, worker);
    work(0);
    for (std::thread& thread : threads) thread.join();
  }
};

/// Attention on executors, cut by splits of the keys (few queries) and by row blocks (many): more
/// workers than tasks, calls at the same time, calls inside of a pool.
class AttendOnExecutors : public testing::TestWithParam<Index> {
 protected:
  AttendOnExecutors() {
    Random random(1);
    const AttentionCase c{.group = 3,
                          .num_kv_heads = 2,
                          .q_len = GetParam(),
                          .kv_len = 1100,
                          .head_dim = 16,
                          .value_dim = 16};
    input = make_input<float, float>(c, random);
    expected = run(TestExecutor{1});
  }
  /// In rows, whose packing is a phase of its own, for a user's executor.
  template <typename ExecutorT>
  AttentionResult<float, float> run(const ExecutorT& executor) const {
    return attend_over(input, input.rows_kv(), Causal{}, executor);
  }

  AttentionInput<float, float> input;
  AttentionResult<float, float> expected{TensorShape{}};
};
INSTANTIATE_TEST_SUITE_P(FewAndManyQueries, AttendOnExecutors, testing::Values(4, 70));

TEST_P(AttendOnExecutors, GiveTheBitsOfSerialOnAUsersThreads) {
  for (const Index count : {1, 2, 5, 64}) {
    EXPECT_TRUE(same_bits(run(Threads{count}), expected)) << count;
  }
}

TEST_P(AttendOnExecutors, GiveTheBitsOfSerialWithMoreWorkersThanTasks) {
  Eigen::ThreadPool pool(2);
  for (const Index threads : {1, 2, 3, 50, 300}) {
    EXPECT_TRUE(same_bits(run(EigenPool(pool, threads)), expected)) << threads;
  }
}

TEST_P(AttendOnExecutors, RunInsideOfAPoolsTask) {
  Eigen::ThreadPool pool(1);
  const EigenPool executor(pool);
  std::atomic<int> equal = 0;
  executor.run(6, [&](Index, Index) noexcept { equal += same_bits(run(executor), expected); });
  EXPECT_EQ(equal, 6);
}

TEST_P(AttendOnExecutors, SeveralCallsReadOneSourceAtOnce) {
  Eigen::ThreadPool pool(2);
  std::atomic<int> equal = 0;
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i) {
    callers.emplace_back([&] {
      for (int round = 0; round < 5; ++round) equal += same_bits(run(EigenPool(pool)), expected);
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(equal, 20);
}

}  // namespace
}  // namespace gqa::test
