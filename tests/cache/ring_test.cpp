// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
#include "gqa/cache/ring.hpp"

#include <gtest/gtest.h>

#include "gqa/cache/contiguous.hpp"
#include "gqa/cache/selection.hpp"
#include "gqa/kernel/explain.hpp"
#include "gqa/kernel/reference.hpp"
#include "gqa/kernel/shared_prefix.hpp"
#include "support/errors.hpp"
#include "tokens.hpp"

namespace gqa::test {
namespace {

using Ring = RingKvCache<float>;

const Heads<> heads(2, 1, 4, 3);

/// 40 keys of window, 20 spare: 60 tokens and the block boundary they may straddle, two blocks.
Ring make_ring(Index keep_first = 0) {
  return Ring({.batch = 2, .window = 40, .keep_first = keep_first, .spare = 20, .heads = heads});
}
/// Appends tokens until there are `length`, numbered by their positions.
void fill_up(Ring& ring, Index sequence, Index length) {
  while (ring.length(sequence) < length) {
    const Index at = ring.length(sequence);
    append_numbers(ring, sequence, counting(at, std::min<Index>(20, length - at)));
  }
}
std::vector<bool> held_blocks(const Ring& ring, Index sequence) {
  std::vector<bool> held(static_cast<std::size_t>(ceil_div(ring.length(sequence), block_keys)));
  ring.for_each_run(sequence, 0, 0, ring.length(sequence), [&](const StripRun& run) {
    for (Index i = 0; i < ceil_div(run.count, block_keys); ++i) {
      held[static_cast<std::size_t>(run.first / block_keys + i)] = true;
    }
  });
  return held;
}

TEST(Ring, MemoryDoesNotGrowWithTheSequence) {
  Ring ring = make_ring();
  const Index bytes = ring.bytes();
  EXPECT_EQ(bytes, 2 * 2 * 64 * (4 + 16) * 4);  // two sequences of two blocks
  EXPECT_EQ(make_ring(1).bytes(), bytes * 3 / 2);
  EXPECT_EQ(make_ring(64).bytes(), bytes * 3 / 2);
  EXPECT_EQ(make_ring(65).bytes(), bytes * 2);
  fill_up(ring, 0, 5000);
  EXPECT_EQ(ring.length(0), 5000);
  EXPECT_EQ(ring.bytes(), bytes);
  EXPECT_EQ(ring.held(), 60);
  EXPECT_EQ(ring.bytes_per_token(), (4 + 3) * 4);
  EXPECT_EQ(ring.capacity(), std::numeric_limits<Index>::max());
}

TEST(Ring, ForgetsWholeBlocksAndKeepsTheFirst) {
  Ring ring = make_ring(3);
  fill_up(ring, 0, 192);
  EXPECT_EQ(held_blocks(ring, 0), (std::vector<bool>{true, true, true}));
  fill_up(ring, 0, 193);
  EXPECT_EQ(held_blocks(ring, 0), (std::vector<bool>{true, false, true, true}));
  fill_up(ring, 0, 400);
  EXPECT_EQ(held_blocks(ring, 0),
            (std::vector<bool>{true, false, false, false, false, true, true}));
  EXPECT_EQ(read_numbers(ring, 0, 0, 64), counting(0, 64));
  EXPECT_EQ(read_numbers(ring, 0, 320, 80), counting(320, 80));
  EXPECT_TRUE(ring.holds(0, 63));
  EXPECT_FALSE(ring.holds(0, 64));
  EXPECT_FALSE(ring.holds(0, 319));
  EXPECT_TRUE(ring.holds(0, 320));
  EXPECT_FALSE(ring.holds(0, 400));
  EXPECT_EQ(error_of<std::length_error>([&] { (void)read_numbers(ring, 0, 63, 2); }),
            "RingKvCache::read: tokens [64, 320) of sequence 0 are gone");
  EXPECT_EQ(error_of<std::length_error>([&] { (void)read_numbers(ring, 0); }),
            "RingKvCache::read: tokens [64, 320) of sequence 0 are gone");
  EXPECT_EQ(ring.length(1), 0);
}

TEST(Ring, HoldsTheWindowAndTheSpareTokensAtAnyLength) {
  Ring ring = make_ring(5);
  for (Index length = 1; length < 700; ++length) {
    fill_up(ring, 1, length);
    for (Index t = 0; t < length; ++t) {
      EXPECT_TRUE(ring.holds(1, t) || (t >= 5 && t < length - 60)) << t << " of " << length;
    }
  }
}

TEST(Ring, SaysBeforehandHowFarItCanGoBack) {
  Ring ring = make_ring();
  fill_up(ring, 0, 100);
  EXPECT_TRUE(ring.can_rollback(0, 100));  // nothing forgotten yet
  EXPECT_FALSE(ring.can_rollback(0, 101));
  EXPECT_FALSE(ring.can_rollback(0, -1));
  fill_up(ring, 0, 200);  // blocks 2 and 3, tokens 128 … 199
  EXPECT_TRUE(ring.can_rollback(0, 0));
  EXPECT_TRUE(ring.can_rollback(0, 20));
  EXPECT_TRUE(ring.can_rollback(0, 32));  // to 168, whose window begins at 128
  EXPECT_FALSE(ring.can_rollback(0, 33));
  EXPECT_TRUE(ring.can_rollback(0, 200));
  EXPECT_EQ(error_of<std::length_error>([&] { ring.truncate(0, 167); }),
            "RingKvCache::truncate: from 200 to 167 tokens is further than spare 20: "
            "tokens [0, 128) of sequence 0 are gone");
  EXPECT_EQ(ring.length(0), 200);
  EXPECT_EQ(read_numbers(ring, 0, 128, 72), counting(128, 72));
  ring.truncate(0, 168);
  EXPECT_EQ(read_numbers(ring, 0, 128, 40), counting(128, 40));
  EXPECT_FALSE(ring.can_rollback(0, 1));
  ring.clear(0);
  EXPECT_TRUE(ring.can_rollback(0, 0));
  fill_up(ring, 0, 64);
  EXPECT_EQ(read_numbers(ring, 0), counting(0, 64));
}

TEST(Ring, EveryAppendCanBeTakenBack) {
  Ring ring = make_ring(2);
  Random random(1);
  for (int i = 0; i < 500; ++i) {
    const Index before = ring.length(0), count = random.integer(0, 20);
    ASSERT_TRUE(ring.can_undo(0, count));
    fill_up(ring, 0, before + count);
    ASSERT_TRUE(ring.can_rollback(0, count)) << before << " + " << count;
    if (random.chance(0.5)) ring.truncate(0, before);
    const Index first = std::max<Index>(0, ring.length(0) - 40);
    ASSERT_EQ(read_numbers(ring, 0, first, ring.length(0) - first),
              counting(first, ring.length(0) - first));
  }
  EXPECT_FALSE(ring.can_undo(0, 200));
}

TEST(Ring, RollsBackAllSequencesOrNone) {
  Ring ring = make_ring();
  fill_up(ring, 0, 150);
  fill_up(ring, 1, 200);
  EXPECT_EQ(error_of<std::length_error>([&] { ring.truncate_all(140); }),
            "RingKvCache::truncate: from 200 to 140 tokens is further than spare 20: "
            "tokens [0, 128) of sequence 1 are gone");
  EXPECT_EQ(ring.length(0), 150);
  EXPECT_EQ(ring.length(1), 200);
}

TEST(Ring, TakesSpareTokensAtOnceAndNoMore) {
  Ring ring = make_ring();
  append_numbers(ring, 0, counting(0, 20));
  EXPECT_EQ(error_of<std::length_error>([&] { append_numbers(ring, 0, counting(20, 21)); }),
            "RingKvCache::append: 21 tokens at once exceed spare 20 (sequence 0)");
  EXPECT_EQ(error_of<std::length_error>([&] {
              ring.reserve(std::vector<Index>{20, 21});
            }),
            "RingKvCache::reserve: 21 tokens at once exceed spare 20 (sequence 1)");
  EXPECT_EQ(ring.length(0), 20);
}

TEST(Ring, OptionsAreChecked) {
  const auto error = [](const Ring::Options& options) {
    return error_of([&] { Ring ring(options); });
  };
  EXPECT_EQ(error({.batch = 0, .window = 8, .heads = heads}),
            "RingKvCache: batch must be positive, is 0");
  EXPECT_EQ(error({.heads = heads}), "RingKvCache: window must be positive, is 0");
  EXPECT_EQ(error({.window = 8, .keep_first = -1, .heads = heads}),
            "RingKvCache: keep_first must not be negative, is -1");
  EXPECT_EQ(error({.window = 8, .spare = 0, .heads = heads}),
            "RingKvCache: spare must be positive, is 0");
  EXPECT_NE(error_of<std::length_error>([] {
              Ring ring({.window = std::numeric_limits<Index>::max(), .heads = heads});
            }).find("bytes are more than 63 bits count"),
            std::string::npos);
  EXPECT_EQ(error({.window = 8}),
            "RingKvCache: heads are not set: num_kv_heads 0, head_dim 0, value_dim 0");
}

TEST(Ring, BeamsKeepWhatTheyHold) {
  Ring ring = make_ring(2);
  fill_up(ring, 0, 300);
  fill_up(ring, 1, 70);
  Ring copy = ring.clone();
  ring.reorder(std::vector<Index>{1, 0});
  EXPECT_EQ(read_numbers(ring, 0), counting(0, 70));
  EXPECT_EQ(read_numbers(ring, 1, 256, 44), counting(256, 44));
  ring.fork(1, 0);
  fill_up(ring, 1, 400);
  EXPECT_EQ(ring.length(0), 300);
  EXPECT_EQ(read_numbers(ring, 0, 256, 44), counting(256, 44));
  EXPECT_EQ(read_numbers(copy, 0, 256, 44), counting(256, 44));
  EXPECT_EQ(read_numbers(copy, 1), counting(0, 70));
}

/// A static head configuration, straight into attend().
TEST(Ring, AttendsWithoutAnIntermediary) {
  RingKvCache<float, Gqa<2, 1, 4>> ring({.window = 3, .spare = 4});
  KvCache<float, Gqa<2, 1, 4>> cache({.capacity = 500});
  Random random(2);
  for (int i = 0; i < 100; ++i) {
    const auto k = random_tensor<float>(random, {1, 4, 1, 4});
    const auto v = random_tensor<float>(random, {1, 4, 1, 4});
    ring.append(k.view(), v.view());
    cache.append(k.view(), v.view());
  }
  const auto q = random_tensor<float>(random, {1, 4, 2, 4});
  TestTensor<float> out(q.shape()), expected(q.shape());
  const auto rules = Causal{} & SlidingWindow::from_hf(3);
  attend(q.view(), ring, out.view(), rules);
  attend(q.view(), cache, expected.view(), rules);
  EXPECT_TRUE(same_bits(out.storage(), expected.storage()));
}

/// Keys that a query's window begins with must not be missed in silence.
TEST(Ring, RefusesQueriesWhoseKeysAreGone) {
  Ring ring = make_ring();
  fill_up(ring, 1, 200);  // holds tokens 128 … 199: queries from 167 on see 40 keys
  EXPECT_EQ(gqa::oldest_query(ring, 1), 167);
  EXPECT_LT(gqa::oldest_query(ring, 0), 0);
  const auto attend_with = [&](Index tokens, const std::vector<Index>& q_lens = {}) {
    const TestTensor<float> q({2, tokens, 2, 4});
    TestTensor<float> out({2, tokens, 2, 3});
    attend(q.view(), ring, out.view(), Causal{} & SlidingWindow::from_hf(40), {.q_lens = q_lens});
  };
  attend_with(33);
  EXPECT_EQ(error_of([&] { attend_with(34); }),
            "attend: a query at position 166 of sequence 1 may see keys that the source no longer "
            "has: queries from position 167 on find all of theirs");
  attend_with(34, {34, 33});
  attend_with(34, {34, 0});
  const std::vector<Index> order{1, 0};
  const TestTensor<float> q({2, 34, 2, 4});
  TestTensor<float> out({2, 34, 2, 3});
  EXPECT_EQ(error_of([&] {
              attend(q.view(), select(ring, order), out.view(),
                     Causal{} & SlidingWindow::from_hf(40));
            }),
            "attend: a query at position 166 of sequence 0 may see keys that the source no longer "
            "has: queries from position 167 on find all of theirs");
  Ring kept = make_ring(65);  // two blocks stay: what is gone comes after them
  fill_up(kept, 0, 200);
  EXPECT_LT(gqa::oldest_query(kept, 0), 0);
  fill_up(kept, 0, 400);
  EXPECT_EQ(gqa::oldest_query(kept, 0), 320 + 39);
  EXPECT_EQ(gqa::next_held(kept, 0, 127), 127);
  EXPECT_EQ(gqa::next_held(kept, 0, 128), 320);
  EXPECT_EQ(gqa::next_held(kept, 0, 321), 321);
}

/// Steps of decoding over a ring and over a cache that keeps all: each has the same bits or is
/// refused. Returns the first length at which one is, 0 if none.
template <typename RulesT>
Index first_refusal(const RulesT& rules, Index keep_first, Index q_len = 1) {
  Ring ring = make_ring(keep_first);
  KvCache<float> cache({.batch = 2, .capacity = 400, .heads = heads});
  Random random(3);
  Index refusal = 0;
  for (Index length = q_len; length <= 400; length += q_len) {
    const auto k = random_tensor<float>(random, {2, q_len, 1, 4});
    const auto v = random_tensor<float>(random, {2, q_len, 1, 3});
    const auto q = random_tensor<float>(random, {2, q_len, 2, 4});
    ring.append(k.view(), v.view());
    cache.append(k.view(), v.view());
    TestTensor<float> out({2, q_len, 2, 3}), expected(out.shape());
    attend(q.view(), cache, expected.view(), rules);
    try {
      attend(q.view(), ring, out.view(), rules);
      EXPECT_TRUE(same_bits(out.storage(), expected.storage())) << length;
    } catch (const std::invalid_argument&) {
      if (refusal == 0) refusal = length;
    }
  }
  return refusal;
}

TEST(RingUnderAMask, IsRefusedFromTheFirstMissingKeyOn) {
  // Of 129 tokens the ring has the last block and a key, of 193 the last two: it drops [0, 64) and
  // [64, 128).
  EXPECT_EQ(first_refusal(Causal{}, 0), 129);
  EXPECT_EQ(first_refusal(NoMask{}, 0), 129);
  EXPECT_EQ(first_refusal(Causal::top_left(), 0), 129);
  EXPECT_EQ(first_refusal(PrefixLm{.length = 2}, 0), 129);
  EXPECT_EQ(first_refusal(Causal{}, 3), 193);  // the first block stays: [64, 128) goes first
  EXPECT_EQ(first_refusal(Causal{} & SlidingWindow::from_hf(40), 0), 0);
  EXPECT_EQ(first_refusal(Causal{} & SlidingWindow::from_hf(39), 0), 0);
  EXPECT_EQ(first_refusal(Causal{} & SlidingWindow::from_hf(60), 0, 20), 140);
  EXPECT_EQ(first_refusal(Causal{} & SlidingWindow::from_hf(65), 0), 0);  // what is there is right
  EXPECT_EQ(first_refusal(Causal{} & SlidingWindow::from_hf(66), 0), 129);
  EXPECT_EQ(first_refusal(Causal{} & SlidingWindow::from_hf(128), 0), 129);
  EXPECT_EQ(first_refusal(Causal{} & SlidingWindow::from_hf(40) & KeepFirst{64}, 3), 0);
  EXPECT_EQ(first_refusal(Causal{} & SlidingWindow::from_hf(40) & KeepFirst{65}, 3), 193);
  EXPECT_EQ(first_refusal(Causal{} & SlidingWindow::from_hf(40) & KeepFirst{1}, 0), 129);
}

TEST(RingUnderAMask, AsksMasksThatDoNotKnow) {
  const auto window = [](Index keys, Index of_head) {
    return mask_function([=](const Where& w) {
      const Index distance = w.q_pos - w.k_pos;
      return distance >= 0 && distance < (w.head == of_head ? keys : 7);
    });
  };
  EXPECT_EQ(first_refusal(window(40, 0), 0), 0);
  EXPECT_EQ(first_refusal(window(66, 0), 0), 129);
  EXPECT_EQ(first_refusal(window(66, 1), 0), 129);  // of the second head alone
  EXPECT_EQ(first_refusal(window(40, 0), 0, 20), 0);
  EXPECT_EQ(first_refusal(Causal{} & SlidingWindow::from_hf(40) & window(500, 1), 0), 0);
  EXPECT_EQ(first_refusal(mask_function([](const Where& w) { return w.k_pos == 130; }), 3), 257);
}

TEST(RingUnderAMask, NamesWhatIsSeenAndWhatIsGoneAtEveryDoor) {
  Ring ring = make_ring();
  fill_up(ring, 0, 200);
  fill_up(ring, 1, 200);  // [0, 128) are gone
  const TestTensor<float> q({2, 3, 2, 4});
  TestTensor<float> out({2, 3, 2, 3});
  out.fill(5);
  const auto rules = Causal{} & SlidingWindow::from_hf(100);
  const std::string seen =
      ": the mask shows the query at position 197 of sequence 0 keys from 98 on, but the source "
      "has dropped keys [0, 128)";
  EXPECT_EQ(error_of([&] { attend(q.view(), ring, out.view(), rules); }), "attend" + seen);
  EXPECT_EQ(error_of([&] { reference(q.view(), ring, out.view(), rules); }), "reference" + seen);
  EXPECT_EQ(error_of([&] { attend_shared_prefix(q.view(), ring, out.view(), rules); }),
            "attend_shared_prefix" + seen);
  EXPECT_EQ(error_of([&] { (void)explain(q.view(), ring, out.view(), rules); }), "explain" + seen);
  EXPECT_EQ(error_of([&] {
              attend(q.view(), ring, out.view(), rules, {.q_lens = std::vector<Index>{0, 2}});
            }),
            "attend: the mask shows the query at position 198 of sequence 1 keys from 99 on, but "
            "the source has dropped keys [0, 128)");
  const std::vector<Index> starts{0, 1, 3};
  const auto packed = [&](TestTensor<float>& x) { return x.view().sequence(0); };
  TestTensor<float> packed_q({1, 3, 2, 4}), packed_out({1, 3, 2, 3});
  EXPECT_EQ(error_of([&] {
              attend(packed(packed_q), ring, packed(packed_out), rules, {.q_starts = starts});
            }),
            "attend: the mask shows the query at position 199 of sequence 0 keys from 100 on, but "
            "the source has dropped keys [0, 128)");
  const std::vector<Index> order{1, 0};
  EXPECT_EQ(error_of([&] { attend(q.view(), select(ring, order), out.view(), rules); }),
            "attend" + seen);
  EXPECT_TRUE(std::all_of(out.row(0, 0, 0), out.row(0, 0, 0) + 3, [](float x) { return x == 5; }));
}

/// A source of a user's own that says only what it holds.
struct OnlyNextHeld {
  using Storage = float;
  static constexpr KvLayout layout = KvLayout::strips;
  const Ring& ring;

