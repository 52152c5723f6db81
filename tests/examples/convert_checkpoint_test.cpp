// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// convert_checkpoint as a user runs it, on a small model of another project and on checkpoints in
// several files that are made here.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <gqa/convert/head_pooling.hpp>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "files.hpp"
#include "program.hpp"
#include "support/safetensors.hpp"
#include "support/safetensors_writer.hpp"

namespace gqa::examples {
namespace {

using test::expect_refusal;
using test::ProgramResult;
using test::read_bytes;
using test::TemporaryFolder;
namespace fs = std::filesystem;
template <typename T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

ProgramResult run(const fs::path& in, const fs::path& out, std::vector<std::string> options) {
  options.insert(options.begin(), {in.string(), out.string()});
  return test::run_program(GQA_PROGRAM_example_convert_checkpoint, options);
}

nlohmann::json json_of(const fs::path& path) { return nlohmann::json::parse(read_bytes(path)); }

template <typename T>
Matrix<T> matrix(const SafeTensors& file, const std::string& name) {
  const auto& shape = file.shape(name);
  const auto values = file.convert<T>(name);
  return Eigen::Map<const Matrix<T>>(values.data(), shape[0], shape.size() > 1 ? shape[1] : 1);
}

/// The shape of the checkpoints that are made here.
struct Made {
  Index num_kv_heads = 4;
  bool duplicated = false;  ///< each KV head is there twice
  static constexpr Index hidden = 24, num_heads = 8, head_dim = 4, layers = 3, vocab = 11;
};

/// Writes a folder with config.json, a tokenizer and three shards: a layer's tensors are in two.
template <typename T>
void make_checkpoint(const fs::path& folder, const Made& made = {}) {
  fs::create_directory(folder);
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  std::array<SafeTensorsWriter, 3> shards;
  nlohmann::json map;
  const auto add = [&](std::size_t shard, const std::string& name, Index rows, Index cols = 1) {
    std::vector<T> values(static_cast<std::size_t>(rows * cols));
    for (T& x : values) x = static_cast<T>(normal(random));
    if (made.duplicated && (name.find("k_proj") != name.npos || name.find("v_proj") != name.npos)) {
      const Index head = Made::head_dim * cols;
      for (Index i = 0; i < rows * cols; ++i) {
        if (i / head % 2 == 1) {
          values[static_cast<std::size_t>(i)] = values[static_cast<std::size_t>(i - head)];
        }
      }
    }
    std::vector<std::int64_t> shape = {rows};
    if (cols != 1) shape.push_back(cols);
    shards[shard].add(name, shape, values);
    map[name] = "model-0000" + std::to_string(shard) + "-of-3.safetensors";
  };
  const Index kv = made.num_kv_heads * Made::head_dim, q = Made::num_heads * Made::head_dim;
  add(0, "model.embed_tokens.weight", Made::vocab, Made::hidden);
  for (Index i = 0; i < Made::layers; ++i) {
    const auto shard = static_cast<std::size_t>(i);
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    add(shard, layer + "input_layernorm.weight", Made::hidden);
    add(shard, layer + "post_attention_layernorm.weight", Made::hidden);
    add(shard, layer + "self_attn.q_proj.weight", q, Made::hidden);
    add(shard, layer + "self_attn.q_proj.bias", q);
    add(shard, layer + "self_attn.k_proj.weight", kv, Made::hidden);
    add(shard, layer + "self_attn.k_proj.bias", kv);
    add((shard + 1) % 3, layer + "self_attn.v_proj.weight", kv, Made::hidden);
    add(shard, layer + "self_attn.v_proj.bias", kv);
    add((shard + 1) % 3, layer + "self_attn.o_proj.weight", Made::hidden, q);
    add(shard, layer + "mlp.down_proj.weight", Made::hidden, 17);
  }
  add(2, "model.norm.weight", Made::hidden);
  for (std::size_t i = 0; i < shards.size(); ++i) {
    shards[i].add_metadata("format", "pt");
    shards[i].write(folder / ("model-0000" + std::to_string(i) + "-of-3.safetensors"));
  }
  std::ofstream(folder / "model.safetensors.index.json")
      << nlohmann::json{{"metadata", {{"total_size", 1}}}, {"weight_map", map}};
  std::ofstream(folder / "config.json")
      << nlohmann::json{{"model_type", "qwen2"},
                        {"hidden_size", Made::hidden},
                        {"head_dim", Made::head_dim},
                        {"num_hidden_layers", Made::layers},
                        {"num_attention_heads", Made::num_heads},
                        {"num_key_value_heads", made.num_kv_heads},
                        {"torch_dtype", "float32"}};
  std::ofstream(folder / "tokenizer.json") << "{\"tokens\": []}";
}

/// All files of a folder and what is in them.
std::map<std::string, std::string> contents(const fs::path& folder) {
  std::map<std::string, std::string> result;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    result[entry.path().string()] = entry.is_regular_file() ? read_bytes(entry.path()) : "";
  }
  return result;
}

bool is_of_keys_or_values(const std::string& name) {
  return name.find("k_proj") != name.npos || name.find("v_proj") != name.npos;
}

template <typename T>
class ConvertCheckpointOf : public ::testing::Test {};
using FileTypes = ::testing::Types<float, half, bfloat16>;
TYPED_TEST_SUITE(ConvertCheckpointOf, FileTypes);

TYPED_TEST(ConvertCheckpointOf, ShardsArePooledAndAllElseIsCopied) {
  using T = TypeParam;
  const TemporaryFolder folder;
  const auto in = folder.path() / "in", out = folder.path() / "new" / "out";
  make_checkpoint<T>(in);
  const auto before = contents(in);
  const ProgramResult result = run(in, out, {"--num-kv-heads", "2"});
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_NE(result.out.find("layer 2: lost of keys 0."), std::string::npos) << result.out;
  EXPECT_EQ(contents(in), before);

  std::size_t total = 0;
  for (int i = 0; i < 3; ++i) {
    const std::string name = "model-0000" + std::to_string(i) + "-of-3.safetensors";
    const SafeTensors a(in / name), b(out / name);
    EXPECT_EQ(a.names(), b.names());
    EXPECT_EQ(b.metadata(), a.metadata());
    for (const std::string& tensor : a.names()) {
      EXPECT_EQ(b.tensor(tensor).dtype, dtype_of<T>());
      total += b.tensor(tensor).bytes.size();
      if (is_of_keys_or_values(tensor)) {
        EXPECT_EQ(matrix<T>(b, tensor), mean_pool_heads(matrix<T>(a, tensor), {.from = 4, .to = 2}))
            << tensor;
        EXPECT_EQ(b.shape(tensor).size(), a.shape(tensor).size());
      } else {
        EXPECT_TRUE(std::ranges::equal(a.tensor(tensor).bytes, b.tensor(tensor).bytes)) << tensor;
      }
    }
  }
  auto config = json_of(in / "config.json");
  config["num_key_value_heads"] = 2;
  EXPECT_EQ(json_of(out / "config.json"), config);
  auto index = json_of(in / "model.safetensors.index.json");
  index["metadata"]["total_size"] = total;
  EXPECT_EQ(json_of(out / "model.safetensors.index.json"), index);
  EXPECT_EQ(read_bytes(out / "tokenizer.json"), read_bytes(in / "tokenizer.json"));
}

TYPED_TEST(ConvertCheckpointOf, DuplicatedHeadsComeBackExactly) {
  using T = TypeParam;
  const TemporaryFolder folder;
  const auto in = folder.path() / "in";
  make_checkpoint<T>(in, {.num_kv_heads = 8, .duplicated = true});
  for (const char* method : {"mean", "first"}) {
    const auto out = folder.path() / method;
    const ProgramResult result = run(in, out, {"--num-kv-heads", "4", "--method", method});
    ASSERT_EQ(result.status, 0) << result.err;
    EXPECT_NE(result.out.find("layer 0: lost of keys 0.0000, of values 0.0000\n"),
              std::string::npos)
        << result.out;
    const SafeTensors a(in / "model-00001-of-3.safetensors"),
        b(out / "model-00001-of-3.safetensors");
    for (const char* name : {"k_proj.weight", "k_proj.bias", "v_proj.bias"}) {
      const std::string tensor = std::string("model.layers.1.self_attn.") + name;
      const auto whole = matrix<T>(a, tensor), pooled = matrix<T>(b, tensor);
      for (Index head = 0; head < 4; ++head) {
        EXPECT_EQ(pooled.middleRows(4 * head, 4), whole.middleRows(8 * head, 4));
      }
    }
  }
}

TEST(ConvertCheckpoint, RandomHeadsFollowTheSeed) {
  const TemporaryFolder folder;
  const auto in = folder.path() / "in";
  make_checkpoint<float>(in);
  const auto keys = [&](const char* name, const char* seed) {
    const auto out = folder.path() / name;
    const auto result = run(in, out, {"--num-kv-heads", "1", "--method", "random", "--seed", seed});
    EXPECT_EQ(result.status, 0) << result.err;
    return matrix<float>(SafeTensors(out / "model-00000-of-3.safetensors"),
                         "model.layers.0.self_attn.k_proj.weight");
  };
  const auto one = keys("a", "1");
  EXPECT_EQ(one.rows(), 4);
  EXPECT_EQ(keys("b", "1"), one);
  EXPECT_NE(keys("c", "2"), one);
}

TEST(ConvertCheckpoint, AlignedHeadsLoseLessAndTurnQueriesAlong) {
  const TemporaryFolder folder;
  const auto in = folder.path() / "in", out = folder.path() / "out";
  make_checkpoint<float>(in);
  const auto mean = run(in, folder.path() / "mean", {"--num-kv-heads", "2"});
  const auto aligned = run(in, out, {"--num-kv-heads", "2", "--method", "aligned"});
  ASSERT_EQ(aligned.status, 0) << aligned.err;
  const auto lost = [](const ProgramResult& result) {
    return std::stod(result.out.substr(result.out.find("keys ") + 5));
  };
  EXPECT_LT(lost(aligned), 0.95 * lost(mean));
  EXPECT_NE(aligned.out.find("; heads "), std::string::npos) << aligned.out;
  const SafeTensors a(in / "model-00000-of-3.safetensors"), b(out / "model-00000-of-3.safetensors");
  const std::string q = "model.layers.0.self_attn.q_proj.weight";
  EXPECT_EQ(b.shape(q), a.shape(q));
  EXPECT_NE(matrix<float>(b, q), matrix<float>(a, q));
  EXPECT_NEAR(matrix<float>(b, q).norm(), matrix<float>(a, q).norm(), 1e-4);  // only turned
}

TEST(ConvertCheckpoint, ARealCheckpointConvertsByEveryMethodAndAgain) {
  GQA_NEEDS_SHARED_DATA("tiny_llama_hf");
  const TemporaryFolder folder;
  const auto in = folder.path() / "in";
  fs::create_directory(in);
  for (const char* name : {"config.json", "tiny_llama.safetensors"}) {
    fs::copy_file(test::shared_data("tiny_llama_hf") / name, in / name);
  }
  nlohmann::json tokens = nlohmann::json::array();
  for (int text = 0; text < 4; ++text) {
    tokens.push_back(nlohmann::json::array());
    for (int i = 0; i < 40; ++i) tokens.back().push_back((17 * i * (text + 1) + text) % 112);
  }
  const auto calibration =
      folder.file("tokens.json", nlohmann::json{{"tokens", tokens}}.dump()).string();
  const SafeTensors before(in / "tiny_llama.safetensors");
  for (const std::string method : {"mean", "first", "random", "aligned", "fit"}) {
    const auto out = folder.path() / method;
    const auto result =
        run(in, out, {"--num-kv-heads", "1", "--method", method, "--calibration", calibration});
    ASSERT_EQ(result.status, 0) << method << ": " << result.err;
    const SafeTensors after(out / "tiny_llama.safetensors");
    EXPECT_EQ(after.names(), before.names());
    for (const std::string& name : before.names()) {
      const bool turned = method == "aligned" || method == "fit";
      if (is_of_keys_or_values(name)) {
        EXPECT_EQ(after.shape(name), (std::vector<std::int64_t>{24, 96}));
      } else if (!turned || name.find("self_attn") == name.npos) {
        EXPECT_TRUE(std::ranges::equal(before.tensor(name).bytes, after.tensor(name).bytes));
      }
      for (const float x : after.to_float(name)) ASSERT_TRUE(std::isfinite(x)) << name;
    }
    EXPECT_EQ(json_of(out / "config.json")["num_key_value_heads"], 1);
    if (method == "fit") {
      EXPECT_NE(result.out.find("; outputs off by "), std::string::npos) << result.out;
    }
    // What was written is a checkpoint to this very program, which also runs the model for fit.
    const auto again =
        run(out, folder.path() / (method + "-again"),
            {"--num-kv-heads", "1", "--method", "fit", "--calibration", calibration});
    EXPECT_EQ(again.status, 0) << again.err;
    EXPECT_NE(again.out.find("layer 1: lost of keys 0.0000"), std::string::npos) << again.out;
  }
}

/// Bad input: what must be left behind is nothing.
class ConvertCheckpointRefuses : public ::testing::Test {
 protected:
  void SetUp() override { make_checkpoint<float>(in_); }

