// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The other parts that a program may bring: a mask, a score rule and an executor, each a few lines
// and none derived from anything. (For a cache, see bring_your_own_cache.cpp.)
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <gqa/gqa.hpp>
#include <system_error>
#include <thread>
#include <vector>

using gqa::Index;
using Tensor = Eigen::Tensor<float, 4, Eigen::RowMajor>;  // [batch, tokens, heads, dim]

/// A mask: tokens see their own chunk of the sequence only, as in Llama 4's local layers. It says
/// nothing of the future; `Causal{} & OwnChunk{8192}` does.
struct OwnChunk {
  Index tokens = 0;

  /// The definition, for one query and one key.
  bool visible(const gqa::Where& w) const { return w.q_pos / tokens == w.k_pos / tokens; }

  /// The same for a rectangle of them, which is what makes it fast: `skip` if no pair is visible,
  /// `full` if all are. `partial` would always be right, and then visible() decides one by one.
  gqa::Coverage tile(const gqa::Tile& t) const {
    const Index q_first = t.q_pos_min / tokens, q_last = t.q_pos_max / tokens;
    const Index k_first = t.k_pos_min() / tokens, k_last = t.k_pos_max() / tokens;
    const bool none = q_last < k_first || k_last < q_first;
    const bool all = q_first == q_last && k_first == k_last && q_first == k_first;
    return gqa::coverage(none, all);
  }
};
static_assert(gqa::Mask<OwnChunk>);

/// A score rule: the farther a key, the less it counts, by the logarithm of its distance. It sees
/// scaled scores, for float in attend() and for double in reference().
struct LogDistance {
  double slope = 0;

  template <typename T>
  T score(T x, const gqa::Where& w) const {
    return x - static_cast<T>(slope) * std::log1p(static_cast<T>(std::abs(w.q_pos - w.k_pos)));
  }
};
static_assert(gqa::ScoreRule<LogDistance>);

/// An executor: who runs the tasks of a call. This one starts its threads anew for each call; an
/// engine would hand the tasks to the pool that it has.
struct FreshThreads {
  Index threads = 1;

  /// No more than this many tasks run at once.
  Index concurrency() const { return threads; }

  /// Calls fn(task, worker) once for each task below n and returns when all are done. Scratch
  /// memory goes by worker, so no two tasks may run at once under one number. The caller is worker
  /// 0.
  template <typename F>
  void run(Index n, F&& fn) const {
    std::atomic<Index> next{0};
    const auto work = [&](Index worker) {
      for (Index task; (task = next.fetch_add(1)) < n;) fn(task, worker);
    };
    std::vector<std::jthread> helpers;  // joined where the scope ends
    try {
      for (Index worker = 1; worker < std::min(threads, n); ++worker) {
        helpers.emplace_back(work, worker);
      }
    } catch (const std::system_error&) {
      // No more threads to have. Some tasks have begun, so that it is too late to throw: fewer
      // help.
    }
    work(0);
  }
};
static_assert(gqa::Executor<const FreshThreads>);

int main() {
  const Index num_heads = 8, num_kv_heads = 2, head_dim = 64, tokens = 500;
  Tensor q(1, tokens, num_heads, head_dim), k(1, tokens, num_kv_heads, head_dim), v(k.dimensions());
  q.setRandom();
  k.setRandom();
  v.setRandom();
  const auto rules = gqa::Causal{} & OwnChunk{.tokens = 192} & LogDistance{.slope = 0.5};

  Tensor expected(q.dimensions()), alone(q.dimensions()), together(q.dimensions());
  gqa::reference(q, k, v, expected, rules);
  gqa::attend(q, k, v, alone, rules);
  gqa::attend(q, k, v, together, rules, {}, FreshThreads{.threads = 3});

  const Eigen::Tensor<float, 0, Eigen::RowMajor> error = (alone - expected).abs().maximum();
  const Eigen::Tensor<bool, 0, Eigen::RowMajor> close = ((alone - expected).abs() < 2e-6f).all();
  const bool equal = std::memcmp(alone.data(), together.data(),
                                 static_cast<std::size_t>(alone.size()) * sizeof(float)) == 0;
  std::printf("largest difference from the reference %.1e; %s\n", static_cast<double>(error()),
              equal ? "one thread and three give the same bits"
                    : "one thread and three give DIFFERENT bits");
  const bool printed = std::fflush(stdout) == 0;
  return close() && equal && printed ? 0 : 1;
}
