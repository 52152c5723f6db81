// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
#include "llama/model.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>
#include <utility>

namespace gqa::examples {
namespace {

std::vector<float> vector(std::span<const float> values) { return {values.begin(), values.end()}; }
Llama::Matrix matrix(std::span<const float> values, Index rows, Index columns) {
  return Eigen::Map<const Llama::Matrix>(values.data(), rows, columns);
}

Llama::Matrix normalized(const Llama::Matrix& x, const std::vector<float>& weight, float eps) {
  Llama::Matrix y(x.rows(), x.cols());
  rms_norm(x, std::span(weight), y, eps);
  return y;
}

}  // namespace

// --- one layer -----------------------------------------------------------------------------------

Llama::Matrix Llama::Layer::input(const Matrix& x) const {
  return normalized(x, attention_norm, rms_norm_eps);
}

void Llama::Layer::feed_forward(Matrix& x) const {
  const Matrix h = normalized(x, feed_forward_norm, rms_norm_eps);
  const Matrix g = h * gate.transpose();
  const Matrix u = h * up.transpose();
  const Matrix inner = g.array() / (1 + (-g.array()).exp()) * u.array();
  x.noalias() += inner * down.transpose();
}

// --- weights -------------------------------------------------------------------------------------

Llama::Llama(const CheckpointWeights& file) : config_(file.config) {
  const Index hidden = config_.hidden_size, inner = config_.intermediate_size;
  embedding_ = matrix(file.token_embedding, config_.vocab_size, hidden);
  for (const CheckpointWeights::Layer& weights : file.layers) {
    Layer& layer = add_layer(RopeStyle::interleaved);
    layer.attention_norm = vector(weights.attention_norm);
    layer.attention.set_weight("wq", weights.wq);
    layer.attention.set_weight("wk", weights.wk);
    layer.attention.set_weight("wv", weights.wv);
    layer.attention.set_weight("wo", weights.wo);
    layer.feed_forward_norm = vector(weights.feed_forward_norm);
    layer.gate = matrix(weights.w1, inner, hidden);
    layer.down = matrix(weights.w2, hidden, inner);
    layer.up = matrix(weights.w3, inner, hidden);
  }
  final_norm_ = vector(file.final_norm);
  if (!file.shares_classifier()) {
    classifier_ = matrix(file.classifier, config_.vocab_size, hidden);
  }
}

Llama::Llama(const LlamaConfig& config, std::uint64_t seed) : config_(config) {
  const Index hidden = config.hidden_size, inner = config.intermediate_size;
  const auto random = [&seed](Index rows, Index columns) {
    // splitmix64; numbers of variance 3 / columns keep the rows' sizes
    return Matrix(Matrix::NullaryExpr(rows, columns, [&seed, columns]() {
      std::uint64_t z = (seed += 0x9e3779b97f4a7c15u);
      z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
      z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
      const double uniform = static_cast<double>((z ^ (z >> 31)) >> 11) * 0x1p-52 - 1;
      return static_cast<float>(uniform * 3 / std::sqrt(static_cast<double>(columns)));
    }));
  };
  embedding_ = random(config.vocab_size, hidden);
  for (Index i = 0; i < config.num_layers; ++i) {
    Layer& layer = add_layer(RopeStyle::interleaved);
    layer.attention_norm.assign(static_cast<std::size_t>(hidden), 1.0F);
    layer.feed_forward_norm = layer.attention_norm;
    const Matrix q = random(hidden, hidden), k = random(config.kv_size(), hidden),
                 v = random(config.kv_size(), hidden), o = random(hidden, hidden);
    layer.attention.wq() = q;
    layer.attention.wk() = k;
    layer.attention.wv() = v;
    layer.attention.wo() = o;
    layer.gate = random(inner, hidden);
    layer.up = random(inner, hidden);
    layer.down = random(hidden, inner);
  }
  final_norm_.assign(static_cast<std::size_t>(hidden), 1.0F);
}

Llama::Layer& Llama::add_layer(RopeStyle style) {
  layers_.push_back({.attention = Attention({.hidden_size = config_.hidden_size,
                                             .num_heads = config_.num_heads,
                                             .num_kv_heads = config_.num_kv_heads,
                                             .rope = RopeConfig{.theta = config_.rope_theta,
                                                                .rotary_dim = config_.rotary_dim,
                                                                .style = style,
                                                                .scaling = config_.rope_scaling}}),
                     .rms_norm_eps = config_.rms_norm_eps});
  return layers_.back();
}

void Llama::set_attention(std::vector<Attention> attention) {
  require(std::ssize(attention) == config_.num_layers, attention.size(),
          " layers of attention for a model with ", config_.num_layers);
  const Index num_kv_heads = attention[0].config().num_kv_heads;
  for (std::size_t i = 0; i < attention.size(); ++i) {
    const auto& c = attention[i].config();
    require(c.num_kv_heads == num_kv_heads && c.num_heads == config_.num_heads &&
                c.hidden_size == config_.hidden_size && c.head_dim == config_.head_dim(),
            "layer ", i, " has hidden_size ", c.hidden_size, ", num_heads ", c.num_heads,
            ", num_kv_heads ", c.num_kv_heads, ", head_dim ", c.head_dim, ", the model ",
            config_.hidden_size, ", ", config_.num_heads, ", ", num_kv_heads, ", ",
            config_.head_dim());
  }
  for (std::size_t i = 0; i < attention.size(); ++i) {
    layers_[i].attention = std::move(attention[i]);
  }
  config_.num_kv_heads = num_kv_heads;
}

Llama Llama::first_layers(Index num_layers) && {
  require(num_layers > 0 && num_layers <= config_.num_layers, "first_layers: ", num_layers,
          " is outside of [1, ", Index{config_.num_layers}, "]");
  while (std::ssize(layers_) > num_layers) layers_.pop_back();
  config_.num_layers = num_layers;
  return std::move(*this);
}

// --- forward -------------------------------------------------------------------------------------

/// Of all weights, nearly: a step reads them.
std::size_t Llama::weight_bytes() const {
  const Index heads = config_.num_heads + config_.num_kv_heads;
  Index weights = embedding_.size();  // or the classifier, which is as large
  for (const Layer& layer : layers_) {
    weights += 2 * heads * config_.head_dim() * config_.hidden_size + layer.gate.size() +
               layer.up.size() + layer.down.size();
  }
  return static_cast<std::size_t>(weights) * sizeof(float);
}

Index Llama::checked(std::span<const Token> tokens, Index i) const {
  const Token token = tokens[static_cast<std::size_t>(i)];
  require(token >= 0 && token < config_.vocab_size, "token ", token,
          " is outside of a vocabulary of ", config_.vocab_size);
  return token;
}

Llama::Matrix Llama::embed(std::span<const Token> tokens) const {
  Matrix x(std::ssize(tokens), config_.hidden_size);
  for (Index i = 0; i < x.rows(); ++i) x.row(i) = embedding_.row(checked(tokens, i));
  return x;
}

/// `attend(attention, layer, x, y)` is self-attention of one layer, with a cache or without.
template <typename Attend>
Llama::Matrix Llama::hidden_states(std::span<const Token> tokens, Attend attend) const {
  Matrix x = embed(tokens);  // the residual stream
  Matrix y(x.rows(), x.cols());
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    attend(layers_[i].attention, i, layers_[i].input(x), y);
    x += y;
    layers_[i].feed_forward(x);
  }
  return x;
}

