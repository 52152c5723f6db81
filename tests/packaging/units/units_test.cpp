// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Translation units compiled with different -march in one program, linked in every order, on this
// machine and on emulated ones that lack some of their instructions: each runs its own code, and
// any of them reads a cache that any other has filled, and runs a layer that any other has made.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "unit.hpp"

namespace {

using unit::Cache;
using unit::head_dim;
using unit::hidden_size;
using unit::Layer;
using unit::num_heads;
using unit::num_kv_heads;
using unit::Unit;

constexpr gqa::Index kv_len = 100;

std::vector<const Unit*> units_that_run_here() {
  std::vector<const Unit*> units;
  for (const Unit* u : {&unit::baseline, &unit::avx2, &unit::avx512, &unit::native, &unit::again}) {
    if (u->runs_here()) units.push_back(u);
  }
  return units;
}

std::vector<float> random_numbers(gqa::Index n, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<std::size_t>(n));
  std::generate(x.begin(), x.end(), [&] { return normal(generator); });
  return x;
}

struct Tensors {
  std::vector<float> k = random_numbers(kv_len * num_kv_heads * head_dim, 1);
  std::vector<float> v = random_numbers(kv_len * num_kv_heads * head_dim, 2);
  std::vector<float> q = random_numbers(num_heads * head_dim, 3);
  gqa::TensorShape kv_shape{1, kv_len, num_kv_heads, head_dim};
  gqa::TensorShape q_shape{1, 1, num_heads, head_dim};
};

std::vector<float> decode(const Unit& writer, const Unit& reader, const Tensors& t) {
  const std::unique_ptr<Cache, void (*)(Cache*)> cache(writer.make_cache(), writer.destroy_cache);
  writer.append(*cache, {t.k.data(), t.kv_shape}, {t.v.data(), t.kv_shape});
  std::vector<float> out(t.q.size());
  reader.attend({t.q.data(), t.q_shape}, *cache, {out.data(), t.q_shape});
  return out;
}

/// Attention of the last token over all keys, in double, from the definition.
std::vector<double> expected(const Tensors& t) {
  std::vector<double> out(t.q.size(), 0.0);
  const auto at = [](gqa::Index i) { return static_cast<std::size_t>(i); };
  for (gqa::Index h = 0; h < num_heads; ++h) {
    const gqa::Index kv_head = h / (num_heads / num_kv_heads);
    double sum = 0;
    for (gqa::Index j = 0; j < kv_len; ++j) {
      const gqa::Index row = (j * num_kv_heads + kv_head) * head_dim;
      double score = 0;
      for (gqa::Index d = 0; d < head_dim; ++d) {
        score += double{t.q[at(h * head_dim + d)]} * double{t.k[at(row + d)]};
      }
      const double p = std::exp(score / std::sqrt(double{head_dim}));
      sum += p;
      for (gqa::Index d = 0; d < head_dim; ++d) {
        out[at(h * head_dim + d)] += p * double{t.v[at(row + d)]};
      }
    }
    for (gqa::Index d = 0; d < head_dim; ++d) out[at(h * head_dim + d)] /= sum;
  }
  return out;
}

/// A layer made by one unit and run by another: 20 tokens with a cache, one more, and all 21
/// without.
struct LayerResults {
  std::vector<float> cached, whole;
};
LayerResults run_layer(const Unit& maker, const Unit& runner) {
  constexpr gqa::Index kv_width = num_kv_heads * head_dim, tokens = 21;
  const std::vector<float> wq = random_numbers(hidden_size * hidden_size, 4);
  const std::vector<float> wk = random_numbers(kv_width * hidden_size, 5);
  const std::vector<float> wv = random_numbers(kv_width * hidden_size, 6);
  const std::vector<float> wo = random_numbers(hidden_size * hidden_size, 7);
  std::vector<float> x = random_numbers(tokens * hidden_size, 8);
  for (float& number : x) number *= 0.05f;  // scores of a size at which several keys matter
  const float* const weights[] = {wq.data(), wk.data(), wv.data(), wo.data()};
  const std::unique_ptr<Layer, void (*)(Layer*)> layer(maker.make_layer(weights),
                                                       maker.destroy_layer);
  const std::unique_ptr<Cache, void (*)(Cache*)> cache(maker.make_cache(), maker.destroy_cache);
  LayerResults y{std::vector<float>(x.size()), std::vector<float>(x.size())};
  const gqa::TensorShape prompt{1, tokens - 1, 1, hidden_size}, one{1, 1, 1, hidden_size};
  const gqa::Index last = (tokens - 1) * hidden_size;
  runner.forward(*layer, {x.data(), prompt}, {y.cached.data(), prompt}, cache.get());
  runner.forward(*layer, {x.data() + last, one}, {y.cached.data() + last, one}, cache.get());
  const gqa::TensorShape all{1, tokens, 1, hidden_size};
  runner.forward(*layer, {x.data(), all}, {y.whole.data(), all}, nullptr);
  return y;
}

