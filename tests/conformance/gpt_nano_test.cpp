// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// gpt_nano_sort: a trained minGPT (multi-head, fused and biased projections, no rope) with the
// activations that PyTorch stored. Its checkpoint lacks c_attn.bias, see gpt_nano_biases.hpp.
#include <gtest/gtest.h>

#include <gqa/gqa.hpp>
#include <memory>
#include <numbers>

#include "examples/files.hpp"
#include "gpt_nano_biases.hpp"
#include "support/near.hpp"
#include "support/safetensors.hpp"

namespace gqa::test {
namespace {

constexpr Index num_layers = 3, num_heads = 3, hidden_size = 48, vocab_size = 3;
constexpr Index batch = 3, tokens = 11;
constexpr double tolerance = 1e-5;

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Hidden = Eigen::TensorMap<Eigen::Tensor<float, 3, Eigen::RowMajor>>;

Hidden hidden(Matrix& x) { return {x.data(), batch, tokens, hidden_size}; }
std::vector<float> values(const Matrix& x) { return {x.data(), x.data() + x.size()}; }

/// The model: what stands around attention, with Eigen.
class GptNano {
 public:
  explicit GptNano(const examples::SafeTensors& file) : file_(file) {
    for (Index i = 0; i < num_layers; ++i) {
      auto& layer = attention_.emplace_back(MultiHeadAttentionConfig{
          .hidden_size = hidden_size, .num_heads = num_heads, .qkv_bias = true, .out_bias = true});
      for (const std::string name :
           {"attn.c_attn.weight", "attn.c_proj.weight", "attn.c_proj.bias"}) {
        layer.set_weight(name, file.to_float(prefix(i) + name));
      }
      layer.set_weight("attn.c_attn.bias", std::span(gpt_nano_qkv_bias[i]));
    }
  }

  const MultiHeadAttention<float>& attention(Index layer) const {
    return attention_[static_cast<std::size_t>(layer)];
  }

  /// Embeddings of token ids [batch, tokens].
  Matrix embed(const std::vector<float>& ids) const {
    const Matrix wte = matrix("transformer.wte.weight", vocab_size);
    const Matrix wpe = matrix("transformer.wpe.weight", tokens);
    Matrix x(batch * tokens, hidden_size);
    for (Index i = 0; i < x.rows(); ++i) {
      x.row(i) =
          wte.row(static_cast<Index>(ids[static_cast<std::size_t>(i)])) + wpe.row(i % tokens);
    }
    return x;
  }

  Matrix layer_norm(const Matrix& x, const std::string& name) const {
    const Matrix weight = matrix(name + ".weight", 1), bias = matrix(name + ".bias", 1);
    Matrix y(x.rows(), x.cols());
    for (Index i = 0; i < x.rows(); ++i) {
      const Eigen::RowVectorXd row = x.row(i).cast<double>();
      const Eigen::RowVectorXd centred = row.array() - row.mean();
      const double scale = 1 / std::sqrt(centred.squaredNorm() / double(hidden_size) + 1e-5);
      y.row(i) = (centred * scale).cast<float>().cwiseProduct(weight.row(0)) + bias.row(0);
    }
    return y;
  }

  /// x + mlp(ln_2(x))
  Matrix feed_forward(Index i, const Matrix& x) const {
    const Matrix fc = matrix(prefix(i) + "mlp.c_fc.weight", 4 * hidden_size);
    const Matrix proj = matrix(prefix(i) + "mlp.c_proj.weight", hidden_size);
    Matrix inner = layer_norm(x, prefix(i) + "ln_2") * fc.transpose();
    inner.rowwise() += matrix(prefix(i) + "mlp.c_fc.bias", 1).row(0);
    const auto gelu = [](float v) {  // GELU-tanh
      const float s = std::sqrt(2 / std::numbers::pi_v<float>);
      return 0.5f * v * (1 + std::tanh(s * (v + 0.044715f * v * v * v)));
    };
    inner = inner.unaryExpr(gelu).eval();
    Matrix y = x + inner * proj.transpose();
    y.rowwise() += matrix(prefix(i) + "mlp.c_proj.bias", 1).row(0);
    return y;
  }

  /// x + attention(ln_1(x)), tokens [first, first + n) of a cache's sequences, or all without one.
  template <typename Attend>
  Matrix block(Index i, const Matrix& x, Attend attend) const {
    const Matrix normalised = layer_norm(x, prefix(i) + "ln_1");
    Matrix y(x.rows(), x.cols());
    attend(i, normalised, y);
    return feed_forward(i, x + y);
  }

  Matrix logits(const Matrix& x) const {
    return layer_norm(x, "transformer.ln_f") * matrix("lm_head.weight", vocab_size).transpose();
  }

  static std::string prefix(Index i) { return "transformer.h." + std::to_string(i) + "."; }

