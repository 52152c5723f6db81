// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// One pass through an attention layer, step by step:
//
//   x --wq, wk, wv--> q, k, v --norm, rope--> q', k' --append--> cache
//                                             q', cache --attend--> heads --wo--> y
//
// MultiHeadAttention checks what it is given, then calls self_attention(), project_memory() or
// cross_attention(), which are at the end; read them first.
#pragma once

#include <optional>

#include "gqa/kernel/attend.hpp"
#include "gqa/module/weights.hpp"
#include "gqa/ops/rms_norm.hpp"
#include "gqa/ops/rope.hpp"

namespace gqa {

/// Somewhere that keys and values can be appended to: KvCache, or a cache of the user's. append(k,
/// v) happens in full or throws; append(k, v, counts), [batch], is only needed for passes in which
/// each sequence has its own number of tokens, and truncate(sequence, length) for passes that fail
/// after their append to take it back.
template <typename C, typename T>
concept KvSink =
    NotConst<C> && KvSource<C> && requires(C& cache, TensorView<T> kv) { cache.append(kv, kv); };

namespace detail {

/// Stands for a cache where there is none.
struct NoCache {};

/// The shape of hidden states, as messages spell it.
struct HiddenShape {
  TensorShape shape;
};
GQA_TAG inline std::string to_string(const HiddenShape& x) {
  if (x.shape.heads != 1) return gqa::to_string(x.shape);
  return message("[", x.shape.batch, ", ", x.shape.tokens, ", ", x.shape.dim, "]");
}

/// What a layer is made of.
template <typename T>
struct AttentionLayer {
  const MultiHeadAttentionConfig& config;
  const AttentionWeights<T>& weights;
  const RopeTable<T>* rope;  // null without
};

/// One call.
template <typename T>
struct AttentionPass {
  AttentionLayer<T> layer;
  Workspace& workspace;
  std::span<const Index> q_lens;  // [batch], or empty: all tokens
  AnyExecutor executor;
  std::span<const AnyPart> rules = {};

