// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// MultiHeadAttention: an attention layer as a model's author uses it, from hidden states to hidden
// states. The steps are in attention_pass.hpp, those of training in attention_backward.hpp, weights
// and their names in weights.hpp.
#pragma once

#include "gqa/module/attention_backward.hpp"
#include "gqa/module/attention_pass.hpp"

namespace gqa {

/// Attention with its projections, for T = float or double. Heads are grouped: num_kv_heads =
/// num_heads is multi-head, 1 multi-query, anything between grouped-query attention.
///
/// Hidden states x and y are row-major tensors [batch, tokens, hidden_size], or [tokens,
/// hidden_size] of one sequence (tensor, matrix or map; see rows_of()). After construction only
/// set_weight() and the mutable accessors change the module: several threads may run passes at
/// once, each with a workspace and cache of its own. With a workspace that has seen the largest
/// call, a pass allocates nothing; without one, it allocates its scratch. y may be x.
template <typename T = float>
class MultiHeadAttention {
  static_assert(
      std::same_as<T, float> || std::same_as<T, double>,
      "MultiHeadAttention<T> computes in float or double; checkpoints and caches may be of "
      "any Scalar type");

 public:
  /// Weights are to be set: see missing_weights(). Throws std::invalid_argument.
  GQA_TAG explicit MultiHeadAttention(const MultiHeadAttentionConfig& config)
      : config_(resolved(config)), weights_(config_) {
    if (config_.rope) rope_ = {*config_.rope, config_.head_dim, config_.rope_table_positions};
  }
  GQA_TAG MultiHeadAttention(MultiHeadAttention&&) noexcept = default;
  GQA_TAG MultiHeadAttention& operator=(MultiHeadAttention&&) noexcept = default;
  GQA_TAG ~MultiHeadAttention() = default;

  /// Without zeros that stand for defaults.
  GQA_TAG const MultiHeadAttentionConfig& config() const { return config_; }
  /// What a KvCache for this layer is made with.
  GQA_TAG Heads<> heads() const {
    return {config_.num_heads, config_.num_kv_heads, config_.head_dim, config_.value_dim};
  }

  // --- weights ---

  /// Sets a weight by the name that a checkpoint uses: "q_proj.weight" (with any prefix),
  /// "q_proj.bias", "q_norm.weight", "c_attn.weight" (fused) …, or "wq" as llama2.c;
  /// weight_names.hpp has them all. `source` is a row-major matrix or tensor of the weight's shape,
  /// or a contiguous range (vector, span) of as many numbers, of any Scalar type. The rows that
  /// rope pairs are put in order: Hugging Face names mean rotate_half, llama2.c's interleaved,
  /// unless `format` says otherwise. Throws std::invalid_argument and then changes nothing.
  template <typename Source>
  GQA_TAG void set_weight(std::string_view name, const Source& source,
                          const WeightFormat& format = {}) {
    weights_.set(name, source, format);
  }
  /// Copies a weight to `destination`, as set_weight() would take it.
  template <typename Destination>
  GQA_TAG void get_weight(std::string_view name, Destination&& destination,
                          const WeightFormat& format = {}) const {
    weights_.get(name, destination, format);
  }

  /// The Hugging Face names of the weights that the configuration has a place for and that were
  /// never set, by name or by an accessor below. Passes refuse to read those, but for biases, which
  /// are 0 until they are set: some checkpoints have them for queries and values only.
  GQA_TAG std::vector<std::string_view> missing_weights() const { return weights_.missing(); }

  // In place, [out, in]; rows in the order of config().rope->style. Weights that the configuration
  // has no place for are empty. Those that are handed out to be written count as set.
  GQA_TAG WeightMap<T> wq() { return weights_.matrix(AttentionWeight::wq); }
  GQA_TAG WeightMap<T> wk() { return weights_.matrix(AttentionWeight::wk); }
  GQA_TAG WeightMap<T> wv() { return weights_.matrix(AttentionWeight::wv); }
  GQA_TAG WeightMap<T> wo() { return weights_.matrix(AttentionWeight::wo); }
  GQA_TAG AttentionWeights<T>& weights() { return weights_; }
  GQA_TAG const AttentionWeights<T>& weights() const { return weights_; }

  // --- passes ---

