// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Translation units compiled with different -march in one program: each runs its own code, and any
// of them reads a cache that any other has filled.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "unit.hpp"

namespace {

using unit::Cache;
using unit::Unit;

constexpr gqa::Index kv_len = 100, num_heads = 6, num_kv_heads = 2, head_dim = 40;

std::vector<const Unit*> units_that_run_here() {
  std::vector<const Unit*> units;
  for (const Unit* u : {&unit::baseline, &unit::avx2, &unit::native, &unit::again}) {
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
  const std::unique_ptr<Cache, void (*)(Cache*)> cache(
      writer.make(gqa::Heads<>(num_heads, num_kv_heads, head_dim)), writer.destroy);
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

TEST(Units, EachRunsCodeForItsOwnInstructionSet) {
  EXPECT_STREQ(unit::baseline.isa(), "generic");
  EXPECT_STREQ(unit::avx2.isa(), "avx2");
  EXPECT_STREQ(unit::native.isa(), unit::again.isa());
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
  const Tensors t;
  const std::vector<float> a = decode(unit::native, unit::native, t);
  const std::vector<float> b = decode(unit::again, unit::again, t);
  EXPECT_EQ(std::memcmp(a.data(), b.data(), a.size() * sizeof(float)), 0);
}

}  // namespace