  GQA_TAG const MultiHeadAttentionConfig& config() const { return layer.config; }
  GQA_TAG Index q_len(Index b, Index tokens) const {
    return q_lens.empty() ? tokens : q_lens[static_cast<std::size_t>(b)];
  }
};

/// A stretch of a projection's output [batch, tokens, 1, width], seen as heads.
template <typename T>
GQA_TAG TensorView<T> split_heads(const TensorView<T>& rows, Index begin, Index heads, Index dim) {
  return {rows.data() ? rows.data() + begin : nullptr,
          {rows.batch(), rows.tokens(), heads, dim},
          {.batch = rows.strides().batch, .token = rows.strides().token, .head = dim}};
}

/// The activations of a pass. q, k and v may be slices of one tensor.
template <typename T>
struct Activations {
  TensorView<T> q = {};      // [batch, tokens, num_heads, head_dim]
  TensorView<T> k = {};      // [batch, tokens, num_kv_heads, head_dim]
  TensorView<T> v = {};      // [batch, tokens, num_kv_heads, value_dim]
  TensorView<T> heads = {};  // [batch, tokens, num_heads, value_dim]: what attention gives
};

/// Rows [batch, tokens, 1, width] for as many tokens as x has, in a workspace; empty while its size
/// is counted.
template <typename T>
GQA_TAG TensorView<T> take_rows(Carver& carver, const TensorView<const T>& x, Index width) {
  const TensorShape shape{x.batch(), x.tokens(), 1, width};
  T* const data = carver.take<T>(shape.batch * shape.tokens * shape.dim);
  if (data == nullptr && shape.batch * shape.tokens > 0) return {};
  return {data, shape};
}

/// The workspace's memory for a projection of `width` channels, and for what attention gives.
template <typename T>
GQA_TAG std::pair<TensorView<T>, TensorView<T>> reserve_rows(const AttentionPass<T>& pass,
                                                             const TensorView<const T>& x,
                                                             Index width) {
  const Index heads_width = pass.config().attention_width();
  Carver size;
  take_rows(size, x, width);
  take_rows(size, x, heads_width);
  Carver carver(pass.workspace.reserve(size.bytes()));
  const auto rows = take_rows(carver, x, width);
  return {rows, take_rows(carver, x, heads_width)};
}

inline namespace GQA_ISA {

/// A cache of any type, as a pass uses it. It is not owned.
template <typename T>
struct AnyCache {
  void* cache;
  AnySource source;
  void (*attend)(const AttentionCall& call);
  void (*append_to)(void* cache, const TensorView<T>& k, const TensorView<T>& v,
                    std::span<const Index> counts);
  void (*truncate)(void* cache, Index b, Index length);

  void append(const AttentionPass<T>& pass, const TensorView<T>& k, const TensorView<T>& v) const {
    append_to(cache, k, v, pass.q_lens);
  }
  /// Takes back what a pass has appended.
  void roll_back(const AttentionPass<T>& pass, Index tokens) const {
    for (Index b = 0; b < source.batch(); ++b) {
      truncate(cache, b, source.length(b) - pass.q_len(b, tokens));
    }
  }
};

template <typename T, KvSink<T> Cache>
AnyCache<T> any_cache(Cache& cache) {
  static_assert(std::same_as<AccumulatorOf<T>, AccumulatorOf<typename Cache::Storage>>,
                "gqa: a layer in double needs a cache in double, and a layer in float none");
  const auto append = [](void* to, const TensorView<T>& k, const TensorView<T>& v,
                         std::span<const Index> counts) {
    Cache& sink = *static_cast<Cache*>(to);
    if constexpr (requires { sink.append(k, v, counts); }) {
      sink.append(k, v, counts);
    } else {
      require(counts.empty(), "this cache has no append(k, v, counts), which the ", counts.size(),
              " different lengths need");
      sink.append(k, v);
    }
  };
  const auto truncate = [](void* from, Index b, Index length) {
    if constexpr (requires(Cache& sink) { sink.truncate(b, length); }) {
      static_cast<Cache*>(from)->truncate(b, length);
    }
  };
  return {&cache, cache, run_call<Cache::layout, Native<typename Cache::Storage>>, append,
          truncate};
}

/// q = norm(q), k = norm(k), head by head.
template <typename T>
void normalise(const AttentionLayer<T>& layer, const TensorView<T>& heads, AttentionWeight weight) {
  if (!layer.config.qk_norm) return;
  rms_norm(heads, layer.weights.numbers(weight), heads, layer.config.qk_norm->eps);
}

/// Turns the heads of sequence b, whose first token stands at `first`.
template <typename T>
void rotate(const AttentionPass<T>& pass, const TensorView<T>& heads, Index b, Index first) {
  const Index q_len = pass.q_len(b, heads.tokens());
  apply_rope(*pass.layer.rope, heads.sequence(b).tokens_slice(0, q_len), RopePositions(first));
}

/// q, k, v = x wqᵀ, x wkᵀ, x wvᵀ: one product, as the weights lie on top of one another.
template <typename T>
Activations<T> project(const AttentionPass<T>& pass, const TensorView<const T>& x) {
  const MultiHeadAttentionConfig& c = pass.config();
  const Index k_begin = c.query_width(), v_begin = k_begin + c.key_width();
  const auto [qkv, heads] = reserve_rows(pass, x, v_begin + c.value_width());
  const AttentionWeights<T>& weights = pass.layer.weights;
  linear(x, weights.rows(AttentionWeight::wqkv), weights.bias(AttentionWeight::bqkv), qkv,
         pass.executor);
  return {.q = split_heads(qkv, 0, c.num_heads, c.head_dim),
          .k = split_heads(qkv, k_begin, c.num_kv_heads, c.head_dim),
          .v = split_heads(qkv, v_begin, c.num_kv_heads, c.value_dim),
          .heads = split_heads(heads, 0, c.num_heads, c.value_dim)};
}

/// The same for queries only.
template <typename T>
Activations<T> project_queries(const AttentionPass<T>& pass, const TensorView<const T>& x) {
  const MultiHeadAttentionConfig& c = pass.config();
  const auto [q, heads] = reserve_rows(pass, x, c.query_width());
  const AttentionWeights<T>& weights = pass.layer.weights;
  linear(x, weights.rows(AttentionWeight::wq), weights.bias(AttentionWeight::bq), q, pass.executor);
  return {.q = split_heads(q, 0, c.num_heads, c.head_dim),
          .heads = split_heads(heads, 0, c.num_heads, c.value_dim)};
}

/// The call of attend() that a pass makes: queries over keys and values into heads.
template <typename T>
AttentionCall attention_call(const AttentionPass<T>& pass, const TensorView<const T>& q,
                             const AnySource& source, const TensorView<T>& heads) {
  AttentionCall call{.q = AnyRows<const std::byte>(q),
                     .source = source,
                     .out = AnyRows<std::byte>(heads),
                     .rules = pass.rules,
                     .executor = pass.executor,
                     .q_lens = pass.q_lens,
                     .workspace = &pass.workspace.nested(),
                     .scale = pass.config().scale};
  check_call("attend", call);
  return call;
}

/// y = heads woᵀ
template <typename T>
void project_out(const AttentionPass<T>& pass, const Activations<T>& a, const TensorView<T>& y) {
  const AttentionWeights<T>& weights = pass.layer.weights;
  const TensorView<const T> rows(a.heads.data(),
                                 {y.batch(), y.tokens(), 1, pass.config().attention_width()});
  linear(rows, weights.rows(AttentionWeight::wo), weights.bias(AttentionWeight::bo), y,
         pass.executor);
}

/// Throws what attend() would of the rules, while nothing has been changed yet.
template <typename T>
void check_rules(const AttentionPass<T>& pass, const TensorView<const T>& x, Index kv_len) {
  const MultiHeadAttentionConfig& c = pass.config();
  RulesView(pass.rules)
      .check({.batch = x.batch(),
              .q_len = x.tokens(),
              .kv_len = kv_len,
              .num_heads = c.num_heads,
              .num_kv_heads = c.num_kv_heads,
              .head_dim = c.head_dim,
              .value_dim = c.value_dim});
}

// --- the passes ----------------------------------------------------------------------------------

/// Whole sequences, without a cache.
template <typename T>
void self_attention(const AttentionPass<T>& pass, const TensorView<const T>& x,
                    const TensorView<T>& y) {
  const Activations<T> a = project(pass, x);
  normalise(pass.layer, a.q, AttentionWeight::q_norm);
  normalise(pass.layer, a.k, AttentionWeight::k_norm);
  for (Index b = 0; pass.layer.rope && b < x.batch(); ++b) {
    rotate(pass, a.q, b, 0);
    rotate(pass, a.k, b, 0);
  }
  const auto rows = rows_kv(a.k, a.v, pass.q_lens);
  const AttentionCall call = attention_call<T>(pass, a.q, rows, a.heads);
  run_packed<T>(call, call.rules_view());  // with strips, as caches have them: no more to compile
  project_out(pass, a, y);
}

/// Sequences that go on where the cache ends.
template <typename T>
void self_attention(const AttentionPass<T>& pass, const TensorView<const T>& x,
                    const TensorView<T>& y, const AnyCache<T>& cache) {
  Index kv_len = 0;
  for (Index b = 0; b < x.batch(); ++b) {
    kv_len = (std::max)(kv_len, cache.source.length(b) + pass.q_len(b, x.tokens()));
  }
  check_rules(pass, x, kv_len);

  const Activations<T> a = project(pass, x);
  normalise(pass.layer, a.q, AttentionWeight::q_norm);
  normalise(pass.layer, a.k, AttentionWeight::k_norm);
  for (Index b = 0; pass.layer.rope && b < x.batch(); ++b) {
    const Index first = cache.source.first_position(b) + cache.source.length(b);
    rotate(pass, a.q, b, first);
    rotate(pass, a.k, b, first);
  }
  cache.append(pass, a.k, a.v);
  try {
    cache.attend(attention_call<T>(pass, a.q, cache.source, a.heads));
    project_out(pass, a, y);
  } catch (...) {  // no memory for scratch, an executor that fails, a mask that throws
    cache.roll_back(pass, x.tokens());
    throw;
  }
}

/// Keys and values of an encoder's output.
template <typename T>
void project_memory(const AttentionPass<T>& pass, const TensorView<const T>& memory,
                    const AnyCache<T>& cache) {
  const MultiHeadAttentionConfig& c = pass.config();
  const Index width = c.key_width() + c.value_width();
  Carver size;
  take_rows(size, memory, width);
  Carver carver(pass.workspace.reserve(size.bytes()));
  const auto kv = take_rows(carver, memory, width);
  const AttentionWeights<T>& weights = pass.layer.weights;
  linear(memory, weights.wkv_rows(), weights.bias(AttentionWeight::bk), kv, pass.executor);
  const auto k = split_heads(kv, 0, c.num_kv_heads, c.head_dim);
  const auto v = split_heads(kv, c.key_width(), c.num_kv_heads, c.value_dim);
  normalise(pass.layer, k, AttentionWeight::k_norm);
  cache.append(pass, k, v);
}

/// Queries against keys and values that are there already.
template <typename T>
void cross_attention(const AttentionPass<T>& pass, const TensorView<const T>& x,
                     const TensorView<T>& y, const AnySource& memory,
                     void (*attend)(const AttentionCall&)) {
  const Activations<T> a = project_queries(pass, x);
  normalise(pass.layer, a.q, AttentionWeight::q_norm);
  attend(attention_call<T>(pass, a.q, memory, a.heads));
  project_out(pass, a, y);
}

}  // namespace GQA_ISA
}  // namespace detail
}  // namespace gqa
