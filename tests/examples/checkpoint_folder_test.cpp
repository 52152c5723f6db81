// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// convert_checkpoint on folders as they are found: configurations of several versions, other files
// beside, and files that must be refused before any work.

#include "checkpoint_folder.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

namespace gqa::examples {
namespace {

using namespace test;

// --- config.json ---------------------------------------------------------------------------------

TEST_F(CheckpointFolderTest, EveryMethodReadsOneConfigAlike) {
  const std::string plain = read_bytes(in_ / "config.json");
  const auto with = [&](const std::string& entries) {
    write_config(plain.substr(0, plain.size() - 1) + ", " + entries + "}");
  };
  const std::string k_proj = "model.layers.1.self_attn.k_proj.weight";
  for (const char* method : {"mean", "aligned", "fit"}) {
    SCOPED_TRACE(method);
    const auto keys = [&](const std::string& entries) {
      with(entries);
      return converted(method).to_float(k_proj);
    };
    const auto expected = keys(R"("rope_theta": 5e5)");
    EXPECT_EQ(keys(R"("rope_theta": 5e5, "head_dim": null, "rope_scaling": null)"), expected);
    EXPECT_EQ(keys(R"("rope_parameters": {"rope_theta": 5e5, "rope_type": "default"})"), expected);
    const std::string llama3 = R"("rope_type": "llama3", "factor": 8, "low_freq_factor": 1,)"
                               R"( "high_freq_factor": 4, "original_max_position_embeddings": 4})";
    const auto stretched = keys(R"("rope_theta": 2, "rope_scaling": {)" + llama3);
    EXPECT_EQ(keys(R"("rope_parameters": {"rope_theta": 2, )" + llama3), stretched);
    if (std::string_view(method) == "fit") {
      EXPECT_NE(stretched, keys(R"("rope_theta": 2)"));
    }
  }
  with(R"("rope_scaling": {"type": "longrope", "factor": 2})");
  converted("mean");
  converted("aligned");  // turns pairs of channels, however fast they turn
  expect_refused({"config.json: rope_scaling is ", "longrope"}, "fit");
}

TEST_F(CheckpointFolderTest, InfinityIsWrittenAsItWasRead) {
  const std::string plain = read_bytes(in_ / "config.json");
  write_config(plain.substr(0, plain.size() - 1) +
               R"(, "time_step_limit": [0.0, Infinity], "low": -Infinity, "none": NaN})");
  converted();
  const std::string text = read_bytes(out_ / "config.json");
  EXPECT_NE(text.find("    0.0,\n    Infinity\n"), std::string::npos) << text;
  EXPECT_NE(text.find("\"low\": -Infinity,\n  \"none\": NaN"), std::string::npos) << text;
  EXPECT_NE(text.find("\"num_key_value_heads\": 1"), std::string::npos) << text;
}

TEST_F(CheckpointFolderTest, ErrorsInConfigNameTheFile) {
  const std::string plain = read_bytes(in_ / "config.json");
  const auto refused = [&](const std::string& entry, Parts parts) {
    write_config(plain.substr(0, plain.size() - 1) + ", " + entry + "}");
    expect_refused({"in/config.json: "});
    expect_refused(parts);
  };
  refused("\"a\": 1e999", {"byte ", "1e999"});
  refused("\"model_type\": 7", {"model_type is 7"});
  refused("\"partial_rotary_factor\": \"1\"", {"partial_rotary_factor is \"1\""});
  refused("\"partial_rotary_factor\": 1e-9", {"partial_rotary_factor is 1e-09"});
  write_config(plain + std::string(1, '\0'));
  expect_refused({"config.json: byte " + std::to_string(plain.size() + 1) + ": "});
  write_config("\xEF\xBB\xBF" + plain);
  expect_refused({"config.json: byte 1: "});
  fs::remove(in_ / "config.json");
  fs::create_directory(in_ / "config.json");
  expect_refused({"config.json: byte 0: not a regular file"});
}

TEST_F(CheckpointFolderTest, JsonThatNestsTooDeeplyIsRefusedBeforeTheWork) {
  const std::string config = read_bytes(in_ / "config.json");
  for (const int levels : {100, 10'000, 100'000}) {
    const auto n = static_cast<std::size_t>(levels);
    const std::string deep = std::string(n, '[') + std::string(n, ']');
    std::string objects;
    for (int i = 0; i < levels; ++i) objects += "{\"a\":";
    objects += "1" + std::string(n, '}');
    write_config(config.substr(0, config.size() - 1) + ",\"deep\":" + deep + "}");
    expect_refused({"config.json: byte ", "nested too deeply"});
    write_config(objects);
    expect_refused({"config.json: byte ", "nested too deeply"});
    write_config(config);
    std::ofstream(in_ / index_name) << "{\"metadata\": " << deep << "}";
    expect_refused({std::string(index_name) + ": byte ", "nested too deeply"});
    fs::remove(in_ / index_name);
    std::ofstream(calibration_) << "{\"tokens\": " << deep << "}";
    expect_refused({"calibration.json: byte ", "nested too deeply"}, "fit");
  }
}

TEST_F(CheckpointFolderTest, ConfigsAndIndexesAreBoundedInSize) {
  const std::string config = read_bytes(in_ / "config.json");
  std::string lists;
  for (int i = 0; i < 1'500'000; ++i) lists += "[],";
  write_config(config.substr(0, config.size() - 1) + ",\"a\":[" + lists + "1]}");
  expect_refused({"config.json: byte 1: ", "above the limit of 4000000"});
  write_config(config);
  std::ofstream(in_ / index_name) << "{}";
  fs::resize_file(in_ / index_name, 5'000'000'000);  // sparse: takes no room on the disk
  expect_refused({index_name, "above the limit of 64000000"});
  write_config(config.substr(0, config.size() - 1) +
               ",\"hidden_size\": 2147483647, \"head_dim\": 2147483647,"
               "\"num_attention_heads\": 2147483647}");
  fs::remove(in_ / index_name);
  expect_refused({"in/config.json: ", "2147483647"});
}

// --- files ---------------------------------------------------------------------------------------

TEST_F(CheckpointFolderTest, ModelSafetensorsIsTakenWhereOtherFilesLieBeside) {
  const auto expected = converted().to_float("model.layers.1.self_attn.k_proj.weight");
  const auto same = [&] {
    EXPECT_EQ(converted().to_float("model.layers.1.self_attn.k_proj.weight"), expected);
    EXPECT_FALSE(fs::exists(out_ / "consolidated.safetensors"));
    EXPECT_NE(err_.find("left out: consolidated.safetensors\n"), std::string::npos) << err_;
  };
  SafeTensorsWriter other;
  other.add<float>("layers.0.attention.wk.weight", {1}, {1});
  other.write(in_ / "consolidated.safetensors");
  std::ofstream(in_ / "params.json") << R"({"n_kv_heads": 2})";
  same();
  EXPECT_FALSE(fs::exists(out_ / "params.json"));
  // An index of files that are not there: transformers doesn't look at it either.
  std::ofstream(in_ / index_name) << R"({"weight_map": {"x": "model-00001-of-2.safetensors"}})";
  same();
  EXPECT_FALSE(fs::exists(out_ / index_name));
  fs::rename(in_ / "model.safetensors", in_ / "b.safetensors");
  fs::remove(in_ / index_name);
  expect_refused({"has 2 safetensors files and no model.safetensors.index.json"});
}

TEST_F(CheckpointFolderTest, SubfoldersAreCopiedButForWeights) {
  fs::create_directories(in_ / "templates" / "deep");
  fs::create_directories(in_ / "original");
  fs::create_directories(in_ / ".git" / "objects");
  std::ofstream(in_ / "templates" / "tool.jinja") << "tool";
  std::ofstream(in_ / "templates" / "deep" / "config.json") << "deep";
  std::ofstream(in_ / "original" / "consolidated.00.pth") << "old";
  std::ofstream(in_ / "original" / "params.json") << "{}";
  std::ofstream(in_ / ".gitattributes") << "text";
  fs::create_directory_symlink(in_, in_ / "templates" / "loop");
  fs::create_symlink("nowhere", in_ / "broken");
  fs::create_symlink("templates/tool.jinja", in_ / "chat_template.jinja");
  ASSERT_EQ(::mkfifo((in_ / "pipe").c_str(), 0600), 0);
  converted();
  EXPECT_EQ(read_bytes(out_ / "templates" / "tool.jinja"), "tool");
  EXPECT_EQ(read_bytes(out_ / "templates" / "deep" / "config.json"), "deep");
  EXPECT_EQ(read_bytes(out_ / "chat_template.jinja"), "tool");
  EXPECT_EQ(read_bytes(out_ / ".gitattributes"), "text");
  EXPECT_EQ(err_,
            "left out: .git\nleft out: broken\nleft out: original/consolidated.00.pth\n"
            "left out: original/params.json\nleft out: pipe\nleft out: templates/loop\n");
  EXPECT_FALSE(fs::exists(out_ / "original"));
}

TEST_F(CheckpointFolderTest, FilesThatCannotBeCopiedAreFoundBeforeTheWork) {
  std::ofstream(in_ / "tokenizer.json") << std::string(1'000'000, ' ');
  // A limit on the size of files, of which the weights have less: 100 blocks of 512 bytes.
  const ProgramResult result = test::run_program(
      "/bin/sh", {"-c", "ulimit -f 100; exec \"$@\"", "sh", GQA_PROGRAM_example_convert_checkpoint,
                  in_.string(), out_.string(), "--num-kv-heads", "1"});
  expect_refusal(result, {"tokenizer.json"});
  EXPECT_FALSE(fs::exists(out_));
}

TEST_F(CheckpointFolderTest, PipesUnderTheNamesOfFilesAreRefusedAtOnce) {
  for (const char* name : {"model.safetensors", "config.json", index_name, "a.safetensors"}) {
    SCOPED_TRACE(name);
    write();
    if (std::string_view(name) == "a.safetensors") write_index([](Json&) {});
    fs::remove(in_ / name);
    ASSERT_EQ(::mkfifo((in_ / name).c_str(), 0600), 0);
    expect_refused({std::string(name) + ": byte 0: not a regular file"});
  }
}

}  // namespace
}  // namespace gqa::examples