  /// Self-attention of x, [batch, tokens, hidden_size], into y of the same shape.
  ///
  /// With a cache, the tokens continue its sequences: their keys and values are appended, and they
  /// attend to everything that the cache then holds. Without one (null), they are whole sequences
  /// that begin at position 0. The default rules are a decoder's; an encoder passes NoMask{}.
  /// `q_lens`, [batch], says how many of the tokens each sequence has, where they differ: the rows
  /// after them are computed from no keys, and belong to no sequence.
  ///
  /// Throws std::invalid_argument for shapes, std::length_error if the cache is full,
  /// std::bad_alloc, and what the executor or a mask of your own does; y and the cache are then as
  /// they were.
  template <typename X, typename Y, typename Cache = detail::NoCache, RulesOrPart RulesT = Causal,
            typename ExecutorT = const Serial>
  GQA_TAG void forward(const X& x, Y&& y, Cache* cache = nullptr, Workspace* workspace = nullptr,
                       const RulesT& rules = Causal{}, ExecutorT&& executor = Serial{},
                       std::span<const Index> q_lens = {}) const {
    static_assert(NotConst<Cache>,
                  "MultiHeadAttention::forward: the cache is const, and takes new keys and values");
    static_assert(!NotConst<Cache> || std::same_as<Cache, detail::NoCache> || KvSink<Cache, T>,
                  "MultiHeadAttention::forward: the cache must be a KvSource with append(k, v)");
    const auto in = input("forward", x, "hidden_size", config_.hidden_size);
    const auto out = output("forward", in, y);
    check_q_lens("forward", in, q_lens);
    check_self("forward");
    check_all_set("forward");
    Workspace own;
    const auto parts = detail::any_parts(rules);
    const detail::AttentionPass<T> pass{layer(), workspace ? *workspace : own, q_lens,
                                        detail::AnyExecutor(executor), parts};
    if constexpr (KvSink<Cache, T>) {
      if (cache) {
        check_cache("forward", *cache, in.batch());
        return detail::self_attention(pass, in, out, detail::any_cache<T>(*cache));
      }
    }
    detail::self_attention(pass, in, out);
  }
  template <typename X, typename Y, RulesOrPart RulesT = Causal, typename ExecutorT = const Serial>
  GQA_TAG void forward(const X& x, Y&& y, std::nullptr_t, Workspace* workspace = nullptr,
                       const RulesT& rules = Causal{}, ExecutorT&& executor = Serial{},
                       std::span<const Index> q_lens = {}) const {
    forward(x, y, static_cast<detail::NoCache*>(nullptr), workspace, rules, executor, q_lens);
  }

  /// Cross-attention, first half, once per memory: appends the keys and values of an encoder's
  /// output `memory` [batch, memory_len, kv_hidden_size] to `cache`. `lengths`, [batch], says how
  /// much of it each sequence has, where they differ. Cross-attention has no positions: throws
  /// std::invalid_argument if the configuration has rope, for shapes, and as the cache's append
  /// does; the cache is then as it was.
  template <typename Memory, typename Cache, typename ExecutorT = const Serial>
    requires KvSink<Cache, T>
  GQA_TAG void project_memory(const Memory& memory, Cache& cache, Workspace* workspace = nullptr,
                              ExecutorT&& executor = Serial{},
                              std::span<const Index> lengths = {}) const {
    const auto in = input("project_memory", memory, "kv_hidden_size", config_.kv_hidden_size);
    check_no_rope("project_memory");
    check_cache("project_memory", cache, in.batch());
    check_q_lens("project_memory", in, lengths);
    check_set("project_memory",
              {AttentionWeight::wk, AttentionWeight::wv, AttentionWeight::k_norm});
    Workspace own;
    const detail::AttentionPass<T> pass{layer(), workspace ? *workspace : own, lengths,
                                        detail::AnyExecutor(executor)};
    detail::project_memory(pass, in, detail::any_cache<T>(cache));
  }

