// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// gqa_compare: what sharing KV heads is worth. One attention layer decodes and prefills with 32, 8
// and 1 KV heads (MHA, GQA, MQA), through the library and through a plain Eigen implementation that
// repeats keys and values; every result is checked against the reference before it is timed.
//
//   gqa_compare                                 Llama-3-8B's shape, f32, one thread
//   gqa_compare --dtype bf16 --threads 2        KV cache in bfloat16, two threads
//   gqa_compare --kv-heads 28,4 --heads 28      other shapes
#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "support/command_line.hpp"
#include "support/contest.hpp"
#include "support/machine.hpp"

namespace gqa::bench {
namespace {

using Json = nlohmann::ordered_json;

struct Settings {
  Index num_heads = 32;
  Index head_dim = 128;
  std::vector<Index> kv_heads{32, 8, 1};
  std::vector<Index> kv_lens{4096, 16384};
  std::vector<Index> q_lens{512, 2048};
  std::string dtype = "f32";
  Index threads = 1;
  Index repetitions = 0;
  bool no_baseline = false;
  bool quick = false;
  std::string json = GQA_BENCH_FOLDER "/compare.json";
};

/// One table.
struct Section {
  Step step;
  Outcome outcome;

  bool decodes() const { return step.q_len == 1; }
  double flops() const {
    return causal_flops(step.num_heads, step.head_dim, step.q_len, step.kv_len);
  }
  /// The share of the machine's limit: what the step must read or compute, whichever takes longer.
  double share_of_limit(const Line& line) const {
    const double reading = static_cast<double>(line.kv_bytes) / outcome.bandwidth;
    return std::max(reading, flops() / outcome.flops) / line.library.seconds;
  }
  const Line* mha() const {
    for (const Line& line : outcome.lines) {
      if (line.num_kv_heads == step.num_heads) return &line;
    }
    return nullptr;
  }
};

std::string kind(Index num_heads, Index num_kv_heads) {
  return num_kv_heads == num_heads ? "MHA" : num_kv_heads == 1 ? "MQA" : "GQA";
}

std::string table(const Section& section) {
  const Step& step = section.step;
  const Line* mha = section.mha();
  const bool baseline = section.outcome.lines.front().baseline.has_value();
  Table table;
  table.groups({{3, "gqa"}, {9, baseline ? "Eigen with repeat_kv" : ""}});
  std::vector<std::string> head{"KV heads",   "KV cache", "|",
                                "time/token", "vs MHA",   section.decodes() ? "GB/s" : "GFLOP/s",
                                "of limit",   "max diff"};
  if (baseline) head.insert(head.end(), {"|", "time/token", "vs MHA", "|", "gqa is"});
  table.row(head);
  table.rule();
  const auto ratio = [](double a, double b) {
    return text(a / b < 9.95 ? "%.2fx" : "%.1fx", a / b);
  };
  const auto per_token = [&](const Result& r) {
    return (r.agreement.good() ? "" : "WRONG ") +
           seconds_text(r.seconds / static_cast<double>(step.q_len));
  };
  for (const Line& line : section.outcome.lines) {
    const double work = section.decodes() ? static_cast<double>(line.kv_bytes) : section.flops();
    std::vector<std::string> row{
        message(line.num_kv_heads, " ", kind(step.num_heads, line.num_kv_heads)),
        bytes_text(static_cast<double>(line.kv_bytes)),
        "|",
        per_token(line.library),
        mha ? ratio(mha->library.seconds, line.library.seconds) : "-",
        text("%.1f", work / line.library.seconds / 1e9),
        text("%.0f %%", 100 * section.share_of_limit(line)),
        text("%.1e", line.library.agreement.difference)};
    if (line.baseline) {
      row.insert(row.end(), {"|", per_token(*line.baseline),
                             mha ? ratio(mha->baseline->seconds, line.baseline->seconds) : "-", "|",
                             ratio(line.baseline->seconds, line.library.seconds) + " as fast"});
    }
    table.row(row);
  }
  return table.str();
}

void print(const Section& section) {
  const Step& step = section.step;
  if (section.decodes()) {
    std::printf("\nDecode: 1 token enters a cache of %d and attends",
                static_cast<int>(step.kv_len - 1));
  } else {
    std::printf("\nPrefill: %d tokens enter an empty cache and attend causally",
                static_cast<int>(step.q_len));
  }
  const Outcome& outcome = section.outcome;
  std::printf("\n%d rounds; the machine's limits in the meantime: %.1f GB/s, %.0f GFLOP/s\n\n%s",
              static_cast<int>(outcome.lines.front().rounds), outcome.bandwidth / 1e9,
              outcome.flops / 1e9, table(section).c_str());
  std::fflush(stdout);
}

Json to_json(const Result& result, const Section& section, Index kv_bytes) {
  const Step& step = section.step;
  return {{"seconds", result.seconds},
          {"seconds_per_token", result.seconds / static_cast<double>(step.q_len)},
          {"spread", result.spread},
          {"kv_bytes_per_second", static_cast<double>(kv_bytes) / result.seconds},
          {"flops_per_second", section.flops() / result.seconds},
          {"max_difference", result.agreement.difference},
          {"share_of_tolerance", result.agreement.share_of_tolerance}};
}

Json to_json(const Settings& settings, const std::vector<Section>& sections) {
  Json json = {{"processor", processor()},        {"isa", simd::isa_name},
               {"num_heads", settings.num_heads}, {"head_dim", settings.head_dim},
               {"dtype", settings.dtype},         {"threads", settings.threads},
               {"measurements", Json::array()}};
  for (const Section& section : sections) {
    for (const Line& line : section.outcome.lines) {
      Json entry = {{"phase", section.decodes() ? "decode" : "prefill"},
                    {"kv_len", section.step.kv_len},
                    {"q_len", section.step.q_len},
                    {"num_kv_heads", line.num_kv_heads},
                    {"kv_bytes", line.kv_bytes},
                    {"limit_bytes_per_second", section.outcome.bandwidth},
                    {"limit_flops_per_second", section.outcome.flops},
                    {"gqa_share_of_limit", section.share_of_limit(line)},
                    {"flops", section.flops()},
                    {"rounds", line.rounds},
                    {"gqa", to_json(line.library, section, line.kv_bytes)}};
      if (line.baseline) entry["eigen"] = to_json(*line.baseline, section, line.kv_bytes);
      json["measurements"].push_back(std::move(entry));
    }
  }
  return json;
}

template <Scalar Storage>
bool run(const Settings& settings) {
  std::ofstream file(settings.json);
  if (!file) throw std::runtime_error(settings.json + ": cannot be written");
  const ContestOptions options{.kv_heads = settings.kv_heads,
                               .threads = settings.threads,
                               .baseline = !settings.no_baseline,
                               .repetitions = settings.repetitions};
  std::printf(
      "One attention layer: %d query heads, head_dim %d, KV cache in %s, %d thread%s\n%s, %s\n",
      static_cast<int>(settings.num_heads), static_cast<int>(settings.head_dim),
      settings.dtype.c_str(), static_cast<int>(settings.threads), settings.threads == 1 ? "" : "s",
      processor().c_str(), simd::isa_name);
  std::fflush(stdout);
  Progress progress;
  std::vector<Section> sections;
  bool good = true;
  const auto section = [&](Index kv_len, Index q_len) {
    const Step step{settings.num_heads, settings.head_dim, kv_len, q_len};
    sections.push_back({step, run_contest<Storage>(step, options, progress)});
    progress.clear();
    print(sections.back());
    for (const Line& line : sections.back().outcome.lines) {
      good &= line.library.agreement.good();
      good &= !line.baseline || line.baseline->agreement.good();
    }
  };
  for (const Index kv_len : settings.kv_lens) section(kv_len, 1);
  for (const Index q_len : settings.q_lens) section(q_len, q_len);
  std::printf(
      "\ntime/token: median, appending included, caches cold   vs MHA: speed   GB/s: KV cache / "
      "time\n"
      "GFLOP/s: of visible pairs   limit: bytes / bandwidth or flops / peak   max diff: from "
      "the "
      "reference\n");

  file << to_json(settings, sections).dump(2) << "\n";
  if (!file.flush()) throw std::runtime_error(settings.json + ": cannot be written");
  std::printf("JSON: %s\n", settings.json.c_str());
  if (!good)
    std::fprintf(stderr,
                 "gqa_compare: a result is WRONG: farther from the reference than the tolerance\n");
  return good;
}

int run_main(int argc, char** argv) {
  using examples::add_option;
  Settings settings;
  CLI::App app("Decode and prefill of one attention layer with different numbers of KV heads",
               "gqa_compare");
  const CLI::Range positive(Index{1}, Index{1} << 40);
  add_option(app, "--heads", settings.num_heads, "Query heads")
      ->check(positive)
      ->capture_default_str();
  add_option(app, "--head-dim", settings.head_dim, "Width of a head")
      ->check(positive)
      ->capture_default_str();
  add_option(app, "--kv-heads", settings.kv_heads, "Numbers of KV heads, each a divisor of --heads")
      ->delimiter(',')
      ->check(positive)
      ->capture_default_str();
  auto* kv_lens = add_option(app, "--kv-len", settings.kv_lens, "Decode: tokens in the cache")
                      ->delimiter(',')
                      ->check(positive)
                      ->capture_default_str();
  auto* q_lens = add_option(app, "--q-len", settings.q_lens, "Prefill: tokens of the prompt")
                     ->delimiter(',')
                     ->check(positive)
                     ->capture_default_str();
  add_option(app, "--dtype", settings.dtype, "Keys and values: f32, bf16 or f16")
      ->check(CLI::IsMember({"f32", "bf16", "f16"}))
      ->capture_default_str();
  add_option(app, "--threads", settings.threads, "Threads")->check(positive)->capture_default_str();
  add_option(app, "--repetitions", settings.repetitions,
             "Rounds of each table; 0: 3 to 31, about 12 seconds")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_flag("--no-baseline", settings.no_baseline, "Leave the Eigen implementation out");
  app.add_flag("--quick", settings.quick, "Small sizes and few rounds, to see that it works");
  add_option(app, "--json", settings.json, "File for the results")->capture_default_str();
  return examples::run_program(app, argc, argv, [&] {
    if (settings.quick) {
      if (kv_lens->empty()) settings.kv_lens = {512};
      if (q_lens->empty()) settings.q_lens = {128};
      if (settings.repetitions == 0) settings.repetitions = 3;
    }
    for (const Index n : settings.kv_heads) Heads<>(settings.num_heads, n, settings.head_dim);
    const bool good = settings.dtype == "bf16"  ? run<bfloat16>(settings)
                      : settings.dtype == "f16" ? run<half>(settings)
                                                : run<float>(settings);
    return good ? 0 : 1;
  });
}

}  // namespace
}  // namespace gqa::bench

int main(int argc, char** argv) { return gqa::bench::run_main(argc, argv); }
