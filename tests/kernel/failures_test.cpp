// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What attend() and attend_backward() leave behind where an executor fails or a user's mask, rule
// or source throws: nothing that was written, and no task that goes on.
#include <gtest/gtest.h>

#include <atomic>

#include "gqa/cache/paged.hpp"
#include "support/attention_case.hpp"
#include "support/errors.hpp"
#include "support/failing_executor.hpp"
#include "support/gradient_check.hpp"

namespace gqa::test {
namespace {

AttentionInput<float, float> make(const AttentionCase& c) {
  Random random(c.seed);
  return make_input<float, float>(c, random);
}

// --- executors ---

/// Fails every run of attend() over a source.
template <typename Source>
int fail_attend(const AttentionInput<float, float>& input, const Source& source) {
  const auto expected = attend_over(input, source, Causal{});
  const AttentionResult<float, float> before(input.out_shape());
  auto result = before;
  return fail_at_every_run([&] { result = before; },
                           [&](const FailingExecutor& executor) {
                             attend(input.q.view(), source, result.out.view(), Causal{},
                                    {.lse = result.lse_view(), .q_lens = input.q_lens}, executor);
                           },
                           [&] { return same_bits(result, before); },
                           [&] { return same_bits(result, expected); });
}

TEST(FailingExecutor, LeavesTheResultsOfAttendAsTheyWere) {
  for (const Index q_len : {1, 4, 130}) {
    auto input = make({.group = 3, .num_kv_heads = 2, .q_len = q_len, .kv_len = 1100, .batch = 2});
    input.q_lens = {q_len, q_len / 2};
    // Row blocks are one run, splits two, and packing rows beforehand one more.
    EXPECT_GE(fail_attend(input, input.rows_kv()), 2) << q_len;
    EXPECT_GE(fail_attend(input, input.cache()), 1) << q_len;
  }
}

/// Sequences that share prefixes of different lengths, so that some have done when others go on.
PagedKvCache<float> make_family() {
  const Heads<> heads(6, 2, 16, 16);
  const auto allocator = std::make_shared<PageAllocator>(
      PageAllocator::Options{.pages = 150, .page_bytes = PagedKvCache<float>::page_bytes(heads)});
  PagedKvCache<float> cache(allocator, {.batch = 5, .capacity = 3000, .heads = heads});
  Random random(1);
  const auto append = [&](Index sequence, Index tokens) {
    const auto k = random_tensor<float>(random, {1, tokens, 2, 16});
    const auto v = random_tensor<float>(random, {1, tokens, 2, 16});
    cache.append(sequence, k.view(), v.view());
  };
  append(0, 1600);
  cache.fork(0, 1);
  cache.start_with(2, cache.share_prefix(0, 1100));
  append(1, 64);
  append(2, 700);
  append(3, 900);  // shares nothing
  return cache;    // 4 has nothing
}

TEST(FailingExecutor, LeavesTheResultsOfASharedPrefixAsTheyWere) {
  const auto cache = make_family();
  Random random(2);
  for (const Index q_len : {1, 20}) {
    AttentionInput<float, float> input{.q = random_tensor<float>(random, {5, q_len, 6, 16}),
                                       .k = TestTensor<float>({5, 0, 2, 16}),
                                       .v = TestTensor<float>({5, 0, 2, 16})};
    input.q_lens = {q_len, q_len, q_len / 2, q_len, 1};
    const auto expected = attend_over(input, cache, Causal{});
    const AttentionResult<float, float> before(input.out_shape());
    auto result = before;
    const int thrown = fail_at_every_run(
        [&] { result = before; },
        [&](const FailingExecutor& executor) {
          attend_shared_prefix(input.q.view(), cache, result.out.view(), Causal{},
                               {.lse = result.lse_view(), .q_lens = input.q_lens}, executor);
        },
        [&] { return same_bits(result, before); }, [&] { return same_bits(result, expected); });
    EXPECT_GE(thrown, 3) << q_len;
  }
}

/// Fails every run of attend_backward(), which is given places for the gradients that the rules
/// have: of sink logits, of a bias, of a table.
template <typename RulesT>
int fail_backward(const AttentionInput<float, float>& input, const RulesT& rules,
                  const DenseView<float>::Shape& bias_shape = {}, std::size_t table_size = 0) {
  Random random(5);
  const auto dout = random_tensor<float>(random, input.out_shape());
  auto forward = attend_over(input, input.rows_kv(), rules);
  struct All {
    Gradients<float> gradients;
    std::vector<float> bias, table;
    bool operator==(const All& other) const {
      return same_bits(gradients, other.gradients) && bias == other.bias && table == other.table;
    }
  };
  All before{Gradients<float>(input), {}, std::vector<float>(table_size, -7)};
  before.bias.resize(static_cast<std::size_t>(bias_shape.batch * bias_shape.num_heads *
                                              bias_shape.q_len * bias_shape.kv_len),
                     -7);
  if constexpr (RulesT::has_sinks) {
    before.gradients.sinks.assign(static_cast<std::size_t>(input.num_heads()), -7);
  }
  const auto backward = [&](All& to, const auto& executor) {
    auto options = backward_options(input, to.gradients);
    if (!to.bias.empty()) options.bias_gradient = {to.bias.data(), bias_shape};
    options.relative_bias_gradient = to.table;
    attend_backward(dout.view(), input.q.view(), input.rows_kv(), forward.out.view(),
                    forward.lse_view(), to.gradients.dq.view(), to.gradients.dk.view(),
                    to.gradients.dv.view(), rules, options, executor);
  };
  All expected = before, result = before;
  backward(expected, Serial{});
  return fail_at_every_run([&] { result = before; },
                           [&](const FailingExecutor& executor) { backward(result, executor); },
                           [&] { return result == before; }, [&] { return result == expected; });
}

class BackwardOnAFailingExecutor : public testing::TestWithParam<Index> {
 protected:
  BackwardOnAFailingExecutor() {
    const Index q_len = GetParam();
    input = make({.group = 3, .num_kv_heads = 2, .q_len = q_len, .kv_len = 170, .batch = 2});
    input.q_lens = {q_len, q_len - 3};
    input.lengths = {170, 160};
  }
  AttentionInput<float, float> input;
};
// One chunk of query rows, and several, each with sums of its own.
INSTANTIATE_TEST_SUITE_P(OneChunkAndSeveral, BackwardOnAFailingExecutor, testing::Values(7, 300));

TEST_P(BackwardOnAFailingExecutor, GradientsStayAsTheyWere) {
  EXPECT_GE(fail_backward(input, as_rules(Causal{})), 2);
}

TEST_P(BackwardOnAFailingExecutor, AndThoseOfSinkLogits) {
  const std::vector<float> sinks(6, 0.5f);
  EXPECT_GE(fail_backward(input, Causal{} & SinkLogits{sinks}), 2);
}

TEST_P(BackwardOnAFailingExecutor, AndThoseOfABiasThatIsSummedInSeveralRuns) {
  const std::vector<float> numbers(static_cast<std::size_t>(6 * GetParam() * 170), 0.25f);
  for (const Index heads : {1, 6}) {
    const DenseView<float>::Shape shape{1, heads, GetParam(), 170};
    const AdditiveBias<float> bias{DenseView<float>(numbers.data(), shape)};
    EXPECT_GE(fail_backward(input, Causal{} & bias, shape), 2) << heads;
  }
}

TEST_P(BackwardOnAFailingExecutor, AndThoseOfATableOfRelativeBiases) {
  const std::vector<float> table(32 * 6, 0.25f);
  const RelativeBias relative{.table = table, .num_heads = 6};
  EXPECT_GE(fail_backward(input, Causal{} & relative, {}, table.size()), 2);
}

// --- workers ---

TEST(AnExecutorsConcurrency, MustBePositive) {
  const auto input = make({.group = 2, .num_kv_heads = 2, .q_len = 3, .kv_len = 70});
  const AttentionResult<float, float> before(input.out_shape());
  const auto cache = input.cache();
  for (const Index workers : {Index{0}, Index{-1}, std::numeric_limits<Index>::min()}) {
    const FailingExecutor executor{.workers = workers};
    const std::string expected =
        message("the executor's concurrency() must be positive, is ", workers);
    auto result = before;
    EXPECT_EQ(error_of([&] { result = attend_over(input, cache, Causal{}, executor); }), expected);
    EXPECT_EQ(error_of([&] { result = attend_over(input, input.rows_kv(), Causal{}, executor); }),
              expected);
    EXPECT_EQ(error_of([&] {
                attend_shared_prefix(input.q.view(), cache, result.out.view(), Causal{}, {},
                                     executor);
              }),
              expected);
    EXPECT_EQ(error_of([&] {
                explain(input.q.view(), cache, result.out.view(), Causal{}, {}, executor);
              }),
              expected);
    EXPECT_TRUE(same_bits(result, before));
    auto forward = attend_over(input, input.rows_kv(), Causal{});
    const TestTensor<float> dout(input.out_shape());
    EXPECT_EQ(error_of([&] { backward_of(input, dout, forward, as_rules(Causal{}), executor); }),
              expected);
    EXPECT_EQ(executor.runs, 0);
  }
}

/// More workers than tasks, of which any may come: the highest do.
struct LastWorkers {
  Index workers = 1;

