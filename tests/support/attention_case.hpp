// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// One case of the sweeps: sizes, masks, score rules, layouts, raggedness, positions, threads,
// numbers. Cases come from a pairwise covering design, so that every level of each of these meets
// every level of every other, and from a random generator.
#pragma once

#include "attention_check.hpp"
#include "pairwise.hpp"
#include "rule_choices.hpp"

namespace gqa::test {

/// Which types queries, keys and values, and outputs have.
enum class Types {
  f32,
  f64,
  f32_over_bf16,
  f32_over_f16,
  bf16,
  f16,
  bf16_over_f32_to_f16,
  f16_over_bf16_to_f32,
};
inline constexpr std::array type_names{
    "f32",  "f64", "f32 over bf16",        "f32 over f16",
    "bf16", "f16", "bf16 over f32 to f16", "f16 over bf16 to f32"};

enum class Ragged { none, keys, queries, both };
enum class Positions { by_default, shifted, any_order };
enum class Numbers { normal, large, many_zeros };
enum class SourceKind { cache, rows, rows_heads_first, rows_gaps, rows_fused };

struct AttentionCase {
  Index group = 1, num_kv_heads = 1, q_len = 1, kv_len = 1, head_dim = 8, value_dim = 8, batch = 1;
  Types types = Types::f32;
  MaskChoice mask = MaskChoice::none;
  ScoreChoice score = ScoreChoice::none;
  SourceKind source = SourceKind::cache;
  Layout q_layout = Layout::dense;
  Layout out_layout = Layout::dense;
  Ragged ragged = Ragged::none;
  Positions positions = Positions::by_default;
  Numbers numbers = Numbers::normal;
  Index threads = 1;
  bool own_scale = false;
  std::uint64_t seed = 1;

  AttentionShape shape() const {
    return {.batch = batch,
            .q_len = q_len,
            .kv_len = kv_len,
            .num_heads = group * num_kv_heads,
            .num_kv_heads = num_kv_heads,
            .head_dim = head_dim,
            .value_dim = value_dim};
  }
};

inline std::string to_string(const AttentionCase& c) {
  const auto name = [](const auto& names, auto i) { return names[static_cast<std::size_t>(i)]; };
  constexpr std::array sources{"cache", "rows", "rows heads_first", "rows with gaps", "rows fused"};
  constexpr std::array ragged{"none", "keys", "queries", "both"};
  constexpr std::array positions{"default", "shifted", "any order"};
  constexpr std::array numbers{"normal", "large", "many zeros"};
  return message("types ", name(type_names, c.types), ", batch ", c.batch, ", q_len ", c.q_len,
                 ", kv_len ", c.kv_len, ", group ", c.group, ", num_kv_heads ", c.num_kv_heads,
                 ", head_dim ", c.head_dim, ", value_dim ", c.value_dim, ", ",
                 name(mask_names, c.mask), ", ", name(score_names, c.score), ", source ",
                 name(sources, c.source), ", q ", c.q_layout, ", out ", c.out_layout, ", ragged ",
                 name(ragged, c.ragged), ", positions ", name(positions, c.positions), ", numbers ",
                 name(numbers, c.numbers), ", threads ", c.threads,
                 c.own_scale ? ", own scale" : "", ", seed ", c.seed);
}
inline void PrintTo(const AttentionCase& c, std::ostream* stream) { *stream << to_string(c); }

/// The levels of each factor.
struct CaseLevels {
  std::vector<Index> group{1, 2, 3, 5, 6, 7, 8, 12, 16, 32, 64};
  std::vector<Index> q_len{1, 2, 3, 4, 5, 6, 7, 8, 17, 65};
  std::vector<Index> kv_len{0, 1, 15, 16, 17, 63, 64, 65, 127, 128, 129, 577, 1100};
  std::vector<Index> head_dim{8, 16, 17, 33, 64, 80, 96, 112, 128, 192, 256};
  std::vector<Index> value_dim{0, 1, 8, 15, 16, 33, 48, 72, 128, 200};  // 0: head_dim
  std::vector<Index> num_kv_heads{1, 2, 3};
  std::vector<Index> batch{1, 2, 3};
  std::vector<Index> threads{1, 2, 5};

