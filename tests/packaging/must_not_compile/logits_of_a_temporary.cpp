// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Rules are kept from call to call, and their numbers must be there: those in vectors, too.
// EXPECT: belong to a temporary
#include <gqa/gqa.hpp>
#include <vector>

std::vector<float> load_logits();

#ifdef FIXED
std::vector<float> loaded = load_logits();
auto rules = gqa::Causal{} & gqa::SinkLogits{loaded};
auto of_span = gqa::SinkLogits{std::span(loaded)};
auto none = gqa::PrefixLm{.lengths = {}};
#else
auto rules = gqa::Causal{} & gqa::SinkLogits{load_logits()};
#endif
