// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
#include "llama/convert.hpp"

#include <cmath>
#include <gqa/convert/head_alignment.hpp>
#include <stdexcept>
#include <string>
#include <utility>

#include "llama/sampler.hpp"

namespace gqa::examples {
namespace {

using Hidden = Eigen::Tensor<float, 3, Eigen::RowMajor>;  // [sequences, tokens, hidden_size]

Eigen::Map<Llama::Matrix> rows(Hidden& hidden, Index sequence) {
  const Index tokens = hidden.dimension(1), width = hidden.dimension(2);
  return {hidden.data() + sequence * tokens * width, tokens, width};
}

}  // namespace

ConversionMethod conversion_method(std::string_view name) {
  for (std::size_t i = 0; i < conversion_method_names.size(); ++i) {
    if (conversion_method_names[i] == name) return static_cast<ConversionMethod>(i);
  }
  throw std::invalid_argument("unknown method \"" + std::string(name) + "\"");
}

Conversion::Conversion(const ConversionOptions& options, std::vector<Matrix> embedded)
    : options_(options), original_(embedded), converted_(std::move(embedded)) {
  require(options_.method != ConversionMethod::fit || !original_.empty(),
          "fit needs calibration text");
  for (const Matrix& x : original_) {
    require(x.rows() == original_[0].rows(), "calibration sequences of ", original_[0].rows(),
            " and ", x.rows(), " tokens: all must have as many");
  }
}

/// `moments`: Σ x xᵀ of the layer's inputs, or empty.
Llama::Attention Conversion::pooled(const Llama::Attention& attention,
                                    const Eigen::MatrixXd& moments, LayerConversion& report) const {
  const Index to = options_.num_kv_heads;
  const auto pool = [&](const Llama::Attention& from, HeadPoolingMethod method) {
    const auto seed = options_.seed * 1'000'003 + static_cast<std::uint64_t>(layer_);
    return pool_layer(from, to, method, seed, &report.pooling);
  };
  switch (options_.method) {
    case ConversionMethod::mean:
      return pool(attention, HeadPoolingMethod::mean);
    case ConversionMethod::first:
      return pool(attention, HeadPoolingMethod::first);
    case ConversionMethod::random:
      return pool(attention, HeadPoolingMethod::random);
    case ConversionMethod::aligned:
    case ConversionMethod::fit:
      break;
  }
  Llama::Attention aligned = pool_layer(attention, attention.config().num_kv_heads);  // a copy
  report.order = align_heads(aligned, {.num_kv_heads = to, .second_moments = moments});
  return pool(aligned, HeadPoolingMethod::mean);
}

Llama::Attention Conversion::next(const Llama::Layer& layer, LayerConversion& report) {
  report = {};
  ++layer_;
  if (original_.empty()) return pooled(layer.attention, {}, report);

  const Index sequences = std::ssize(original_), tokens = original_[0].rows();
  const Index hidden = original_[0].cols();
  Hidden x(sequences, tokens, hidden), y(sequences, tokens, hidden);
  Eigen::MatrixXd moments = Eigen::MatrixXd::Zero(hidden, hidden);
  Matrix made(tokens, hidden);
  for (Index s = 0; s < sequences; ++s) {
    Matrix& original = original_[static_cast<std::size_t>(s)];
    const Matrix& converted = converted_[static_cast<std::size_t>(s)];
    layer.attention.forward(layer.input(original), made);
    original += made;
    rows(x, s) = layer.input(converted);
    rows(y, s) = original - converted;  // what the new layer should add to its stream
    const Eigen::MatrixXd wide = rows(x, s).cast<double>();
    moments.noalias() += wide.transpose() * wide;
  }
  Llama::Attention result = pooled(layer.attention, moments, report);
  if (options_.method == ConversionMethod::fit) {
    report.fit = fit_heads(result, x, y, options_.fitting);
  }
  for (Index s = 0; s < sequences; ++s) {
    Matrix& converted = converted_[static_cast<std::size_t>(s)];
    result.forward(Matrix(rows(x, s)), made);
    converted += made;
    layer.feed_forward(converted);
    layer.feed_forward(original_[static_cast<std::size_t>(s)]);
  }
  return result;
}

std::vector<std::vector<Llama::Token>> self_written_text(const Llama& model, Llama::Token first,
                                                         Index sequences, Index tokens,
                                                         std::uint64_t seed) {
  Sampler sampler({.temperature = 1.0F, .top_p = 1.0F, .seed = seed});
  LlamaSession<float> session(model.config(), tokens);
  std::vector<std::vector<Llama::Token>> result;
  for (Index s = 0; s < sequences; ++s) {
    session.truncate(0);
    auto& text = result.emplace_back(1, first);
    while (std::ssize(text) < tokens) {
      const auto logits = model.forward(std::span(text).last(1), session, LogitsOf::last_token);
      text.push_back(sampler.sample({logits.data(), static_cast<std::size_t>(logits.size())}));
    }
  }
  return result;
}

std::vector<LayerConversion> convert(Llama& model, const ConversionOptions& options,
                                     std::span<const std::vector<Llama::Token>> text) {
  std::vector<Llama::Matrix> embedded;
  for (const auto& tokens : text) embedded.push_back(model.embed(tokens));
  Conversion conversion(options, std::move(embedded));
  std::vector<LayerConversion> reports;
  std::vector<Llama::Attention> attention;
  for (const Llama::Layer& layer : model.layers()) {
    attention.push_back(conversion.next(layer, reports.emplace_back()));
  }
  model.set_attention(std::move(attention));
  return reports;
}

double mean_loss(const Llama& model, std::span<const std::vector<Llama::Token>> texts) {
  double sum = 0;
  Index count = 0;
  for (const auto& text : texts) {
    const Llama::Matrix logits = model.forward(std::span(text).first(text.size() - 1));
    for (Index i = 0; i < logits.rows(); ++i) {
      const Eigen::ArrayXd row = logits.row(i).transpose().cast<double>().array();
      const double max = row.maxCoeff();
      sum += max + std::log((row - max).exp().sum()) - row(text[static_cast<std::size_t>(i) + 1]);
      ++count;
    }
  }
  return sum / static_cast<double>(count);
}

}  // namespace gqa::examples
