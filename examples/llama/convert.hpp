// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// A model with fewer KV heads, layer by layer, as gqa/convert/ describes it: calibration text runs
// through the original and through what is converted so far side by side, so that each layer is
// fitted to the inputs that it will have, and repairs what those before it have lost. Only one
// layer's weights are needed at a time. The definitions, in convert.cpp, are compiled once for all
// programs.
#pragma once

#include <array>
#include <cstdint>
#include <gqa/convert/head_fitting.hpp>
#include <gqa/convert/layer_pooling.hpp>
#include <span>
#include <string_view>
#include <vector>

#include "llama/model.hpp"

namespace gqa::examples {

/// `aligned` and `fit` begin with what the one before does to the heads.
enum class ConversionMethod { mean, first, random, aligned, fit };

inline constexpr std::array<std::string_view, 5> conversion_method_names = {
    "mean", "first", "random", "aligned", "fit"};

/// Throws std::invalid_argument.
ConversionMethod conversion_method(std::string_view name);

struct ConversionOptions {
  Index num_kv_heads = 0;
  ConversionMethod method = ConversionMethod::mean;
  std::uint64_t seed = 1;  ///< of random heads
  HeadFitting fitting = {};
};

/// What converting one layer has cost.
struct LayerConversion {
  std::vector<Index> order;   ///< KV heads as they were grouped; empty: neighbours
  LayerPoolingError pooling;  ///< of keys and values
  HeadFittingReport fit;      ///< with `fit` only
};

/// The two streams of hidden states. Feed it the layers, first to last.
class Conversion {
 public:
  using Matrix = Llama::Matrix;

  /// `embedded`: the residual streams as they begin, one per sequence of calibration text, all of
  /// the same length; empty for methods that do without. Throws std::invalid_argument.
  Conversion(const ConversionOptions& options, std::vector<Matrix> embedded);

  /// The attention that takes the place of the layer's. Both streams move on past the layer.
  Llama::Attention next(const Llama::Layer& layer, LayerConversion& report);

 private:
  Llama::Attention pooled(const Llama::Attention& attention, const Eigen::MatrixXd& moments,
                          LayerConversion& report) const;

  ConversionOptions options_;
  std::vector<Matrix> original_;   // [tokens, hidden_size] each
  std::vector<Matrix> converted_;  // the same
  Index layer_ = -1;
};

/// Text that the model itself writes at temperature 1, [sequences][tokens], to calibrate on where
/// there is none of the data that it was trained on.
std::vector<std::vector<Llama::Token>> self_written_text(const Llama& model, Llama::Token first,
                                                         Index sequences, Index tokens,
                                                         std::uint64_t seed);

/// Converts all layers of `model`, in place; returns a report of each.
std::vector<LayerConversion> convert(Llama& model, const ConversionOptions& options,
                                     std::span<const std::vector<Llama::Token>> text);

/// Mean loss in nats per token of predicting each next token.
double mean_loss(const Llama& model, std::span<const std::vector<Llama::Token>> texts);

}  // namespace gqa::examples