  /// Cross-attention, second half, for every step of the decoder: queries from x [batch, tokens,
  /// hidden_size] attend to what project_memory() has put into `memory`, which stays as it is. By
  /// default they see all of it. q_lens and errors as in forward().
  template <typename X, typename Y, KvSource Cache, RulesOrPart RulesT = NoMask,
            typename ExecutorT = const Serial>
  GQA_TAG void cross(const X& x, Y&& y, const Cache& memory, Workspace* workspace = nullptr,
                     const RulesT& rules = NoMask{}, ExecutorT&& executor = Serial{},
                     std::span<const Index> q_lens = {}) const {
    const auto in = input("cross", x, "hidden_size", config_.hidden_size);
    const auto out = output("cross", in, y);
    check_no_rope("cross");
    check_cache("cross", memory, in.batch());
    check_q_lens("cross", in, q_lens);
    check_set("cross", {AttentionWeight::wq, AttentionWeight::wo, AttentionWeight::q_norm});
    Workspace own;
    const auto parts = detail::any_parts(rules);
    const detail::AttentionPass<T> pass{layer(), workspace ? *workspace : own, q_lens,
                                        detail::AnyExecutor(executor), parts};
    detail::cross_attention(
        pass, in, out, detail::AnySource(memory),
        detail::run_call<Cache::layout, detail::Native<typename Cache::Storage>>);
  }

  // --- training ---

  /// forward() without a cache that keeps in `record` what backward() needs. y must not be x. A
  /// record of a pass that threw is of no pass.
  template <typename X, typename Y, RulesOrPart RulesT = Causal, typename ExecutorT = const Serial>
  GQA_TAG void forward(const X& x, Y&& y, AttentionRecord<T>& record,
                       Workspace* workspace = nullptr, const RulesT& rules = Causal{},
                       ExecutorT&& executor = Serial{}, std::span<const Index> q_lens = {}) const {
    Workspace own;
    const auto parts = detail::any_parts(rules);
    const auto pass =
        self_pass("forward", x, workspace ? *workspace : own, q_lens, parts, executor);
    const auto out = output("forward", pass.x, y);
    record.resize(config_, pass.x.batch(), pass.x.tokens(), pass.x.tokens());
    detail::forward_trained(pass, record, out);
  }

  /// The gradients of forward(x, y, record): from dy that of x into dx, tensors of x's shape and
  /// not x itself, and those of the weights, which are added to `gradients` (made from config()).
  /// rules and q_lens as forward() was given them; rows after the q_lens are not read, and 0 in
  /// dx. Gradients are the same bits for any number of threads. Throws as forward(), before
  /// anything is changed.
  template <typename X, typename DY, typename DX, RulesOrPart RulesT = Causal,
            typename ExecutorT = const Serial>
  GQA_TAG void backward(const X& x, const DY& dy, DX&& dx, const AttentionRecord<T>& record,
                        AttentionWeights<T>& gradients, Workspace* workspace = nullptr,
                        const RulesT& rules = Causal{}, ExecutorT&& executor = Serial{},
                        std::span<const Index> q_lens = {}) const {
    Workspace own;
    const auto parts = detail::any_parts(rules);
    detail::require_derivatives<RulesT>();
    const auto pass =
        self_pass("backward", x, workspace ? *workspace : own, q_lens, parts, executor);
    const auto incoming = input("backward", dy, "hidden_size", config_.hidden_size);
    const auto out = output("backward", pass.x, dx);
    check_backward("backward", pass, incoming, record, gradients);
    const TensorView<T>* no_memory = nullptr;
    detail::backward_trained(pass, record, incoming, out, no_memory, gradients);
  }

  /// Cross-attention from x to `memory` [batch, memory_len, kv_hidden_size] that keeps in `record`
  /// what cross_backward() needs; as project_memory() and cross() without the cache between them.
  template <typename X, typename Memory, typename Y, RulesOrPart RulesT = NoMask,
            typename ExecutorT = const Serial>
  GQA_TAG void cross(const X& x, const Memory& memory, Y&& y, AttentionRecord<T>& record,
                     Workspace* workspace = nullptr, const RulesT& rules = NoMask{},
                     ExecutorT&& executor = Serial{}, std::span<const Index> q_lens = {},
                     std::span<const Index> memory_lens = {}) const {
    Workspace own;
    const auto parts = detail::any_parts(rules);
    const auto pass = cross_pass("cross", x, memory, workspace ? *workspace : own, q_lens,
                                 memory_lens, parts, executor);
    const auto out = output("cross", pass.x, y);
    record.resize(config_, pass.x.batch(), pass.x.tokens(), pass.memory.tokens());
    detail::forward_trained(pass, record, out);
  }

