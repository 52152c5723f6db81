// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// attend() and what it takes: caches, masks and score rules, executors. No header of Eigen's: views
// of pointers, or Eigen's tensors where the program includes it, before or after this. gqa.hpp has
// everything.
#pragma once

#include "gqa/cache/contiguous.hpp"
#include "gqa/cache/paged.hpp"
#include "gqa/cache/ring.hpp"
#include "gqa/core/heads.hpp"
#include "gqa/core/kv_source.hpp"
#include "gqa/core/view.hpp"
#include "gqa/core/workspace.hpp"
#include "gqa/kernel/attend.hpp"
#include "gqa/kernel/rows_kv.hpp"
#include "gqa/parallel/executor.hpp"
#include "gqa/score/mask.hpp"
#include "gqa/score/rule.hpp"
#include "gqa/score/rules.hpp"
#include "gqa/version.hpp"
