// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// All 76 Attention cases of ONNX, every output of each: through the reference, and through attend()
// from a cache and, where the case has no past, from plain tensors.
#include "onnx_attention.hpp"

namespace gqa::test {
namespace {

class OnnxAttentionTest : public testing::TestWithParam<OnnxCase> {
 protected:
  /// Calls fn(attention) with the case in its own type.
  template <typename F>
  static void in_its_type(F fn) {
    if (onnx_dtype(GetParam(), "Q") == examples::DType::f16) {
      fn(OnnxAttention<half>(GetParam()));
    } else {
      ASSERT_EQ(onnx_dtype(GetParam(), "Q"), examples::DType::f32);
      fn(OnnxAttention<float>(GetParam()));
    }
  }
};

TEST_P(OnnxAttentionTest, PresentIsWhatTheCacheHolds) {
  in_its_type([](const auto& node) { node.expect_present(node.cache()); });
}

TEST_P(OnnxAttentionTest, ReferenceGivesYAndQkMatmulOutput) {
  in_its_type([](const auto& node) {
    const auto cache = node.cache();
    const auto positions = node.positions();
    auto out = node.output();
    std::vector<double> scores(node.scores().size());
    ReferenceOptions<float> options;
    options.positions = positions;
    if (!scores.empty()) options.scores = scores.data();
    options.stage = node.stage();
    reference(node.q(), cache, out.view, node.rules(), options);
    node.expect_output(out.values, "reference");
    expect_near(scores, node.scores(), node.tolerance(), "qk_matmul_output");
  });
}

TEST_P(OnnxAttentionTest, AttendGivesY) {
  in_its_type([](const auto& node) {
    const auto cache = node.cache();
    const auto positions = node.positions();
    auto out = node.output();
    attend(node.q(), cache, out.view, node.rules(), {.positions = positions});
    node.expect_output(out.values, "attend from a cache");
  });
}

TEST_P(OnnxAttentionTest, AttendGivesYFromPlainTensors) {
  if (onnx_dtype(GetParam(), "Q") != examples::DType::f32) {
    return;  // half goes through the cache only, to spare compilers
  }
  const OnnxAttention<float> node(GetParam());
  if (node.past() > 0) return;  // its keys lie in two tensors, which is what a cache is for
  std::vector<Index> lengths;
  for (Index b = 0; b < node.q().batch(); ++b) lengths.push_back(node.fresh(b));
  auto out = node.output();
  attend(node.q(), rows_kv(node.k(), node.v(), lengths), out.view, node.rules());
  node.expect_output(out.values, "attend from plain tensors");
}

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(OnnxAttentionTest);
INSTANTIATE_TEST_SUITE_P(Onnx, OnnxAttentionTest, testing::ValuesIn(onnx_cases("Attention")),
                         onnx_name);

}  // namespace
}  // namespace gqa::test
