// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Requests of different q_len and kv_len in one call, their queries one after the other: prefill
// chunks and decode steps mixed.
#include <gtest/gtest.h>

#include <cstring>
#include <numeric>

#include "gqa/cache/selection.hpp"
#include "gqa/kernel/explain.hpp"
#include "gqa/kernel/reference.hpp"
#include "support/attention_case.hpp"
#include "support/errors.hpp"

namespace gqa::test {
namespace {

const std::vector<Index> q_lens{1, 70, 0, 3, 1, 130};
const std::vector<Index> kv_lens{900, 70, 40, 3, 0, 600};
const std::vector<Index> starts{0, 1, 71, 71, 74, 75, 205};

struct Requests {
  KvCache<float> cache{{.batch = 6, .capacity = 900, .heads = {6, 2, 16, 8}}};
  TestTensor<float> q, out, lse;

  Requests() : out({1, 205, 6, 8}), lse({1, 1, 6, 205}) {
    Random random(1);
    q = random_tensor<float>(random, {1, 205, 6, 16});
    for (Index b = 0; b < 6; ++b) {
      const Index n = kv_lens[static_cast<std::size_t>(b)];
      cache.append(b, random_tensor<float>(random, {1, n, 2, 16}).view(),
                   random_tensor<float>(random, {1, n, 2, 8}).view());
    }
  }
  AttendOptions<float> options(std::span<const Index> q_starts = starts) {
    return {.lse = LseView<float>(lse.row(0, 0, 0), 1, 6, 205), .q_starts = q_starts};
  }
};

/// Each request's rows, from a call of its own.
TEST(PackedQueries, GiveTheBitsOfEachRequestAlone) {
  Requests requests;
  std::vector<Index> positions(205);
  std::iota(positions.begin(), positions.end(), Index{400});  // for a second round
  for (const bool given : {false, true}) {
    for (const Index threads : {1, 3}) {
      auto options = requests.options();
      if (given) options.positions = positions;
      attend(requests.q.view(), requests.cache, requests.out.view(), Causal{}, options,
             TestExecutor{threads});
      for (Index b = 0; b < 6; ++b) {
        const Index begin = starts[static_cast<std::size_t>(b)];
        const Index n = q_lens[static_cast<std::size_t>(b)];
        const std::vector<Index> chosen{b};
        TestTensor<float> out({1, n, 6, 8}), lse({1, 1, 6, n});
        AttendOptions<float> alone{.lse = LseView<float>(lse.row(0, 0, 0), 1, 6, n)};
        if (given) {
          alone.positions = std::span(positions).subspan(static_cast<std::size_t>(begin),
                                                         static_cast<std::size_t>(n));
        }
        attend(requests.q.view().tokens_slice(begin, n), select(requests.cache, chosen), out.view(),
               Causal{}, alone, TestExecutor{2});
        for (Index i = 0; i < n; ++i) {
          for (Index h = 0; h < 6; ++h) {
            ASSERT_EQ(
                std::memcmp(requests.out.row(0, begin + i, h), out.row(0, i, h), 8 * sizeof(float)),
                0)
                << "request " << b << ", token " << i;
            ASSERT_EQ(requests.lse.row(0, 0, h)[begin + i], lse.row(0, 0, h)[i]);
          }
        }
      }
    }
  }
}

TEST(PackedQueries, AreWhatTheReferenceTakes) {
  Requests requests;
  TestTensor<float> expected({1, 205, 6, 8}), lse({1, 1, 6, 205});
  ReferenceOptions<float> options;
  options.lse = LseView<float>(lse.row(0, 0, 0), 1, 6, 205);
  options.q_starts = starts;
  reference(requests.q.view(), requests.cache, expected.view(), Causal{}, options);
  attend(requests.q.view(), requests.cache, requests.out.view(), Causal{}, requests.options());
  for (Index i = 0; i < 205; ++i) {
    for (Index h = 0; h < 6; ++h) {
      for (Index c = 0; c < 8; ++c) {
        ASSERT_NEAR(requests.out.row(0, i, h)[c], expected.row(0, i, h)[c], 1e-5) << i;
      }
    }
  }
  EXPECT_EQ(
      explain(requests.q.view(), requests.cache, requests.out.view(), Causal{}, requests.options())
          .tasks,
      2 * (1 + 3 + 0 + 1 + 1 + 5));  // KV heads · row blocks of 96 of 3 rows a token
}

TEST(PackedQueries, AreChecked) {
  Requests requests;
  const auto error = [&](const std::vector<Index>& q_starts, std::span<const Index> lens = {}) {
    return error_of([&] {
      auto options = requests.options(q_starts);
      options.q_lens = lens;
      attend(requests.q.view(), requests.cache, requests.out.view(), Causal{}, options);
    });
  };
  const std::string rise = ", and must rise from 0 to the number of tokens, 205";
  EXPECT_EQ(error({0, 1, 71, 71, 74, 75, 204}), "attend: q_starts go from 0 to 204" + rise);
  EXPECT_EQ(error({1, 1, 71, 71, 74, 75, 205}), "attend: q_starts go from 1 to 205" + rise);
  EXPECT_EQ(error({0, 1, 71, 70, 74, 75, 205}), "attend: q_starts go from 0 to 205" + rise);
  EXPECT_EQ(error({0, 205}), "attend: the keys' batch is 6, but the queries' is 1");
  EXPECT_EQ(error(starts, q_lens), "attend: q_starts and q_lens are both given");
}

}  // namespace
}  // namespace gqa::test