  Index concurrency() const { return workers; }
  template <typename F>
  void run(Index n, F&& fn) const {
    for (Index task = 0; task < n; ++task) fn(task, workers - 1 - task % workers);
  }
};

TEST(Scratch, GrowsWithTheTasksAndNotWithTheWorkers) {
  const auto input = make({.group = 8, .q_len = 40, .kv_len = 300, .head_dim = 64});
  const auto many = make({.group = 2, .num_kv_heads = 4, .q_len = 1, .kv_len = 1200, .batch = 3});
  Random random(5);
  for (const auto* in : {&input, &many}) {
    const auto cache = in->cache();
    const auto expected = attend_over(*in, cache, Causal{});
    const auto dout = random_tensor<float>(random, in->out_shape());
    auto forward = attend_over(*in, in->rows_kv(), Causal{});
    const auto gradients = backward_of(*in, dout, forward, as_rules(Causal{}));
    std::size_t bytes_of_64 = 0;
    for (const Index workers :
         {Index{64}, Index{1024}, Index{1} << 40, std::numeric_limits<Index>::max()}) {
      const LastWorkers executor{workers};
      Workspace workspace;
      EXPECT_TRUE(same_bits(attend_over(*in, cache, Causal{}, executor, Layout::dense, &workspace),
                            expected));
      EXPECT_TRUE(
          same_bits(attend_over(*in, in->rows_kv(), Causal{}, executor, Layout::dense, &workspace),
                    expected));
      auto result = expected;
      attend_shared_prefix(in->q.view(), cache, result.out.view(), Causal{},
                           {.lse = result.lse_view(), .workspace = &workspace}, executor);
      EXPECT_TRUE(same_bits(result, expected));
      EXPECT_TRUE(
          same_bits(backward_of(*in, dout, forward, as_rules(Causal{}), executor), gradients));
      if (workers == 64) bytes_of_64 = workspace.bytes();
      EXPECT_LE(workspace.bytes(), bytes_of_64) << workers;
    }
  }
}

// --- masks, rules and sources of a user ---

struct MaskFailure : std::runtime_error {
  MaskFailure() : std::runtime_error("no mask") {}
};

/// Throws at its n-th question.
struct ThrowingMask {
  std::shared_ptr<std::atomic<int>> questions = std::make_shared<std::atomic<int>>(0);
  int throws_at = 1;

