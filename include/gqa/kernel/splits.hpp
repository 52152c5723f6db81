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

/// Calls fn(split) for the splits of sequence b that hold a key which somebody sees, in order.
/// skips(begin, end) says whether nobody sees any of the keys [begin, end). Steps double while
/// there is nothing to see, and are halved where there is: nothing is asked twice of a call that
/// sees everything, and 2,000 splits before a window take about 20 questions.
template <KvSource Source, typename Skips, typename F>
void for_each_split(const Source& source, Index b, Skips skips, F fn) {
  const Index length = source.length(b), splits = ceil_div(length, split_keys);
  Index step = 1;
  for (Index split = 0; split < splits;) {
    const Index held = next_held(source, b, split * split_keys) / split_keys;
    if (held > split) {
      split = held;
      continue;
    }
    const Index end = (std::min)(split + step, splits);
    if (skips(split * split_keys, (std::min)(end * split_keys, length))) {
      split = end;
      step *= 2;
    } else if (step > 1) {
      step /= 2;
    } else {
      fn(split);
      ++split;
    }
  }
}

/// The same for what any query of sequence b sees. A sequence that sees nothing has split 0.
template <typename Call, typename F>
void for_each_split(const Call& call, Index b, F fn) {
  bool any = false;
  if (call.q_len(b) > 0) {
    const auto q_pos = call.q_pos_range(b, 0, call.q_len(b));
    const auto skips = [&](Index begin, Index end) {
      const Tile tile{.batch = b,
                      .q_end = call.q_len(b),
                      .q_pos_min = q_pos.first,
                      .q_pos_max = q_pos.second,
                      .k_begin = begin,
                      .k_end = end,
                      .k_pos = begin + first_position(call.source, b)};
      return call.rules.tile(tile, 0, call.shape.num_heads) == Coverage::skip;
    };
    for_each_split(call.source, b, skips, [&](Index split) {
      any = true;
      fn(split);
    });
  }
  if (!any) fn(Index{0});
}

}  // namespace GQA_ISA
}  // namespace detail
}  // namespace gqa
