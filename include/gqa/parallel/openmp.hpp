// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// OpenMp: an OpenMP team as Executor. For programs compiled with -fopenmp; without it, everything
// runs in the caller, and OpenMp is another type: files of both kinds may be linked into one
// program. Not part of gqa.hpp.
#pragma once

#ifdef _OPENMP
#include <omp.h>
#endif

#include <algorithm>

#include "gqa/parallel/executor.hpp"

namespace gqa {
#ifdef _OPENMP
inline namespace with_openmp {
#else
inline namespace without_openmp {
#endif

/// Runs tasks in a team of up to `threads` threads. Inside another parallel region the team is what
/// OpenMP's nesting rules give, one thread by default.
class OpenMp {
 public:
#ifdef _OPENMP
  GQA_TAG OpenMp() : OpenMp(omp_get_max_threads()) {}
#else
  GQA_TAG OpenMp() : OpenMp(1) {}
#endif
  GQA_TAG explicit OpenMp(Index threads) : threads_(std::max<Index>(threads, 1)) {}

  GQA_TAG Index concurrency() const { return threads_; }

  template <typename F>
  GQA_TAG void run(Index n, F&& fn) const {
    if (n <= 0) return;
#ifdef _OPENMP
#pragma omp parallel for schedule(dynamic, 1) num_threads(static_cast<int>((std::min)(threads_, n)))
    for (Index task = 0; task < n; ++task) fn(task, Index{omp_get_thread_num()});
#else
    Serial{}.run(n, fn);
#endif
  }

 private:
  Index threads_;
};
}  // inline namespace with_openmp or without_openmp
}  // namespace gqa
