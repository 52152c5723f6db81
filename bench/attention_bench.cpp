// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// attention_bench: attend() against the machine's limits, by Google Benchmark; for people who
// change kernels. All cases but models/ take about five minutes.
//
//   attention_bench --table                    ends with what was aimed at and what was reached
//   attention_bench --benchmark_filter='^decode/f32/.*kv_heads:8/'
//   attention_bench --benchmark_filter='models/llama3_8b/.*threads:1/'
//
//   --table      a table of goals at the end
//   --rounds=N   measurements of each case; by default 5 to 25, about a second
//   --serve      reads names of cases, a line each, and answers each with the seconds of a call:
//                for programs that time several libraries in turn (peers/)
//
// Each case is compared with the reference first, and then measured in rounds: the probes
// (support/limits.hpp), the call, repeated for at least 4 ms, and the probes again. Reported are
// medians of rounds. A cache that fits into L2 or L3 is timed from there: compare flushes it, this
// doesn't. One thread is timed by its own CPU time, several by the wall clock. Counters:
//
//   roofline           max(bytes / bandwidth, flops / peak) / time; the bandwidth is that of
//                      reading the case's own keys and values, so that of the memory they are in
//   bytes_per_second   keys and values / time: decode reads each of them once
//   flops              multiplications and additions per second, of the pairs that Causal shows:
//                      two products each, of gradients five
//   limit_bandwidth, limit_flops
//   time_ratio, roofline_ratio
//                      of ratio/...: two cases in turn, the first over the second
//
// No case can be faster than its limit: one above 1.03 of it fails the run, as the probes must be
// bad, or something else was running.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <iostream>
#include <map>
#include <memory>
#include <string>

#include "support/goals.hpp"
#include "support/program.hpp"
#include "support/table.hpp"

namespace gqa::bench {
namespace {

constexpr double highest_roofline = 1.03;
constexpr int rounds_that_prove = 5;  // fewer say nothing about a probe

struct Options {
  bool table = false;
  bool serve = false;
  int rounds = 0;  // 0: as many as fit
};

/// What all cases share.
class Session {
 public:
  explicit Session(const Options& session_options) : options(session_options) {}

  Work& work(const Case& c) { return works_(c); }
  const EigenPool& executor(Index threads) {
    auto& pool = pools_[threads];
    if (!pool) pool = std::make_unique<Pool>(threads);
    return pool->executor;
  }
  /// The speed of reading memory, found anew for each number of threads.
  ReadSpeed& large(Index threads) {
    if (!large_) large_ = std::make_unique<LargeMemory>();
    return large_speeds_.try_emplace(threads, large_->bytes()).first->second;
  }

  const Options options;
  std::map<std::string, Measured> results;
  bool failed = false;

 private:
  struct Pool {
    explicit Pool(Index threads)
        : pool(static_cast<int>(std::max<Index>(threads - 1, 1))), executor(pool, threads) {}
    Eigen::ThreadPool pool;
    EigenPool executor;
  };
  Works works_;
  std::map<Index, std::unique_ptr<Pool>> pools_;
  std::unique_ptr<LargeMemory> large_;
  std::map<Index, ReadSpeed> large_speeds_;
};

/// Calls of one case until `seconds` have passed, and how long one of them takes.
double time_of_call(Work& work, const EigenPool& executor, Clock clock, double seconds) {
  Index calls = 0;
  const double start = now(clock);
  double passed = 0;
  do {
    work.attend(executor);
    ++calls;
    passed = now(clock) - start;
  } while (passed < seconds);
  return passed / static_cast<double>(calls);
}

/// A case being measured.
class Contestant {
 public:
  Contestant(Session& session, const Case& c, Clock clock)
      : work_(session.work(c)),
        executor_(session.executor(c.threads)),
        clock_(clock),
        limits_(clock, work_.products, work_.memory(), &session.large(c.threads)) {
    work_.attend(executor_);
    const Agreement agreement = work_.agreement();
    if (!agreement.good()) {
      wrong_ =
          message("differs from the reference by ", agreement.share_of_tolerance, " tolerances");
    }
  }

