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

/// The config's scale, unless the rules bring one.
template <typename... Parts>
GQA_TAG auto with_scale(const Rules<Parts...>& rules, const MultiHeadAttentionConfig& config) {
  if constexpr ((HasScale<Parts> || ...)) {
    return rules;
  } else {
    const double standard = 1.0 / std::sqrt(static_cast<double>(config.head_dim));
    return rules & Scale{config.scale.value_or(standard)};
  }
}

/// Appends the tokens of a pass.
template <typename T, KvSink<T> Cache>
GQA_TAG void append(const AttentionPass<T>& pass, const TensorView<T>& k, const TensorView<T>& v,
                    Cache& cache) {
  if constexpr (requires { cache.append(k, v, pass.q_lens); }) {
    cache.append(k, v, pass.q_lens);
  } else {
    require(pass.q_lens.empty(), "this cache has no append(k, v, counts), which the ",
            pass.q_lens.size(), " different lengths need");
    cache.append(k, v);
  }
}

/// Takes back what a pass has appended.
template <typename Cache, typename T>
GQA_TAG void roll_back(const AttentionPass<T>& pass, Cache& cache, Index tokens) {
  if constexpr (requires { cache.truncate(Index{}, Index{}); }) {
    for (Index b = 0; b < cache.batch(); ++b) {
      cache.truncate(b, cache.length(b) - pass.q_len(b, tokens));
    }
  }
}

