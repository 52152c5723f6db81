// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The probes at work: how fast threads multiply and read at the moment. Finding the best probe
// takes a few hundred milliseconds, repeating it one to ten, so it is found once (calibrate()) and
// repeated beside whatever is judged by it (measure()).
#pragma once

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "support/measure.hpp"
#include "support/probes.hpp"

namespace gqa::bench {

/// fn(thread) on all threads of an executor at once, which must all be free to run; returns the
/// seconds from the first start to the last end. `clock` is for one thread; several go by the
/// wall's.
template <typename ExecutorT, typename F>
double run_together(ExecutorT& executor, Clock clock, F fn) {
  const Index threads = executor.concurrency();
  if (threads == 1) {
    const double start = now(clock);
    fn(Index{0});
    return now(clock) - start;
  }
  std::atomic<Index> arrived{0};
  std::vector<double> starts(static_cast<std::size_t>(threads)), ends(starts.size());
  executor.run(threads, [&](Index thread, Index) noexcept {
    ++arrived;
    while (arrived < threads) std::this_thread::yield();
    starts[static_cast<std::size_t>(thread)] = now();
    fn(thread);
    ends[static_cast<std::size_t>(thread)] = now();
  });
  return *std::max_element(ends.begin(), ends.end()) -
         *std::min_element(starts.begin(), starts.end());
}

/// Operations per second of an instruction.
class ComputeSpeed {
 public:
  /// One that this program has probes of.
  explicit ComputeSpeed(Arithmetic arithmetic) : arithmetic_(arithmetic) {}

  template <typename ExecutorT>
  void calibrate(ExecutorT& executor, Clock clock) {
    double highest = 0;
    for (int repetition = 0; repetition < 3; ++repetition) {
      for (const ComputeProbe& probe : compute_probes(arithmetic_)) {
        const double speed = speed_of(probe, executor, clock);
        if (speed > highest) {
          highest = speed;
          best_ = &probe;
        }
      }
    }
  }
  template <typename ExecutorT>
  double measure(ExecutorT& executor, Clock clock) {
    if (!best_) calibrate(executor, clock);
    return speed_of(*best_, executor, clock);
  }
  const ComputeProbe& best() const { return *best_; }

 private:
  template <typename ExecutorT>
  static double speed_of(const ComputeProbe& probe, ExecutorT& executor, Clock clock) {
    const auto rounds = static_cast<Index>(100e6 / probe.operations);  // about a millisecond of FMA
    const double seconds = run_together(executor, clock, [&](Index) { probe.run(rounds); });
    return probe.operations * static_cast<double>(rounds * executor.concurrency()) / seconds;
  }

  Arithmetic arithmetic_;
  const ComputeProbe* best_ = nullptr;
};

/// Bytes per second read from a piece of memory, each thread having a contiguous part of it. What
/// fits into a cache is read from there; of large pieces, slices are read in turn.
class ReadSpeed {
 public:
  /// `memory` begins at a multiple of 16.
  explicit ReadSpeed(std::span<const std::byte> memory) : memory_(memory) {}

  template <typename ExecutorT>
  void calibrate(ExecutorT& executor, Clock clock) {
    struct Candidate {
      ReadPattern pattern;
      double speed = 0;
      double score = 0;  // share of the fastest one's speed, summed over repetitions
    };
    std::vector<Candidate> candidates;
    for (const ReadPattern& pattern : read_patterns()) candidates.push_back({.pattern = pattern});
    warm();
    for (int repetition = 0; repetition < 5; ++repetition) {
      double highest = 0;
      for (Candidate& c : candidates) {
        c.speed = speed_of(c.pattern, executor, clock);
        highest = std::max(highest, c.speed);
      }
      for (Candidate& c : candidates) c.score += c.speed / highest;
    }
    std::sort(candidates.begin(), candidates.end(),
              [](const Candidate& a, const Candidate& b) { return a.score > b.score; });
    // Patterns close to one another change places from minute to minute.
    best_.clear();
    for (std::size_t i = 0; i < 4; ++i) best_.push_back(candidates[i].pattern);
  }
  /// The fastest of the best four patterns.
  template <typename ExecutorT>
  double measure(ExecutorT& executor, Clock clock) {
    if (best_.empty()) calibrate(executor, clock);
    warm();
    double highest = 0;
    for (const ReadPattern& pattern : best_) {
      highest = std::max(highest, speed_of(pattern, executor, clock));
    }
    return highest;
  }
  const ReadPattern& best() const { return best_.front(); }

 private:
  static constexpr Index largest_slice = Index{128} << 20;
  static constexpr Index volume = largest_slice;  // of a thread's reads, at least

  /// What fits into a cache is brought there: others may have been at work since the last call.
  void warm() const {
    if (std::ssize(memory_) < largest_slice) {
      read(read_patterns().front(), memory_.data(), std::ssize(memory_));
    }
  }

  template <typename ExecutorT>
  double speed_of(const ReadPattern& pattern, ExecutorT& executor, Clock clock) {
    const Index threads = executor.concurrency(), bytes = std::ssize(memory_);
    const Index slice = std::min(bytes, largest_slice);
    if (next_ + slice > bytes) next_ = 0;
    const std::byte* const begin = memory_.data() + next_;
    next_ += slice;
    const Index part = slice / threads / 512 * 512;
    const Index passes = std::max<Index>(1, volume / std::max<Index>(part, 512));
    std::atomic<Index> sum{0};
    const double seconds = run_together(executor, clock, [&](Index thread) {
      Index count = 0;
      for (Index i = 0; i < passes; ++i) count += read(pattern, begin + thread * part, part);
      sum += count;
    });
    return static_cast<double>(sum) / seconds;
  }

  std::span<const std::byte> memory_;
  Index next_ = 0;  // where the next slice begins
  std::vector<ReadPattern> best_;
};

}  // namespace gqa::bench
