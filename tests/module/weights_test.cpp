// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Weights by the names that checkpoints use, and the order of the rows that rope pairs.
#include <gtest/gtest.h>

#include <numeric>

#include "layer.hpp"

namespace gqa::test {
namespace {

MultiHeadAttentionConfig grouped(std::optional<RopeConfig> rope) {
  return {.hidden_size = 24,
          .num_heads = 4,
          .num_kv_heads = 2,
          .head_dim = 8,
          .value_dim = 6,
          .qkv_bias = true,
          .out_bias = true,
          .rope = rope,
          .qk_norm = QkNorm{}};
}

/// Different numbers everywhere.
template <typename T = float>
Matrix<T> counted(Index rows, Index cols) {
  Matrix<T> matrix(rows, cols);
  for (Index i = 0; i < matrix.size(); ++i) matrix.data()[i] = static_cast<T>(i + 1);
  return matrix;
}

TEST(RopeRow, TurnsHalvesIntoPairsAndBack) {
  const auto pairs = [](Index row) {
    return rope_row(row, 8, 6, RopeStyle::rotate_half, RopeStyle::interleaved);
  };
  // Head 1 of width 8, of which 6 are rotated: (0, 3), (1, 4), (2, 5) become neighbours.
  const Index expected[] = {8, 10, 12, 9, 11, 13, 14, 15};
  for (Index i = 0; i < 8; ++i) EXPECT_EQ(pairs(8 + i), expected[i]);
  for (Index row = 0; row < 32; ++row) {
    EXPECT_EQ(rope_row(pairs(row), 8, 6, RopeStyle::interleaved, RopeStyle::rotate_half), row);
    EXPECT_EQ(rope_row(row, 8, 6, RopeStyle::interleaved, RopeStyle::interleaved), row);
  }
}

TEST(RopeRow, IsHuggingFacesPermuteFromPairsToHalves) {
  // convert_llama_weights_to_hf.py: w.view(n_heads, dim1 // n_heads // 2, 2, dim2).transpose(1, 2)
  const Index heads = 3, head_dim = 10, in = 2;
  const auto w = counted(heads * head_dim, in);
  Matrix<float> permuted(w.rows(), in), back(w.rows(), in);
  reorder_rope_rows(w.data(), permuted.data(), w.rows(), in, head_dim, head_dim,
                    RopeStyle::interleaved, RopeStyle::rotate_half);
  for (Index h = 0; h < heads; ++h) {
    for (Index i = 0; i < head_dim / 2; ++i) {
      for (Index j = 0; j < 2; ++j) {
        EXPECT_EQ(permuted.row(h * head_dim + j * head_dim / 2 + i),
                  w.row(h * head_dim + 2 * i + j));
      }
    }
  }
  reorder_rope_rows(permuted.data(), back.data(), w.rows(), in, head_dim, head_dim,
                    RopeStyle::rotate_half, RopeStyle::interleaved);
  EXPECT_EQ(back, w);
}

TEST(Weights, AreReadBackAsTheyWereSetWhateverTheNamesOrderAndTheLayers) {
  for (const std::optional<RopeConfig>& rope :
       {std::optional<RopeConfig>{}, std::optional(RopeConfig{.style = RopeStyle::rotate_half}),
        std::optional(RopeConfig{.rotary_dim = 4, .style = RopeStyle::interleaved})}) {
    MultiHeadAttention<float> layer(grouped(rope));
    for (const AttentionWeightName& name : attention_weight_names) {
      for (const bool transposed : {false, true}) {
        const auto shape = layer.weights().shape_of(name.weight);
        ASSERT_GT(shape.rows, 0) << name.name;
        const bool turn = transposed && shape.cols > 1;
        const auto w = turn ? counted(shape.cols, shape.rows) : counted(shape.rows, shape.cols);
        layer.set_weight(name.name, w, {.transposed = transposed});
        Matrix<float> back(w.rows(), w.cols());
        layer.get_weight(name.name, back, {.transposed = transposed});
        EXPECT_EQ(back, w) << name.name;
        layer.get_weight("model.layers.3.self_attn." + std::string(name.name), back,
                         {.transposed = transposed});
        EXPECT_EQ(back, w) << name.name;
      }
    }
  }
}

TEST(Weights, OfBothConventionsGiveTheSameLayer) {
  // A checkpoint in halves, read into a layer that rotates halves, and one that rotates pairs.
  const auto halves =
      random_layer<float>(grouped(RopeConfig{.rotary_dim = 6, .style = RopeStyle::rotate_half}));
  const auto pairs =
      random_layer<float>(grouped(RopeConfig{.rotary_dim = 6, .style = RopeStyle::interleaved}));
  const auto x = random_hidden<float>(1, 7, 24);
  Hidden<float> y(1, 7, 24), y_pairs(1, 7, 24), y_llama2c(1, 7, 24);
  halves.forward(x, y);
  pairs.forward(x, y_pairs);

  // The same weights as a checkpoint for llama2.c would have them: read out, and in again.
  auto llama2c = random_layer<float>(pairs.config(), 500);
  for (const char* name : {"wq", "wk", "wv", "wo"}) {
    const auto shape = halves.weights().shape_of(find_attention_weight(name)->weight);
    Matrix<float> w(shape.rows, shape.cols);
    halves.get_weight(name, w);
    llama2c.set_weight(name, w);
    Matrix<float> in_place(shape.rows, shape.cols);
    pairs.get_weight(name, in_place);
    EXPECT_EQ(w, in_place);
  }
  for (const char* name : {"q_proj.bias", "k_proj.bias", "v_proj.bias", "o_proj.bias",
                           "q_norm.weight", "k_norm.weight"}) {
    const auto shape = halves.weights().shape_of(find_attention_weight(name)->weight);
    std::vector<float> w(static_cast<std::size_t>(shape.rows));
    halves.get_weight(name, w);
    llama2c.set_weight(name, w);
  }
  llama2c.forward(x, y_llama2c);
  for (Index i = 0; i < y.size(); ++i) {
    EXPECT_NEAR(y.data()[i], y_pairs.data()[i], 2e-6);
    EXPECT_EQ(y_pairs.data()[i], y_llama2c.data()[i]);
  }
}

TEST(Weights, FormatOverridesTheOrderThatANameStandsFor) {
  // GPT-J: Hugging Face's name, rows in pairs.
  MultiHeadAttention<float> layer(grouped(RopeConfig{.style = RopeStyle::interleaved}));
  const auto w = counted(32, 24);
  layer.set_weight("q_proj.weight", w, {.style = RopeStyle::interleaved});
  EXPECT_EQ(Matrix<float>(layer.wq()), w);
  layer.set_weight("q_proj.weight", w);
  EXPECT_NE(Matrix<float>(layer.wq()), w);
}

TEST(Weights, FusedOnesAreThePartsOnTopOfOneAnother) {
  for (const RopeStyle style : {RopeStyle::rotate_half, RopeStyle::interleaved}) {
    MultiHeadAttention<float> parts(grouped(RopeConfig{.style = style}));
    auto fused = MultiHeadAttention<float>(parts.config());
    const auto w = counted(32 + 16 + 12, 24);
    parts.set_weight("q_proj.weight", w.topRows(32));
    parts.set_weight("k_proj.weight", w.middleRows(32, 16));
    parts.set_weight("v_proj.weight", w.bottomRows(12));
    fused.set_weight("c_attn.weight", w);
    EXPECT_EQ(Matrix<float>(fused.wq()), Matrix<float>(parts.wq()));
    EXPECT_EQ(Matrix<float>(fused.wk()), Matrix<float>(parts.wk()));
    EXPECT_EQ(Matrix<float>(fused.wv()), Matrix<float>(parts.wv()));

    const Matrix<float> conv1d = w.transpose();  // GPT-2 as Hugging Face keeps it
    MultiHeadAttention<float> transposed(parts.config());
    transposed.set_weight("c_attn.weight", conv1d, {.transposed = true});
    EXPECT_EQ(Matrix<float>(transposed.wk()), Matrix<float>(parts.wk()));
  }
}

TEST(Weights, MayComeFromAnyScalarTypeAndContainer) {
  MultiHeadAttention<float> layer({.hidden_size = 4, .num_heads = 2, .out_bias = true});
  const auto expect = [&] { EXPECT_EQ(Matrix<float>(layer.wo()), counted(4, 4)); };
  const auto reset = [&] { layer.wo().setZero(); };
  const auto set = [&](const auto& source) {
    reset();
    layer.set_weight("o_proj.weight", source);
    expect();
  };
  set(counted<double>(4, 4));
  set(counted<bfloat16>(4, 4));
  set(counted<half>(4, 4));
  std::vector<double> vector(16);
  std::iota(vector.begin(), vector.end(), 1.0);
  set(vector);
  set(std::span<const double>(vector));
  set(Eigen::TensorMap<Eigen::Tensor<const double, 2, Eigen::RowMajor>>(vector.data(), 4, 4));
  const Matrix<float> wide = [] {
    Matrix<float> m = Matrix<float>::Constant(4, 9, -1);
    m.middleCols(3, 4) = counted(4, 4);
    return m;
  }();
  set(wide.middleCols(3, 4));

  layer.set_weight("o_proj.bias", Eigen::Vector4f(1, 2, 3, 4));
  layer.set_weight("o_proj.bias", Eigen::RowVector4f(5, 6, 7, 8));
  Eigen::Vector4d bias;
  layer.get_weight("o_proj.bias", bias);
  EXPECT_EQ(bias, Eigen::Vector4d(5, 6, 7, 8));
}

using Names = std::vector<std::string_view>;

TEST(Weights, AreMissingUntilTheyAreSet) {
  const MultiHeadAttentionConfig config{.hidden_size = 24,
                                        .num_heads = 4,
                                        .num_kv_heads = 2,
                                        .qkv_bias = true,
                                        .out_bias = true,
                                        .qk_norm = QkNorm{}};
  MultiHeadAttention<float> layer(config);
  EXPECT_EQ(
      layer.missing_weights(),
      (Names{"q_proj.weight", "k_proj.weight", "v_proj.weight", "o_proj.weight", "q_proj.bias",
             "k_proj.bias", "v_proj.bias", "o_proj.bias", "q_norm.weight", "k_norm.weight"}));
  layer.set_weight("model.layers.3.self_attn.k_norm.weight", std::vector<float>(6));  // zeros, too
  layer.set_weight("qkv_proj.weight", counted(48, 24));
  layer.set_weight("c_attn.bias", std::vector<float>(48));
  EXPECT_EQ(layer.missing_weights(), (Names{"o_proj.weight", "o_proj.bias", "q_norm.weight"}));
  EXPECT_THROW(layer.set_weight("wo", std::vector<float>(7)), std::invalid_argument);
  EXPECT_EQ(layer.missing_weights(), (Names{"o_proj.weight", "o_proj.bias", "q_norm.weight"}));

  // What is handed out to be written counts as set; what is only read doesn't.
  const auto& reader = std::as_const(layer).weights();
  EXPECT_EQ(reader.vector(AttentionWeight::q_norm).size(), 6);
  EXPECT_NE(reader.bias(AttentionWeight::bo), nullptr);
  EXPECT_EQ(layer.missing_weights(), (Names{"o_proj.weight", "o_proj.bias", "q_norm.weight"}));
  layer.wo().setZero();
  layer.weights().vector(AttentionWeight::q_norm).setOnes();
  EXPECT_EQ(layer.missing_weights(), Names{"o_proj.bias"});
  layer.weights().numbers();
  EXPECT_EQ(layer.missing_weights(), Names{});
  // Of what the configuration has no place for, nothing is missing.
  EXPECT_EQ(MultiHeadAttention<float>({.hidden_size = 8, .num_heads = 2}).missing_weights(),
            (Names{"q_proj.weight", "k_proj.weight", "v_proj.weight", "o_proj.weight"}));
}

TEST(Weights, MoveWithTheLayer) {
  auto layer = random_layer<float>(grouped(RopeConfig{}));
  const auto x = random_hidden<float>(1, 3, 24);
  Hidden<float> y(1, 3, 24), moved(1, 3, 24);
  layer.forward(x, y);
  std::vector<MultiHeadAttention<float>> layers;
  layers.push_back(std::move(layer));
  layers.push_back(random_layer<float>(grouped(RopeConfig{}), 99));  // moves the first again
  layers[0].forward(x, moved);
  for (Index i = 0; i < y.size(); ++i) EXPECT_EQ(y.data()[i], moved.data()[i]);
}

template <typename F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "no std::invalid_argument";
}

TEST(WeightErrors, NameTheShapesThatDisagreeAndChangeNothing) {
  MultiHeadAttention<float> layer(grouped(std::nullopt));
  const auto w = counted(32, 24);
  layer.set_weight("q_proj.weight", w);
  EXPECT_EQ(error_of([&] { layer.set_weight("q_proj.weight", counted(24, 32)); }),
            "\"q_proj.weight\" must be [32, 24], is [24, 32]");
  EXPECT_EQ(
      error_of([&] { layer.set_weight("q_proj.weight", counted(32, 24), {.transposed = true}); }),
      "\"q_proj.weight\" must be [24, 32], is [32, 24]");
  EXPECT_EQ(error_of([&] { layer.set_weight("wq", std::vector<float>(100)); }),
            "\"wq\" must have 32 x 24 = 768 numbers, has 100");
  EXPECT_EQ(error_of([&] { layer.set_weight("v_proj.bias", counted(1, 13)); }),
            "\"v_proj.bias\" must be [12, 1], is [1, 13]");
  EXPECT_EQ(error_of([&] { layer.set_weight("mlp.up_proj.weight", w); }),
            "\"mlp.up_proj.weight\" is no weight of an attention layer");
  EXPECT_EQ(error_of([&] { layer.set_weight("xq_proj.weight", w); }),
            "\"xq_proj.weight\" is no weight of an attention layer");
  Matrix<float> small(3, 3);
  EXPECT_EQ(error_of([&] { layer.get_weight("wo", small); }), "\"wo\" must be [24, 24], is [3, 3]");
  EXPECT_EQ(Matrix<float>(layer.wq()), w);
}

TEST(WeightErrors, SayThatTheConfigurationHasNoPlace) {
  MultiHeadAttention<float> layer({.hidden_size = 8, .num_heads = 2, .kv_hidden_size = 6});
  const std::string options =
      " (qkv_bias 0, out_bias 0, qk_norm 0, hidden_size 8, kv_hidden_size 6)";
  for (const std::string name :
       {"q_proj.bias", "o_proj.bias", "k_norm.weight", "c_attn.weight", "c_attn.bias"}) {
    EXPECT_EQ(error_of([&] { layer.set_weight(name, std::vector<float>(8)); }),
              "the configuration has no place for \"" + name + "\"" + options);
  }
}

TEST(WeightErrors, PassesNameTheWeightsThatWereNeverSet) {
  const MultiHeadAttentionConfig config{.hidden_size = 24,
                                        .num_heads = 4,
                                        .num_kv_heads = 2,
                                        .qkv_bias = true,
                                        .out_bias = true,
                                        .qk_norm = QkNorm{}};
  MultiHeadAttention<float> layer(config);
  const auto x = random_hidden<float>(1, 3, 24);
  Hidden<float> y(1, 3, 24), dx(1, 3, 24);
  y.setConstant(-7);
  const Hidden<float> before = y;
  KvCache<float> cache({.capacity = 9, .heads = layer.heads()});
  AttentionRecord<float> record;
  AttentionWeights<float> gradients(layer.config());
  const auto passes = [&] {
    return std::vector{
        error_of([&] { layer.forward(x, y); }),
        error_of([&] { layer.forward(x, y, &cache); }),
        error_of([&] { layer.forward(x, y, record); }),
        error_of([&] { layer.cross(x, x, y, record); }),
        error_of([&] { layer.backward(x, x, dx, record, gradients); }),
    };
  };
  const auto all = [](const std::string& names) {
    std::vector<std::string> errors;
    for (const char* who : {"forward", "forward", "forward", "cross", "backward"}) {
      errors.push_back(who + (": weights that were never set: " + names));
    }
    return errors;
  };
  EXPECT_EQ(passes(), all("q_proj.weight, k_proj.weight, v_proj.weight, o_proj.weight, "
                          "q_norm.weight, k_norm.weight"));
  for (const char* name : {"q_norm.weight", "k_norm.weight"}) {
    layer.set_weight(name, std::vector<float>(6, 1.0f));
  }
  layer.set_weight("k_proj.weight", random_matrix<float>(12, 24, 1));
  EXPECT_EQ(passes(), all("q_proj.weight, v_proj.weight, o_proj.weight"));

  // The halves of cross-attention read half of the weights.
  EXPECT_EQ(error_of([&] { layer.project_memory(x, cache); }),
            "project_memory: weights that were never set: v_proj.weight");
  layer.set_weight("v_proj.weight", random_matrix<float>(12, 24, 2));
  layer.project_memory(x, cache);
  EXPECT_EQ(error_of([&] { layer.cross(x, y, cache); }),
            "cross: weights that were never set: q_proj.weight, o_proj.weight");
  layer.set_weight("q_proj.weight", random_matrix<float>(24, 24, 3));
  EXPECT_EQ(passes(), all("o_proj.weight"));
  for (Index i = 0; i < y.size(); ++i) EXPECT_EQ(y.data()[i], before.data()[i]);
  EXPECT_EQ(cache.length(0), 3);

  // Biases are 0 until they are set: some checkpoints lack one of them.
  layer.set_weight("o_proj.weight", random_matrix<float>(24, 24, 4));
  EXPECT_EQ(layer.missing_weights(),
            (Names{"q_proj.bias", "k_proj.bias", "v_proj.bias", "o_proj.bias"}));
  layer.forward(x, y);
  auto without = config;
  without.qkv_bias = without.out_bias = false;
  MultiHeadAttention<float> plain(without);
  for (const char* name : {"q_proj.weight", "k_proj.weight", "v_proj.weight", "o_proj.weight",
                           "q_norm.weight", "k_norm.weight"}) {
    const auto shape = plain.weights().shape_of(find_attention_weight(name)->weight);
    Matrix<float> weight(shape.rows, shape.cols);
    layer.get_weight(name, weight);
    plain.set_weight(name, weight);
  }
  Hidden<float> expected(1, 3, 24);
  plain.forward(x, expected);
  for (Index i = 0; i < y.size(); ++i) EXPECT_EQ(y.data()[i], expected.data()[i]);
}

TEST(WeightErrors, ReorderingChecksItsNumbers) {
  const std::vector<float> w(12);
  std::vector<float> out(12);
  const auto reorder = [&](Index rows, Index head_dim, Index rotary_dim, float* to) {
    reorder_rope_rows(w.data(), to, rows, 1, head_dim, rotary_dim, RopeStyle::interleaved,
                      RopeStyle::rotate_half);
  };
  EXPECT_EQ(error_of([&] { reorder(12, 5, 4, out.data()); }),
            "head_dim 5 does not divide the 12 rows");
  EXPECT_EQ(error_of([&] { reorder(12, 4, 6, out.data()); }),
            "rotary_dim must be even and at most head_dim 4, is 6");
  EXPECT_EQ(error_of([&] { reorder(12, 4, 3, out.data()); }),
            "rotary_dim must be even and at most head_dim 4, is 3");
  EXPECT_EQ(error_of([&] { reorder(12, 4, 4, const_cast<float*>(w.data())); }),
            "reorder_rope_rows does not work in place");
}

}  // namespace
}  // namespace gqa::test
