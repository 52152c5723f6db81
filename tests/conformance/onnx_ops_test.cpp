// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// ONNX's RotaryEmbedding, RMSNormalization and TensorScatter. The last one writes into a tensor at
// given tokens, which a cache does by truncate() and append().
#include <gqa/gqa.hpp>
#include <numeric>

#include "onnx_case.hpp"

namespace gqa::test {
namespace {

TEST(OnnxData, AllCasesAreThere) {
  GQA_NEEDS_SHARED_DATA("onnx/onnx_node_cases.json");
  EXPECT_EQ(onnx_cases("Attention").size(), 76u);
  EXPECT_EQ(onnx_cases("RotaryEmbedding").size(), 8u);
  EXPECT_EQ(onnx_cases("RMSNormalization").size(), 19u);
  EXPECT_EQ(onnx_cases("TensorScatter").size(), 3u);
}

// --- RotaryEmbedding -----------------------------------------------------------------------------

class OnnxRotaryEmbedding : public testing::TestWithParam<OnnxCase> {};

TEST_P(OnnxRotaryEmbedding, IsApplyRope) {
  const OnnxCase& c = GetParam();
  const auto x = onnx_input<float>(c, "input");
  const auto cos = onnx_input<float>(c, "cos_cache"), sin = onnx_input<float>(c, "sin_cache");
  const auto expected = onnx_output<float>(c, "output");
  std::vector<Index> positions;
  for (const auto position : onnx_input<std::int64_t>(c, "position_ids").values) {
    positions.push_back(position);
  }

  // [batch, heads, tokens, head_dim] or [batch, tokens, heads * head_dim]
  const bool flat = x.shape.size() == 3;
  const Index heads = flat ? c.attribute<Index>("num_heads", 0) : x.size(1);
  const TensorShape shape{.batch = x.size(0),
                          .tokens = flat ? x.size(1) : x.size(2),
                          .heads = heads,
                          .dim = flat ? x.size(2) / heads : x.size(3)};
  const auto view_of = [&](auto* data) {
    return flat ? TensorView(data, shape) : heads_first(data, shape);
  };

  // Without position_ids, the caches hold a row per token, [batch, tokens, rotary_dim / 2].
  if (positions.empty()) {
    ASSERT_EQ(cos.shape.size(), 3u);
    positions.resize(static_cast<std::size_t>(shape.batch * shape.tokens));
    std::iota(positions.begin(), positions.end(), Index{0});
  }
  const Index pairs = cos.shape.back();
  const Index rotary_dim = c.attribute<Index>("rotary_embedding_dim", 0);
  ASSERT_EQ(2 * pairs, rotary_dim == 0 ? shape.dim : rotary_dim);
  const auto table = RopeTable<float>::from_tables(
      cos.values.data(), sin.values.data(), std::ssize(cos.values) / pairs, 2 * pairs, shape.dim,
      c.attribute("interleaved", 0) != 0 ? RopeStyle::interleaved : RopeStyle::rotate_half);

  std::vector<float> y(x.values.size());
  apply_rope(table, view_of(x.values.data()), view_of(y.data()),
             RopePositions::each(positions, shape.tokens));
  expect_near(y, expected.values, onnx_tolerance(onnx_dtype(c, "input")), "out of place");
  std::vector<float> in_place = x.values;
  apply_rope(table, view_of(in_place.data()), RopePositions::each(positions, shape.tokens));
  expect_near(in_place, expected.values, onnx_tolerance(onnx_dtype(c, "input")), "in place");
}

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(OnnxRotaryEmbedding);
INSTANTIATE_TEST_SUITE_P(Onnx, OnnxRotaryEmbedding,
                         testing::ValuesIn(onnx_cases("RotaryEmbedding")), onnx_name);

// --- RMSNormalization ----------------------------------------------------------------------------

class OnnxRmsNormalization : public testing::TestWithParam<OnnxCase> {};

TEST_P(OnnxRmsNormalization, IsRmsNorm) {
  const OnnxCase& c = GetParam();
  const auto x = onnx_input<float>(c, "X"), weight = onnx_input<float>(c, "W");
  const auto expected = onnx_output<float>(c, "Y");

  // From `axis` on, all dimensions are one row.
  const auto rank = static_cast<Index>(x.shape.size());
  const Index axis = c.attribute<Index>("axis", -1);
  Index rows = 1;
  for (Index i = 0; i < (axis < 0 ? axis + rank : axis); ++i) {
    rows *= x.size(static_cast<std::size_t>(i));
  }
  const TensorShape shape{
      .batch = 1, .tokens = rows, .heads = 1, .dim = std::ssize(x.values) / rows};
  const double epsilon = c.attribute("epsilon", 1e-5);

  std::vector<float> y(x.values.size());
  rms_norm(TensorView<const float>(x.values.data(), shape), std::span(weight.values),
           TensorView<float>(y.data(), shape), epsilon);
  expect_near(y, expected.values, onnx_tolerance(onnx_dtype(c, "X")), "out of place");
  std::vector<float> in_place = x.values;
  const TensorView<float> view(in_place.data(), shape);
  rms_norm(view, std::span(weight.values), view, epsilon);
  expect_near(in_place, expected.values, onnx_tolerance(onnx_dtype(c, "X")), "in place");
}

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(OnnxRmsNormalization);
INSTANTIATE_TEST_SUITE_P(Onnx, OnnxRmsNormalization,
                         testing::ValuesIn(onnx_cases("RMSNormalization")), onnx_name);

// --- TensorScatter -------------------------------------------------------------------------------

/// A sequence's keys and values as dense [tokens, heads, dim]; the values are the keys negated, to
/// see that neither is mistaken for the other.
struct Rows {
  Rows(Index tokens, Index heads, Index dim)
      : shape{.batch = 1, .tokens = tokens, .heads = heads, .dim = dim},
        k(static_cast<std::size_t>(tokens * heads * dim)),
        v(k.size()) {}
  explicit Rows(TensorView<const float> from) : Rows(from.tokens(), from.heads(), from.dim()) {
    for (Index t = 0; t < from.tokens(); ++t) {
      for (Index h = 0; h < from.heads(); ++h) {
        for (Index i = 0; i < from.dim(); ++i) {
          const auto at = static_cast<std::size_t>((t * from.heads() + h) * from.dim() + i);
          k[at] = from.row(0, t, h)[i];
          v[at] = -k[at];
        }
      }
    }
  }
  TensorView<const float> keys(Index begin, Index count) const {
    return TensorView<const float>(k.data(), shape).tokens_slice(begin, count);
  }
  TensorView<const float> values(Index begin, Index count) const {
    return TensorView<const float>(v.data(), shape).tokens_slice(begin, count);
  }

