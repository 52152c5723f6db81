// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// attend_file, run as a program: each option against attention written down here once more, from
// the formula and without the library.

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
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
using test::run_program;
using test::TemporaryFolder;

using Shape = std::vector<std::int64_t>;
constexpr double infinity = std::numeric_limits<double>::infinity();

// batch 2, q_len 5, kv_len 9, num_heads 6, num_kv_heads 2, head_dim 8, value_dim 4
constexpr std::int64_t B = 2, Q = 5, K = 9, H = 6, KH = 2, D = 8, V = 4;

std::vector<float> random_values(std::int64_t size, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<std::size_t>(size));
  for (float& x : values) x = normal(random);
  return values;
}

/// What becomes of the score s of query i of sequence b and head h at position p, for key j. -inf
/// hides it.
using Score = std::function<double(double s, std::int64_t b, std::int64_t h, std::int64_t i,
                                   std::int64_t j, std::int64_t p)>;

class AttendFile : public testing::Test {
 protected:
  AttendFile() {
    writer.add("q", {B, Q, H, D}, q);
    writer.add("k", {B, K, KH, D}, k);
    writer.add("v", {B, K, KH, V}, v);
  }

  ProgramResult run(std::vector<std::string> options) {
    writer.write(in);
    options.insert(options.begin(), {in.string(), out.string()});
    return run_program(GQA_PROGRAM_example_attend_file, options);
  }

  /// Runs the program, tiled and reference, and compares out and lse with softmax(score(s)) v,
  /// s = q·k / sqrt(8); a sink logit per head joins the sum.
  void expect_attention(const std::vector<std::string>& options, const Score& score,
                        const std::vector<double>& sinks = std::vector<double>(H, -infinity),
                        double tolerance = 3e-6) {
    for (const std::string kernel : {"tiled", "reference"}) {
      SCOPED_TRACE(kernel);
      std::vector<std::string> all = {"--kernel", kernel};
      all.insert(all.end(), options.begin(), options.end());
      const ProgramResult result = run(all);
      ASSERT_EQ(result.status, 0) << result.err;
      EXPECT_EQ(result.out + result.err, "");
      const SafeTensors file(out);
      ASSERT_EQ(file.shape("out"), (Shape{B, Q, H, V}));
      ASSERT_EQ(file.shape("lse"), (Shape{B, H, Q}));
      expect_rows(file.to_double("out"), file.to_double("lse"), score, sinks, tolerance);
    }
  }

  void expect_rows(const std::vector<double>& actual, const std::vector<double>& lse,
                   const Score& score, const std::vector<double>& sinks, double tolerance) {
    const auto at = [](std::int64_t index) { return static_cast<std::size_t>(index); };
    for (std::int64_t b = 0; b < B; ++b) {
      for (std::int64_t i = 0; i < Q; ++i) {
        for (std::int64_t h = 0; h < H; ++h) {
          double sum = std::exp(sinks[at(h)]);
          std::vector<double> expected(V, 0.0);
          for (std::int64_t j = 0; j < K; ++j) {
            double s = 0;
            for (std::int64_t d = 0; d < D; ++d) {
              s += double(q[at(((b * Q + i) * H + h) * D + d)]) *
                   double(k[at(((b * K + j) * KH + h / (H / KH)) * D + d)]);
            }
            const double weight = std::exp(score(s / std::sqrt(8.0), b, h, i, j, K - Q + i));
            sum += weight;
            for (std::int64_t c = 0; c < V; ++c) {
              expected[at(c)] += weight * double(v[at(((b * K + j) * KH + h / (H / KH)) * V + c)]);
            }
          }
          for (std::int64_t c = 0; c < V; ++c) {
            ASSERT_NEAR(actual[at(((b * Q + i) * H + h) * V + c)],
                        sum == 0 ? 0 : expected[at(c)] / sum, tolerance)
                << "b " << b << " i " << i << " h " << h << " c " << c;
          }
          if (sum == 0) {
            ASSERT_EQ(lse[at((b * H + h) * Q + i)], -infinity);
          } else {
            ASSERT_NEAR(lse[at((b * H + h) * Q + i)], std::log(sum), tolerance);
          }
        }
      }
    }
  }