TEST(Units, EachRunsCodeForItsOwnInstructionSet) {
  EXPECT_STREQ(unit::baseline.isa(), "generic");
  EXPECT_STREQ(unit::avx2.isa(), "avx2");
  EXPECT_STREQ(unit::avx512.isa(), "avx512");
  EXPECT_STREQ(unit::avx2.isa(), unit::again.isa());
}

/// An emulated processor is asked for with the number of units that it should be able to run.
TEST(Units, TheProcessorIsTheOneAskedFor) {
  const char* const expected = std::getenv("GQA_EXPECTED_UNITS");
  if (!expected) GTEST_SKIP() << "GQA_EXPECTED_UNITS is set where a processor is emulated";
  EXPECT_EQ(units_that_run_here().size(), std::strtoul(expected, nullptr, 10));
}

TEST(Units, EveryUnitReadsTheCacheOfEveryOtherCorrectly) {
  const Tensors t;
  const std::vector<double> right = expected(t);
  for (const Unit* writer : units_that_run_here()) {
    for (const Unit* reader : units_that_run_here()) {
      const std::vector<float> out = decode(*writer, *reader, t);
      for (std::size_t i = 0; i < out.size(); ++i) {
        ASSERT_NEAR(out[i], right[i], 2e-6) << "element " << i << ", cache filled for "
                                            << writer->isa() << ", read for " << reader->isa();
      }
    }
  }
}

TEST(Units, TheBitsDependOnTheReaderAloneNotOnWhoFilledTheCache) {
  const Tensors t;
  for (const Unit* reader : units_that_run_here()) {
    const std::vector<float> own = decode(*reader, *reader, t);
    for (const Unit* writer : units_that_run_here()) {
      const std::vector<float> other = decode(*writer, *reader, t);
      EXPECT_EQ(std::memcmp(own.data(), other.data(), own.size() * sizeof(float)), 0)
          << "cache filled for " << writer->isa() << ", read for " << reader->isa();
    }
  }
}

TEST(Units, TwoUnitsOfOneInstructionSetGiveTheSameBits) {
  if (!unit::again.runs_here()) GTEST_SKIP() << "this machine lacks AVX2";
  const Tensors t;
  const std::vector<float> a = decode(unit::avx2, unit::avx2, t);
  const std::vector<float> b = decode(unit::again, unit::again, t);
  EXPECT_EQ(std::memcmp(a.data(), b.data(), a.size() * sizeof(float)), 0);
}

TEST(Units, EveryUnitRunsTheLayerOfEveryOther) {
  const LayerResults right = run_layer(unit::baseline, unit::baseline);
  for (const Unit* maker : units_that_run_here()) {
    for (const Unit* runner : units_that_run_here()) {
      const LayerResults y = run_layer(*maker, *runner);
      for (std::size_t i = 0; i < y.whole.size(); ++i) {
        const float tolerance = 1e-5f * (10 + std::abs(right.whole[i]));
        ASSERT_NEAR(y.whole[i], right.whole[i], tolerance)
            << "element " << i << ", made for " << maker->isa() << ", run for " << runner->isa();
        ASSERT_NEAR(y.cached[i], right.whole[i], tolerance)
            << "element " << i << ", made for " << maker->isa() << ", run for " << runner->isa();
      }
    }
  }
}

}  // namespace
