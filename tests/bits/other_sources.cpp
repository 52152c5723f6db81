// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// attend() over pages, rings and a user's own tensors; attend_shared_prefix(); and what caches give
// back and save of what was appended.
#include <numeric>
#include <sstream>

#include "cases.hpp"

namespace gqa::bits {
namespace {

// --- pages and rings ---

template <typename Storage>
PagedKvCache<Storage> paged(const Shape& s, Index capacity) {
  const auto allocator = std::make_shared<PageAllocator>(
      PageAllocator::Options{.pages = s.batch * (capacity / 64 + 2),
                             .page_bytes = PagedKvCache<Storage>::page_bytes(s.heads())});
  return PagedKvCache<Storage>(allocator,
                               {.batch = s.batch, .capacity = capacity, .heads = s.heads()});
}

template <typename Storage, typename MakeRules>
void over_pages(const std::string& rules_name, const Shapes& shapes, const MakeRules& make_rules) {
  for (const Shape& s : shapes) {
    auto cache = paged<Storage>(s, s.kv_len);
    fill(cache, s, KeysAndValues<float>::of<Storage>(s));
    attend_case<float, float>(
        std::string("attend/pages_") + scalar_name<Storage>() + "/" + rules_name, s, cache,
        make_rules);
  }
}

template <typename Storage, typename MakeRules>
void over_ring(const std::string& rules_name, Index window, Index keep_first, const Shapes& shapes,
               const MakeRules& make_rules) {
  for (const Shape& s : shapes) {
    if (s.extra == Extra::positions || s.extra == Extra::poison) continue;  // of keys that are gone
    RingKvCache<Storage> cache({.batch = s.batch,
                                .window = window,
                                .keep_first = keep_first,
                                .spare = 256,
                                .heads = s.heads()});
    fill(cache, s, KeysAndValues<float>::of<Storage>(s));
    attend_case<float, float>(
        std::string("attend/ring_") + scalar_name<Storage>() + "/" + rules_name, s, cache,
        make_rules);
  }
}

// --- a prompt that sequences share ---

/// Seven sequences: 0, 2, 4 and 6 begin with 1100 tokens, of which 5 has 500, and 4 and 6 have 500
/// more in common; 1 has nothing of it, and 3 has nothing at all.
template <typename Storage>
PagedKvCache<Storage> family(const Shape& s) {
  auto cache = paged<Storage>(s, 2000);
  std::uint64_t seed = 20;
  const auto append = [&](Index sequence, Index tokens) {
    const Tensor<float> k({1, tokens, s.num_kv_heads, s.head_dim}, ++seed, 0);
    const Tensor<float> v({1, tokens, s.num_kv_heads, s.value_dim}, ++seed, 0);
    cache.append(sequence, k.view(), v.view());
  };
  append(4, 1600);
  cache.fork(4, 6);
  for (const Index b : {0, 2}) cache.start_with(b, cache.share_prefix(4, 1100));
  cache.start_with(5, cache.share_prefix(4, 500));
  append(0, 70);
  append(1, 700);
  append(2, 3);
  append(5, 900);
  append(6, 64);
  return cache;
}

template <typename Storage, typename MakeRules>
void over_family(const std::string& rules_name, const MakeRules& make_rules) {
  for (const Shape& s : {Shape{7, 1, 2000, 8, 2, 64, 64}, Shape{7, 1, 2000, 16, 1, 64, 96, {}, 4},
                         Shape{7, 3, 2000, 4, 4, 80, 40, Extra::q_lens, 3},
                         Shape{7, 17, 2000, 4, 2, 64, 64, Extra::packed, 2},
                         Shape{7, 2, 2000, 4, 2, 128, 128, Extra::positions}}) {
    const auto cache = family<Storage>(s);
    Tables tables(s);
    const auto rules = make_rules(tables);
    Forward<float, float> forward(s);
    attend_shared_prefix(forward.q.view(), cache, forward.out.view(), rules, forward.options(),
                         Workers{s.workers});
    Digest digest;
    digest.add(forward.out.numbers());
    digest.add(forward.lse);
    report(
        std::string("shared_prefix/") + scalar_name<Storage>() + "/" + rules_name + "/" + s.name(),
        digest.value());
  }
}

// --- a user's own tensors ---

template <typename T, typename Query = T, typename Out = Query, typename MakeRules>
void over_tensors(const std::string& rules_name, const Shapes& shapes,
                  const MakeRules& make_rules) {
  for (const Shape& s : shapes) {
    const auto kv = KeysAndValues<T>::template of<T>(s);
    std::vector<Index> lengths;
    for (Index b = 0; s.extra == Extra::lengths && b < s.batch; ++b) lengths.push_back(s.length(b));
    const auto source = rows_kv(kv.k.view(), kv.v.view(), lengths);
    attend_case<Query, Out>(std::string("attend/tensors_") + scalar_name<T>() + "/" + rules_name, s,
                            source, make_rules);
  }
}

/// Heads before tokens, gaps between rows, and slices of one buffer are strides.
void over_strides() {
  Tensor<float> fused({2, 200, 6 + 2 + 2, 40}, 31, 0);
  const TensorView<float> all = fused.view();
  const auto k = all.heads_slice(6, 2), v = all.heads_slice(8, 2);
  const auto q = all.heads_slice(0, 6).tokens_slice(100, 17);
  Tensor<float> out({2, 6, 17, 40});  // heads first
  attend(q, k, v, heads_first(out.numbers().data(), {2, 17, 6, 40}), Causal{}, {}, Workers{2});
  Digest digest;
  digest.add(out.numbers());
  report("attend/tensors_f32/causal/strides", digest.value());
}

// --- what caches keep ---

template <typename Storage, typename T>
void kept() {
  for (const Shape& s :
       {Shape{2, 1, 200, 2, 2, 64, 64, Extra::lengths}, Shape{1, 1, 65, 1, 1, 40, 24},
        Shape{1, 1, 130, 3, 3, 80, 128}, Shape{1, 1, 64, 2, 2, 128, 128, Extra::large}}) {
    KvCache<Storage> cache({.batch = s.batch, .capacity = s.kv_len, .heads = s.heads()});
    fill(cache, s, KeysAndValues<T>::template of<Storage>(s));
    Digest digest;
    std::ostringstream saved;
    save(cache, saved);
    for (const char c : saved.str()) digest.byte(static_cast<std::uint8_t>(c));
    for (Index b = 0; b < s.batch; ++b) {
      using Real = AccumulatorOf<Storage>;
      Tensor<Real> k({1, s.length(b), s.num_kv_heads, s.head_dim});
      Tensor<Real> v({1, s.length(b), s.num_kv_heads, s.value_dim});
      cache.read(b, k.view(), v.view());
      digest.add(k.numbers());
      digest.add(v.numbers());
    }
    report(
        std::string("kept/") + scalar_name<Storage>() + "_of_" + scalar_name<T>() + "/" + s.name(),
        digest.value());
  }
}

}  // namespace

void attend_over_other_sources() {
  const auto causal = [](Tables&) { return Causal{}; };
  const auto gpt_oss = [](Tables& t) {
    return Causal{} & SlidingWindow::from_hf(130) & KeepFirst{5} & t.sinks();
  };
  const auto biased = [](Tables& t) { return SoftCap{2.0f} & t.bias<float>(false); };

  over_pages<float>("causal", causal_shapes(), causal);
  over_pages<float>("causal_cap_alibi", some(causal_shapes(), 0),
                    [](Tables& t) { return Causal{} & SoftCap{2.0f} & t.alibi(); });
  over_pages<bfloat16>("causal", some(causal_shapes(), 1), causal);
  over_pages<Int8>("causal_window_keep_sinks", some(causal_shapes(), 2), gpt_oss);

  over_ring<float>("causal_window_keep_sinks", 130, 5, shapes(), gpt_oss);
  over_ring<Int8>("causal_window", 90, 0, some(shapes(), 1),
                  [](Tables&) { return Causal{} & SlidingWindow::from_hf(90); });

  over_family<float>("causal", causal);
  over_family<float>("cap_bias", biased);
  over_family<bfloat16>("causal", causal);
  over_family<Int8>("causal_window_keep_sinks", gpt_oss);

  over_tensors<float>("none", shapes(), [](Tables&) { return NoMask{}; });
  over_tensors<float>("causal", causal_shapes(), causal);
  over_tensors<float>("cap_bias", some(shapes(), 0), biased);
  over_tensors<double>("causal", some(causal_shapes(), 0), causal);
  over_tensors<bfloat16>("causal", some(causal_shapes(), 1), causal);
  over_tensors<half, float>("causal", some(causal_shapes(), 2), causal);
  over_strides();

  kept<float, float>();
  kept<double, double>();
  kept<bfloat16, float>();
  kept<half, double>();
  kept<Int8, float>();
  kept<Int8, bfloat16>();
  kept<Int4, float>();
}

}  // namespace gqa::bits
