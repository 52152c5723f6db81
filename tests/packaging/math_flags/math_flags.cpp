// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Attention against its formula, in a program without GoogleTest, that compilers may take liberties
// with: sums in another order (-fassociative-math), reciprocals for quotients, more bits than a
// type has (x87). Everything must hold but the last bits: tolerances are those of any other build.
// See math_flags.sh.
#include <cmath>
#include <cstdio>
#include <gqa/gqa.hpp>
#include <random>
#include <vector>

namespace {

using gqa::Index;
using Tensor = Eigen::Tensor<float, 4, Eigen::RowMajor>;
using Lse = Eigen::Tensor<float, 3, Eigen::RowMajor>;

int failures = 0;

void expect_below(const char* what, double error, double limit) {
  if (error <= limit) return;  // NaN doesn't come here
  std::printf("%s: off by %.3g, more than %.3g\n", what, error, limit);
  ++failures;
}
void expect(const char* what, bool holds) {
  if (holds) return;
  std::printf("%s: no\n", what);
  ++failures;
}

void fill(Tensor& x, float size, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0, size);
  for (Index i = 0; i < x.size(); ++i) x.data()[i] = normal(generator);
}

double largest_difference(const Tensor& a, const Tensor& b) {
  double largest = 0;
  for (Index i = 0; i < a.size(); ++i) {
    const double difference = std::abs(double{a.data()[i]} - double{b.data()[i]});
    if (!(difference <= largest)) largest = difference;
  }
  return largest;
}

constexpr Index heads = 4, kv_heads = 2, dim = 40, window = 70;

/// Keys of the cache as they are kept, attended to by the formula; gqa::reference() is compiled
/// with the same flags, and must agree with it.
Tensor expected(const Tensor& q, const Tensor& k, const Tensor& v) {
  Tensor out(1, q.dimension(1), heads, dim);
  for (Index i = 0; i < q.dimension(1); ++i) {
    const Index pos = k.dimension(1) - q.dimension(1) + i;
    for (Index h = 0; h < heads; ++h) {
      double sum = 0, mean[dim] = {};
      for (Index j = std::max<Index>(0, pos - window + 1); j <= pos; ++j) {
        double score = 0;
        for (Index d = 0; d < dim; ++d) score += double{q(0, i, h, d)} * double{k(0, j, h / 2, d)};
        const double p = std::exp(score / std::sqrt(double{dim}));
        sum += p;
        for (Index d = 0; d < dim; ++d) mean[d] += p * double{v(0, j, h / 2, d)};
      }
      for (Index d = 0; d < dim; ++d) out(0, i, h, d) = static_cast<float>(mean[d] / sum);
    }
  }
  return out;
}

template <typename Storage>
void check_attention(double tolerance) {
  const char* name = gqa::scalar_name<Storage>();
  for (const Index q_len : {Index{1}, Index{37}}) {
    const Index kv_len = 211;
    gqa::KvCache<Storage> cache(
        {.batch = 1, .capacity = kv_len, .heads = gqa::Heads<>(heads, kv_heads, dim)});
    Tensor q(1, q_len, heads, dim), k(1, kv_len, kv_heads, dim), v(1, kv_len, kv_heads, dim);
    fill(q, 2, 1), fill(k, 1, 2), fill(v, 1, 3);
    cache.append(k, v);
    Tensor kept_k(1, kv_len, kv_heads, dim), kept_v(1, kv_len, kv_heads, dim);
    cache.read(0, kept_k, kept_v);

    Tensor out(1, q_len, heads, dim), definition(1, q_len, heads, dim);
    const auto rules = gqa::Causal{} & gqa::SlidingWindow::from_hf(window);
    gqa::attend(q, cache, out, rules);
    gqa::reference(q, cache, definition, rules);
    const Tensor right = expected(q, kept_k, kept_v);
    expect_below(name, largest_difference(definition, right), 1e-6);
    expect_below(name, largest_difference(out, right), tolerance);
  }
}

/// Integers are the nearest ones: less than half a step away.
template <typename Storage>
void check_quantize(int highest) {
  std::vector<float> row(133);
  std::mt19937 generator(10);
  std::normal_distribution<float> normal;
  for (float& x : row) x = normal(generator);
  const auto n = static_cast<Index>(row.size());
  const float scale = gqa::scale_of<Storage>(row.data(), n);
  gqa::quantize<Storage>(row.data(), n, scale, [&](Index i, std::int8_t integer) {
    const double x = double{row[static_cast<std::size_t>(i)]} / double{scale};
    const double bounded = std::min(std::max(x, -1.0 - highest), double(highest));
    expect_below("quantize", std::abs(bounded - double(integer)), 0.5 + 1e-4);
  });
}

