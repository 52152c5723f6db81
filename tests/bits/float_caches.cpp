// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// attend() over a KvCache<float>, with each mask and score rule and what one joins of them.
#include "cases.hpp"

namespace gqa::bits {
namespace {

/// Rules of a user's own are called, not inlined: how a compiler would contract them with what is
/// around them isn't the library's to promise.
[[gnu::noinline]] bool sees(const Where& where) {
  return (where.q_index + where.k_index + where.head) % 3 != 0;
}
template <typename T>
[[gnu::noinline]] T bent(T x, const Where& where) {
  return x * T(0.75) + static_cast<T>(where.k_pos % 5) * T(0.125);
}

}  // namespace

void attend_over_float_caches() {
  const auto mine = [](const auto& where) { return sees(where); };
  const auto bend = [](auto x, const Where& where) { return bent(x, where); };

  // Masks.
  over_cache<float>("none", shapes(), [](Tables&) { return NoMask{}; });
  over_cache<float>("causal", causal_shapes(), [](Tables&) { return Causal{}; });
  over_cache<float>("top_left", some(shapes(), 0), [](Tables&) { return Causal::top_left(); });
  over_cache<float>("window_both", shapes(),
                    [](Tables&) { return SlidingWindow::from_flash(100, 7); });
  over_cache<float>("causal_window", causal_shapes(),
                    [](Tables&) { return Causal{} & SlidingWindow::from_hf(90); });
  over_cache<float>("causal_window_keep", causal_shapes(),
                    [](Tables&) { return Causal{} & SlidingWindow::from_hf(130) & KeepFirst{5}; });
  over_cache<float>("prefix", some(shapes(), 1), [](Tables&) { return PrefixLm{.length = 20}; });
  over_cache<float>("prefixes", some(shapes(), 0), [](Tables& t) { return t.prefixes(); });
  over_cache<float>("causal_documents", shapes(),
                    [](Tables& t) { return Causal{} & t.documents(); });
  over_cache<float>("mask", some(shapes(), 0), [](Tables& t) { return t.mask(false); });
  over_cache<float>("mask_broadcast", some(shapes(), 2), [](Tables& t) { return t.mask(true); });
  over_cache<float>("causal_mask", shapes(), [](Tables& t) { return Causal{} & t.mask(false); });
  over_cache<float>("own_mask", some(shapes(), 2), [mine](Tables&) { return mask_function(mine); });

  // Score rules.
  over_cache<float>("causal_cap", causal_shapes(),
                    [](Tables&) { return Causal{} & SoftCap{2.0f}; });
  over_cache<float>("causal_alibi", causal_shapes(),
                    [](Tables& t) { return Causal{} & t.alibi(); });
  over_cache<float>("relative", some(shapes(), 1), [](Tables& t) { return t.relative(true); });
  over_cache<float>("bias", some(shapes(), 0), [](Tables& t) { return t.bias<float>(false); });
  over_cache<float>("bias_broadcast", some(shapes(), 2),
                    [](Tables& t) { return t.bias<float>(true); });
  over_cache<float>("bias_bf16", some(shapes(), 1),
                    [](Tables& t) { return t.bias<bfloat16>(false); });
  over_cache<float>("causal_sinks", causal_shapes(),
                    [](Tables& t) { return Causal{} & t.sinks(); });
  over_cache<float>("causal_scale", some(causal_shapes(), 0),
                    [](Tables&) { return Causal{} & Scale{0.3}; });
  over_cache<float>("causal_own_score", some(causal_shapes(), 2),
                    [bend](Tables&) { return Causal{} & score_function(bend); });

  // Several.
  over_cache<float>("cap_relative", some(shapes(), 2),
                    [](Tables& t) { return SoftCap{3.0f} & t.relative(false); });
  over_cache<float>("causal_cap_alibi", causal_shapes(),
                    [](Tables& t) { return Causal{} & SoftCap{2.0f} & t.alibi(); });
  over_cache<float>("cap_bias", some(shapes(), 1),
                    [](Tables& t) { return SoftCap{2.0f} & t.bias<float>(false); });
  over_cache<float>("scale_cap_bias_alibi", some(shapes(), 0), [](Tables& t) {
    return Scale{0.2} & SoftCap{2.0f} & t.bias<float>(true) & t.alibi();
  });
  over_cache<float>("causal_window_keep_sinks_cap", some(causal_shapes(), 1), [](Tables& t) {
    return Causal{} & SlidingWindow::from_hf(130) & KeepFirst{5} & t.sinks() & SoftCap{5.0f};
  });
  over_cache<float>("own_mask_own_score_alibi", some(shapes(), 0), [mine, bend](Tables& t) {
    return mask_function(mine) & score_function(bend) & t.alibi();
  });
}

}  // namespace gqa::bits