  /// The numbers of levels, in the order that make() reads them.
  Levels counts() const {
    return {std::ssize(group),      std::ssize(q_len),       std::ssize(kv_len),
            std::ssize(head_dim),   std::ssize(value_dim),   std::ssize(num_kv_heads),
            std::ssize(batch),      std::ssize(threads),     std::ssize(type_names),
            std::ssize(mask_names), std::ssize(score_names),
            /*source*/ 5,
            /*q_layout*/ 4,
            /*out_layout*/ 4,
            /*ragged*/ 4,
            /*positions*/ 3,
            /*numbers*/ 3,
            /*own_scale*/ 2};
  }
  AttentionCase make(const Levels& levels, std::uint64_t seed) const {
    auto level = levels.begin();
    const auto from = [&](const std::vector<Index>& values) {
      return values[static_cast<std::size_t>(*level++)];
    };
    AttentionCase c{.seed = seed};
    c.group = from(group);
    c.q_len = from(q_len);
    c.kv_len = from(kv_len);
    c.head_dim = from(head_dim);
    c.value_dim = from(value_dim);
    if (c.value_dim == 0) c.value_dim = c.head_dim;
    c.num_kv_heads = from(num_kv_heads);
    c.batch = from(batch);
    c.threads = from(threads);
    c.types = Types(*level++);
    c.mask = MaskChoice(*level++);
    c.score = ScoreChoice(*level++);
    c.source = SourceKind(*level++);
    c.q_layout = Layout(*level++);
    c.out_layout = Layout(*level++);
    c.ragged = Ragged(*level++);
    c.positions = Positions(*level++);
    c.numbers = Numbers(*level++);
    c.own_scale = *level++ != 0;
    return within_budget(c);
  }
  /// The reference takes its time: the largest cases lose heads and sequences.
  static AttentionCase within_budget(AttentionCase c) {
    const auto products = [&c] {
      return c.batch * c.num_kv_heads * c.group * c.q_len * c.kv_len * (c.head_dim + c.value_dim);
    };
    for (Index* size : {&c.batch, &c.num_kv_heads}) {
      while (*size > 1 && products() > 300'000'000) --*size;
    }
    return c;
  }
};

/// The design's cases of some types.
inline std::vector<AttentionCase> designed_cases(Types types) {
  const CaseLevels levels;
  std::vector<AttentionCase> cases;
  std::uint64_t seed = 0;
  for (const Levels& row : pairwise_design(levels.counts())) {
    const AttentionCase c = levels.make(row, ++seed);
    if (c.types == types) cases.push_back(c);
  }
  return cases;
}

/// Random cases: half of the sizes from the lists above, half anything.
inline std::vector<AttentionCase> random_cases(Types types, Index count) {
  const CaseLevels levels;
  Random random(run_seed() + static_cast<std::uint64_t>(types));
  std::vector<AttentionCase> cases;
  while (std::ssize(cases) < count) {
    Levels row;
    for (const Index n : levels.counts()) row.push_back(random.integer(0, n - 1));
    AttentionCase c = levels.make(row, random.bits());
    c.types = types;
    if (random.chance(0.5)) c.group = random.integer(1, 40);
    if (random.chance(0.5)) c.q_len = random.integer(1, 40);
    if (random.chance(0.5)) c.kv_len = random.integer(0, 700);
    if (random.chance(0.5)) c.head_dim = random.integer(1, 160);
    if (random.chance(0.5)) c.value_dim = random.integer(1, 160);
    if (random.chance(0.5)) c.score = ScoreChoice::none;
    cases.push_back(CaseLevels::within_budget(c));
  }
  return cases;
}

/// Queries, keys and values as a case says.
template <Scalar Query, Scalar Storage>
AttentionInput<Query, Storage> make_input(const AttentionCase& c, Random& random) {
  const Index heads = c.group * c.num_kv_heads;
  Layout kv_layout = Layout::dense;
  if (c.source == SourceKind::rows_heads_first) kv_layout = Layout::heads_first;
  if (c.source == SourceKind::rows_gaps) kv_layout = Layout::gaps;
  if (c.source == SourceKind::rows_fused) kv_layout = Layout::fused;

  // Scores are normal numbers, or reach 50 and beyond.
  const double deviation = c.numbers == Numbers::large ? 25 : 1;
  AttentionInput<Query, Storage> input{
      .q = random_tensor<Query>(random, {c.batch, c.q_len, heads, c.head_dim}, deviation,
                                c.q_layout),
      .k = random_tensor<Storage>(random, {c.batch, c.kv_len, c.num_kv_heads, c.head_dim}, 1,
                                  kv_layout),
      .v = random_tensor<Storage>(random, {c.batch, c.kv_len, c.num_kv_heads, c.value_dim}, 1,
                                  kv_layout)};
  if (c.numbers == Numbers::many_zeros) {
    input.k.for_each([&](Storage& x) { x = random.chance(0.7) ? Storage(0) : x; });
    input.v.for_each([&](Storage& x) { x = random.chance(0.7) ? Storage(0) : x; });
  }
  if (c.ragged == Ragged::keys || c.ragged == Ragged::both) {
    for (Index b = 0; b < c.batch; ++b) input.lengths.push_back(random.integer(0, c.kv_len));
    // What lies after a sequence's keys is none of its business.
    for (Index b = 0; b < c.batch; ++b) {
      for (Index j = input.length(b); j < c.kv_len; ++j) {
        for (Index h = 0; h < c.num_kv_heads; ++h) {
          input.k.fill_row(b, j, h, TestTensor<Storage>::nan);
          input.v.fill_row(b, j, h, TestTensor<Storage>::nan);
        }
      }
    }
  }
  if (c.ragged == Ragged::queries || c.ragged == Ragged::both) {
    for (Index b = 0; b < c.batch; ++b) input.q_lens.push_back(random.integer(0, c.q_len));
    for (Index b = 0; b < c.batch; ++b) {
      for (Index i = input.q_len(b); i < c.q_len; ++i) {
        for (Index h = 0; h < heads; ++h) input.q.fill_row(b, i, h, TestTensor<Query>::nan);
      }
    }
  }
  if (c.positions == Positions::shifted) {
    for (Index b = 0; b < c.batch; ++b) {
      const Index shift = random.integer(-20, c.kv_len + 20);
      for (Index i = 0; i < c.q_len; ++i) input.positions.push_back(shift + i);
    }
  } else if (c.positions == Positions::any_order) {
    for (Index i = 0; i < c.batch * c.q_len; ++i) {
      input.positions.push_back(random.integer(-5, c.kv_len + 5));
    }
  }
  return input;
}

/// Serial, or so many threads of a pool; one type, so that attend() is compiled once for both.
struct TestExecutor {
  Index threads = 1;

