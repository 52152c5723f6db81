// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// gqa_roofline: what this machine can do, in seconds: the multiply-accumulate instructions, and
// reading from L2, L3 and memory, with one thread and with all cores. Each figure is the median of
// several rounds of the best of several probes (support/probes.hpp).
//
//   gqa_roofline                    a table
//   gqa_roofline --json FILE        the same for programs
//   gqa_roofline --threads 4        instead of all cores
//   gqa_roofline --rounds 5         measurements of each figure, 25 by default
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <gqa/parallel/eigen_pool.hpp>
#include <gqa/simd/arch.hpp>
#include <stdexcept>
#include <string>

#include "support/limits.hpp"
#include "support/machine.hpp"
#include "support/program.hpp"
#include "support/table.hpp"

namespace gqa::bench {
namespace {

/// A limit with one number of threads.
struct Figure {
  double per_second = 0;  ///< median
  double spread = 0;      ///< middle half of the rounds / median
  std::string probe;
};
/// A row of the table: one core, all cores.
struct Row {
  std::string name;
  const char* unit = "";
  std::vector<Figure> figures;
};

Figure summary(std::vector<double> speeds, std::string probe) {
  std::sort(speeds.begin(), speeds.end());
  const double middle = median(speeds);
  return {middle, (speeds[speeds.size() * 3 / 4] - speeds[speeds.size() / 4]) / middle,
          std::move(probe)};
}

template <typename Speed>
Figure measure(Speed speed, const EigenPool& executor, Index rounds) {
  const Clock clock = executor.concurrency() == 1 ? Clock::cpu : Clock::wall;
  speed.calibrate(executor, clock);
  std::vector<double> speeds;
  for (Index i = 0; i < rounds; ++i) speeds.push_back(speed.measure(executor, clock));
  return summary(std::move(speeds), speed.best().describe());
}

/// The level of memory that `threads` threads read together, as much as is well inside of it and
/// well outside of the next one.
Index bytes_of(int level, Index threads) {
  const Index l2 = cache_bytes(2), l3 = cache_bytes(3);
  if (level == 2) return l2 / 2 * threads;
  return std::max(4 * l2 * threads, l3 / 4);
}

std::vector<Row> measure_all(const std::vector<const EigenPool*>& executors, Index rounds) {
  std::vector<Row> rows;
  for (const Arithmetic arithmetic : all_arithmetic) {
    if (compute_probes(arithmetic).empty()) continue;
    Row& row = rows.emplace_back(Row{.name = name_of(arithmetic), .unit = "Gop/s", .figures = {}});
    for (const EigenPool* executor : executors) {
      row.figures.push_back(measure(ComputeSpeed(arithmetic), *executor, rounds));
    }
  }
  const LargeMemory memory;
  for (const int level : {2, 3, 4}) {
    Row& row = rows.emplace_back(Row{.name = level == 4 ? "read DRAM" : message("read L", level),
                                     .unit = "GB/s",
                                     .figures = {}});
    for (const EigenPool* executor : executors) {
      auto bytes = memory.bytes();
      if (level < 4) {
        bytes = bytes.first(static_cast<std::size_t>(bytes_of(level, executor->concurrency())));
      }
      row.figures.push_back(measure(ReadSpeed(bytes), *executor, rounds));
    }
  }
  return rows;
}

std::string table(const std::vector<Row>& rows, const std::vector<const EigenPool*>& executors) {
  Table table;
  std::vector<std::string> head{"", ""};
  for (const EigenPool* executor : executors) {
    const auto threads = executor->concurrency();
    head.insert(head.end(), {"|", message(threads, threads == 1 ? " thread" : " threads"), "spread",
                             "best probe"});
  }
  table.row(head);
  table.rule();
  for (const Row& row : rows) {
    std::vector<std::string> cells{row.name, row.unit};
    for (const Figure& figure : row.figures) {
      cells.insert(cells.end(), {"|", text("%.1f", figure.per_second / 1e9),
                                 text("%.0f %%", 100 * figure.spread), figure.probe});
    }
    table.row(cells);
  }
  return table.str();
}

std::string json(const std::vector<Row>& rows, const std::vector<const EigenPool*>& executors) {
  std::string limits;
  for (const Row& row : rows) {
    for (std::size_t i = 0; i < executors.size(); ++i) {
      const Figure& figure = row.figures[i];
      limits += message(limits.empty() ? "" : ",", "\n    {\"name\": \"", row.name,
                        "\", \"threads\": ", executors[i]->concurrency(),
                        ", \"per_second\": ", figure.per_second, ", \"spread\": ", figure.spread,
                        ", \"probe\": \"", figure.probe, "\"}");
    }
  }
  return message("{\n  \"processor\": \"", processor(), "\", \"isa\": \"", simd::isa_name,
                 "\",\n  \"l2_bytes\": ", cache_bytes(2), ", \"l3_bytes\": ", cache_bytes(3),
                 ",\n  \"limits\": [", limits, "\n  ]\n}\n");
}

struct Options {
  Index threads = std::max<Index>(1, std::thread::hardware_concurrency());
  Index rounds = 25;
  std::string json;
};

Options options_of(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; i += 2) {
    const std::string name = argv[i];
    require(name == "--threads" || name == "--rounds" || name == "--json", "unknown option ", name,
            "; there are --threads N, --rounds N and --json FILE");
    require(i + 1 < argc, name, " needs a value");
    const std::string value = argv[i + 1];
    if (name == "--json") {
      options.json = value;
      continue;
    }
    const Index number = std::atoll(value.c_str());
    require(number > 0, name, " is ", value, ", not a positive number");
    (name == "--threads" ? options.threads : options.rounds) = number;
  }
  return options;
}

int run_main(int argc, char** argv) {
  const Options options = options_of(argc, argv);
  std::ofstream file;
  if (!options.json.empty()) {
    file.open(options.json);
    if (!file) throw std::runtime_error(options.json + ": cannot be written");
  }

  Eigen::ThreadPool pool(static_cast<int>(std::max<Index>(options.threads - 1, 1)));
  const EigenPool one(pool, 1), all(pool, options.threads);
  std::vector<const EigenPool*> executors{&one};
  if (options.threads > 1) executors.push_back(&all);
  std::printf("%s, %s; L2 %s, L3 %s\n", processor().c_str(), simd::isa_name,
              bytes_text(static_cast<double>(cache_bytes(2))).c_str(),
              bytes_text(static_cast<double>(cache_bytes(3))).c_str());
  std::fflush(stdout);
  const std::vector<Row> rows = measure_all(executors, options.rounds);
  std::printf("%s", table(rows, executors).c_str());
  std::printf(
      "\nmedians of %d rounds; spread: of the middle half of them. A multiplication and an "
      "addition "
      "are\ntwo operations. One thread is timed by its own CPU time, several by the wall clock.\n",
      static_cast<int>(options.rounds));
  if (!options.json.empty()) {
    file << json(rows, executors);
    if (!file.flush()) throw std::runtime_error(options.json + ": cannot be written");
    std::printf("JSON: %s\n", options.json.c_str());
  }
  return 0;
}

}  // namespace
}  // namespace gqa::bench

int main(int argc, char** argv) {
  return gqa::examples::run_program("gqa_roofline",
                                    [&] { return gqa::bench::run_main(argc, argv); });
}