Llama::Matrix Llama::logits(const Matrix& x) const {
  return normalized(x, final_norm_, config_.rms_norm_eps) *
         (classifier_.size() > 0 ? classifier_ : embedding_).transpose();
}

template <typename Attend>
Llama::Matrix Llama::run(std::span<const Token> tokens, LogitsOf which, Attend attend) const {
  Matrix x = hidden_states(tokens, attend);
  if (which == LogitsOf::last_token && x.rows() > 1) x = x.bottomRows(1).eval();
  return logits(x);
}

template <StorageType Storage>
Llama::Matrix Llama::forward(std::span<const Token> tokens, LlamaSession<Storage>& session,
                             LogitsOf which, const AnyExecutor& executor) const {
  if (std::ssize(tokens) > session.capacity() - session.length()) {
    throw std::length_error(message("a session of capacity ", session.capacity(), " that holds ",
                                    session.length(), " tokens has no room for ",
                                    std::ssize(tokens), " more"));
  }
  session.workspace().set_working_set(weight_bytes() + session.kv_bytes());
  const auto attend = [&](const Attention& attention, std::size_t layer, const Matrix& x,
                          Matrix& y) {
    attention.forward(x, y, &session.cache(layer), &session.workspace(), Causal{}, executor);
  };
  return run(tokens, which, attend);
}

