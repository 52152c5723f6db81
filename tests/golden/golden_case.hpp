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

/// The cases of a section: "attention", "rope" or "rms_norm".
inline std::vector<GoldenCase> golden_cases(const std::string& section) {
  std::ifstream in(std::filesystem::path(GQA_GOLDEN_DIR) / "golden_cases.json");
  if (!in) throw std::runtime_error("cannot read golden_cases.json in " GQA_GOLDEN_DIR);
  std::vector<GoldenCase> cases;
  const nlohmann::json file = nlohmann::json::parse(in);
  for (const auto& entry : file.at(section)) cases.push_back({entry});
  return cases;
}

/// The tensors of one attention case as T, and its rules.
template <typename T>
class GoldenAttention {
 public:
  explicit GoldenAttention(const GoldenCase& c)
      : case_(c),
        q_(c.tensor<T>("q")),
        k_(c.tensor<T>("k")),
        v_(c.tensor<T>("v")),
        shape_{.batch = c.number("batch"),
               .q_len = c.number("q_len"),
               .kv_len = c.number("kv_len"),
               .num_heads = c.number("num_heads"),
               .num_kv_heads = c.number("num_kv_heads"),
               .head_dim = c.number("head_dim"),
               .value_dim = c.number("value_dim")},
        lengths_(static_cast<std::size_t>(shape_.batch), shape_.kv_len) {
    if (c.json.contains("kv_lens")) lengths_ = c.json.at("kv_lens").get<std::vector<Index>>();
    if (c.json.contains("q_positions")) {
      for (const auto& row : c.json.at("q_positions")) {
        for (const Index position : row) positions_.push_back(position);
      }
    }
  }

  const AttentionShape& shape() const { return shape_; }
  const std::vector<Index>& lengths() const { return lengths_; }
  /// [batch, q_len], or empty where the queries are the last tokens.
  const std::vector<Index>& positions() const { return positions_; }

  TensorView<const T> q() const {
    return {q_.data(), {shape_.batch, shape_.q_len, shape_.num_heads, shape_.head_dim}};
  }
  TensorView<const T> k() const {
    return {k_.data(), {shape_.batch, shape_.kv_len, shape_.num_kv_heads, shape_.head_dim}};
  }
  TensorView<const T> v() const {
    return {v_.data(), {shape_.batch, shape_.kv_len, shape_.num_kv_heads, shape_.value_dim}};
  }

  /// A cache with the keys and values of each sequence. Storage is float for float, and so on, or
  /// whatever smaller type a test wants.
  template <typename Storage = T>
  KvCache<Storage> cache() const {
    KvCache<Storage> cache(
        {.batch = shape_.batch,
         .capacity = shape_.kv_len,
         .heads = {shape_.num_heads, shape_.num_kv_heads, shape_.head_dim, shape_.value_dim}});
    for (Index b = 0; b < shape_.batch; ++b) {
      const Index n = lengths_[static_cast<std::size_t>(b)];
      cache.append(b, k().sequence(b).tokens_slice(0, n), v().sequence(b).tokens_slice(0, n));
    }
    return cache;
  }