  TemporaryFolder folder;
  std::filesystem::path in = folder.path() / "in.safetensors";
  std::filesystem::path out = folder.path() / "out.safetensors";
  std::vector<float> q = random_values(B * Q * H * D, 1);
  std::vector<float> k = random_values(B * K * KH * D, 2);
  std::vector<float> v = random_values(B * K * KH * V, 3);
  SafeTensorsWriter writer;
};

// Parameters of Score that a rule doesn't look at.
using I = std::int64_t;

TEST_F(AttendFile, WithoutOptionsEveryQuerySeesEveryKey) {
  expect_attention({}, [](double s, I, I, I, I, I) { return s; });
}

TEST_F(AttendFile, Causal) {
  expect_attention({"--causal"},
                   [](double s, I, I, I, I j, I p) { return j <= p ? s : -infinity; });
  expect_attention({"--causal-top-left"},
                   [](double s, I, I, I i, I j, I) { return j <= i ? s : -infinity; });
}

TEST_F(AttendFile, Windows) {
  expect_attention({"--causal", "--hf-window", "3"},
                   [](double s, I, I, I, I j, I p) { return j <= p && j > p - 3 ? s : -infinity; });
  expect_attention({"--window-left", "2", "--window-right", "1"}, [](double s, I, I, I, I j, I p) {
    return j >= p - 2 && j <= p + 1 ? s : -infinity;
  });
  expect_attention({"--window-left", "2"},
                   [](double s, I, I, I, I j, I p) { return j >= p - 2 ? s : -infinity; });
  expect_attention(
      {"--causal", "--hf-window", "2", "--keep-first", "1"},
      [](double s, I, I, I, I j, I p) { return j <= p && (j > p - 2 || j < 1) ? s : -infinity; });
}

TEST_F(AttendFile, PrefixLm) {
  expect_attention({"--prefix-lm", "7"},
                   [](double s, I, I, I, I j, I p) { return j < 7 || j <= p ? s : -infinity; });
  writer.add<std::int64_t>("prefix_lens", {B}, {7, 0});
  expect_attention({}, [](double s, I b, I, I, I j, I p) {
    return j < (b == 0 ? 7 : 0) || j <= p ? s : -infinity;
  });
}

TEST_F(AttendFile, DocumentsIncludingAQueryWithoutAny) {
  const std::vector<std::int32_t> q_ids = {1, 1, 2, 2, 9, 4, 4, 4, 4, 4};
  const std::vector<std::int32_t> k_ids = {1, 1, 1, 2, 2, 2, 2, 3, 3, 4, 5, 4, 5, 4, 5, 4, 5, 4};
  writer.add("q_documents", {B, Q}, q_ids);
  writer.add("kv_documents", {B, K}, k_ids);
  expect_attention({}, [&](double s, I b, I, I i, I j, I) {
    return q_ids[static_cast<std::size_t>(b * Q + i)] == k_ids[static_cast<std::size_t>(b * K + j)]
               ? s
               : -infinity;
  });
}

