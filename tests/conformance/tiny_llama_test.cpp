// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// A Hugging Face checkpoint with grouped-query attention (random bfloat16 weights, rotate-half)
// against logits that its own project stored: reading by names and the other rotary convention.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "../examples/files.hpp"
#include "llama/hugging_face.hpp"
#include "llama/model.hpp"
#include "support/safetensors.hpp"
#include "support/safetensors_writer.hpp"

namespace gqa::examples {
namespace {

using test::expect_error;

class TinyLlama : public testing::Test {
 protected:
  void SetUp() override {
    GQA_NEEDS_SHARED_DATA("tiny_llama_hf/tiny_llama.safetensors");
    config = read_hugging_face_config(test::shared_data("tiny_llama_hf/config.json"));
    std::ifstream meta(test::shared_data("tiny_llama_hf/tiny_llama_meta.txt"));
    for (std::string line; std::getline(meta, line);) {
      if (!line.starts_with("tokens=")) continue;
      std::istringstream list(line.substr(7));
      for (std::string token; std::getline(list, token, ',');) tokens.push_back(std::stoi(token));
    }
    ASSERT_EQ(tokens.size(), 40U);
    const std::string bytes =
        test::read_bytes(test::shared_data("tiny_llama_hf/tiny_llama_golden.bin"));
    golden.resize(40, 112);
    ASSERT_EQ(bytes.size(), static_cast<std::size_t>(golden.size()) * sizeof(float));
    std::memcpy(golden.data(), bytes.data(), bytes.size());
  }

  void expect_golden(const Llama::Matrix& logits, Index first = 0) const {
    ASSERT_EQ(logits.cols(), golden.cols());
    const auto expected = golden.middleRows(first, logits.rows());
    EXPECT_LT((logits - expected).cwiseAbs().maxCoeff(), 1e-4F);
  }

  Llama model() const {
    return {config, SafeTensors(test::shared_data("tiny_llama_hf/tiny_llama.safetensors"))};
  }

  LlamaConfig config;
  std::vector<Llama::Token> tokens;
  Llama::Matrix golden;  // [tokens, vocab_size]
};

TEST_F(TinyLlama, ConfigIsReadByItsNames) {
  EXPECT_EQ(config.hidden_size, 96);
  EXPECT_EQ(config.intermediate_size, 192);
  EXPECT_EQ(config.num_layers, 2);
  EXPECT_EQ(config.num_heads, 4);
  EXPECT_EQ(config.num_kv_heads, 2);
  EXPECT_EQ(config.vocab_size, 112);
  EXPECT_FLOAT_EQ(config.rms_norm_eps, 1e-5F);
  EXPECT_EQ(config.rope_theta, 10000.0);
}

TEST_F(TinyLlama, LogitsWithoutCache) { expect_golden(model().forward(tokens)); }

TEST_F(TinyLlama, LogitsWithThePromptPrefilled) {
  LlamaSession<float> session(config, 40);
  expect_golden(model().forward(tokens, session));
}

TEST_F(TinyLlama, LogitsTokenByToken) {
  const Llama llama = model();
  LlamaSession<float> session(config, 40);
  for (Index i = 0; i < 40; ++i) {
    SCOPED_TRACE(i);
    expect_golden(llama.forward(std::span(tokens).subspan(static_cast<std::size_t>(i), 1), session),
                  i);
  }
}

TEST_F(TinyLlama, ACheckpointOfAnotherShapeIsRefused) {
  const SafeTensors file(test::shared_data("tiny_llama_hf/tiny_llama.safetensors"));
  const auto refused = [&](const std::function<void(LlamaConfig&)>& change,
                           std::initializer_list<std::string_view> parts) {
    LlamaConfig other = config;
    change(other);
    expect_error<std::runtime_error>([&] { Llama llama(other, file); }, parts);
  };
  refused([](LlamaConfig& c) { c.vocab_size = 113; },
          {"tiny_llama.safetensors: byte ", "embed_tokens.weight\" is [112, 96]", "[113, 96]"});
  refused([](LlamaConfig& c) { c.intermediate_size = 191; },
          {"gate_proj.weight\" is [192, 96]", "[191, 96]"});
  refused([](LlamaConfig& c) { c.num_layers = 3; }, {"no tensor named \"model.layers.2."});
  refused([](LlamaConfig& c) { c.num_kv_heads = 4; }, {"k_proj.weight\" is [48, 96]", "[96, 96]"});
}

TEST(HuggingFaceConfig, WhatTheExampleCannotDoIsRefused) {
  const std::string good = R"({"model_type": "llama", "hidden_size": 96, "num_hidden_layers": 2,
      "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 192,
      "vocab_size": 112, "head_dim": 24, "rope_scaling": null})";
  const test::TemporaryFolder folder;
  const auto read = [&](const std::string& text) {
    return read_hugging_face_config(folder.file("config.json", text));
  };
  EXPECT_EQ(read(good).head_dim(), 24);
  const auto refused = [&](const std::string& from, const std::string& to,
                           std::initializer_list<std::string_view> parts) {
    std::string text = good;
    const auto at = text.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    text.replace(at, from.size(), to);
    expect_error<std::runtime_error>([&] { read(text); }, {"config.json: "});
    expect_error<std::runtime_error>([&] { read(text); }, parts);
  };
  refused("\"llama\"", "\"gpt2\"", {"model_type is \"gpt2\""});
  refused("null", R"({"type": "yarn"})", {"rope_scaling", "only null"});
  refused("\"head_dim\": 24", "\"head_dim\": 32", {"head_dim is 32", "only 24"});
  refused("\"hidden_size\": 96", "\"hidden_size\": -96", {"hidden_size"});
  refused("\"hidden_size\": 96", "\"hidden_size\": 0", {"hidden_size is 0"});
  refused("\"hidden_size\": 96", "\"hidden_size\": 4294967296", {"hidden_size is 4294967296"});
  refused("\"hidden_size\": 96", "\"hidden_size\": 98", {"4 does not divide hidden_size 98"});
  refused("\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3",
          {"3 does not divide num_attention_heads 4"});
  refused("\"vocab_size\": 112,", "", {"vocab_size is missing"});
  refused("\"rope_scaling\": null", "\"rope_theta\": 0", {"rope_theta is 0"});
  refused("\"rope_scaling\": null", "\"attention_bias\": true", {"attention_bias is true"});
  refused(good, "{", {"byte 2"});
  refused(good, "[]", {"isn't a JSON object"});
  expect_error<std::runtime_error>([&] { read_hugging_face_config(folder.path() / "none.json"); },
                                   {"none.json: cannot open"});
}

}  // namespace
}  // namespace gqa::examples
