// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Splits: stretches of 512 keys, counted from key 0, each with a softmax state of its own. Of a
// long sequence a window shows only the last few of them, and a ring has no others; they are found
// without visiting those before them, so that a decode step costs the same at any position.
#pragma once

#include "gqa/kernel/call.hpp"
#include "gqa/layout/strips.hpp"

namespace gqa {

/// Keys per split, counted from key 0. Each split has a softmax state of its own, and states are
/// merged in key order, also where one worker does all of them: that makes bits independent of the
/// number of workers and of how a prompt was cut. 512 keys of head_dim 128 are 512 KiB of f32
/// against 1 KiB per row for a state written and read.
inline constexpr Index split_keys = 512;

namespace detail {
inline namespace GQA_ISA {

/// Calls fn(split, coverage) for the splits of sequence b that hold a key which somebody sees, in
/// order. coverage(begin, end) says what is seen of the keys [begin, end). Steps double while there
/// is nothing to see, and are halved where there is: nothing is asked twice of a call that sees
/// everything, and 2,000 splits before a window take about 20 questions.
template <typename CoverageOf, typename F>
void for_each_split(const AnySource& source, Index b, CoverageOf coverage, F fn) {
  const Index length = source.length(b), splits = ceil_div(length, split_keys);
  Index step = 1;
  for (Index split = 0; split < splits;) {
    const Index held = source.next_held(b, split * split_keys) / split_keys;
    if (held > split) {
      split = held;
      continue;
    }
    const Index end = (std::min)(split + step, splits);
    const Coverage seen = coverage(split * split_keys, (std::min)(end * split_keys, length));
    if (seen == Coverage::skip) {
      split = end;
      step *= 2;
    } else if (step > 1) {
      step /= 2;
    } else {
      fn(split, seen);
      ++split;
    }
  }
}

/// The same for what any query of sequence b sees. A sequence that sees nothing has split 0.
template <typename F>
void for_each_split(const AttentionCall& call, const RulesView& rules, Index b, F fn) {
  const Sequence s = call.sequence(b);
  bool any = false;
  if (s.q_len > 0) {
    Tile tile = tile_of(call, s, 0, s.q_len, 0, 0);
    const auto coverage = [&](Index begin, Index end) {
      tile.k_begin = begin;
      tile.k_end = end;
      tile.k_pos = begin + s.first_position;
      return rules.tile(tile, 0, call.shape.num_heads);
    };
    for_each_split(call.source, b, coverage, [&](Index split, Coverage) {
      any = true;
      fn(split);
    });
  }
  if (!any) fn(Index{0});
}

}  // namespace GQA_ISA
}  // namespace detail
}  // namespace gqa
