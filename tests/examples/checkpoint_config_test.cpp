// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// config.json as old and new versions of transformers write it, and as nobody should.

#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <string>
#include <variant>

#include "checkpoint/model_config.hpp"
#include "files.hpp"
#include "llama/hugging_face.hpp"

namespace gqa::examples {
namespace {

using test::expect_error;

class ModelConfigOf : public ::testing::Test {
 protected:
  /// The configuration of a small Llama with these entries, too.
  ModelConfig read(const std::string& entries) const {
    return ModelConfig(folder_.file(
        "config.json",
        R"({"model_type": "llama", "hidden_size": 96, "num_hidden_layers": 2, "vocab_size": 50,)"
        R"("num_attention_heads": 4, "intermediate_size": 64)" +
            (entries.empty() ? "" : ", " + entries) + "}"));
  }
  void expect_refused(const std::string& entries,
                      std::initializer_list<std::string_view> parts) const {
    SCOPED_TRACE(entries);
    expect_error<std::runtime_error>([&] { read(entries); }, {"config.json: "});
    expect_error<std::runtime_error>([&] { read(entries); }, parts);
  }

  test::TemporaryFolder folder_;
};

TEST_F(ModelConfigOf, NullMeansTheDefaultEverywhere) {
  const ModelConfig plain = read("");
  const ModelConfig nulls = read(
      R"("head_dim": null, "num_key_value_heads": null, "rope_theta": null, "rope_scaling": null,)"
      R"("rope_parameters": null, "partial_rotary_factor": null, "rms_norm_eps": null,)"
      R"("max_position_embeddings": null, "attention_bias": null, "hidden_act": null)");
  for (const ModelConfig& config : {plain, nulls}) {
    EXPECT_EQ(config.head_dim, 24);
    EXPECT_EQ(config.num_kv_heads, 4);
    EXPECT_EQ(config.rotary_dim, 24);
    EXPECT_EQ(config.rope_theta, 10000.0);
    EXPECT_EQ(config.rms_norm_eps, 1e-6);
    EXPECT_FALSE(config.max_position_embeddings.has_value());
    const LlamaConfig llama = llama_config(config);
    EXPECT_EQ(llama.head_dim(), 24);
    EXPECT_EQ(llama.max_len, 2048);
    EXPECT_TRUE(std::holds_alternative<NoRopeScaling>(llama.rope_scaling));
  }
}

TEST_F(ModelConfigOf, RopeIsTheSameInOldAndNewSpelling) {
  const std::string llama3 = R"("factor": 8.0, "low_freq_factor": 1, "high_freq_factor": 4.0,)"
                             R"("original_max_position_embeddings": 8192})";
  for (const std::string& entries :
       {R"("rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", )" + llama3,
        R"("rope_theta": 5e5, "rope_scaling": {"type": "llama3", )" + llama3,
        R"("rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, )" + llama3,
        R"("rope_theta": 3, "rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, )" +
            llama3}) {
    SCOPED_TRACE(entries);
    const RopeConfig rope = read(entries).rope();
    EXPECT_EQ(rope.theta, 5e5);
    EXPECT_EQ(rope.rotary_dim, 24);
    const auto& scaling = std::get<Llama3RopeScaling>(rope.scaling);
    EXPECT_EQ(scaling.factor, 8);
    EXPECT_EQ(scaling.low_freq_factor, 1);
    EXPECT_EQ(scaling.high_freq_factor, 4);
    EXPECT_EQ(scaling.original_max_position_embeddings, 8192);
    EXPECT_TRUE(
        std::holds_alternative<Llama3RopeScaling>(llama_config(read(entries)).rope_scaling));
  }
  for (const char* entries : {R"("rope_parameters": {"rope_type": "default", "rope_theta": 7})",
                              R"("rope_parameters": {"rope_theta": 7.0})",
                              R"("rope_scaling": {"type": "default"}, "rope_theta": 7)",
                              R"("rope_scaling": {}, "rope_theta": 7)"}) {
    SCOPED_TRACE(entries);
    EXPECT_EQ(read(entries).rope().theta, 7);
    EXPECT_TRUE(std::holds_alternative<NoRopeScaling>(read(entries).rope().scaling));
  }
  const auto linear = read(R"("rope_scaling": {"type": "linear", "factor": 2.5})").rope();
  EXPECT_EQ(std::get<LinearRopeScaling>(linear.scaling).factor, 2.5);
  for (const char* entries : {R"("partial_rotary_factor": 0.25)",
                              R"("rope_parameters": {"partial_rotary_factor": 0.25})"}) {
    EXPECT_EQ(read(entries).rope().rotary_dim, 6);
    EXPECT_EQ(llama_config(read(entries)).rotary_dim, 6);
  }
}

