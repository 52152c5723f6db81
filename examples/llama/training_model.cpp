// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Read forward() and loss_and_gradients() first: each line of the way back undoes one of the way
// there.
#include "llama/training_model.hpp"

#include <algorithm>
#include <cmath>
#include <random>

namespace gqa::examples {
namespace {

template <typename T>
TensorView<T> rows_view(RowMatrix<T>& x, Index begin, Index count) {
  return {x.data() + begin * x.cols(), {1, count, 1, x.cols()}};
}

}  // namespace

template <typename T>
TrainableLlama<T>::TrainableLlama(const LlamaConfig& config, std::uint64_t seed)
    : config_(config), embedding_(config.vocab_size, config.hidden_size), final_norm_(hidden()) {
  for (Index i = 0; i < config.num_layers; ++i) layers_.emplace_back(config);
  passes_.resize(layers_.size());
  std::mt19937_64 random(seed);
  for_each_parameter([&](const std::string& name, std::span<T> weights, std::span<T>, bool decays) {
    if (!decays) return std::fill(weights.begin(), weights.end(), T(1));
    const bool writes = name.ends_with("wo") || name.ends_with("down");
    const double deviation =
        writes ? 0.02 / std::sqrt(2.0 * static_cast<double>(config_.num_layers)) : 0.02;
    std::normal_distribution<double> normal(0, deviation);
    for (T& w : weights) w = static_cast<T>(normal(random));
  });
}

template <typename T>
double TrainableLlama<T>::forward(Tokens tokens, Tokens targets, Index batch,
                                  const AnyExecutor& executor) {
  require(batch > 0 && std::ssize(tokens) % batch == 0, "a batch of ", batch, " doesn't divide ",
          std::ssize(tokens), " tokens");
  // The residual stream, x_, is kept as it is before each norm.
  embed(tokens, embedding_.weight, x_);
  y_.setZero(x_.rows(), x_.cols());
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    Pass& pass = passes_[i];
    add_and_norm(&pass.attention_x, layer.attention_norm, pass.attention_h, executor);
    auto y = sequences(y_, batch);
    layer.attention.forward(sequences(pass.attention_h, batch), y, pass.attention, &workspace_,
                            Causal{}, executor);
    add_and_norm(&pass.feed_forward_x, layer.feed_forward_norm, pass.feed_forward_h, executor);
    layer.feed_forward.forward(pass.feed_forward_h, y_, pass.feed_forward, executor);
  }
  add_and_norm(nullptr, final_norm_, h_, executor);
  logits_.resize(h_.rows(), config_.vocab_size);
  for_each_stretch(executor, h_.rows(), stretch_tokens, [&](Index begin, Index count) {
    logits_.middleRows(begin, count).noalias() =
        h_.middleRows(begin, count) * embedding_.weight.transpose();
  });
  return cross_entropy(logits_, targets, executor);
}

template <typename T>
double TrainableLlama<T>::loss_and_gradients(Tokens tokens, Tokens targets, Index batch,
                                             const AnyExecutor& executor) {
  const double loss = forward(tokens, targets, batch, executor);

  // loss = cross_entropy(h embeddingᵀ), h = norm(x); logits_ holds its gradient
  add_weight_gradient(logits_, h_, embedding_.gradient, executor);
  dx_.setZero(h_.rows(), h_.cols());
  dy_.resize(h_.rows(), h_.cols());
  for_each_stretch(executor, h_.rows(), stretch_tokens, [&](Index begin, Index count) {
    dy_.middleRows(begin, count).noalias() = logits_.middleRows(begin, count) * embedding_.weight;
  });
  norm_backward(x_, final_norm_, dy_, dx_, executor);
  for (std::size_t i = layers_.size(); i-- > 0;) {
    Layer& layer = layers_[i];
    Pass& pass = passes_[i];
    // x += feed_forward(norm(x))
    layer.feed_forward.backward(pass.feed_forward_h, dx_, pass.feed_forward, dy_,
                                layer.dfeed_forward, executor);
    norm_backward(pass.feed_forward_x, layer.feed_forward_norm, dy_, dx_, executor);
    // x += attention(norm(x))
    auto dy = sequences(dy_, batch);
    layer.attention.backward(sequences(pass.attention_h, batch), sequences(dx_, batch), dy,
                             pass.attention, layer.dattention, &workspace_, Causal{}, executor);
    norm_backward(pass.attention_x, layer.attention_norm, dy_, dx_, executor);
  }
  embed_backward(tokens, dx_, embedding_.gradient);
  return loss;
}

template <typename T>
void TrainableLlama<T>::add_and_norm(Matrix* kept, const Norm& norm, Matrix& h,
                                     const AnyExecutor& executor) {
  if (kept) kept->resize(x_.rows(), x_.cols());
  h.resize(x_.rows(), x_.cols());
  for_each_stretch(executor, x_.rows(), stretch_tokens, [&](Index begin, Index count) {
    x_.middleRows(begin, count) += y_.middleRows(begin, count);
    if (kept) kept->middleRows(begin, count) = x_.middleRows(begin, count);
    rms_norm(rows_view(x_, begin, count), norm.weight, rows_view(h, begin, count),
             double{config_.rms_norm_eps});
  });
}

template <typename T>
void TrainableLlama<T>::norm_backward(Matrix& x, Norm& norm, Matrix& dy, Matrix& dx,
                                      const AnyExecutor& executor) {
  // A sum for each stretch, added up in order.
  Matrix sums = Matrix::Zero(count_stretches(x.rows(), stretch_tokens), x.cols());
  for_each_stretch(executor, x.rows(), stretch_tokens, [&](Index begin, Index count) {
    const auto rows = rows_view(dy, begin, count);
    const std::span<T> sum(sums.row(begin / stretch_tokens).data(), norm.weight.size());
    rms_norm_backward(rows_view(x, begin, count), norm.weight, rows, rows, sum,
                      double{config_.rms_norm_eps});
    dx.middleRows(begin, count) += dy.middleRows(begin, count);
  });
  for (Index i = 0; i < sums.rows(); ++i) {
    for (Index c = 0; c < sums.cols(); ++c)
      norm.gradient[static_cast<std::size_t>(c)] += sums(i, c);
  }
}

// Member by member: clang 14 would instantiate those that only T = float has for double, too.
#define GQA_TRAINABLE(T)                                                                 \
  template TrainableLlama<T>::TrainableLlama(const LlamaConfig&, std::uint64_t);         \
  template double TrainableLlama<T>::forward(Tokens, Tokens, Index, const AnyExecutor&); \
  template double TrainableLlama<T>::loss_and_gradients(Tokens, Tokens, Index, const AnyExecutor&)
GQA_TRAINABLE(float);
GQA_TRAINABLE(double);
#undef GQA_TRAINABLE

}  // namespace gqa::examples
