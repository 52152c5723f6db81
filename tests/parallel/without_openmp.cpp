// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Compiled without OpenMP, for openmp_test.cpp.
#include "gqa/parallel/openmp.hpp"

#ifdef _OPENMP
#error "this file is to be compiled without OpenMP"
#endif

namespace gqa::test {

void run_without_openmp(Index tasks, void (*task)(Index task, Index worker)) {
  OpenMp(4).run(tasks, task);
}

}  // namespace gqa::test