  bool visible(const Where& w) const {
    if (++*questions >= throws_at) throw MaskFailure();
    return w.k_pos <= w.q_pos;
  }
  Coverage tile(const Tile&) const { return Coverage::partial; }
};

/// Its blocks are partial, so that tasks ask visible(); tile() is asked while planning, too.
struct ThrowingTile : ThrowingMask {
  Coverage tile(const Tile&) const {
    if (++*questions >= throws_at) throw MaskFailure();
    return Coverage::partial;
  }
};

TEST(AMaskThatThrows, IsHeardOfByTheCaller) {
  const auto input = make({.group = 3, .num_kv_heads = 2, .q_len = 20, .kv_len = 1100});
  const auto cache = input.cache();
  for (const int throws_at : {1, 2, 50, 1000}) {
    for (const Index threads : {1, 3}) {
      const TestExecutor executor{threads};
      const ThrowingMask mask{.throws_at = throws_at};
      EXPECT_THROW(attend_over(input, cache, mask, executor), MaskFailure);
      const ThrowingMask of_rows{.throws_at = throws_at};
      EXPECT_THROW(attend_over(input, input.rows_kv(), of_rows, executor), MaskFailure);
    }
  }
  for (const int throws_at : {1, 2, 7}) {
    const ThrowingTile tile{{.throws_at = throws_at}};
    EXPECT_THROW(attend_over(input, cache, tile, TestExecutor{3}), MaskFailure);
  }
  EXPECT_TRUE(same_bits(attend_over(input, cache, ThrowingMask{.throws_at = 1 << 30}),
                        attend_over(input, cache, Causal{})));
}

TEST(AMaskThatThrows, IsHeardOfByTheCallerOfASharedPrefixAndOfABackwardPass) {
  const auto cache = make_family();
  TestTensor<float> q({5, 2, 6, 16}), out({5, 2, 6, 16});
  q.fill(1);
  const ThrowingMask mask{.throws_at = 100};
  EXPECT_THROW(attend_shared_prefix(q.view(), cache, out.view(), mask, {}, TestExecutor{3}),
               MaskFailure);

  const auto input = make({.group = 3, .num_kv_heads = 2, .q_len = 20, .kv_len = 100});
  auto forward = attend_over(input, input.rows_kv(), Causal{});
  const TestTensor<float> dout(input.out_shape());
  const ThrowingMask of_gradients{.throws_at = 100};
  EXPECT_THROW(backward_of(input, dout, forward, as_rules(of_gradients), TestExecutor{3}),
               MaskFailure);
}

/// A score rule that throws in the middle of the work.
struct ThrowingRule {
  template <typename T>
  T score(T x, const Where& w) const {
    if (w.k_pos == 77) throw MaskFailure();
    return x;
  }
};

/// Keys and values of another source, until a task asks for one block too far.
struct ThrowingSource {
  using Storage = float;
  static constexpr KvLayout layout = KvLayout::rows;
  RowsKv<float> rows;

  Index batch() const { return rows.batch(); }
  Index num_kv_heads() const { return rows.num_kv_heads(); }
  Index head_dim() const { return rows.head_dim(); }
  Index value_dim() const { return rows.value_dim(); }
  Index length(Index b) const { return rows.length(b); }
  template <typename F>
  void for_each_run(Index b, Index kv_head, Index begin, Index end, F&& fn) const {
    if (begin <= 128 && 128 < end) throw MaskFailure();
    rows.for_each_run(b, kv_head, begin, end, fn);
  }
};

TEST(ARuleOrSourceThatThrows, IsHeardOfByTheCaller) {
  for (const Index q_len : {1, 200}) {  // packed on the way, and beforehand
    const auto input = make({.group = 3, .num_kv_heads = 2, .q_len = q_len, .kv_len = 300});
    for (const Index threads : {1, 3}) {
      const TestExecutor executor{threads};
      EXPECT_THROW(attend_over(input, input.cache(), ThrowingRule{}, executor), MaskFailure);
      EXPECT_THROW(attend_over(input, ThrowingSource{input.rows_kv()}, NoMask{}, executor),
                   MaskFailure);
    }
  }
}

}  // namespace
}  // namespace gqa::test