TEST_F(AttendFile, DenseMasksOfEachShape) {
  std::vector<std::uint8_t> bits;
  std::mt19937 random(4);
  for (std::int64_t i = 0; i < B * H * Q * K; ++i) bits.push_back(random() % 3 != 0);
  const auto mask = std::make_unique<bool[]>(bits.size());
  std::copy(bits.begin(), bits.end(), mask.get());
  const auto with = [&](const Shape& shape, std::size_t size, const Score& score) {
    SCOPED_TRACE(to_string(shape));
    SafeTensorsWriter fresh;
    fresh.add("q", {B, Q, H, D}, q);
    fresh.add("k", {B, K, KH, D}, k);
    fresh.add("v", {B, K, KH, V}, v);
    fresh.add("mask", shape, std::span<const bool>(mask.get(), size));
    writer = std::move(fresh);
    expect_attention({}, score);
  };
  const auto at = [&](I index) { return mask[static_cast<std::size_t>(index)]; };
  with({B, H, Q, K}, B * H * Q * K, [&](double s, I b, I h, I i, I j, I) {
    return at(((b * H + h) * Q + i) * K + j) ? s : -infinity;
  });
  with({1, H, 1, K}, H * K,
       [&](double s, I, I h, I, I j, I) { return at(h * K + j) ? s : -infinity; });
  with({Q, K}, Q * K, [&](double s, I, I, I i, I j, I) { return at(i * K + j) ? s : -infinity; });
  with({B, 1, Q, 6}, B * Q * 6, [&](double s, I b, I, I i, I j, I) {
    return j < 6 && at((b * Q + i) * 6 + j) ? s : -infinity;
  });
}

TEST_F(AttendFile, ScaleSoftCapAndAlibi) {
  expect_attention({"--scale", "0.5"},
                   [](double s, I, I, I, I, I) { return s * std::sqrt(8.0) * 0.5; });
  expect_attention({"--soft-cap", "2"},
                   [](double s, I, I, I, I, I) { return 2 * std::tanh(s / 2); });
  // 6 heads: the slopes of 4, then every other one of 8
  const std::vector<double> slopes = {0.25, 0.0625, 1.0 / 64, 1.0 / 256, 0.5, 0.125};
  expect_attention({"--alibi", "--causal"}, [&](double s, I, I h, I, I j, I p) {
    return j <= p ? s + slopes[static_cast<std::size_t>(h)] * double(j - p) : -infinity;
  });
  writer.add<float>("alibi_slopes", {H}, {0.5F, 0.25F, 1, 2, 0.125F, 0});
  const std::vector<double> given = {0.5, 0.25, 1, 2, 0.125, 0};
  expect_attention({}, [&](double s, I, I h, I, I j, I p) {
    return s + given[static_cast<std::size_t>(h)] * double(j - p);
  });
}

TEST_F(AttendFile, RelativeBias) {
  // 8 buckets: one-sided 0 … 3 exact, then logarithmic to 8; two-sided 0, 1 exact of 4 each
  const std::vector<float> table = random_values(8 * H, 5);
  writer.add("relative_bias", {8, H}, table);
  const auto bias = [&](I bucket, I h) {
    return double(table[static_cast<std::size_t>(bucket * H + h)]);
  };
  const std::vector<I> causal = {0, 1, 2, 3, 4, 5, 6, 7, 7};  // of p - j: 4 + 4 log(n/4) / log 2
  expect_attention({"--relative-bias", "causal", "--max-distance", "8", "--causal"},
                   [&](double s, I, I h, I, I j, I p) {
                     if (j > p) return -infinity;
                     return s + bias(causal[static_cast<std::size_t>(p - j)], h);
                   });
  const std::vector<I> both = {0, 1, 2, 2, 3, 3, 3, 3, 3};  // of |p - j|: 2 + 2 log(n/2) / log 4
  expect_attention({"--max-distance", "8"}, [&](double s, I, I h, I, I j, I p) {
    const I bucket = both[static_cast<std::size_t>(std::abs(p - j))] + (j > p ? 4 : 0);
    return s + bias(bucket, h);
  });
}

TEST_F(AttendFile, AdditiveBiasAndSinks) {
  std::vector<float> bias = random_values(H * Q * K, 6);
  for (std::size_t i = 0; i < bias.size(); i += 4)
    bias[i] = -std::numeric_limits<float>::infinity();
  writer.add("bias", {1, H, Q, K}, bias);
  const Score score = [&](double s, I, I h, I i, I j, I) {
    return s + double(bias[static_cast<std::size_t>((h * Q + i) * K + j)]);
  };
  expect_attention({}, score);
  writer.add<float>("sinks", {H}, {0, 1, -2, 3, 0.5F, 9});
  expect_attention({}, score, {0, 1, -2, 3, 0.5, 9});
}

