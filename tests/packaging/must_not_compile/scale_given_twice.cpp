// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Which of two scales would count?
// EXPECT: more than one Scale
#include <gqa/gqa.hpp>

#ifdef FIXED
auto rules = gqa::Causal{} & gqa::Scale{0.125};
#else
auto rules = gqa::Scale{0.25} & gqa::Causal{} & gqa::Scale{0.125};
#endif
double scale = rules.scale(64);
