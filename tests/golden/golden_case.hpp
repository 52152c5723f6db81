// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The golden cases of golden_cases.json, computed by PyTorch (make_golden.py says how), and the
// rules of each as this library writes them.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <gqa/gqa.hpp>
#include <nlohmann/json.hpp>
#include <ostream>
#include <string>
#include <vector>

#include "support/attention_check.hpp"
#include "support/safetensors.hpp"

namespace gqa::test {

/// All tensors of all cases, read once.
inline const examples::SafeTensors& golden_tensors() {
  static const examples::SafeTensors file(std::filesystem::path(GQA_GOLDEN_DIR) /
                                          "golden.safetensors");
  return file;
}

/// A case's parameters: name, sizes, rules, and tensor names under "tensors".
struct GoldenCase {
  nlohmann::json json;

  std::string name() const { return json.at("name"); }
  Index number(const char* key) const { return json.at(key).get<Index>(); }
  /// The parameters of one of the case's rules; an empty object if it has no such rule.
  nlohmann::json rule(const std::string& type) const {
    for (const auto& entry : json.at("rules")) {
      if (entry.at("type") == type) return entry;
    }
    return nlohmann::json::object();
  }
  bool has(const std::string& tensor) const { return json.at("tensors").contains(tensor); }
  std::string tensor_name(const std::string& tensor) const { return json.at("tensors").at(tensor); }
  template <typename T>
  std::vector<T> tensor(const std::string& tensor) const {
    return golden_tensors().convert<T>(tensor_name(tensor));
  }
};

inline void PrintTo(const GoldenCase& c, std::ostream* out) { *out << c.name(); }
inline std::string golden_name(const testing::TestParamInfo<GoldenCase>& info) {
  return info.param.name();
}

/// Copies numbers that lie dense into a tensor.
template <Scalar T>
void fill_with(TestTensor<T>& x, const std::vector<T>& numbers) {
  std::size_t i = 0;
  x.for_each([&](T& element) { element = numbers.at(i++); });
  if (i != numbers.size()) throw std::runtime_error("a tensor takes fewer numbers than there are");
}

/// The cases of a section: "attention", "rope" or "rms_norm".
inline std::vector<GoldenCase> golden_cases(const std::string& section) {
  std::ifstream in(std::filesystem::path(GQA_GOLDEN_DIR) / "golden_cases.json");
  if (!in) throw std::runtime_error("cannot read golden_cases.json in " GQA_GOLDEN_DIR);
  std::vector<GoldenCase> cases;
  const nlohmann::json file = nlohmann::json::parse(in);
  for (const auto& entry : file.at(section)) cases.push_back({entry});
  return cases;
}

/// The tensors of one attention case.
template <Scalar T>
AttentionInput<T, T> golden_input(const GoldenCase& c) {
  const auto tensor = [&c](const char* name) {
    const auto& n = golden_tensors().shape(c.tensor_name(name));
    TestTensor<T> x({.batch = n[0], .tokens = n[1], .heads = n[2], .dim = n[3]});
    fill_with(x, c.tensor<T>(name));
    return x;
  };
  AttentionInput<T, T> input{tensor("q"), tensor("k"), tensor("v")};
  if (c.json.contains("kv_lens")) c.json.at("kv_lens").get_to(input.lengths);
  if (c.json.contains("q_positions")) {
    for (const std::vector<Index> row : c.json.at("q_positions")) {
      input.positions.insert(input.positions.end(), row.begin(), row.end());
    }
  }
  return input;
}

/// The rules of one attention case, and the tables that they look into.
class GoldenRules {
 public:
  explicit GoldenRules(const GoldenCase& c) : case_(c) {
    if (c.has("sink_logits")) floats_ = c.tensor<float>("sink_logits");
    if (c.has("bias")) floats_ = c.tensor<float>("bias");
    if (c.has("t5_table")) floats_ = c.tensor<float>("t5_table");
    const auto prefix_lm = c.rule("prefix_lm");
    if (prefix_lm.contains("lengths")) prefix_lm.at("lengths").get_to(prefix_lengths_);
    const auto documents = c.rule("documents");
    if (documents.contains("ids")) {
      for (const std::vector<int> keys : documents.at("ids")) {
        k_documents_.insert(k_documents_.end(), keys.begin(), keys.end());
        q_documents_.insert(q_documents_.end(), keys.end() - c.number("q_len"), keys.end());
      }
    }
  }