TEST_F(AttendFile, PositionsAndLengths) {
  const std::vector<std::int64_t> positions = {0, 3, 2, 8, 1};
  writer.add("positions", {Q}, positions);
  expect_attention({"--causal"}, [&](double s, I, I, I i, I j, I) {
    return j <= positions[static_cast<std::size_t>(i)] ? s : -infinity;
  });
  writer.add<std::int32_t>("kv_lens", {B}, {9, 4});
  expect_attention({"--causal"}, [&](double s, I b, I, I i, I j, I) {
    return j <= positions[static_cast<std::size_t>(i)] && j < (b == 0 ? 9 : 4) ? s : -infinity;
  });
  writer.add<std::int32_t>("q_lens", {B}, {2, 5});  // rows behind them see nothing
  expect_attention({}, [&](double s, I b, I, I i, I j, I) {
    return i < (b == 0 ? 2 : 5) && j < (b == 0 ? 9 : 4) ? s : -infinity;
  });
}

TEST_F(AttendFile, AllRulesTogether) {
  expect_attention({"--causal", "--hf-window", "4", "--keep-first", "2", "--soft-cap", "3",
                    "--alibi", "--scale", "0.3", "--threads", "3"},
                   [](double s, I, I h, I, I j, I p) {
                     const double slopes[] = {0.25, 0.0625, 1.0 / 64, 1.0 / 256, 0.5, 0.125};
                     if (j > p || (j <= p - 4 && j >= 2)) return -infinity;
                     return 3 * std::tanh(s * std::sqrt(8.0) * 0.3 / 3) + slopes[h] * double(j - p);
                   });
}

double largest(const std::vector<float>& x) {
  double result = 0;
  for (const float value : x) result = std::max(result, std::abs(double{value}));
  return result;
}

TEST_F(AttendFile, StorageTypesRoundKeysAndValues) {
  const auto causal = [](double s, I, I, I, I j, I p) { return j <= p ? s : -infinity; };
  const std::vector<float> exact_k = k, exact_v = v;
  for (std::size_t i = 0; i < k.size(); ++i) k[i] = static_cast<float>(Eigen::bfloat16(k[i]));
  for (std::size_t i = 0; i < v.size(); ++i) v[i] = static_cast<float>(Eigen::bfloat16(v[i]));
  // Where the machine multiplies bfloat16, queries and weights are rounded to it, too: 2^-8 of each
  // product in a score, of which there are 8, and of each weight.
  const double largest_q = largest(q), largest_k = largest(k), largest_v = largest(v);
  expect_attention({"--causal", "--kv-dtype", "bf16"}, causal, std::vector<double>(H, -infinity),
                   0x1p-8 * (std::sqrt(8.0) * largest_q * largest_k + 2) * largest_v);
  for (std::size_t i = 0; i < k.size(); ++i) k[i] = static_cast<float>(Eigen::half(exact_k[i]));
  for (std::size_t i = 0; i < v.size(); ++i) v[i] = static_cast<float>(Eigen::half(exact_v[i]));
  expect_attention({"--causal", "--kv-dtype", "f16"}, causal);
}

TEST_F(AttendFile, DoubleIsComputedInDouble) {
  SafeTensorsWriter doubles;
  doubles.add("q", {B, Q, H, D}, std::vector<double>(q.begin(), q.end()));
  doubles.add("k", {B, K, KH, D}, std::vector<double>(k.begin(), k.end()));
  doubles.add("v", {B, K, KH, V}, std::vector<double>(v.begin(), v.end()));
  writer = std::move(doubles);
  expect_attention(
      {}, [](double s, I, I, I, I, I) { return s; }, std::vector<double>(H, -infinity), 1e-13);
  EXPECT_EQ(SafeTensors(out).tensor("out").dtype, DType::f64);
}