  /// The gradients of cross(x, memory, y, record), as backward(); that of the memory into dmemory.
  template <typename X, typename Memory, typename DY, typename DX, typename DMemory,
            RulesOrPart RulesT = NoMask, typename ExecutorT = const Serial>
  GQA_TAG void cross_backward(const X& x, const Memory& memory, const DY& dy, DX&& dx,
                              DMemory&& dmemory, const AttentionRecord<T>& record,
                              AttentionWeights<T>& gradients, Workspace* workspace = nullptr,
                              const RulesT& rules = NoMask{}, ExecutorT&& executor = Serial{},
                              std::span<const Index> q_lens = {},
                              std::span<const Index> memory_lens = {}) const {
    Workspace own;
    const auto parts = detail::any_parts(rules);
    detail::require_derivatives<RulesT>();
    const auto pass = cross_pass("cross_backward", x, memory, workspace ? *workspace : own, q_lens,
                                 memory_lens, parts, executor);
    const auto incoming = input("cross_backward", dy, "hidden_size", config_.hidden_size);
    const auto out = output("cross_backward", pass.x, dx);
    const TensorView<T> memory_out = output("cross_backward", pass.memory, dmemory);
    check_backward("cross_backward", pass, incoming, record, gradients);
    detail::backward_trained(pass, record, incoming, out, &memory_out, gradients);
  }

 private:
  template <typename X, typename ExecutorT>
  GQA_TAG detail::TrainedPass<T> self_pass(const char* who, const X& x, Workspace& workspace,
                                           std::span<const Index> q_lens,
                                           std::span<const detail::AnyPart> rules,
                                           ExecutorT& executor) const {
    const auto in = input(who, x, "hidden_size", config_.hidden_size);
    check_q_lens(who, in, q_lens);
    check_self(who);
    check_all_set(who);
    return {{layer(), workspace, q_lens, detail::AnyExecutor(executor), rules}, in, in, q_lens};
  }
  template <typename X, typename Memory, typename ExecutorT>
  GQA_TAG detail::TrainedPass<T> cross_pass(const char* who, const X& x, const Memory& memory,
                                            Workspace& workspace, std::span<const Index> q_lens,
                                            std::span<const Index> memory_lens,
                                            std::span<const detail::AnyPart> rules,
                                            ExecutorT& executor) const {
    const auto in = input(who, x, "hidden_size", config_.hidden_size);
    const auto from = input(who, memory, "kv_hidden_size", config_.kv_hidden_size);
    check_no_rope(who);
    require(from.batch() == in.batch(), who, ": the memory's batch is ", from.batch(),
            ", that of x ", in.batch());
    check_q_lens(who, in, q_lens);
    check_q_lens(who, from, memory_lens);
    check_all_set(who);
    return {
        {layer(), workspace, q_lens, detail::AnyExecutor(executor), rules}, in, from, memory_lens};
  }
  GQA_TAG void check_backward(const char* who, const detail::TrainedPass<T>& pass,
                              const TensorView<const T>& dy, const AttentionRecord<T>& record,
                              const AttentionWeights<T>& gradients) const {
    require(dy.shape() == pass.x.shape(), who, ": x is ", detail::HiddenShape{pass.x.shape()},
            ", dy is ", detail::HiddenShape{dy.shape()});
    const TensorShape q{pass.x.batch(), pass.x.tokens(), config_.num_heads, config_.head_dim};
    const TensorShape k{pass.x.batch(), pass.memory.tokens(), config_.num_kv_heads,
                        config_.head_dim};
    require(record.q.shape() == q && record.k.shape() == k, who, ": the record is of queries ",
            record.q.shape(), " and keys ", record.k.shape(), ", expected ", q, " and ", k);
    require(record.v.dim() == config_.value_dim && record.heads.dim() == config_.value_dim, who,
            ": the record is of a value_dim of ", record.v.dim(), ", expected ", config_.value_dim);
    require(!config_.qk_norm || (record.plain_q.shape() == q && record.plain_k.shape() == k), who,
            ": the record is of a layer without QK-norm");
    for (int i = 0; i <= static_cast<int>(AttentionWeight::k_norm); ++i) {
      const auto weight = static_cast<AttentionWeight>(i);
      const auto have = gradients.shape_of(weight), want = weights_.shape_of(weight);
      require(have.rows == want.rows && have.cols == want.cols, who, ": a gradient is [", have.rows,
              ", ", have.cols, "], its weight [", want.rows, ", ", want.cols, "]");
    }
    Index kv_len = 0;
    for (Index b = 0; b < k.batch; ++b) {
      kv_len = (std::max)(
          kv_len, pass.kv_lens.empty() ? k.tokens : pass.kv_lens[static_cast<std::size_t>(b)]);
    }
    detail::check_rules(pass, pass.x, kv_len);
  }
  /// Throws for weights that a pass reads and that were never set.
  GQA_TAG void check_set(const char* who, std::initializer_list<AttentionWeight> weights) const {
    std::string missing;
    for (const AttentionWeight weight : weights) {
      if (!weights_.has(weight) || weights_.is_set(weight)) continue;
      if (!missing.empty()) missing += ", ";
      missing += attention_weight_name(weight);
    }
    require(missing.empty(), who, ": weights that were never set: ", missing);
  }
  GQA_TAG void check_all_set(const char* who) const {
    using enum AttentionWeight;
    check_set(who, {wq, wk, wv, wo, q_norm, k_norm});
  }
  GQA_TAG void check_self(const char* who) const {
    require(weights_.is_fused(), who, ": self-attention reads keys and values of kv_hidden_size ",
            config_.kv_hidden_size, " from x, whose hidden_size is ", config_.hidden_size);
  }
  GQA_TAG detail::AttentionLayer<T> layer() const {
    return {config_, weights_, config_.rope ? &rope_ : nullptr};
  }

