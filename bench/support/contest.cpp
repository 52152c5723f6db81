// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
#include "support/contest.hpp"

#include <memory>
#include <string>

#include "baseline/repeat_kv.hpp"
#include "support/data.hpp"
#include "support/limits.hpp"
#include "support/measure.hpp"

namespace gqa::bench {
namespace {

/// A line at work.
template <Scalar Storage>
class Contestant {
 public:
  Contestant(const Step& step, Index num_kv_heads, bool with_baseline, Clock clock)
      : before_(step.kv_len - step.q_len),
        q_(1, step.q_len, step.num_heads, step.head_dim),
        out_(q_.dimensions()),
        k_(1, step.q_len, num_kv_heads, step.head_dim),
        v_(k_.dimensions()),
        cache_({.batch = 1,
                .capacity = step.kv_len,
                .heads = {step.num_heads, num_kv_heads, step.head_dim}}),
        library_timings_(clock),
        baseline_timings_(clock) {
    if (with_baseline) {
      baseline_.emplace(step.num_heads, num_kv_heads, step.head_dim, step.kv_len);
    }
    Random random(1);
    append_random(random, 1, before_, num_kv_heads, step.head_dim,
                  [&](const Tensor& k, const Tensor& v) {
                    cache_.append(k, v);
                    if (baseline_) baseline_->append(k, v);
                  });
    workspace_.set_working_set(CacheFlush::bytes);
    random.fill(q_);
    random.fill(k_);
    random.fill(v_);
  }

  void check(const EigenPool& executor) {
    cache_.append(k_, v_);
    const SampledReference expected(q_, cache_);
    cache_.truncate_all(before_);
    library_step(executor);
    line_.library.agreement = expected.agreement(out_);
    if (!baseline_) return;
    baseline_step(executor);
    line_.baseline.emplace().agreement = expected.agreement(out_);
  }

  void measure(const CacheFlush& flush, const EigenPool& executor) {
    flush();
    library_step(executor);
    if (!baseline_) return;
    flush();
    baseline_step(executor);
  }
  void forget_timings() {
    library_timings_.forget();
    baseline_timings_.forget();
  }

  Line line() const {
    Line line = line_;
    line.num_kv_heads = cache_.num_kv_heads();
    line.kv_bytes = cache_.bytes();
    line.rounds = library_timings_.rounds();
    line.library.seconds = library_timings_.median();
    line.library.spread = library_timings_.spread();
    if (line.baseline) {
      line.baseline->seconds = baseline_timings_.median();
      line.baseline->spread = baseline_timings_.spread();
    }
    return line;
  }

 private:
  /// What is measured. Rolling back isn't.
  void library_step(const EigenPool& executor) {
    library_timings_.measure([&] {
      cache_.append(k_, v_);
      attend(q_, cache_, out_, Causal{}, {.workspace = &workspace_}, executor);
    });
    cache_.truncate_all(before_);
  }
  void baseline_step(const EigenPool& executor) {
    baseline_timings_.measure([&] {
      baseline_->append(k_, v_);
      baseline_->attend(q_, out_, executor);
    });
    baseline_->truncate(before_);
  }

  Index before_;  // tokens in the cache before the step
  Tensor q_;      // [1, q_len, num_heads, head_dim]
  Tensor out_;
  Tensor k_;  // [1, q_len, num_kv_heads, head_dim]
  Tensor v_;
  KvCache<Storage> cache_;
  std::optional<RepeatKv<Storage>> baseline_;
  Workspace workspace_;
  Timings library_timings_;
  Timings baseline_timings_;
  Line line_;
};

}  // namespace

template <Scalar Storage>
Outcome run_contest(const Step& step, const ContestOptions& options, Progress& progress) {
  Eigen::ThreadPool pool(static_cast<int>(std::max<Index>(options.threads - 1, 1)));
  const EigenPool executor(pool, options.threads);
  const Clock clock = options.threads == 1 ? Clock::cpu : Clock::wall;
  const std::string subject =
      message(step.q_len == 1 ? "decode, kv_len " : "prefill, q_len ", step.kv_len);
  std::vector<std::unique_ptr<Contestant<Storage>>> contestants;
  for (const Index num_kv_heads : options.kv_heads) {
    progress(subject, message("filling and checking ", num_kv_heads, " KV heads"));
    contestants.push_back(
        std::make_unique<Contestant<Storage>>(step, num_kv_heads, options.baseline, clock));
    contestants.back()->check(executor);
    contestants.back()->forget_timings();
  }
  const CacheFlush flush;
  const LargeMemory memory;
  Limits limits(clock, best_products<Storage>(), memory.bytes());
  const double start = now();
  for (Index round = 0;; ++round) {
    const bool enough = options.repetitions > 0
                            ? round >= options.repetitions
                            : round >= 3 && (round >= 31 || now() - start > options.seconds);
    if (enough) break;
    limits.measure(executor);
    for (const auto& contestant : contestants) {
      progress(subject, text("round %d, %.0f s", static_cast<int>(round + 1), now() - start));
      contestant->measure(flush, executor);
    }
  }
  const Limit limit = limits.median();
  Outcome outcome{.lines = {}, .bandwidth = limit.bandwidth, .flops = limit.flops};
  for (const auto& contestant : contestants) outcome.lines.push_back(contestant->line());
  return outcome;
}

template Outcome run_contest<float>(const Step&, const ContestOptions&, Progress&);
template Outcome run_contest<bfloat16>(const Step&, const ContestOptions&, Progress&);
template Outcome run_contest<half>(const Step&, const ContestOptions&, Progress&);

}  // namespace gqa::bench