TEST_F(AttendFile, HeadsFirstIsTheSameWithAxesSwapped) {
  const auto swapped = [](const std::vector<float>& x, I tokens, I heads, I dim) {
    std::vector<float> y(x.size());
    for (I b = 0; b < B; ++b) {
      for (I t = 0; t < tokens; ++t) {
        for (I h = 0; h < heads; ++h) {
          std::copy_n(x.begin() + ((b * tokens + t) * heads + h) * dim, dim,
                      y.begin() + ((b * heads + h) * tokens + t) * dim);
        }
      }
    }
    return y;
  };
  ASSERT_EQ(run({"--causal"}).status, 0);
  const std::vector<float> expected = SafeTensors(out).to_float("out");
  SafeTensorsWriter other;
  other.add("q", {B, H, Q, D}, swapped(q, Q, H, D));
  other.add("k", {B, KH, K, D}, swapped(k, K, KH, D));
  other.add("v", {B, KH, K, V}, swapped(v, K, KH, V));
  writer = std::move(other);
  ASSERT_EQ(run({"--causal", "--layout", "heads-first"}).status, 0);
  const SafeTensors file(out);
  EXPECT_EQ(file.shape("out"), (Shape{B, H, Q, V}));
  EXPECT_EQ(file.to_float("out"), swapped(expected, Q, H, V));
}

TEST_F(AttendFile, OneSequenceNeedsNoBatchDimension) {
  ASSERT_EQ(run({"--causal"}).status, 0);
  const std::vector<float> both = SafeTensors(out).to_float("out");
  SafeTensorsWriter one;
  const auto first = [](std::vector<float> x) { return x.resize(x.size() / 2), x; };
  one.add("q", {Q, H, D}, first(q));
  one.add("k", {K, KH, D}, first(k));
  one.add("v", {K, KH, V}, first(v));
  writer = std::move(one);
  ASSERT_EQ(run({"--causal", "--kernel", "reference", "--scores", "softmax"}).status, 0);
  const SafeTensors file(out);
  EXPECT_EQ(file.shape("out"), (Shape{Q, H, V}));
  EXPECT_EQ(file.shape("lse"), (Shape{H, Q}));
  EXPECT_EQ(file.shape("scores"), (Shape{H, Q, K}));
  const std::vector<float> alone = file.to_float("out");
  for (std::size_t i = 0; i < alone.size(); ++i) ASSERT_NEAR(alone[i], both[i], 3e-6);
}

TEST_F(AttendFile, ScoresOfEachStage) {
  const std::vector<std::string> rules = {"--causal", "--soft-cap", "2", "--alibi"};
  const double slopes[] = {0.25, 0.0625, 1.0 / 64, 1.0 / 256, 0.5, 0.125};
  for (const std::string stage : {"scaled", "capped", "biased", "softmax"}) {
    SCOPED_TRACE(stage);
    std::vector<std::string> options = {"--kernel", "reference", "--scores", stage};
    options.insert(options.end(), rules.begin(), rules.end());
    const ProgramResult result = run(options);
    ASSERT_EQ(result.status, 0) << result.err;
    const SafeTensors file(out);
    ASSERT_EQ(file.shape("scores"), (Shape{B, H, Q, K}));
    const std::vector<double> scores = file.to_double("scores"), lse = file.to_double("lse");
    for (I row = 0; row < B * H * Q; ++row) {
      const I b = row / (H * Q), h = row / Q % H, i = row % Q, p = K - Q + i;
      for (I j = 0; j < K; ++j) {
        double s = 0;
        for (I d = 0; d < D; ++d) {
          s += double(q[static_cast<std::size_t>(((b * Q + i) * H + h) * D + d)]) *
               double(k[static_cast<std::size_t>(((b * K + j) * KH + h / 3) * D + d)]);
        }
        s /= std::sqrt(8.0);
        if (stage != "scaled") s = 2 * std::tanh(s / 2);
        if (stage == "biased" || stage == "softmax") {
          s = j <= p ? s + slopes[h] * double(j - p) : -infinity;
        }
        if (stage == "softmax") s = std::exp(s - lse[static_cast<std::size_t>(row)]);
        const double actual = scores[static_cast<std::size_t>(row * K + j)];
        if (s == -infinity) {
          ASSERT_EQ(actual, s);
        } else {
          ASSERT_NEAR(actual, s, 1e-6) << "row " << row << " key " << j;
        }
      }
    }
  }
}

