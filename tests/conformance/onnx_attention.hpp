// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// One ONNX Attention node as calls of this library: views of its 3-D and 4-D tensors, its past as
// the first append to a cache, its masks and attributes as rules.
#pragma once

#include <gqa/gqa.hpp>

#include "onnx_case.hpp"

namespace gqa::test {

/// T is the type of the case's floating-point tensors: float or half.
template <typename T>
class OnnxAttention {
 public:
  explicit OnnxAttention(const OnnxCase& c)
      : case_(c),
        q_(onnx_input<T>(c, "Q")),
        k_(onnx_input<T>(c, "K")),
        v_(onnx_input<T>(c, "V")),
        past_k_(onnx_input<T>(c, "past_key")),
        past_v_(onnx_input<T>(c, "past_value")),
        nonpad_(onnx_input<std::int64_t>(c, "nonpad_kv_seqlen").values),
        scores_(onnx_output<T>(c, "qk_matmul_output")) {
    const bool masked = c.inputs.contains("attn_mask");
    if (masked && onnx_dtype(c, "attn_mask") != examples::DType::boolean) {
      bias_ = onnx_input<T>(c, "attn_mask");
    }
  }

  TensorView<const T> q() const { return view_of(q_, "q_num_heads"); }
  TensorView<const T> k() const { return view_of(k_, "kv_num_heads"); }
  TensorView<const T> v() const { return view_of(v_, "kv_num_heads"); }
  Index past() const { return past_k_.present() ? past_k_.size(2) : 0; }
  /// Keys and values that the node is given beyond the past, per sequence; the others are padding.
  Index fresh(Index b) const {
    return nonpad_.empty() ? k().tokens() : nonpad_[static_cast<std::size_t>(b)];
  }
  /// Neither a past nor padding: K and V are all there is.
  bool plain() const { return past() == 0 && nonpad_.empty(); }
  Index q_len() const { return q().tokens(); }
  Index kv_len() const { return past() + k().tokens(); }
  AttentionShape shape() const {
    return {q().batch(), q_len(), kv_len(), q().heads(), k().heads(), q().dim(), v().dim()};
  }

  /// past_key and past_value, then K and V, as a decoder would have appended them.
  KvCache<T> cache() const {
    KvCache<T> cache({.batch = q().batch(),
                      .capacity = kv_len(),
                      .heads = {q().heads(), k().heads(), q().dim(), v().dim()}});
    if (past() > 0) cache.append(heads_first_of(past_k_), heads_first_of(past_v_));
    for (Index b = 0; b < q().batch(); ++b) {
      cache.append(b, k().sequence(b).tokens_slice(0, fresh(b)),
                   v().sequence(b).tokens_slice(0, fresh(b)));
    }
    return cache;
  }

  /// ONNX's causal offset is the length of the past, also where K is longer than Q. (With padding
  /// it is nonpad - q_len, this library's default; with neither, Causal::top_left() is ONNX's
  /// rule.)
  std::vector<Index> positions() const {
    std::vector<Index> result;
    for (Index b = 0; past() > 0 && b < q().batch(); ++b) {
      for (Index i = 0; i < q_len(); ++i) result.push_back(past() + i);
    }
    return result;
  }

  /// What the node asks for. Throws for a combination that no case had so far.
  RuleSet rules() const {
    const Causal causal = plain() ? Causal::top_left() : Causal{};
    const Scale scale{case_.attribute("scale", 0.0)};
    const SoftCap soft_cap{case_.attribute("softcap", 0.0f)};
    std::string key;
    const auto add = [&key](const char* part) {
      key += key.empty() ? part : std::string(" & ") + part;
    };
    if (case_.attributes.contains("scale")) add("scale");
    if (case_.attribute("is_causal", 0) != 0) add("causal");
    if (soft_cap.cap != 0) add("softcap");
    if (case_.inputs.contains("attn_mask")) add(bias_.present() ? "bias" : "mask");

    if (key == "") return NoMask{};
    if (key == "scale") return scale;
    if (key == "causal") return causal;
    if (key == "softcap") return soft_cap;
    if (key == "mask") return mask();
    if (key == "causal & mask") return causal & mask();
    if (key == "bias") return bias();
    if (key == "causal & bias") return causal & bias();
    if (key == "softcap & bias") return soft_cap & bias();
    throw std::runtime_error(case_.name + " has rules unknown here: " + key);
  }