  const std::string& wrong() const { return wrong_; }
  void round() {
    const Limit before = last_limit_ ? *last_limit_ : limits_.measure(executor_);
    seconds_.push_back(time_of_call(work_, executor_, clock_, 4e-3));
    last_limit_ = limits_.measure(executor_);
    const double least = (before.seconds(work_.kv_bytes, work_.flops) +
                          last_limit_->seconds(work_.kv_bytes, work_.flops)) /
                         2;
    shares_.push_back(least / seconds_.back());
  }
  /// To be called where something else runs between two rounds.
  void interrupt() { last_limit_.reset(); }
  double last_seconds() const { return seconds_.back(); }
  double last_share() const { return shares_.back(); }
  double seconds() const { return median(seconds_); }
  double roofline() const { return median(shares_); }
  Limit limit() const { return limits_.median(); }
  const Work& work() const { return work_; }

 private:
  Work& work_;
  const EigenPool& executor_;
  Clock clock_;
  Limits limits_;
  std::optional<Limit> last_limit_;
  std::string wrong_;
  std::vector<double> seconds_;  // of a call, by round
  std::vector<double> shares_;   // of the limit
};

/// Runs an entry's rounds and reports them. Google Benchmark sees one iteration: the median.
void run(benchmark::State& state, Session& session, const Entry& entry) {
  // CPU time would leave out what several threads wait.
  const bool threaded = entry.first.threads > 1 || (entry.second && entry.second->threads > 1);
  const Clock clock = threaded ? Clock::wall : Clock::cpu;
  std::vector<std::unique_ptr<Contestant>> contestants;
  contestants.push_back(std::make_unique<Contestant>(session, entry.first, clock));
  if (entry.second) {
    contestants.push_back(std::make_unique<Contestant>(session, *entry.second, clock));
  }
  const auto fail = [&](const std::string& reason) {
    session.failed = true;  // Google Benchmark's exit status says nothing of errors
    state.SkipWithError(reason.c_str());
  };
  for (const auto& contestant : contestants) {
    if (!contestant->wrong().empty()) return fail(contestant->wrong());
  }

  std::vector<double> time_ratios, roofline_ratios;
  const double start = now();
  int rounds = 0;
  const auto enough = [&] {
    if (session.options.rounds > 0) return rounds >= session.options.rounds;
    return rounds >= 25 || (rounds >= rounds_that_prove && now() - start > 1);
  };
  for (; !enough(); ++rounds) {
    for (const auto& contestant : contestants) contestant->round();
    if (!entry.second) continue;
    for (const auto& contestant : contestants) contestant->interrupt();
    const Contestant &first = *contestants[0], &second = *contestants[1];
    time_ratios.push_back(first.last_seconds() / second.last_seconds());
    roofline_ratios.push_back(first.last_share() / second.last_share());
  }

  const Contestant& first = *contestants.front();
  Measured result{.seconds = first.seconds(), .roofline = first.roofline()};
  for (const auto& contestant : contestants) {
    if (rounds >= rounds_that_prove && contestant->roofline() > highest_roofline) {
      return fail(message("a broken probe: ", contestant->roofline(), " of the limit, ",
                          contestant->limit().bandwidth / 1e9, " GB/s and ",
                          contestant->limit().flops / 1e9, " GFLOP/s"));
    }
  }
  // Google Benchmark wants to be asked for the iteration.
  for ([[maybe_unused]] auto _ : state) state.SetIterationTime(result.seconds);
  state.counters["roofline"] = result.roofline;
  state.counters["kv_bytes"] = first.work().kv_bytes;
  state.counters["bytes_per_second"] = first.work().kv_bytes / result.seconds;
  state.counters["flops"] = first.work().flops / result.seconds;
  state.counters["limit_bandwidth"] = first.limit().bandwidth;
  state.counters["limit_flops"] = first.limit().flops;
  state.counters["rounds"] = rounds;
  if (entry.second) {
    state.counters["time_ratio"] = result.time_ratio = median(time_ratios);
    state.counters["roofline_ratio"] = result.roofline_ratio = median(roofline_ratios);
  }
  session.results[entry.name] = result;
}

/// A line per case: what Google Benchmark's own reporter would show of manual times is less to the
/// point. --benchmark_out writes everything.
class Reporter : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context&) override {
    std::printf("%-80s %10s %8s %9s %9s %9s\n", "case", "time", "GB/s", "GFLOP/s", "roofline",
                "ratio");
    return true;
  }
  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& r : runs) {
      const std::string name = r.run_name.function_name;
      if (r.error_occurred) {
        std::printf("%-80s FAILED: %s\n", name.c_str(), r.error_message.c_str());
        continue;
      }
      const auto counter = [&](const char* key) {
        const auto found = r.counters.find(key);
        return found == r.counters.end() ? 0.0 : found->second.value;
      };
      const double ratio = counter("time_ratio");
      std::printf("%-80s %10s %8.1f %9.1f %9.3f %9s\n", name.c_str(),
                  seconds_text(r.GetAdjustedRealTime() / 1e6).c_str(),
                  counter("bytes_per_second") / 1e9, counter("flops") / 1e9, counter("roofline"),
                  ratio > 0 ? text("%.3f", ratio).c_str() : "");
    }
    std::fflush(stdout);
  }
};