TEST_F(AttendFile, ThreadsDoNotChangeABit) {
  ASSERT_EQ(run({"--causal"}).status, 0);
  const std::string one = test::read_bytes(out);
  for (const std::string threads : {"2", "3", "8"}) {
    ASSERT_EQ(run({"--causal", "--threads", threads}).status, 0);
    EXPECT_EQ(test::read_bytes(out), one) << threads;
  }
}

TEST_F(AttendFile, SaysWhichTensorsItDidNotRead) {
  writer.add<float>("masks", {1}, {0});
  const ProgramResult result = run({});
  EXPECT_EQ(result.status, 0);
  EXPECT_NE(result.err.find("\"masks\" has no meaning here"), std::string::npos) << result.err;
}

TEST_F(AttendFile, RefusesBadArguments) {
  expect_refusal(run_program(GQA_PROGRAM_example_attend_file, {}), {"IN is required"});
  expect_refusal(run_program(GQA_PROGRAM_example_attend_file, {"a"}), {"OUT is required"});
  expect_refusal(run({"--no-such-option"}), {"--no-such-option"});
  expect_refusal(run({"--hf-window", "0"}), {"--hf-window"});
  expect_refusal(run({"--hf-window", "3", "--window-left", "2"}), {"--window-left"});
  expect_refusal(run({"--layout", "sideways"}), {"sideways"});
  expect_refusal(run({"--kv-dtype", "f8"}), {"f8"});
  expect_refusal(run({"--kv-dtype", "f64"}), {"q is F32", "f64"});
  expect_refusal(run({"--threads", "0"}), {"--threads"});
  expect_refusal(run({"--scale", "x"}), {"--scale"});
  expect_refusal(run({"--scores", "softmax"}), {"--scores needs --kernel reference"});
  EXPECT_FALSE(std::filesystem::exists(out));
  EXPECT_EQ(run_program(GQA_PROGRAM_example_attend_file, {"--help"}).status, 0);
}