  Index batch() const { return ring.batch(); }
  Index num_kv_heads() const { return ring.num_kv_heads(); }
  Index head_dim() const { return ring.head_dim(); }
  Index value_dim() const { return ring.value_dim(); }
  Index length(Index b) const { return ring.length(b); }
  Index next_held(Index b, Index key) const { return ring.next_held(b, key); }
  template <typename F>
  void for_each_run(Index b, Index h, Index begin, Index end, F&& fn) const {
    ring.for_each_run(b, h, begin, end, fn);
  }
};

TEST(RingUnderAMask, FindsWhatAnySourceHasDropped) {
  for (const Index keep_first : {0, 3, 65}) {
    for (const Index length : {0, 10, 64, 65, 130, 200, 333}) {
      Ring ring = make_ring(keep_first);
      fill_up(ring, 1, length);
      const OnlyNextHeld own{ring};
      for (Index key = 0; key <= length; ++key) {
        Index expected = key;
        while (expected < length && ring.holds(1, expected)) ++expected;
        EXPECT_EQ(gqa::next_dropped(ring, 1, key), expected) << key << " of " << length;
        if (key % 64 == 0) {
          EXPECT_EQ(std::min(gqa::next_dropped(own, 1, key), length), expected) << key;
        }
      }
    }
  }
  Ring ring = make_ring();
  fill_up(ring, 0, 200);
  const TestTensor<float> q({2, 1, 2, 4});
  TestTensor<float> out({2, 1, 2, 3});
  EXPECT_EQ(error_of([&] { attend(q.view(), OnlyNextHeld{ring}, out.view(), Causal{}); }),
            "attend: the mask shows the query at position 199 of sequence 0 keys from 0 on, but "
            "the source has dropped keys [0, 128)");
}

}  // namespace
}  // namespace gqa::test