void print_goals(const std::vector<Entry>& all, const Session& session) {
  std::printf("\n%-14s %9s %9s %9s  %-8s %s\n", "figure", "measured", "at least", "aim", "reached",
              "case");
  int left_out = 0;
  for (const Entry& entry : all) {
    if (!entry.goal) continue;
    const auto found = session.results.find(entry.name);
    if (found == session.results.end()) {
      ++left_out;
      continue;
    }
    const Goal& goal = *entry.goal;
    const double measured = found->second.figure(goal.figure);
    const char* const sign = small_is_good(goal.figure) ? "<= " : "";
    std::printf("%-14s %9.3f %9s %9s  %-8s %s\n", name_of(goal.figure), measured,
                (sign + text("%.2f", goal.accepted)).c_str(),
                (sign + text("%.2f", goal.aim)).c_str(), verdict(goal, measured),
                entry.name.c_str());
  }
  if (left_out > 0) std::printf("%d goals have no figure, as their cases did not run\n", left_out);
}

/// Names of cases in, seconds out; "error: …" for what can't be timed.
int serve(Session& session) {
  for (std::string line; std::getline(std::cin, line);) {
    try {
      const auto c = case_of(line);
      require(c.has_value(), "no case is called '", line, "'");
      Work& work = session.work(*c);
      const EigenPool& executor = session.executor(c->threads);
      time_of_call(work, executor, Clock::wall, 2e-3);  // into the caches, what fits
      const Agreement agreement = work.agreement();
      require(agreement.good(), line, " differs from the reference by ",
              agreement.share_of_tolerance, " tolerances");
      std::printf("%.9g\n", time_of_call(work, executor, Clock::wall, 20e-3));
    } catch (const std::exception& error) {
      std::printf("error: %s\n", error.what());
    }
    std::fflush(stdout);
  }
  return 0;
}

/// Takes the program's own options out of argv.
Options take_options(int& argc, char** argv) {
  Options options;
  int kept = 0;
  for (int i = 0; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--table") {
      options.table = true;
    } else if (argument == "--serve") {
      options.serve = true;
    } else if (argument.starts_with("--rounds=")) {
      options.rounds = std::atoi(argument.c_str() + 9);
    } else {
      argv[kept++] = argv[i];
    }
  }
  argc = kept;
  return options;
}

int run_main(int argc, char** argv) {
  Session session(take_options(argc, argv));
  if (session.options.serve) return serve(session);
  // The user's own filter, if there is one, comes later and counts.
  std::string filter = "--benchmark_filter=-^models/";
  std::vector<char*> arguments(argv, argv + argc);
  arguments.insert(arguments.begin() + 1, filter.data());
  arguments.push_back(nullptr);
  int count = argc + 1;
  const std::vector<Entry> all = entries();
  for (const Entry& entry : all) {
    benchmark::RegisterBenchmark(
        entry.name.c_str(),
        [&session, &entry](benchmark::State& state) { run(state, session, entry); })
        ->Iterations(1)
        ->UseManualTime()
        ->Unit(benchmark::kMicrosecond);
  }
  benchmark::Initialize(&count, arguments.data());
  if (benchmark::ReportUnrecognizedArguments(count, arguments.data())) return 1;
  Reporter reporter;
  benchmark::RunSpecifiedBenchmarks(&reporter);
  benchmark::Shutdown();
  if (session.options.table) print_goals(all, session);
  return session.failed ? 1 : 0;
}

}  // namespace
}  // namespace gqa::bench

int main(int argc, char** argv) {
  return gqa::examples::run_program("attention_bench",
                                    [&] { return gqa::bench::run_main(argc, argv); });
}