  template <typename X>
  GQA_TAG static TensorView<const T> input(const char* who, const X& x, const char* name,
                                           Index width) {
    const auto rows = rows_of(x);
    static_assert(std::same_as<typename decltype(rows)::Value, T>,
                  "MultiHeadAttention<T>: hidden states must be of the module's scalar type");
    require(rows.heads() == 1 && rows.dim() == width, who, ": x is ",
            detail::HiddenShape{rows.shape()}, ", ", name, " is ", width);
    return rows;
  }
  template <typename Y>
  GQA_TAG static TensorView<T> output(const char* who, const TensorView<const T>& x, Y& y) {
    const auto rows = rows_of(y);
    static_assert(std::same_as<typename decltype(rows)::Element, T>,
                  "MultiHeadAttention<T>: y must be mutable and of the module's scalar type");
    require(rows.shape() == x.shape(), who, ": x is ", detail::HiddenShape{x.shape()}, ", y is ",
            detail::HiddenShape{rows.shape()});
    return rows;
  }
  GQA_TAG static void check_q_lens(const char* who, const TensorView<const T>& x,
                                   std::span<const Index> q_lens) {
    require(q_lens.empty() || std::ssize(q_lens) == x.batch(), who, ": ", q_lens.size(),
            " lengths for a batch of ", x.batch());
    for (const Index n : q_lens) {
      require(n >= 0 && n <= x.tokens(), who, ": a length of ", n, " is outside of [0, ",
              x.tokens(), "]");
    }
  }
  template <KvSource Cache>
  GQA_TAG void check_cache(const char* who, const Cache& cache, Index batch) const {
    const auto same = [who](const char* name, Index of_cache, Index of_layer) {
      require(of_cache == of_layer, who, ": the cache's ", name, " is ", of_cache, ", the layer's ",
              of_layer);
    };
    require(cache.batch() == batch, who, ": the cache's batch is ", cache.batch(), ", that of x ",
            batch);
    same("num_kv_heads", cache.num_kv_heads(), config_.num_kv_heads);
    same("head_dim", cache.head_dim(), config_.head_dim);
    same("value_dim", cache.value_dim(), config_.value_dim);
  }
  GQA_TAG void check_no_rope(const char* who) const {
    require(!config_.rope, who,
            ": queries and memory have no positions in common, so a layer for "
            "cross-attention has no rope; this one has theta ",
            config_.rope ? config_.rope->theta : 0.0);
  }

  MultiHeadAttentionConfig config_;
  AttentionWeights<T> weights_;
  RopeTable<T> rope_;  // of config_.rope
};

}  // namespace gqa