inline namespace GQA_ISA {

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
template <typename T, typename ExecutorT>
Activations<T> project(const AttentionPass<T>& pass, const TensorView<const T>& x,
                       ExecutorT& executor) {
  const MultiHeadAttentionConfig& c = pass.config();
  const Index k_begin = c.query_width(), v_begin = k_begin + c.key_width();
  const auto [qkv, heads] = reserve_rows(pass, x, v_begin + c.value_width());
  const AttentionWeights<T>& weights = pass.layer.weights;
  linear(x, weights.rows(AttentionWeight::wqkv), weights.bias(AttentionWeight::bqkv), qkv,
         executor);
  return {.q = split_heads(qkv, 0, c.num_heads, c.head_dim),
          .k = split_heads(qkv, k_begin, c.num_kv_heads, c.head_dim),
          .v = split_heads(qkv, v_begin, c.num_kv_heads, c.value_dim),
          .heads = split_heads(heads, 0, c.num_heads, c.value_dim)};
}

/// The same for queries only.
template <typename T, typename ExecutorT>
Activations<T> project_queries(const AttentionPass<T>& pass, const TensorView<const T>& x,
                               ExecutorT& executor) {
  const MultiHeadAttentionConfig& c = pass.config();
  const auto [q, heads] = reserve_rows(pass, x, c.query_width());
  const AttentionWeights<T>& weights = pass.layer.weights;
  linear(x, weights.rows(AttentionWeight::wq), weights.bias(AttentionWeight::bq), q, executor);
  return {.q = split_heads(q, 0, c.num_heads, c.head_dim),
          .heads = split_heads(heads, 0, c.num_heads, c.value_dim)};
}

/// heads = softmax(q kᵀ) v
template <typename T, KvSource Source, typename RulesT, typename ExecutorT>
void attend_heads(const AttentionPass<T>& pass, const Activations<T>& a, const Source& source,
                  const RulesT& rules, ExecutorT& executor) {
  attend(a.q, source, a.heads, rules,
         {.q_lens = pass.q_lens, .workspace = &pass.workspace.nested()}, executor);
}

/// y = heads woᵀ
template <typename T, typename ExecutorT>
void project_out(const AttentionPass<T>& pass, const Activations<T>& a, const TensorView<T>& y,
                 ExecutorT& executor) {
  const AttentionWeights<T>& weights = pass.layer.weights;
  const TensorView<const T> rows(a.heads.data(),
                                 {y.batch(), y.tokens(), 1, pass.config().attention_width()});
  linear(rows, weights.rows(AttentionWeight::wo), weights.bias(AttentionWeight::bo), y, executor);
}

/// Throws what attend() would of the rules, while nothing has been changed yet.
template <typename T, typename RulesT>
void check_rules(const AttentionPass<T>& pass, const TensorView<const T>& x, const RulesT& rules,
                 Index kv_len) {
  const MultiHeadAttentionConfig& c = pass.config();
  rules.check(AttentionShape{.batch = x.batch(),
                             .q_len = x.tokens(),
                             .kv_len = kv_len,
                             .num_heads = c.num_heads,
                             .num_kv_heads = c.num_kv_heads,
                             .head_dim = c.head_dim,
                             .value_dim = c.value_dim});
}

// --- the passes ----------------------------------------------------------------------------------

/// Whole sequences, without a cache.
template <typename T, typename RulesT, typename ExecutorT>
void self_attention(const AttentionPass<T>& pass, const TensorView<const T>& x,
                    const TensorView<T>& y, const RulesT& part, ExecutorT& executor) {
  const auto rules = with_scale(as_rules(part), pass.config());
  const Activations<T> a = project(pass, x, executor);
  normalise(pass.layer, a.q, AttentionWeight::q_norm);
  normalise(pass.layer, a.k, AttentionWeight::k_norm);
  for (Index b = 0; pass.layer.rope && b < x.batch(); ++b) {
    rotate(pass, a.q, b, 0);
    rotate(pass, a.k, b, 0);
  }
  attend_heads(pass, a, rows_kv(a.k, a.v, pass.q_lens), rules, executor);
  project_out(pass, a, y, executor);
}

/// Sequences that go on where the cache ends.
template <typename T, KvSink<T> Cache, typename RulesT, typename ExecutorT>
void self_attention(const AttentionPass<T>& pass, const TensorView<const T>& x,
                    const TensorView<T>& y, Cache& cache, const RulesT& part, ExecutorT& executor) {
  const auto rules = with_scale(as_rules(part), pass.config());
  Index kv_len = 0;
  for (Index b = 0; b < x.batch(); ++b) {
    kv_len = (std::max)(kv_len, cache.length(b) + pass.q_len(b, x.tokens()));
  }
  check_rules(pass, x, rules, kv_len);

  const Activations<T> a = project(pass, x, executor);
  normalise(pass.layer, a.q, AttentionWeight::q_norm);
  normalise(pass.layer, a.k, AttentionWeight::k_norm);
  for (Index b = 0; pass.layer.rope && b < x.batch(); ++b) {
    const Index first = first_position(cache, b) + cache.length(b);
    rotate(pass, a.q, b, first);
    rotate(pass, a.k, b, first);
  }
  append(pass, a.k, a.v, cache);
  try {
    attend_heads(pass, a, cache, rules, executor);
    project_out(pass, a, y, executor);
  } catch (...) {  // no memory for scratch, an executor that fails, a mask that throws
    roll_back(pass, cache, x.tokens());
    throw;
  }
}

/// Keys and values of an encoder's output.
template <typename T, KvSink<T> Cache, typename ExecutorT>
void project_memory(const AttentionPass<T>& pass, const TensorView<const T>& memory, Cache& cache,
                    ExecutorT& executor) {
  const MultiHeadAttentionConfig& c = pass.config();
  const Index width = c.key_width() + c.value_width();
  Carver size;
  take_rows(size, memory, width);
  Carver carver(pass.workspace.reserve(size.bytes()));
  const auto kv = take_rows(carver, memory, width);
  const AttentionWeights<T>& weights = pass.layer.weights;
  linear(memory, weights.wkv_rows(), weights.bias(AttentionWeight::bk), kv, executor);
  const auto k = split_heads(kv, 0, c.num_kv_heads, c.head_dim);
  const auto v = split_heads(kv, c.key_width(), c.num_kv_heads, c.value_dim);
  normalise(pass.layer, k, AttentionWeight::k_norm);
  append(pass, k, v, cache);
}

/// Queries against keys and values that are there already.
template <typename T, KvSource Cache, typename RulesT, typename ExecutorT>
void cross_attention(const AttentionPass<T>& pass, const TensorView<const T>& x,
                     const TensorView<T>& y, const Cache& memory, const RulesT& part,
                     ExecutorT& executor) {
  const auto rules = with_scale(as_rules(part), pass.config());
  const Activations<T> a = project_queries(pass, x, executor);
  normalise(pass.layer, a.q, AttentionWeight::q_norm);
  attend_heads(pass, a, memory, rules, executor);
  project_out(pass, a, y, executor);
}

}  // namespace GQA_ISA
}  // namespace detail
}  // namespace gqa