  TensorShape shape;
  std::vector<float> k, v;
};

Rows read(const KvCache<float>& cache, Index sequence) {
  Rows rows(cache.length(sequence), cache.num_kv_heads(), cache.head_dim());
  cache.read(sequence, TensorView<float>(rows.k.data(), rows.shape),
             TensorView<float>(rows.v.data(), rows.shape));
  return rows;
}

/// Replaces token `at` of a sequence by token `from` of `update`; the tokens behind stay.
void overwrite(KvCache<float>& cache, Index sequence, Index at, const Rows& update, Index from) {
  const Rows before = read(cache, sequence);
  const Index behind = before.shape.tokens - at - 1;
  cache.truncate(sequence, at);
  cache.append(sequence, update.keys(from, 1), update.values(from, 1));
  cache.append(sequence, before.keys(at + 1, behind), before.values(at + 1, behind));
}

class OnnxTensorScatter : public testing::TestWithParam<OnnxCase> {};

TEST_P(OnnxTensorScatter, IsTruncateAndAppend) {
  const OnnxCase& c = GetParam();
  ASSERT_EQ(c.attribute("axis", -2), -2);
  // [batch, heads, tokens, dim], or [batch, tokens, dim] of one head
  const auto view_of = [](const OnnxTensor<float>& t) {
    const std::size_t rank = t.shape.size();
    return heads_first(t.values.data(), {.batch = t.size(0),
                                         .tokens = t.size(rank - 2),
                                         .heads = rank == 4 ? t.size(1) : 1,
                                         .dim = t.size(rank - 1)});
  };
  const auto past = onnx_input<float>(c, "past_cache"), update = onnx_input<float>(c, "update");
  const auto present = onnx_output<float>(c, "present_cache");
  const auto indices = onnx_input<std::int64_t>(c, "write_indices").values;
  const bool circular = c.attribute<std::string>("mode", "linear") == "circular";
  const TensorShape shape = view_of(past).shape();

  KvCache<float> cache({.batch = shape.batch,
                        .capacity = shape.tokens,
                        .heads = {shape.heads, shape.heads, shape.dim}});
  for (Index b = 0; b < shape.batch; ++b) {
    const Rows rows(view_of(past).sequence(b)), more(view_of(update).sequence(b));
    cache.append(b, rows.keys(0, shape.tokens), rows.values(0, shape.tokens));
    const Index first = indices.at(static_cast<std::size_t>(b));
    const Index n = more.shape.tokens;
    if (!circular) {
      // The common case, a decoder's: what was there from write_indices on is dropped, new tokens
      // take its place.
      cache.truncate(b, first);
      cache.append(b, more.keys(0, n), more.values(0, n));
      const Index behind = shape.tokens - first - n;
      cache.append(b, rows.keys(first + n, behind), rows.values(first + n, behind));
    } else {
      for (Index i = 0; i < n; ++i) overwrite(cache, b, (first + i) % shape.tokens, more, i);
    }
  }
  for (Index b = 0; b < shape.batch; ++b) {
    const Rows actual = read(cache, b), expected(view_of(present).sequence(b));
    expect_near(actual.k, expected.k, 0, "keys of sequence " + std::to_string(b));
    expect_near(actual.v, expected.v, 0, "values of sequence " + std::to_string(b));
  }
}

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(OnnxTensorScatter);
INSTANTIATE_TEST_SUITE_P(Onnx, OnnxTensorScatter, testing::ValuesIn(onnx_cases("TensorScatter")),
                         onnx_name);

}  // namespace
}  // namespace gqa::test