TEST_F(ModelConfigOf, ScalingsThatAreNotKnownAreRefusedWhereRotationsAreNeeded) {
  const auto refused = [&](const std::string& entries,
                           std::initializer_list<std::string_view> parts) {
    SCOPED_TRACE(entries);
    const ModelConfig config = read(entries);  // pooling needs no more
    expect_error<std::runtime_error>([&] { config.rope(); }, {"config.json: "});
    expect_error<std::runtime_error>([&] { llama_config(config); }, parts);
  };
  refused(R"("rope_scaling": {"type": "longrope", "short_factor": [1]})",
          {"rope_scaling is ", "longrope", "default, linear and llama3"});
  refused(R"("rope_parameters": {"rope_type": 3})", {"rope_parameters is "});
  refused(R"("rope_parameters": {"full_attention": {"rope_type": "default"}})",
          {"rope_parameters is ", "full_attention"});
  refused(R"("rope_scaling": {"type": "linear"})", {"has no rope_scaling.factor"});
  refused(R"("rope_scaling": {"type": "linear", "factor": -2})", {"rope_scaling.factor is -2"});
  refused(R"("rope_parameters": {"rope_type": "llama3", "factor": "8"})",
          {"rope_parameters.factor is \"8\""});
  refused(R"("rope_parameters": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1,)"
          R"("high_freq_factor": 4, "original_max_position_embeddings": 0})",
          {"rope_parameters.original_max_position_embeddings is 0"});
  refused(R"("rope_parameters": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 4,)"
          R"("high_freq_factor": 4, "original_max_position_embeddings": 8192})",
          {"high_freq_factor"});
  refused(R"("partial_rotary_factor": 0.3)", {"rotary_dim 7", "24, is odd"});
  refused(R"("hidden_size": 2147483646, "num_attention_heads": 1, "partial_rotary_factor": 0.9,)"
          R"("rope_scaling": {"type": "linear", "factor": 0})",
          {"rope_scaling.factor is 0"});  // and no memory for a billion pairs
}

TEST_F(ModelConfigOf, ValuesOfAnotherKindAreRefusedWithTheFilesName) {
  expect_refused(R"("model_type": 3)", {"model_type is 3, not a string"});
  expect_refused(R"("head_dim": "24")", {"head_dim is \"24\""});
  expect_refused(R"("head_dim": 24.0)", {"head_dim is 24.0"});
  expect_refused(R"("head_dim": -24)", {"head_dim is -24"});
  expect_refused(R"("num_key_value_heads": [4, 2])", {"num_key_value_heads is "});
  expect_refused(R"("hidden_size": Infinity)", {"hidden_size is Infinity"});
  expect_refused(R"("hidden_size": 18446744073709551615)", {"hidden_size is 18446744073709551615"});
  expect_refused(R"("partial_rotary_factor": "0.5")", {"partial_rotary_factor is \"0.5\""});
  expect_refused(R"("partial_rotary_factor": 1e-9)", {"partial_rotary_factor is 1e-09", "24"});
  expect_refused(R"("partial_rotary_factor": 1.5)", {"partial_rotary_factor is 1.5"});
  expect_refused(R"("partial_rotary_factor": NaN)", {"partial_rotary_factor is NaN"});
  expect_refused(R"("rope_theta": Infinity)", {"rope_theta is Infinity"});
  expect_refused(R"("rope_theta": true)", {"rope_theta is true"});
  expect_refused(R"("rms_norm_eps": 1e300)", {"rms_norm_eps is 1e+300"});
  expect_refused(R"("rope_scaling": "llama3")", {"rope_scaling is \"llama3\""});
  expect_refused(R"("rope_scaling": {"type": "linear"}, "rope_parameters": {"factor": 2})",
                 {"rope_parameters and rope_scaling disagree"});
}

TEST_F(ModelConfigOf, UnusedNumbersMayBeInfinite) {
  const ModelConfig config = read(R"("time_step_limit": [0.0, Infinity], "hidden_size": 48)");
  EXPECT_EQ(config.hidden_size, 48);  // the last of equal names counts, as in Python
  EXPECT_NE(json_text(config.json()).find("Infinity"), std::string::npos);
}

}  // namespace
}  // namespace gqa::examples
