// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Measuring on machines that others use too: everything that is compared runs in turn, round after
// round, so that a disturbance meets all alike, and medians are what is reported.
#pragma once

#include <time.h>

#include <algorithm>
#include <cstddef>
#include <vector>

namespace gqa::bench {

/// What a stopwatch shows: the wall's time, or the time that the calling thread has had a core,
/// which leaves out other programs' turns. For work of one thread the two are one on an idle
/// machine.
enum class Clock { wall, cpu };

inline double now(Clock clock = Clock::wall) {
  timespec time;
  clock_gettime(clock == Clock::wall ? CLOCK_MONOTONIC : CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

/// The middle one, the upper of two; of at least one number.
inline double median(std::vector<double> numbers) {
  const auto middle = numbers.begin() + static_cast<std::ptrdiff_t>(numbers.size() / 2);
  std::nth_element(numbers.begin(), middle, numbers.end());
  return *middle;
}

/// Seconds of each round.
class Timings {
 public:
  explicit Timings(Clock clock) : clock_(clock) {}

  template <typename F>
  void measure(F&& f) {
    const double start = now(clock_);
    f();
    seconds_.push_back(now(clock_) - start);
  }
  void forget() { seconds_.clear(); }
  std::size_t rounds() const { return seconds_.size(); }
  double median() const { return bench::median(seconds_); }
  /// The range that holds the middle half of the rounds, over the median: how quiet the machine
  /// was.
  double spread() const {
    std::vector<double> sorted = seconds_;
    std::sort(sorted.begin(), sorted.end());
    return (sorted[sorted.size() * 3 / 4] - sorted[sorted.size() / 4]) / median();
  }

 private:
  Clock clock_;
  std::vector<double> seconds_;
};

/// Drives everything out of the caches, as a model's other layers do between two steps of one
/// layer.
class CacheFlush {
 public:
  /// Reads: what is written would have to go back to memory while the next step reads from it.
  void operator()() const {
    const volatile unsigned char* const memory = memory_.data();
    for (std::size_t i = 0; i < bytes; i += 64) static_cast<void>(memory[i]);
  }
  static constexpr std::size_t bytes = std::size_t{96} << 20;

 private:
  std::vector<unsigned char> memory_ = std::vector<unsigned char>(bytes);
};

}  // namespace gqa::bench