TEST_F(AttendFile, RefusesBadTensors) {
  const auto refused = [&](const std::function<void(SafeTensorsWriter&)>& add,
                           std::initializer_list<std::string_view> parts) {
    SafeTensorsWriter fresh;
    add(fresh);
    writer = std::move(fresh);
    expect_refusal(run({}), parts);
    EXPECT_FALSE(std::filesystem::exists(out));
  };
  const auto base = [&](SafeTensorsWriter& w) {
    w.add("q", {B, Q, H, D}, q);
    w.add("k", {B, K, KH, D}, k);
    w.add("v", {B, K, KH, V}, v);
  };
  refused([](SafeTensorsWriter&) {}, {"no tensor named \"q\""});
  refused(
      [&](SafeTensorsWriter& w) {
        w.add("q", {B * Q, H * D}, q);
        w.add("k", {B, K, KH, D}, k);
        w.add("v", {B, K, KH, V}, v);
      },
      {"\"q\" is [10, 48]"});
  refused(
      [&](SafeTensorsWriter& w) {
        w.add("q", {B, Q, H, D}, q);
        w.add("k", {B, K, 4, D}, std::vector<float>(B * K * 4 * D));
        w.add("v", {B, K, 4, V}, std::vector<float>(B * K * 4 * V));
      },
      {"num_kv_heads 4", "num_heads 6"});
  refused(
      [&](SafeTensorsWriter& w) {
        w.add("q", {B, Q, H, D}, q);
        w.add("k", {B, K, 1, 16}, k);
        w.add("v", {B, K, 1, 8}, v);
      },
      {"q has head_dim 8, k has 16"});
  refused(
      [&](SafeTensorsWriter& w) {
        w.add("q", {B, Q, H, D}, q);
        w.add("k", {B, K, KH, D}, k);
        w.add("v", {B, 6, 3, 4}, v);
      },
      {"[2, 9, 2, 8]", "[2, 6, 3, 4]"});
  refused(
      [&](SafeTensorsWriter& w) {
        w.add("q", {1, B * Q, H, D}, q);
        w.add("k", {B, K, KH, D}, k);
        w.add("v", {B, K, KH, V}, v);
      },
      {"batch 1, 2 and 2"});
  refused(
      [&](SafeTensorsWriter& w) {
        base(w);
        w.add<float>("sinks", {5}, {0, 0, 0, 0, 0});
      },
      {"\"sinks\" is [5], expected [6]"});
  refused(
      [&](SafeTensorsWriter& w) {
        base(w);
        w.add<float>("mask", {1, 1}, {0});
      },
      {"\"mask\" (F32 [1, 1]) isn't BOOL"});
  refused(
      [&](SafeTensorsWriter& w) {
        base(w);
        w.add<float>("bias", {3, 9}, std::vector<float>(27));
      },
      {"q_len 3", "5"});
  refused(
      [&](SafeTensorsWriter& w) {
        base(w);
        w.add<float>("bias", {9}, std::vector<float>(9));
      },
      {"\"bias\" is [9]", "2 or 4 dimensions"});
  refused(
      [&](SafeTensorsWriter& w) {
        base(w);
        w.add<std::int64_t>("kv_lens", {2}, {9, 10});
      },
      {"count of 10", "[0, 9]"});
  refused(
      [&](SafeTensorsWriter& w) {
        base(w);
        w.add<std::int64_t>("q_lens", {2}, {-1, 5});
      },
      {"-1", "[0, 5]"});
  refused(
      [&](SafeTensorsWriter& w) {
        base(w);
        w.add<float>("positions", {5}, {0, 1, 2, 3, 4});
      },
      {"\"positions\"", "whole numbers"});
  refused(
      [&](SafeTensorsWriter& w) {
        base(w);
        w.add<std::int32_t>("q_documents", {B, Q}, std::vector<std::int32_t>(10));
      },
      {"q_documents and kv_documents come together"});
}

TEST_F(AttendFile, RefusesBrokenFiles) {
  expect_refusal(run_program(GQA_PROGRAM_example_attend_file, {"/no/such/file", out.string()}),
                 {"/no/such/file: byte 0"});
  const auto broken = folder.file("broken", std::string(8, '\xFF') + "{}");
  expect_refusal(run_program(GQA_PROGRAM_example_attend_file, {broken.string(), out.string()}),
                 {"broken: byte 0"});
  writer.write(in);
  expect_refusal(run_program(GQA_PROGRAM_example_attend_file, {in.string(), "/no/such/folder/out"}),
                 {"/no/such/folder/out: cannot write"});
}

TEST_F(AttendFile, AgreesWithTheLayersOfStories260K) {
  GQA_NEEDS_SHARED_DATA("stories260K/attention_io.safetensors");
  const auto path = test::shared_data("stories260K/attention_io.safetensors");
  for (const std::string kernel : {"tiled", "reference"}) {
    const ProgramResult result =
        run_program(GQA_PROGRAM_example_attend_file,
                    {path.string(), out.string(), "--causal", "--kernel", kernel});
    ASSERT_EQ(result.status, 0) << result.err;
    const std::vector<float> expected = SafeTensors(path).to_float("o");  // layers are the batch
    const std::vector<float> actual = SafeTensors(out).to_float("out");
    ASSERT_EQ(actual.size(), expected.size());
    for (std::size_t i = 0; i < actual.size(); ++i) ASSERT_NEAR(actual[i], expected[i], 1e-5) << i;
  }
}

}  // namespace
}  // namespace gqa::examples
