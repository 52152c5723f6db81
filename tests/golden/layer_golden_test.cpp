// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Attention layers, forward and the gradients of inputs and weights, against transformers' Qwen3
// and torch's MultiheadAttention in double.
#include "golden_case.hpp"

namespace gqa::test {
namespace {

class GoldenLayer : public testing::TestWithParam<GoldenCase> {
 protected:
  static MultiHeadAttentionConfig config() {
    const nlohmann::json& c = GetParam().json;
    MultiHeadAttentionConfig config{.hidden_size = c.at("hidden_size"),
                                    .num_heads = c.at("num_heads"),
                                    .num_kv_heads = c.at("num_kv_heads"),
                                    .head_dim = c.at("head_dim"),
                                    .kv_hidden_size = c.value("kv_hidden_size", Index{0}),
                                    .qkv_bias = c.at("bias"),
                                    .out_bias = c.at("bias")};
    if (c.contains("theta")) {
      config.rope = RopeConfig{.theta = c.at("theta"), .style = RopeStyle::rotate_half};
    }
    if (c.contains("eps")) config.qk_norm = QkNorm{c.at("eps")};
    return config;
  }
  /// Names of the case's weights.
  static std::vector<std::string> weights() {
    std::vector<std::string> names;
    for (const auto& [name, tensor] : GetParam().json.at("tensors").items()) {
      if (find_attention_weight(name) && name[0] != 'd') names.push_back(name);
    }
    return names;
  }
  template <typename T>
  static Eigen::Tensor<T, 3, Eigen::RowMajor> tensor(const char* name) {
    const auto& n = golden_tensors().shape(GetParam().tensor_name(name));
    Eigen::Tensor<T, 3, Eigen::RowMajor> x(n[0], n[1], n[2]);
    const auto numbers = GetParam().template tensor<T>(name);
    std::copy(numbers.begin(), numbers.end(), x.data());
    return x;
  }
  template <typename T>
  static void expect_near(const std::string& name, std::span<const T> actual, double tolerance) {
    const auto expected = GetParam().template tensor<double>(name);
    ASSERT_EQ(actual.size(), expected.size()) << name;
    for (std::size_t i = 0; i < actual.size(); ++i) {
      ASSERT_NEAR(static_cast<double>(actual[i]), expected[i],
                  tolerance * std::max(1.0, std::abs(expected[i])))
          << name << ", " << i;
    }
  }
  template <typename T>
  static void expect_near(const char* name, const Eigen::Tensor<T, 3, Eigen::RowMajor>& x,
                          double tolerance) {
    expect_near(name, std::span<const T>(x.data(), static_cast<std::size_t>(x.size())), tolerance);
  }

  template <typename T>
  static void check(double tolerance) {
    MultiHeadAttention<T> layer(config());
    for (const std::string& name : weights()) {
      layer.set_weight(name, GetParam().template tensor<T>(name));
    }
    const auto x = tensor<T>("x"), dy = tensor<T>("dy");
    Eigen::Tensor<T, 3, Eigen::RowMajor> y(x.dimensions()), dx(x.dimensions());
    AttentionRecord<T> record;
    AttentionWeights<T> gradients(layer.config());
    if (GetParam().has("memory")) {
      const auto memory = tensor<T>("memory");
      Eigen::Tensor<T, 3, Eigen::RowMajor> dmemory(memory.dimensions());
      layer.cross(x, memory, y, record);
      layer.cross_backward(x, memory, dy, dx, dmemory, record, gradients);
      expect_near("dmemory", dmemory, tolerance);
    } else {
      layer.forward(x, y, record);
      layer.backward(x, dy, dx, record, gradients);
    }
    expect_near("y", y, tolerance);
    expect_near("dx", dx, tolerance);
    for (const std::string& name : weights()) {
      std::vector<T> gradient(GetParam().template tensor<T>(name).size());
      gradients.get(name, gradient);
      expect_near("d" + name, std::span<const T>(gradient), tolerance);
    }
  }
};

TEST_P(GoldenLayer, ForwardAndGradientsInDouble) { check<double>(1e-12); }
TEST_P(GoldenLayer, ForwardAndGradientsInFloat) { check<float>(1e-5); }

INSTANTIATE_TEST_SUITE_P(Golden, GoldenLayer, testing::ValuesIn(golden_cases("layer")),
                         golden_name);

}  // namespace
}  // namespace gqa::test