  Index concurrency() const { return threads; }
  template <typename F>
  void run(Index n, F&& fn) const {
    if (threads == 1) return Serial{}.run(n, fn);
    static Eigen::ThreadPool pool(2);
    EigenPool(pool, threads).run(n, fn);
  }
};

/// Runs a case through attend() and holds it to the reference. Returns the largest error in units
/// of tolerances. attend() is compiled for both layouts of keys and for rules with and without
/// scores; with `Brief`, for one of each, which is enough for types that differ only in how queries
/// are read and outputs written.
template <Scalar Query, Scalar Storage, Scalar Out, bool Brief = false>
double check_case(const AttentionCase& c) {
  Random random(c.seed);
  const auto input = make_input<Query, Storage>(c, random);
  RuleFactory factory(c.shape(), random);
  const double scale = c.own_scale ? 0.7 * factory.default_scale() : factory.default_scale();

  const auto check = [&](const auto& rules) {
    const Expected expected = expect_attention(input, rules);
    const TestExecutor executor{c.threads};
    if constexpr (!Brief) {
      if (c.source != SourceKind::cache) {
        return expect_close(attend_over<Out>(input, input.rows_kv(), rules, executor, c.out_layout),
                            expected, to_string(c));
      }
    }
    const auto cache = input.cache(static_cast<Index>(c.seed % 100));
    return expect_close(attend_over<Out>(input, cache, rules, executor, c.out_layout), expected,
                        to_string(c));
  };
  if constexpr (!Brief) {
    if (c.score == ScoreChoice::none) return check(factory.masks(scale, c.mask));
  }
  return check(factory.masks_and_scores(scale, c.mask, c.score));
}

}  // namespace gqa::test