 private:
  Matrix matrix(const std::string& name, Index rows) const {
    const auto numbers = file_.to_float(name);
    return Eigen::Map<const Matrix>(numbers.data(), rows, std::ssize(numbers) / rows);
  }

  const examples::SafeTensors& file_;
  std::vector<MultiHeadAttention<float>> attention_;
};

class GptNanoSort : public ::testing::Test {
 protected:
  void SetUp() override {
    GQA_NEEDS_SHARED_DATA("gpt_nano_sort/model.safetensors");
    GQA_NEEDS_SHARED_DATA("gpt_nano_sort/activations.safetensors");
    file_ = std::make_unique<examples::SafeTensors>(shared_data("gpt_nano_sort/model.safetensors"));
    stored_ = std::make_unique<examples::SafeTensors>(
        shared_data("gpt_nano_sort/activations.safetensors"));
    model_ = std::make_unique<GptNano>(*file_);
  }

  Matrix stored(const std::string& name, Index rows, Index cols) const {
    return Eigen::Map<const Matrix>(stored_->to_float(name).data(), rows, cols);
  }
  void expect_stored(const Matrix& actual, const std::string& name) const {
    expect_near(values(actual), stored_->to_float(name), tolerance, name);
  }

  std::unique_ptr<examples::SafeTensors> file_, stored_;
  std::unique_ptr<GptNano> model_;
};

TEST_F(GptNanoSort, AttentionOfLayer0GivesTheStoredProjection) {
  Matrix x = stored("ln1", batch * tokens, hidden_size);
  Matrix y(batch * tokens, hidden_size);
  model_->attention(0).forward(hidden(x), hidden(y));
  expect_stored(y, "yProj");
}

TEST_F(GptNanoSort, QueriesKeysAndValuesOfLayer0GiveTheStoredHeads) {
  // Stored heads first, [batch, heads, tokens, head_dim]; y is stored as o_proj reads it.
  const auto numbers = [&](const char* name) { return stored_->to_float(name); };
  const auto q = numbers("q"), k = numbers("k"), v = numbers("v");
  const TensorShape shape{batch, tokens, num_heads, hidden_size / num_heads};
  std::vector<float> y(static_cast<std::size_t>(batch * tokens * hidden_size));
  attend(heads_first(q.data(), shape), heads_first(k.data(), shape), heads_first(v.data(), shape),
         TensorView<float>(y.data(), shape), Causal{});
  expect_near(y, numbers("y"), tolerance, "y");
}

TEST_F(GptNanoSort, WeightsAreReadBackAsTheCheckpointHasThem) {
  std::vector<float> fused(static_cast<std::size_t>(3 * hidden_size * hidden_size));
  model_->attention(1).get_weight("c_attn.weight", fused);
  EXPECT_EQ(fused, file_->to_float("transformer.h.1.attn.c_attn.weight"));
}

TEST_F(GptNanoSort, TheWholeModelGivesTheStoredBlocksAndLogits) {
  Matrix x = model_->embed(stored_->to_float("idx"));
  expect_stored(x, "x");
  for (Index i = 0; i < num_layers; ++i) {
    x = model_->block(i, x, [&](Index layer, Matrix in, Matrix& out) {
      model_->attention(layer).forward(hidden(in), hidden(out));
    });
    expect_stored(x, "block" + std::to_string(i));
  }
  expect_stored(model_->layer_norm(x, "transformer.ln_f"), "ln_f");
  expect_stored(model_->logits(x), "lm_head");
}

TEST_F(GptNanoSort, TheWholeModelGivesTheSameTokenByTokenWithACache) {
  const Matrix x = model_->embed(stored_->to_float("idx"));
  const Matrix expected = stored("lm_head", batch * tokens, vocab_size);
  std::vector<KvCache<float>> caches;
  for (Index i = 0; i < num_layers; ++i) {
    caches.emplace_back(KvCache<float>::Options{
        .batch = batch, .capacity = tokens, .heads = model_->attention(i).heads()});
  }
  Workspace workspace;
  for (Index t = 0; t < tokens; ++t) {
    Matrix step(batch, hidden_size);
    for (Index b = 0; b < batch; ++b) step.row(b) = x.row(b * tokens + t);
    for (Index i = 0; i < num_layers; ++i) {
      step = model_->block(i, step, [&](Index layer, Matrix in, Matrix& out) {
        model_->attention(layer).forward(Hidden(in.data(), batch, 1, hidden_size),
                                         Hidden(out.data(), batch, 1, hidden_size),
                                         &caches[static_cast<std::size_t>(layer)], &workspace);
      });
    }
    const Matrix logits = model_->logits(step);
    for (Index b = 0; b < batch; ++b) {
      const Matrix row = logits.row(b), expected_row = expected.row(b * tokens + t);
      expect_near(values(row), values(expected_row), tolerance,
                  "logits of token " + std::to_string(t));
    }
  }
}

}  // namespace
}  // namespace gqa::test
