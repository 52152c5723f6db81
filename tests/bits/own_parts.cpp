// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// attend() with what a user wrote: a source of keys and values, a mask that knows its tiles, a
// score rule of each stage.
#include "cases.hpp"

namespace gqa::bits {
namespace {

/// Another source's keys and values in short runs; key 0 is at position 1000.
template <typename Source>
struct InPieces {
  using Storage = typename Source::Storage;
  static constexpr auto layout = Source::layout;

  const Source& all;

  Index batch() const { return all.batch(); }
  Index num_kv_heads() const { return all.num_kv_heads(); }
  Index head_dim() const { return all.head_dim(); }
  Index value_dim() const { return all.value_dim(); }
  Index length(Index b) const { return all.length(b); }
  Index first_position(Index) const { return 1000; }
  template <typename F>
  void for_each_run(Index b, Index kv_head, Index begin, Index end, F&& fn) const {
    for (Index i = begin; i < end; i += 128) {
      all.for_each_run(b, kv_head, i, (std::min)(i + 128, end), fn);
    }
  }
};

/// Called, not inlined, as in float_caches.cpp.
[[gnu::noinline]] bool sees(Index head, Index q_pos, Index k_pos) {
  return (k_pos / 100 + head) % 2 == 0 && k_pos <= q_pos;
}
template <typename T>
[[gnu::noinline]] T bent(T x, Index k_pos) {
  return x * T(0.75) + static_cast<T>(k_pos % 5) * T(0.125);
}

/// Causal, and of every other stretch of 100 keys, which ones depends on the head.
struct Stretches {
  static constexpr bool per_head = true;

  bool visible(const Where& w) const { return sees(w.head, w.q_pos, w.k_pos); }
  Coverage tile(const Tile& t) const {
    const Index first = t.k_pos, last = t.k_pos + (t.k_end - t.k_begin) - 1;
    if (first > t.q_pos_max) return Coverage::skip;
    if (first / 100 != last / 100) return Coverage::partial;
    if (!sees(t.head, first, first)) return Coverage::skip;
    return last <= t.q_pos_min ? Coverage::full : Coverage::partial;
  }
};

template <ScoreStage Stage>
struct Bent {
  static constexpr ScoreStage stage = Stage;

  template <typename T>
  T score(T x, const Where& w) const {
    return bent(x, w.k_pos);
  }
};

}  // namespace

void attend_with_own_parts() {
  const auto causal = [](Tables&) { return Causal{}; };
  for (const Shape& s : shapes()) {
    if (s.extra == Extra::lengths || s.extra == Extra::positions) continue;
    const auto kv = KeysAndValues<float>::of(s);
    const auto tensors = rows_kv(kv.k.view(), kv.v.view());
    attend_case<float, float>("own/tensors_f32/causal", s, InPieces<RowsKv<float>>{tensors},
                              causal);
    KvCache<Int8> cache({.batch = s.batch, .capacity = s.kv_len, .heads = s.heads()});
    fill(cache, s, kv);
    attend_case<float, float>("own/cache_int8/causal", s, InPieces<KvCache<Int8>>{cache}, causal);
  }
  over_cache<float>("own_tiles", shapes(), [](Tables&) { return Stretches{}; });
  over_cache<float>("own_tiles_own_scores", some(shapes(), 1), [](Tables& t) {
    return Bent<ScoreStage::biased>{} & t.alibi() & Bent<ScoreStage::capped>{} & SoftCap{2.0f} &
           Stretches{} & Causal{};
  });
}

}  // namespace gqa::bits