template <typename Cache>
Llama::Matrix Llama::forward(std::span<const std::vector<Token>> tokens, KvCacheStack<Cache>& stack,
                             std::span<const Index> sequences, Workspace& workspace,
                             const AnyExecutor& executor) const {
  AppendTransaction step;
  std::vector<Index> counts;
  Index longest = 0;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    counts.push_back(std::ssize(tokens[i]));
    require(counts[i] > 0, "request ", i, " has no token");
    longest = std::max(longest, counts[i]);
    stack.plan_append(step, sequences[i], counts[i]);
  }
  std::vector<Token> rows;  // [requests, longest]; what is after a request's tokens is nobody's
  for (const std::vector<Token>& request : tokens) {
    rows.insert(rows.end(), request.begin(), request.end());
    rows.resize(rows.size() + static_cast<std::size_t>(longest - std::ssize(request)));
  }
  workspace.set_working_set(weight_bytes() + static_cast<std::size_t>(stack.bytes()));
  const auto attend = [&](const Attention& attention, std::size_t layer, const Matrix& x,
                          Matrix& y) {
    const TensorShape shape{std::ssize(tokens), longest, 1, config_.hidden_size};
    auto cache = select(stack[static_cast<Index>(layer)], sequences);
    attention.forward(TensorView<const float>(x.data(), shape), TensorView<float>(y.data(), shape),
                      &cache, &workspace, Causal{}, executor, counts);
  };
  const Matrix x = hidden_states(rows, attend);
  Matrix last(std::ssize(tokens), x.cols());
  for (Index i = 0; i < last.rows(); ++i) {
    last.row(i) = x.row(i * longest + counts[static_cast<std::size_t>(i)] - 1);
  }
  step.commit();
  return logits(last);
}

Llama::Matrix Llama::forward(std::span<const Token> tokens) const {
  const auto attend = [](const Attention& attention, std::size_t, const Matrix& x, Matrix& y) {
    attention.forward(x, y);
  };
  return run(tokens, LogitsOf::every_token, attend);
}

#define GQA_LLAMA_SESSION(Storage)                                                                \
  template Llama::Matrix Llama::forward(std::span<const Token>, LlamaSession<Storage>&, LogitsOf, \
                                        const AnyExecutor&) const
GQA_LLAMA_SESSION(float);
GQA_LLAMA_SESSION(bfloat16);
GQA_LLAMA_SESSION(half);
GQA_LLAMA_SESSION(Int8);
GQA_LLAMA_SESSION(Int4);

#define GQA_LLAMA_STACK(Cache)                                                                     \
  template Llama::Matrix Llama::forward(std::span<const std::vector<Token>>, KvCacheStack<Cache>&, \
                                        std::span<const Index>, Workspace&, const AnyExecutor&)    \
      const
GQA_LLAMA_STACK(KvCache<float>);
GQA_LLAMA_STACK(PagedKvCache<float>);

}  // namespace gqa::examples