/// Of Int4, the scale is chosen for the least error: the sums of all three must be right.
void check_int4_scale() {
  const float on_grid[] = {-8, 7, 3, 0};
  expect("int4_scale of whole numbers is 1", gqa::int4_scale(on_grid, 4) == 1.0f);
  std::vector<float> many_small(1000, 0.5f);
  many_small[0] = 4.5f;
  expect("int4_scale cuts off one large number for the sake of many small ones",
         gqa::int4_scale(many_small.data(), 1000) == 0.5f);
}

void check_hidden_and_empty() {
  // A row that sees nothing, and NaN where a row doesn't look.
  Tensor q(1, 3, 2, 8), k(1, 1, 1, 8), v(1, 1, 1, 8), out(1, 3, 2, 8);
  Lse lse(1, 2, 3);
  fill(q, 1, 4), fill(k, 1, 5), fill(v, 1, 6);
  gqa::attend(q, k, v, out, gqa::Causal{}, {.lse = lse});
  expect("a row that sees no key gives 0", out(0, 0, 0, 0) == 0.0f && out(0, 1, 1, 7) == 0.0f);
  expect("a row that sees no key has an lse of -inf", std::isinf(lse(0, 0, 0)) && lse(0, 0, 0) < 0);
  expect_below("a row that sees one key gives its value",
               std::abs(double{out(0, 2, 0, 3)} - double{v(0, 0, 0, 3)}), 1e-6);

  Tensor keys(1, 70, 1, 8), values(1, 70, 1, 8), one(1, 1, 1, 8), result(1, 1, 1, 8);
  fill(keys, 1, 7), fill(values, 1, 8), fill(one, 1, 9);
  for (Index d = 0; d < 8; ++d) {
    keys(0, 3, 0, d) = values(0, 3, 0, d) = std::numeric_limits<float>::quiet_NaN();
  }
  gqa::attend(one, keys, values, result, gqa::Causal{} & gqa::SlidingWindow::from_hf(9));
  expect("a hidden NaN isn't seen", std::isfinite(result(0, 0, 0, 0)));
  gqa::attend(one, keys, values, result, gqa::Causal{});
  expect("a visible NaN is", std::isnan(result(0, 0, 0, 0)));
}

template <typename T>
void check_exp2(double ulps) {
  const double eps = double{std::numeric_limits<T>::epsilon()};
  for (double x = -125.3; x < 127; x += 0.37) {
    volatile const T rounded = static_cast<T>(x);  // not to be kept as x
    const double right = std::exp2(double{rounded});
    expect_below("exp2", std::abs(double{gqa::simd::exp2(T(rounded))} / right - 1), ulps * eps);
  }
  constexpr T infinity = std::numeric_limits<T>::infinity();
  expect("exp2(-inf) is 0", gqa::simd::exp2(-infinity) == T(0));
  expect("exp2(inf) is inf", gqa::simd::exp2(infinity) == infinity);
  const T nan = gqa::simd::exp2(std::numeric_limits<T>::quiet_NaN());
  expect("exp2(NaN) is NaN", std::isnan(nan));
}

void check_conversion() {
  // Just beside the tie between two bfloat16: rounded to float on the way, it would be the tie.
  const double above = 1 + 0x1p-8 + 0x1p-40, below = 1 + 3 * 0x1p-8 - 0x1p-40;
  expect("a double just above a tie of bfloat16 is rounded up",
         float(gqa::convert<gqa::bfloat16>(above)) == 1 + 0x1p-7f);
  expect("a double just below a tie of bfloat16 is rounded down",
         float(gqa::convert<gqa::bfloat16>(below)) == 1 + 0x1p-7f);
}

}  // namespace

int main() {
#if defined(GQA_ISA_AVX2)
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return 77;  // skipped
#endif
  check_attention<float>(4e-6);
  check_attention<gqa::Int8>(0.05);
  check_quantize<gqa::Int8>(127);
  check_quantize<gqa::Int4>(7);
  check_int4_scale();
  check_hidden_and_empty();
  check_exp2<float>(2);
  check_exp2<double>(2);
  check_conversion();
  if (failures == 0) std::printf("%s: all holds\n", gqa::simd::isa_name);
  return failures == 0 ? 0 : 1;
}