  /// The rules as this library writes them. Throws for a combination that no case had so far.
  RuleSet rules() const {
    std::string key = case_.json.contains("scale") ? "scale" : "";
    for (const auto& rule : case_.json.at("rules")) {
      key += (key.empty() ? "" : " & ") + rule.at("type").get<std::string>();
    }
    if (key == "") return NoMask{};
    if (key == "causal") return Causal{};
    if (key == "causal_top_left") return Causal::top_left();
    if (key == "scale & causal") return scale() & Causal{};
    if (key == "sliding_window") return flash_window();
    if (key == "causal & sliding_window") return Causal{} & hf_window();
    if (key == "causal & sliding_window & keep_first") {
      return Causal{} & hf_window() & KeepFirst{case_.rule("keep_first").at("n")};
    }
    if (key == "prefix_lm") return PrefixLm{.lengths = prefix_lengths_};
    if (key == "documents") return documents();
    if (key == "causal & documents") return Causal{} & documents();
    if (key == "dense_mask") return mask();
    if (key == "causal & dense_mask") return Causal{} & mask();
    if (key == "additive_bias") return bias();
    if (key == "causal & additive_bias") return Causal{} & bias();
    if (key == "alibi") return alibi();
    if (key == "causal & alibi") return Causal{} & alibi();
    if (key == "causal & sliding_window & alibi") return Causal{} & hf_window() & alibi();
    if (key == "causal & soft_cap") return Causal{} & soft_cap();
    if (key == "scale & causal & soft_cap") return scale() & Causal{} & soft_cap();
    if (key == "scale & causal & sliding_window & soft_cap") {
      return scale() & Causal{} & hf_window() & soft_cap();
    }
    // written in the wrong order on purpose: the soft cap comes first all the same
    if (key == "causal & soft_cap & alibi") return alibi() & soft_cap() & Causal{};
    if (key == "causal & sink_logits") return Causal{} & SinkLogits{floats_};
    if (key == "causal & sliding_window & sink_logits") {
      return Causal{} & hf_window() & SinkLogits{floats_};
    }
    if (key == "scale & t5_bias") return scale() & t5_bias();
    if (key == "scale & causal & t5_bias") return scale() & Causal{} & t5_bias();
    throw std::runtime_error("golden case " + case_.name() + " has rules unknown here: " + key);
  }
  Scale scale() const { return {case_.json.at("scale")}; }
  RelativeBias t5_bias() const {
    const auto t5 = case_.rule("t5_bias");
    return {.table = floats_,
            .num_buckets = t5.at("num_buckets"),
            .num_heads = case_.number("num_heads"),
            .bidirectional = t5.at("bidirectional"),
            .max_distance = t5.at("max_distance")};
  }
  AdditiveBias<float> bias() const { return {dense(floats_.data(), case_.tensor_name("bias"))}; }

 private:
  SoftCap soft_cap() const { return {case_.rule("soft_cap").at("cap")}; }
  Alibi alibi() const { return Alibi::standard(case_.number("num_heads")); }
  SlidingWindow flash_window() const {
    const auto window = case_.rule("sliding_window");
    return SlidingWindow::from_flash(window.at("left"), window.at("right"));
  }
  /// Beside a causal mask, the window as Hugging Face counts it.
  SlidingWindow hf_window() const {
    const Index left = case_.rule("sliding_window").at("left");
    return SlidingWindow::from_hf(left + 1);
  }
  Documents documents() const {
    return {q_documents_, k_documents_, case_.number("q_len"), case_.number("kv_len")};
  }
  DenseMask mask() const {
    const std::string name = case_.tensor_name("mask");
    return {dense(golden_tensors().values<bool>(name).data(), name)};
  }
  template <typename M>
  static DenseView<M> dense(const M* data, const std::string& name) {
    const auto& n = golden_tensors().shape(name);
    return {data, {.batch = n[0], .num_heads = n[1], .q_len = n[2], .kv_len = n[3]}};
  }

  GoldenCase case_;
  std::vector<float> floats_;                   // sink logits, bias or T5's table
  std::vector<Index> prefix_lengths_;           // [batch]
  std::vector<int> q_documents_, k_documents_;  // [batch, q_len], [batch, kv_len]
};

}  // namespace gqa::test
