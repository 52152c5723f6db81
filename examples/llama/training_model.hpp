// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// TrainableLlama: the model of llama/model.hpp with gradients. The classifier is the embedding.
// T is float, or double to test against finite differences: for both, what computes is compiled
// once (training_model.cpp). Losses and gradients are the same bits with any executor.
#pragma once

#include <algorithm>
#include <concepts>
#include <string>
#include <utility>
#include <vector>

#include "llama/checkpoint.hpp"
#include "llama/training_layers.hpp"
#include "support/any_executor.hpp"

namespace gqa::examples {

template <typename T>
class TrainableLlama {
 public:
  using Matrix = RowMatrix<T>;
  using Tokens = std::span<const std::int32_t>;

  /// Normal numbers of deviation 0.02, those that write to the residual stream less, by the square
  /// root of how many do (GPT-2's rule); norms of 1.
  TrainableLlama(const LlamaConfig& config, std::uint64_t seed);

  const LlamaConfig& config() const { return config_; }

  /// Calls fn(name, weights, gradients, decays) for every parameter; norms don't decay.
  template <typename F>
  void for_each_parameter(F fn) {
    const auto of_matrix = [&](const std::string& name, Matrix& w, Matrix& dw) {
      fn(name, std::span(w.data(), static_cast<std::size_t>(w.size())),
         std::span(dw.data(), static_cast<std::size_t>(dw.size())), true);
    };
    of_matrix("embedding", embedding_.weight, embedding_.gradient);
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      Layer& layer = layers_[i];
      const std::string prefix = "layers." + std::to_string(i) + ".";
      using enum AttentionWeight;
      const std::pair<const char*, AttentionWeight> projections[] = {
          {"wq", wq}, {"wk", wk}, {"wv", wv}, {"wo", wo}};
      for (const auto& [name, weight] : projections) {
        auto w = layer.attention.weights().matrix(weight), dw = layer.dattention.matrix(weight);
        fn(prefix + name, std::span(w.data(), static_cast<std::size_t>(w.size())),
           std::span(dw.data(), static_cast<std::size_t>(dw.size())), true);
      }
      of_matrix(prefix + "gate", layer.feed_forward.gate, layer.dfeed_forward.gate);
      of_matrix(prefix + "up", layer.feed_forward.up, layer.dfeed_forward.up);
      of_matrix(prefix + "down", layer.feed_forward.down, layer.dfeed_forward.down);
      fn(prefix + "attention_norm", std::span<T>(layer.attention_norm.weight),
         std::span<T>(layer.attention_norm.gradient), false);
      fn(prefix + "feed_forward_norm", std::span<T>(layer.feed_forward_norm.weight),
         std::span<T>(layer.feed_forward_norm.gradient), false);
    }
    fn("final_norm", std::span<T>(final_norm_.weight), std::span<T>(final_norm_.gradient), false);
  }

  /// The weights, as a checkpoint has them: spans into the model.
  CheckpointWeights weights()
    requires std::same_as<T, float>
  {
    CheckpointWeights result;
    result.config = config_;
    result.layers.resize(layers_.size());
    std::vector<std::span<const float>*> places;
    for_each_weight(result, [&](std::span<const float>& place) { places.push_back(&place); });
    auto place = places.begin();
    for_each_parameter([&](const auto&, std::span<float> w, auto, bool) { **place++ = w; });
    result.classifier = result.token_embedding;
    return result;
  }
  /// Takes over the weights of a checkpoint. Throws std::invalid_argument for other shapes, or if
  /// the classifier isn't the embedding; the model is then as it was.
  void set_weights(CheckpointWeights from)
    requires std::same_as<T, float>
  {
    require(from.shares_classifier(), "the classifier has weights of its own");
    require(from.layers.size() == layers_.size(), "weights of ", from.layers.size(),
            " layers for a model of ", layers_.size());
    CheckpointWeights to = weights();
    std::vector<std::span<const float>> sources;
    for_each_weight(from, [&](std::span<const float>& source) { sources.push_back(source); });
    auto source = sources.begin();
    for_each_weight(to, [&](std::span<const float>& place) {
      require(place.size() == source->size(), "a weight of ", place.size(), " numbers was given ",
              source->size());
      ++source;
    });
    source = sources.begin();
    for_each_parameter([&](const auto&, std::span<float> w, auto, bool) {
      std::copy_n((source++)->begin(), w.size(), w.begin());
    });
  }

