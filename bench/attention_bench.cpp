// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// attention_bench: attend() over a KV cache, by Google Benchmark; for people who change kernels.
//
//   attention_bench --benchmark_filter='decode/f32/heads:32/kv_heads:8/.*threads:1$'
//
// Each case is compared with the reference before it is timed. Queries and outputs are float; the
// type in the name is that of the cache. Times are of one call. A cache that fits into L2 or L3 is
// timed from there: compare flushes it, this doesn't. Counters:
//
//   kv_bytes           bytes of keys and values in the cache
//   bytes_per_second   kv_bytes / time: decode reads each of them once
//   flops              multiplications and additions per second, of the pairs that Causal shows
#include <benchmark/benchmark.h>

#include <cstdio>
#include <memory>
#include <string>

#include "support/check.hpp"
#include "support/data.hpp"
#include "support/measure.hpp"

namespace gqa::bench {
namespace {

struct Case {
  ModelShape model;
  Index kv_len = 0;
  Index q_len = 0;  // 1: decode; kv_len: prefill
  Index batch = 1;
  Index threads = 1;
};

/// decode/f32/heads:32/kv_heads:8/head_dim:128/kv_len:4096/batch:1/threads:1
std::string name_of(const Case& c, const char* dtype) {
  const bool decodes = c.q_len == 1;
  return message(decodes ? "decode/" : "prefill/", dtype, "/heads:", c.model.num_heads,
                 "/kv_heads:", c.model.num_kv_heads, "/head_dim:", c.model.head_dim,
                 decodes ? "/kv_len:" : "/q_len:", c.kv_len, "/batch:", c.batch,
                 "/threads:", c.threads);
}

/// A filled cache and the queries of its last tokens.
template <Scalar Storage>
struct Fixture {
  explicit Fixture(const Case& c)
      : q(c.batch, c.q_len, c.model.num_heads, c.model.head_dim),
        out(q.dimensions()),
        cache({.batch = c.batch,
               .capacity = c.kv_len,
               .heads = {c.model.num_heads, c.model.num_kv_heads, c.model.head_dim}}),
        pool(static_cast<int>(std::max<Index>(c.threads - 1, 1))),
        executor(pool, c.threads) {
    Random random(1);
    random.fill(q);
    append_random(random, c.batch, c.kv_len, c.model.num_kv_heads, c.model.head_dim,
                  [this](const Tensor& k, const Tensor& v) { cache.append(k, v); });
    attend_once();
    agreement = SampledReference(q, cache).agreement(out);
  }
  void attend_once() { attend(q, cache, out, Causal{}, {.workspace = &workspace}, executor); }

  Tensor q;  // [batch, q_len, num_heads, head_dim]
  Tensor out;
  KvCache<Storage> cache;
  Workspace workspace;
  Eigen::ThreadPool pool;
  EigenPool executor;
  Agreement agreement;
};

template <Scalar Storage>
void run(benchmark::State& state, const Case& c) {
  // Google Benchmark calls this several times to find the number of iterations.
  static std::unique_ptr<Fixture<Storage>> fixture;
  static std::string fixture_name;
  const std::string name = name_of(c, scalar_name<Storage>());
  if (fixture_name != name) {
    fixture.reset();
    fixture = std::make_unique<Fixture<Storage>>(c);
    fixture_name = name;
  }
  if (!fixture->agreement.good()) {
    const std::string wrong = "differs from the reference by " +
                              std::to_string(fixture->agreement.share_of_tolerance) + " tolerances";
    return state.SkipWithError(wrong.c_str());
  }
  const double start = now();
  for ([[maybe_unused]] auto _ : state) fixture->attend_once();
  const double seconds = (now() - start) / static_cast<double>(state.iterations());

  const auto kv_bytes = static_cast<double>(c.kv_len * c.batch * fixture->cache.bytes_per_token());
  const double flops = static_cast<double>(c.batch) *
                       causal_flops(c.model.num_heads, c.model.head_dim, c.q_len, c.kv_len);
  // By the wall clock: rates of Google Benchmark would count the time of one thread only.
  state.counters["kv_bytes"] =
      benchmark::Counter(kv_bytes, benchmark::Counter::kDefaults, benchmark::Counter::kIs1024);
  state.counters["bytes_per_second"] = kv_bytes / seconds;
  state.counters["flops"] = flops / seconds;
  state.SetLabel(std::string(c.model.name));
}

template <Scalar Storage>
void register_case(const Case& c) {
  benchmark::RegisterBenchmark(name_of(c, scalar_name<Storage>()).c_str(), run<Storage>, c)
      ->Unit(benchmark::kMicrosecond);
}

template <Scalar Storage>
void register_all() {
  for (const Index threads : {1, 2}) {
    for (const ModelShape& model : models) {
      for (const Index kv_len : {512, 4096, 32768}) {
        register_case<Storage>({model, kv_len, 1, 1, threads});
      }
    }
    register_case<Storage>({models[1], 4096, 1, 8, threads});  // a batch of eight
    for (const ModelShape& model : models) {
      for (const Index q_len : {128, 512, 2048}) {
        register_case<Storage>({model, q_len, q_len, 1, threads});
      }
    }
  }
}

}  // namespace
}  // namespace gqa::bench

int main(int argc, char** argv) {
  gqa::bench::register_all<float>();
  gqa::bench::register_all<gqa::bfloat16>();
  gqa::bench::register_all<gqa::half>();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