  /// A tensor of the shape of Y, and a view of it.
  struct Output {
    std::vector<T> values;
    TensorView<T> view;
  };
  Output output() const {
    Output out{
        std::vector<T>(static_cast<std::size_t>(q().batch() * q_len() * q().heads() * v().dim()),
                       T(777)),
        {}};
    const TensorShape shape{q().batch(), q_len(), q().heads(), v().dim()};
    out.view = q_.shape.size() == 4 ? heads_first(out.values.data(), shape)
                                    : TensorView<T>(out.values.data(), shape);
    return out;
  }

  void expect_output(const std::vector<T>& actual, const std::string& by) const {
    expect_near(actual, onnx_output<T>(case_, "Y").values, tolerance(), "Y by " + by);
  }

  /// present_key and present_value, if the node has them, are what the cache holds.
  void expect_present(const KvCache<T>& cache) const {
    const auto k = onnx_output<T>(case_, "present_key"), v = onnx_output<T>(case_, "present_value");
    if (!k.present() && !v.present()) return;
    ASSERT_TRUE(k.present() && v.present());
    std::vector<T> k_read(k.values.size()), v_read(v.values.size());
    const auto k_out = heads_first(k_read.data(), shape_of(k));
    const auto v_out = heads_first(v_read.data(), shape_of(v));
    for (Index b = 0; b < cache.batch(); ++b) {
      ASSERT_EQ(cache.length(b), k.size(2));
      cache.read(b, k_out.sequence(b), v_out.sequence(b));
    }
    expect_near(k_read, k.values, 0, "present_key");  // stored, not computed: the same numbers
    expect_near(v_read, v.values, 0, "present_value");
  }

  /// qk_matmul_output's stored values, [batch, num_heads, q_len, kv_len]; empty if not asked for.
  const std::vector<T>& scores() const { return scores_.values; }
  ScoreStage stage() const {
    return static_cast<ScoreStage>(case_.attribute("qk_matmul_output_mode", 0));
  }
  double tolerance() const { return onnx_tolerance(onnx_dtype(case_, "Q")); }

 private:
  static TensorShape shape_of(const OnnxTensor<T>& t) {
    return {.batch = t.size(0), .tokens = t.size(2), .heads = t.size(1), .dim = t.size(3)};
  }
  static TensorView<const T> heads_first_of(const OnnxTensor<T>& t) {
    return heads_first(t.values.data(), shape_of(t));
  }
  /// [batch, heads, tokens, dim], or [batch, tokens, heads * dim] with the attribute's heads.
  TensorView<const T> view_of(const OnnxTensor<T>& t, const char* heads_attribute) const {
    if (t.shape.size() == 4) return heads_first_of(t);
    const Index heads = case_.attributes.at(heads_attribute);
    return {t.values.data(), {t.size(0), t.size(1), heads, t.size(2) / heads}};
  }
  DenseMask mask() const {
    return {dense<bool>(onnx_tensors().values<bool>(case_.inputs.at("attn_mask")).data())};
  }
  AdditiveBias<T> bias() const { return {dense<T>(bias_.values.data())}; }
  /// attn_mask of rank 2, 3 or 4 as [batch | 1, num_heads | 1, q_len, kv_len].
  template <typename M>
  DenseView<M> dense(const M* data) const {
    const auto& shape = onnx_tensors().shape(case_.inputs.at("attn_mask"));
    const std::size_t rank = shape.size();
    return {data,
            {.batch = rank == 4 ? shape[0] : 1,
             .num_heads = rank >= 3 ? shape[rank - 3] : 1,
             .q_len = shape[rank - 2],
             .kv_len = shape[rank - 1]}};
  }

  OnnxCase case_;
  OnnxTensor<T> q_, k_, v_, past_k_, past_v_;
  std::vector<std::int64_t> nonpad_;
  OnnxTensor<T> scores_;
  OnnxTensor<T> bias_;  // attn_mask, if it holds numbers
};

}  // namespace gqa::test
