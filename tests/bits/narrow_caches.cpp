// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// attend() over a KvCache of the other storage types, from queries of each type to results of each.
#include "cases.hpp"

namespace gqa::bits {
namespace {

template <typename Storage>
void with_common_rules() {
  over_cache<Storage>("none", shapes(), [](Tables&) { return NoMask{}; });
  over_cache<Storage>("causal", causal_shapes(), [](Tables&) { return Causal{}; });
  over_cache<Storage>("causal_window_keep_sinks", some(causal_shapes(), 0), [](Tables& t) {
    return Causal{} & SlidingWindow::from_hf(130) & KeepFirst{5} & t.sinks();
  });
  over_cache<Storage>("causal_cap_alibi", some(causal_shapes(), 1),
                      [](Tables& t) { return Causal{} & SoftCap{2.0f} & t.alibi(); });
  over_cache<Storage>("bias", some(shapes(), 2),
                      [](Tables& t) { return t.bias<AccumulatorOf<Storage>>(false); });
}

}  // namespace

void attend_over_narrow_caches() {
  with_common_rules<bfloat16>();
  with_common_rules<Int8>();
  with_common_rules<double>();
  over_cache<Int8>("mask", some(shapes(), 0), [](Tables& t) { return t.mask(false); });
  over_cache<Int8>("cap_relative", some(shapes(), 1),
                   [](Tables& t) { return SoftCap{3.0f} & t.relative(false); });
  over_cache<half>("causal", causal_shapes(), [](Tables&) { return Causal{}; });
  over_cache<half>("causal_cap_alibi", some(causal_shapes(), 0),
                   [](Tables& t) { return Causal{} & SoftCap{2.0f} & t.alibi(); });
  over_cache<Int4>("causal", causal_shapes(), [](Tables&) { return Causal{}; });
  over_cache<Int4>("cap_bias", some(shapes(), 0),
                   [](Tables& t) { return SoftCap{2.0f} & t.bias<float>(false); });

  const auto causal = [](Tables&) { return Causal{}; };
  over_cache<bfloat16, bfloat16, bfloat16>("causal", some(causal_shapes(), 0), causal);
  over_cache<half, half, half>("causal", some(causal_shapes(), 1), causal);
  over_cache<Int8, bfloat16, float>("causal", some(causal_shapes(), 2), causal);
  over_cache<float, float, bfloat16>("causal", some(causal_shapes(), 1), causal);
  over_cache<float, half, float>("causal", some(causal_shapes(), 2), causal);
}

}  // namespace gqa::bits