  void expect(std::initializer_list<std::string_view> parts,
              std::vector<std::string> options = {"--num-kv-heads", "2"}) {
    const auto before = contents(folder_.path());
    expect_refusal(run(in_, out_, std::move(options)), parts);
    EXPECT_EQ(contents(folder_.path()), before);
  }
  void change_json(const char* file, const std::function<void(nlohmann::json&)>& change) {
    auto json = json_of(in_ / file);
    change(json);
    std::ofstream(in_ / file) << json;
  }

  TemporaryFolder folder_;
  const fs::path in_ = folder_.path() / "in";
  fs::path out_ = folder_.path() / "out";
  const std::string index_ = "model.safetensors.index.json";
  const std::string shard_ = "model-00001-of-3.safetensors";
};

TEST_F(ConvertCheckpointRefuses, BadOptions) {
  expect({"--num-kv-heads 3 does not divide the 4"}, {"--num-kv-heads", "3"});
  expect({"--num-kv-heads 8 does not divide the 4"}, {"--num-kv-heads", "8"});
  expect({"--num-kv-heads"}, {"--num-kv-heads", "0"});
  expect({"--num-kv-heads is required"}, {});
  expect({"--method"}, {"--num-kv-heads", "2", "--method", "median"});
  expect({"--method fit needs --calibration"}, {"--num-kv-heads", "2", "--method", "fit"});
}

TEST_F(ConvertCheckpointRefuses, OutputsThatWouldTouchWhatIsThere) {
  out_ = in_;
  expect({"exists already"});
  out_ = in_ / "out";
  expect({"is inside of the input"});
  out_ = in_ / ".." / "in" / "deep" / "out";
  expect({"is inside of the input"});
  fs::create_directory(folder_.path() / "taken");
  out_ = folder_.path() / "taken";
  expect({"exists already"});
  fs::create_directory_symlink(in_, folder_.path() / "link");
  out_ = folder_.path() / "link" / "out";
  expect({"is inside of the input"});
}

TEST_F(ConvertCheckpointRefuses, TruncatedAndForeignFiles) {
  const std::string bytes = read_bytes(in_ / shard_);
  const auto with = [&](std::string_view content) { std::ofstream(in_ / shard_) << content; };
  with(std::string_view(bytes).substr(0, bytes.size() - 1));
  expect({shard_, "byte ", "lie outside of the"});
  with(std::string_view(bytes).substr(0, 300));
  expect({shard_ + ": byte 0", "but only 292 follow"});
  with("");
  expect({shard_ + ": byte 0", "begins with 8 bytes, this one has 0"});
  with(std::string(100, '\xFF'));
  expect({shard_ + ": byte 0"});
  fs::remove(in_ / shard_);
  expect({shard_ + ": byte 0", "No such file"});
  fs::create_directory(in_ / shard_);
  expect({shard_ + ": byte 0"});
}

TEST_F(ConvertCheckpointRefuses, IndexesThatLie) {
  const std::string name = "model.layers.1.self_attn.k_proj.weight";
  const auto good = read_bytes(in_ / index_);
  const auto with = [&](const std::function<void(nlohmann::json&)>& change) {
    std::ofstream(in_ / index_) << good;
    change_json(index_.c_str(), change);
  };
  with([&](auto& json) { json["weight_map"][name] = "../../etc/secret.safetensors"; });
  expect({"is no safetensors file of this folder", "../../etc"});
  with([&](auto& json) { json["weight_map"][name] = 3; });
  expect({name, "isn't a string"});
  with([&](auto& json) { json["weight_map"].erase(name); });
  expect({index_, "does not say", name});
  with([&](auto& json) { json["weight_map"]["more"] = shard_; });
  expect({"\"more\" is not in " + shard_});
  with([&](auto& json) { json.erase("weight_map"); });
  expect({"has no weight_map"});
  std::ofstream(in_ / index_) << "{\"weight_map\": {";
  expect({index_ + ": byte "});
  fs::remove(in_ / index_);
  expect({"has 3 safetensors files and no model.safetensors.index.json"});
}

TEST_F(ConvertCheckpointRefuses, ConfigsThatTheTensorsContradict) {
  const auto good = read_bytes(in_ / "config.json");
  const auto with = [&](const char* name, const nlohmann::json& value) {
    std::ofstream(in_ / "config.json") << good;
    change_json("config.json", [&](auto& json) { json[name] = value; });
  };
  with("num_hidden_layers", 4);
  expect({"no tensor named \"model.layers.3.self_attn.q_proj.weight\""});
  with("num_hidden_layers", 2);
  expect({"model.layers.2.self_attn.k_proj", "has no meaning in a model of 2 layers"});
  with("num_key_value_heads", 2);
  expect({"k_proj.weight\" (F32 [16, 24])", "asks for [8, 24]"});
  with("num_attention_heads", 6);
  expect({"num_kv_heads 4 does not divide num_heads 6"});
  with("hidden_size", "24");
  expect({"hidden_size is \"24\""});
  with("hidden_size", 0);
  expect({"hidden_size is 0"});
  with("num_attention_heads", nullptr);
  expect({"has no num_attention_heads"});
  with("model_type", "gptj");
  expect({"model_type is \"gptj\"", "mean, first and random do with any"},
         {"--num-kv-heads", "2", "--method", "aligned"});
  std::ofstream(in_ / "config.json") << "[]";
  expect({"config.json: isn't a JSON object"});
  fs::remove(in_ / "config.json");
  expect({"config.json: cannot open"});
}

TEST_F(ConvertCheckpointRefuses, BadCalibrationText) {
  fs::remove_all(in_);
  GQA_NEEDS_SHARED_DATA("tiny_llama_hf");
  fs::create_directory(in_);
  for (const char* name : {"config.json", "tiny_llama.safetensors"}) {
    fs::copy_file(test::shared_data("tiny_llama_hf") / name, in_ / name);
  }
  const auto text = folder_.path() / "text.json";
  const auto with = [&](const char* json, std::initializer_list<std::string_view> parts) {
    std::ofstream(text) << json;
    expect(parts, {"--num-kv-heads", "1", "--method", "fit", "--calibration", text.string()});
  };
  with("{\"tokens\": [[1, 112]]}", {"token 112 is outside of a vocabulary of 112"});
  with("{\"tokens\": [[-1]]}", {"token -1"});
  with("{\"tokens\": []}", {"has no tokens"});
  with("{\"tokens\": [[1], []]}", {"a text without"});
  with("{\"tokens\": 3}", {"text.json"});
  with("{}", {"text.json"});
}

TEST_F(ConvertCheckpointRefuses, AFullDiskAndLeavesNothing) {
  // A limit on the size of files is as good as a full disk: 4 blocks of 512 bytes.
  const auto before = contents(folder_.path());
  const ProgramResult result = test::run_program(
      "/bin/sh", {"-c", "ulimit -f 4; exec \"$@\"", "sh", GQA_PROGRAM_example_convert_checkpoint,
                  in_.string(), out_.string(), "--num-kv-heads", "2"});
  EXPECT_EQ(result.status, 1) << result.err;
  EXPECT_NE(result.err.find(".safetensors: byte "), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("cannot write "), std::string::npos) << result.err;
  EXPECT_EQ(contents(folder_.path()), before);
}

}  // namespace
}  // namespace gqa::examples