  void zero_gradients() {
    for_each_parameter([](const auto&, auto, std::span<T> gradients, bool) {
      std::fill(gradients.begin(), gradients.end(), T(0));
    });
  }

  /// The mean loss, in nats per token, of `targets` after `tokens`, both [batch, tokens / batch].
  /// Throws std::invalid_argument.
  double loss(Tokens tokens, Tokens targets, Index batch, const AnyExecutor& executor = {}) {
    return forward(tokens, targets, batch, executor);
  }

  /// The same, and the gradients of all parameters, which are added to.
  double loss_and_gradients(Tokens tokens, Tokens targets, Index batch,
                            const AnyExecutor& executor = {});

 private:
  /// In the order of for_each_parameter().
  template <typename F>
  static void for_each_weight(CheckpointWeights& weights, F fn) {
    fn(weights.token_embedding);
    for (CheckpointWeights::Layer& layer : weights.layers) {
      for (auto* w : {&layer.wq, &layer.wk, &layer.wv, &layer.wo, &layer.w1, &layer.w3, &layer.w2,
                      &layer.attention_norm, &layer.feed_forward_norm}) {
        fn(*w);
      }
    }
    fn(weights.final_norm);
  }

  struct MatrixParameter {
    Matrix weight, gradient;
    MatrixParameter(Index rows, Index cols)
        : weight(Matrix::Zero(rows, cols)), gradient(Matrix::Zero(rows, cols)) {}
  };
  struct Norm {
    std::vector<T> weight, gradient;
    explicit Norm(std::size_t size) : weight(size), gradient(size) {}
  };
  struct Layer {
    MultiHeadAttention<T> attention;
    AttentionWeights<T> dattention;
    SwiGlu<T> feed_forward, dfeed_forward;
    Norm attention_norm, feed_forward_norm;

    explicit Layer(const LlamaConfig& c)
        : attention({.hidden_size = c.hidden_size,
                     .num_heads = c.num_heads,
                     .num_kv_heads = c.num_kv_heads,
                     .rope = RopeConfig{.theta = c.rope_theta, .style = RopeStyle::interleaved},
                     .rope_table_positions = c.max_len}),
          dattention(attention.config()),
          feed_forward(c.hidden_size, c.intermediate_size),
          dfeed_forward(feed_forward),
          attention_norm(static_cast<std::size_t>(c.hidden_size)),
          feed_forward_norm(attention_norm) {}
  };
  /// What one layer leaves for the way back.
  struct Pass {
    Matrix attention_x, attention_h, feed_forward_x, feed_forward_h;
    AttentionRecord<T> attention;
    typename SwiGlu<T>::Record feed_forward;
  };

  std::size_t hidden() const { return static_cast<std::size_t>(config_.hidden_size); }

  /// Rows of tokens as [batch, tokens / batch, 1, hidden_size].
  static TensorView<T> sequences(Matrix& x, Index batch) {
    return {x.data(), {batch, x.rows() / batch, 1, x.cols()}};
  }

  double forward(Tokens tokens, Tokens targets, Index batch, const AnyExecutor& executor);
  /// x_ += y_, of which `kept` is a copy unless it is null; h = norm(x_).
  void add_and_norm(Matrix* kept, const Norm& norm, Matrix& h, const AnyExecutor& executor);
  /// dx += the gradient in x of norm(x), given that in norm(x), which is overwritten.
  void norm_backward(Matrix& x, Norm& norm, Matrix& dy, Matrix& dx, const AnyExecutor& executor);

  LlamaConfig config_;
  MatrixParameter embedding_;  // [vocab_size, hidden_size]
  std::vector<Layer> layers_;
  Norm final_norm_;
  // Of the pass in flight.
  std::vector<Pass> passes_;
  Matrix x_, y_, h_, logits_, dx_, dy_;
  Workspace workspace_;
};

}  // namespace gqa::examples