  /// Calls fn(rules) with the rules of the case. Only the combinations that cases have are
  /// compiled; another one throws.
  template <typename F>
  void with_rules(F fn) const {
    std::string key;
    if (case_.json.contains("scale")) key = "scale ";
    for (const auto& rule : case_.json.at("rules")) key += rule.at("type").get<std::string>() + " ";

    const Scale scale{case_.json.value("scale", 0.0)};
    const Causal causal{};
    const KeepFirst keep_first{case_.rule("keep_first").value("n", Index{0})};
    const SoftCap soft_cap{case_.rule("soft_cap").value("cap", 1.0f)};
    const Alibi alibi = Alibi::standard(shape_.num_heads);

    if (key == "") return fn(as_rules(NoMask{}));
    if (key == "causal ") return fn(as_rules(causal));
    if (key == "causal_top_left ") return fn(as_rules(Causal::top_left()));
    if (key == "scale causal ") return fn(scale & causal);
    if (key == "sliding_window ") return fn(as_rules(flash_window()));
    if (key == "causal sliding_window ") return fn(causal & hf_window());
    if (key == "causal sliding_window keep_first ") return fn(causal & hf_window() & keep_first);
    if (key == "causal alibi ") return fn(causal & alibi);
    if (key == "alibi ") return fn(as_rules(alibi));
    if (key == "causal sliding_window alibi ") return fn(causal & hf_window() & alibi);
    if (key == "causal soft_cap ") return fn(causal & soft_cap);
    if (key == "scale causal soft_cap ") return fn(scale & causal & soft_cap);
    if (key == "scale causal sliding_window soft_cap ") {
      return fn(scale & causal & hf_window() & soft_cap);
    }
    // written in the wrong order on purpose: the soft cap comes first all the same
    if (key == "causal soft_cap alibi ") return fn(alibi & soft_cap & causal);
    if (key == "causal sink_logits " || key == "causal sliding_window sink_logits ") {
      const auto logits = case_.tensor<float>("sink_logits");
      const SinkLogits sinks{logits};
      return key == "causal sink_logits " ? fn(causal & sinks) : fn(causal & hf_window() & sinks);
    }
    if (key == "prefix_lm ") {
      const std::vector<Index> lengths = case_.rule("prefix_lm").at("lengths");
      return fn(as_rules(PrefixLm{.lengths = lengths}));
    }
    if (key == "documents " || key == "causal documents ") {
      const auto ids = document_ids();
      const Documents documents{ids.queries, ids.keys, shape_.q_len, shape_.kv_len};
      return key == "documents " ? fn(as_rules(documents)) : fn(causal & documents);
    }
    if (key == "dense_mask " || key == "causal dense_mask ") {
      const std::string name = case_.tensor_name("mask");
      const DenseMask mask{dense(golden_tensors().values<bool>(name).data(), name)};
      return key == "dense_mask " ? fn(as_rules(mask)) : fn(causal & mask);
    }
    if (key == "additive_bias " || key == "causal additive_bias ") {
      const auto numbers = case_.tensor<float>("bias");
      const AdditiveBias<float> bias{dense(numbers.data(), case_.tensor_name("bias"))};
      return key == "additive_bias " ? fn(as_rules(bias)) : fn(causal & bias);
    }
    if (key == "scale t5_bias " || key == "scale causal t5_bias ") {
      const auto table = case_.tensor<float>("t5_table");
      const auto t5 = case_.rule("t5_bias");
      const RelativeBias bias{.table = table,
                              .num_buckets = t5.at("num_buckets"),
                              .num_heads = shape_.num_heads,
                              .bidirectional = t5.at("bidirectional"),
                              .max_distance = t5.at("max_distance")};
      return key == "scale t5_bias " ? fn(scale & bias) : fn(scale & causal & bias);
    }
    throw std::runtime_error("golden case " + case_.name() + " has rules unknown here: " + key);
  }

 private:
  SlidingWindow flash_window() const {
    const auto window = case_.rule("sliding_window");
    return SlidingWindow::from_flash(window.at("left"), window.at("right"));
  }
  /// Beside a causal mask, the window as Hugging Face counts it.
  SlidingWindow hf_window() const {
    const Index left = case_.rule("sliding_window").at("left");
    return SlidingWindow::from_hf(left + 1);
  }
  template <typename M>
  DenseView<M> dense(const M* data, const std::string& name) const {
    const auto& n = golden_tensors().shape(name);
    return {data, {.batch = n[0], .num_heads = n[1], .q_len = n[2], .kv_len = n[3]}};
  }
  struct DocumentIds {
    std::vector<int> queries, keys;  // [batch, q_len], [batch, kv_len]
  };
  DocumentIds document_ids() const {
    DocumentIds ids;
    const auto rule = case_.rule("documents");
    for (const std::vector<int> keys : rule.at("ids")) {
      ids.keys.insert(ids.keys.end(), keys.begin(), keys.end());
      ids.queries.insert(ids.queries.end(), keys.end() - shape_.q_len, keys.end());
    }
    return ids;
  }

  GoldenCase case_;
  std::vector<T> q_, k_, v_;
  AttentionShape shape_;
  std::vector<Index> lengths_, positions_;
};

}  // namespace gqa::test
