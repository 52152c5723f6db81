// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// A small model's folder, written anew for each test, and convert_checkpoint run on it.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "checkpoints.hpp"
#include "files.hpp"
#include "program.hpp"
#include "support/safetensors.hpp"
#include "support/safetensors_writer.hpp"

namespace gqa::test {

using examples::SafeTensors;
using examples::SafeTensorsWriter;
namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;
using Parts = std::initializer_list<std::string_view>;

inline constexpr const char* index_name = "model.safetensors.index.json";

class CheckpointFolderTest : public ::testing::Test {
 protected:
  void SetUp() override { write(); }

  /// A checkpoint of two layers with everything that fit reads, and `more`.
  void write(const std::function<void(SafeTensorsWriter&)>& more = {}) {
    fs::remove_all(in_);
    test::write_checkpoint(in_, 2, [&](SafeTensorsWriter& file) {
      const auto add = [&](const std::string& name, std::vector<std::int64_t> shape) {
        std::int64_t size = 1;
        for (const std::int64_t n : shape) size *= n;
        std::vector<float> values(static_cast<std::size_t>(size));
        for (std::size_t i = 0; i < values.size(); ++i) {
          values[i] = static_cast<float>((i * i * i + name.size() * i) % 17) / 8 - 1;
        }
        file.add(name, shape, values);
      };
      add("model.embed_tokens.weight", {16, 8});
      for (const std::string layer : {"model.layers.0.", "model.layers.1."}) {
        add(layer + "input_layernorm.weight", {8});
        add(layer + "post_attention_layernorm.weight", {8});
        add(layer + "mlp.gate_proj.weight", {12, 8});
        add(layer + "mlp.up_proj.weight", {12, 8});
        add(layer + "mlp.down_proj.weight", {8, 12});
      }
      if (more) more(file);
    });
    change_config([](Json& json) {
      json["vocab_size"] = 16;
      json["intermediate_size"] = 12;
    });
  }

  void change_config(const std::function<void(Json&)>& change) {
    Json json = Json::parse(read_bytes(in_ / "config.json"));
    change(json);
    std::ofstream(in_ / "config.json") << json;
  }
  void write_config(const std::string& text) { std::ofstream(in_ / "config.json") << text; }

  /// The same tensors with an index, in a file of another name.
  void write_index(const std::function<void(Json&)>& change) {
    fs::rename(in_ / "model.safetensors", in_ / "a.safetensors");
    Json json = {{"metadata", Json::object()}};
    for (const std::string& name : SafeTensors(in_ / "a.safetensors").names()) {
      json["weight_map"][name] = "a.safetensors";
    }
    change(json);
    std::ofstream(in_ / index_name) << json;
  }

  /// Changes what the header says of tensors: types that the writer doesn't know.
  void change_types(const std::function<void(const std::string&, Json&)>& change) const {
    const std::string bytes = read_bytes(in_ / "model.safetensors");
    std::uint64_t length;
    std::memcpy(&length, bytes.data(), 8);
    Json header = Json::parse(bytes.substr(8, length));
    for (auto& [name, entry] : header.items()) change(name, entry);
    std::string text = header.dump();
    text.resize((text.size() + 7) / 8 * 8, ' ');
    std::ofstream(in_ / "model.safetensors", std::ios::binary)
        << test::bytes_of_number(std::uint64_t{text.size()}) << text << bytes.substr(8 + length);
  }

  ProgramResult convert(const std::string& method, const fs::path& out) const {
    std::vector<std::string> arguments = {"-c", "exec timeout 30 \"$@\"", "sh",
                                          GQA_PROGRAM_example_convert_checkpoint};
    for (const auto& argument : {in_.string(), out.string(), std::string("--num-kv-heads"),
                                 std::string("1"), std::string("--method"), method}) {
      arguments.push_back(argument);
    }
    if (method == "fit") {
      arguments.push_back("--calibration");
      arguments.push_back(folder_.path() / "calibration.json");
    }
    return test::run_program("/bin/sh", arguments);
  }
  /// Converts, and returns the only shard.
  SafeTensors converted(const std::string& method = "mean") {
    fs::remove_all(out_);
    const ProgramResult result = convert(method, out_);
    EXPECT_EQ(result.status, 0) << result.err;
    err_ = result.err;
    return SafeTensors(
        out_ / (fs::exists(out_ / "model.safetensors") ? "model.safetensors" : "a.safetensors"));
  }
  void expect_refused(Parts parts, const std::string& method = "mean") const {
    expect_refusal(convert(method, folder_.path() / "new" / "out"), parts);
    EXPECT_FALSE(fs::exists(folder_.path() / "new"));  // not even begun
  }

  test::TemporaryFolder folder_;
  const fs::path in_ = folder_.path() / "in", out_ = folder_.path() / "out";
  const fs::path calibration_ =
      folder_.file("calibration.json", R"({"tokens": [[1, 5, 9, 2, 7], [3, 15, 0, 4, 8]]})");
  std::string err_;
};

}  // namespace gqa::test
