// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// convert_checkpoint on tensors that it has no name for, of types that it cannot read, and on
// indexes that don't say what the files hold.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "checkpoint_folder.hpp"

namespace gqa::examples {
namespace {

using namespace test;
using CheckpointTensors = CheckpointFolderTest;

// --- tensors -------------------------------------------------------------------------------------

TEST_F(CheckpointTensors, TensorsOfKeysUnderUnknownNamesAreRefusedByName) {
  for (const char* name :
       {"model.layers.1.self_attn.k_scale", "model.layers.0.self_attn.v_scale",
        "model.layers.0.self_attn.k_layernorm.norms.1.weight",
        "model.layers.0.self_attn.k_proj.lora_A.weight", "model.layers.0.self_attn.k_proj.bias_g",
        "model.layers.0.self_attn.attn.kv_scale", "model.layers.0.self_attn.temperature",
        "model.layers.0.attn.key_layernorm.weight", "model.layers.0.v_norm.weight",
        "encoder.layers.0.self_attn.k_proj.weight", "model.layers.2.self_attn.k_proj.weight",
        "model.layers.00.self_attn.v_proj.weight"}) {
    SCOPED_TRACE(name);
    write([&](SafeTensorsWriter& file) { file.add<float>(name, {2}, {1, 2}); });
    for (const char* method : {"mean", "random", "aligned"}) {
      expect_refused({"model.safetensors: byte ", name, "(F32 [2])"}, method);
    }
  }
}

TEST_F(CheckpointTensors, WhatPoolingLeavesRightIsCopied) {
  const std::vector<std::string> names = {"model.layers.0.self_attn.sinks",
                                          "model.layers.0.self_attn.q_layernorm.norms.0.weight",
                                          "model.layers.0.self_attn.rotary_emb.inv_freq",
                                          "model.layers.0.self_attn.o_proj.bias",
                                          "v_head.summary.weight",
                                          "model.layers.0.mlp.experts.0.w1.weight"};
  write([&](SafeTensorsWriter& file) {
    for (const auto& name : names) file.add<float>(name, {4}, {1, 2, 3, 4});
    file.add<float>("model.layers.1.self_attn.k_scale", {}, {0.5F});
  });
  const SafeTensors out = converted();
  for (const auto& name : names) {
    EXPECT_EQ(out.to_float(name), (std::vector<float>{1, 2, 3, 4})) << name;
  }
  EXPECT_EQ(out.to_float("model.layers.1.self_attn.k_scale"), std::vector<float>{0.5F});
  EXPECT_EQ(out.shape("model.layers.1.self_attn.k_proj.weight"), (std::vector<std::int64_t>{2, 8}));
  // Heads change places among queries, and keys may become larger.
  expect_refused({"model.layers.0.self_attn."}, "aligned");
  write([&](auto& file) { file.template add<float>("model.layers.1.self_attn.k_scale", {}, {1}); });
  expect_refused({"model.layers.1.self_attn.k_scale"}, "random");
}

TEST_F(CheckpointTensors, TensorsOfTypesThatAreNotReadAreCopied) {
  for (const auto& [name, size] : {std::pair{"F8_E4M3", 8},
                                   {"F8_E5M2", 8},
                                   {"F8_E8M0", 8},
                                   {"F4", 4},
                                   {"F6_E2M3", 6},
                                   {"C64", 64},
                                   {"BOOL", 8}}) {
    const std::string type = name;
    const int bits = size;
    SCOPED_TRACE(type);
    write([&](SafeTensorsWriter& file) {
      std::vector<std::uint8_t> bytes(48);
      for (std::size_t i = 0; i < bytes.size(); ++i) {
        bytes[i] = static_cast<std::uint8_t>(type == "BOOL" ? i % 2 : 37 * i);
      }
      file.add("model.layers.0.mlp.more", {48}, bytes);
    });
    change_types([&](const std::string& tensor, Json& entry) {
      if (!tensor.ends_with("more")) return;
      entry["dtype"] = type;
      entry["shape"] = {2, 48 * 8 / bits / 2};
    });
    const SafeTensors in(in_ / "model.safetensors"), out = converted();
    const auto &a = in.tensor("model.layers.0.mlp.more"),
               &b = out.tensor("model.layers.0.mlp.more");
    EXPECT_EQ(name_of(b.dtype), type);
    EXPECT_EQ(b.shape, a.shape);
    EXPECT_TRUE(std::ranges::equal(a.bytes, b.bytes));
    converted("fit");
  }
}

TEST_F(CheckpointTensors, OnlyTensorsThatAreReadNeedATypeThatIsRead) {
  const auto with_type_of = [&](const std::string& part) {
    write();
    change_types([&](const std::string& name, Json& entry) {
      if (name.find(part) != name.npos) entry["dtype"] = "I32";
    });
  };
  with_type_of("q_proj");
  EXPECT_EQ(converted().tensor("model.layers.0.self_attn.q_proj.weight").dtype, DType::i32);
  expect_refused({"q_proj.weight\" (I32 [8, 8]) is none of F32, F16, BF16"}, "aligned");
  with_type_of("k_proj");
  expect_refused({"k_proj.weight\" (I32 [4, 8]) is none of F32, F16, BF16"});
  with_type_of("layers.1.mlp.down_proj");
  converted("aligned");
  expect_refused({"layers.1.mlp.down_proj.weight\" (I32 [8, 12]) is none of"}, "fit");
  with_type_of("embed_tokens");
  converted();
  expect_refused({"embed_tokens.weight\" (I32 [16, 8]) is none of"}, "fit");
}

TEST_F(CheckpointTensors, ShapesOfAllLayersAreCheckedBeforeTheFirst) {
  change_types([](const std::string& name, Json& entry) {
    if (name == "model.layers.1.mlp.up_proj.weight") entry["shape"] = {8, 12};
  });
  expect_refused({"layers.1.mlp.up_proj.weight\" (F32 [8, 12])", "[12, 8]"}, "fit");
  converted("aligned");
}

// --- index ---------------------------------------------------------------------------------------

TEST_F(CheckpointTensors, TheIndexCountsParametersAnew) {
  write_index([](Json& json) { json["metadata"] = {{"total_parameters", 1000}, {"made", "by"}}; });
  converted();
  const auto metadata = Json::parse(read_bytes(out_ / index_name))["metadata"];
  // k_proj and v_proj of two layers: of 4 x 8 numbers, half are left.
  EXPECT_EQ(metadata["total_parameters"], 1000 - 2 * 2 * 16);
  EXPECT_EQ(metadata["made"], "by");
  std::uint64_t bytes = 0;
  const SafeTensors out(out_ / "a.safetensors");
  for (const auto& name : out.names()) bytes += out.tensor(name).bytes.size();
  EXPECT_EQ(metadata["total_size"], bytes);
}

TEST_F(CheckpointTensors, BadIndexesAreRefusedBeforeTheWork) {
  const auto refused = [&](const std::function<void(Json&)>& change, Parts parts) {
    write();
    write_index(change);
    expect_refused({index_name});
    expect_refused(parts);
  };
  refused([](Json& json) { json["metadata"] = "pt"; }, {"metadata isn't an object"});
  refused([](Json& json) { json["metadata"] = {1, 2}; }, {"metadata isn't an object"});
  refused([](Json& json) { json["metadata"]["total_parameters"] = "1"; }, {"total_parameters"});
  refused([](Json& json) { json["metadata"]["total_parameters"] = -1; }, {"total_parameters"});
  refused([](Json& json) { json["weight_map"] = Json::array(); }, {"has no weight_map"});
  refused([](Json& json) { json["weight_map"]["x"] = std::string("a\0.safetensors", 14); },
          {"is no safetensors file of this folder"});
  write();
  write_index([](Json& json) { json["metadata"] = nullptr; });
  converted();
  EXPECT_TRUE(Json::parse(read_bytes(out_ / index_name))["metadata"].contains("total_size"));
}

}  // namespace
}  // namespace gqa::examples
