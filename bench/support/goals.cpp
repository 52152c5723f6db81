// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
#include "support/goals.hpp"

namespace gqa::bench {
namespace {

/// An attention layer of 32 query heads, as of llama2_7b, llama3_8b and mqa_8b.
ModelShape shape(Index kv_heads, Index head_dim = 128) { return {"", 32, kv_heads, head_dim}; }

Case decode(const char* dtype, const ModelShape& model, Index kv_len) {
  return {.dtype = dtype, .model = model, .kv_len = kv_len, .q_len = 1};
}
Case prefill(const char* dtype, const ModelShape& model, Index q_len) {
  return {.dtype = dtype, .model = model, .kv_len = q_len, .q_len = q_len};
}
Case with_threads(Case c, Index threads) {
  c.threads = threads;
  return c;
}
Case over(std::string cache, Case c) {
  c.cache = std::move(cache);
  return c;
}
Case over_rows(Case c) {
  c.rows = true;
  return c;
}

class List {
 public:
  void add(const Case& c, std::optional<Goal> goal = std::nullopt) {
    entries.push_back({.name = name_of(c), .first = c, .goal = goal});
  }
  void compare(std::string name, const Case& first, const Case& second, Goal goal) {
    entries.push_back(
        {.name = "ratio/" + std::move(name), .first = first, .second = second, .goal = goal});
  }
  std::vector<Entry> entries;
};

void add_decode(List& list) {
  const Goal mha{Figure::roofline, 0.85, 0.95}, gqa{Figure::roofline, 0.78, 0.92};
  const Goal bf16{Figure::roofline, 0.65, 0.88}, int8{Figure::roofline, 0.50, 0.80};
  for (const Index kv_len : {512, 4096, 32768}) {
    list.add(decode("f32", shape(32), kv_len), kv_len > 512 ? std::optional(mha) : std::nullopt);
    list.add(decode("f32", shape(8), kv_len), gqa);
    list.add(decode("f32", shape(1), kv_len), gqa);
    list.add(decode("bf16", shape(32), kv_len));
    list.add(decode("bf16", shape(8), kv_len), kv_len > 512 ? std::optional(bf16) : std::nullopt);
    list.add(decode("bf16", shape(1), kv_len));
    list.add(decode("int8", shape(32), kv_len));
    list.add(decode("int8", shape(8), kv_len), kv_len > 512 ? std::optional(int8) : std::nullopt);
    list.add(decode("int8", shape(1), kv_len));
  }
}

void add_ratios(List& list) {
  const Case mha = decode("f32", shape(32), 32768);
  list.compare("decode/f32/kv_len:32768/kv_heads:8_over_32", decode("f32", shape(8), 32768), mha,
               {Figure::time_ratio, 0.29, 0.26});
  list.compare("decode/f32/kv_len:32768/kv_heads:1_over_32", decode("f32", shape(1), 32768), mha,
               {Figure::time_ratio, 0.16, 0.12});
  for (const Index kv_heads : {32, 8}) {
    const auto over_f32 = [&](const char* dtype, Goal goal) {
      list.compare(message("decode/kv_heads:", kv_heads, "/kv_len:32768/", dtype, "_over_f32"),
                   decode(dtype, shape(kv_heads), 32768), decode("f32", shape(kv_heads), 32768),
                   goal);
    };
    over_f32("bf16", {Figure::time_ratio, 0.58, 0.52});
    over_f32("int8", {Figure::time_ratio, 0.38, 0.28});
    const Index kv_len = 1048576 / kv_heads;  // 128 MiB of int4: more than any L3
    list.compare(message("decode/kv_heads:", kv_heads, "/kv_len:", kv_len, "/int4_over_int8"),
                 decode("int4", shape(kv_heads), kv_len), decode("int8", shape(kv_heads), kv_len),
                 {Figure::time_ratio, 0.95, 0.6});
  }
  for (const Index kv_len : {4096, 32768}) {
    const Case cache = decode("f32", shape(8), kv_len);
    list.compare(message("decode/f32/kv_heads:8/kv_len:", kv_len, "/rows_over_cache"),
                 over_rows(cache), cache, {Figure::time_ratio, 1.5, 1.25});
  }
  // Any group is as good as 8: 4 KV heads, 4 x group query heads.
  for (const Index kv_len : {4096, 32768}) {
    for (const Index group : {3, 5, 6, 7, 12}) {
      list.compare(message("decode/f32/kv_heads:4/kv_len:", kv_len, "/group:", group, "_over_8"),
                   decode("f32", {"", 4 * group, 4, 128}, kv_len), decode("f32", shape(4), kv_len),
                   {Figure::roofline_ratio, 0.85, 0.95});
    }
  }
  const Case step = decode("f32", shape(8), 1024), prompt = prefill("f32", shape(8), 2048);
  list.compare("decode/f32/kv_heads:8/kv_len:1024/threads:1_over_2", step, with_threads(step, 2),
               {Figure::speed_up, 1.75, 1.9});
  list.compare("prefill/f32/kv_heads:8/q_len:2048/threads:1_over_2", prompt,
               with_threads(prompt, 2), {Figure::speed_up, 1.85, 1.95});
}

void add_prefill(List& list) {
  for (const Index head_dim : {128, 64}) {
    const double less = head_dim == 128 ? 0 : 0.04;
    for (const Index q_len : {512, 2048, 4096}) {
      const Goal goal = q_len == 512 ? Goal{Figure::roofline, 0.74 - less, 0.82 - less}
                                     : Goal{Figure::roofline, 0.82 - less, 0.90 - less};
      for (const Index kv_heads : {32, 8, 1}) {
        list.add(prefill("f32", shape(kv_heads, head_dim), q_len), goal);
      }
    }
  }
  for (const Index kv_heads : {32, 8, 1}) {
    list.add(prefill("bf16", shape(kv_heads), 2048), Goal{Figure::roofline, 0.60, 0.78});
  }
}

void add_backward(List& list) {
  const auto backward = [](const ModelShape& model, Index q_len) {
    return Case{.model = model, .kv_len = q_len, .q_len = q_len, .backward = true};
  };
  const Goal goal{Figure::roofline, 0.55, 0.75};
  for (const Index kv_heads : {32, 8, 1}) list.add(backward(shape(kv_heads, 64), 1024), goal);
  list.add(backward(shape(8), 1024));
  const Case step = backward(shape(8, 64), 1024);
  list.compare("backward/f32/kv_heads:8/head_dim:64/q_len:1024/threads:1_over_2", step,
               with_threads(step, 2), {Figure::speed_up, 1.85, 1.95});
}

/// What an engine's caches cost beside a contiguous one.
void add_caches(List& list) {
  // In L3, and in memory; with 4096 keys both caches together would be as large as L3.
  for (const Index kv_len : {1024, 32768}) {
    const auto compare = [&](const char* dtype, Index head_dim) {
      const Case contiguous = decode(dtype, shape(8, head_dim), kv_len);
      const auto name = [&](const char* cache) {
        return message("cache:", cache, "_over_contiguous/", name_of(contiguous));
      };
      list.compare(name("paged"), over("paged", contiguous), contiguous,
                   {Figure::time_ratio, 1.10, 1.05});
      if (kv_len >= 32768) {
        list.compare(name("paged_512"), over("paged_512", contiguous), contiguous,
                     {Figure::time_ratio, 1.10, 1.05});
      }
      list.compare(name("ring"), over("ring", contiguous), contiguous,
                   {Figure::time_ratio, 1.05, 1.02});
    };
    compare("f32", 128);
    compare("bf16", 128);
    compare("bf16", 64);
    compare("int8", 128);
  }
  // The keys of a layer and of 31 others come between two appends to it, as in a model.
  for (const char* dtype : {"f32", "bf16", "int8", "int4"}) {
    const Case step = decode(dtype, shape(8), 4096);
    list.compare(message("append_over_decode/", name_of(step)), over("append", step), step,
                 {Figure::time_ratio, 0.03, 0.01});
  }
  const auto shared = [&](Index kv_heads, Goal goal) {
    Case step = decode("f32", shape(kv_heads), 4096 + block_keys);
    step.batch = 8;
    list.compare("separately_over_shared_prefix/" + name_of(step), over("forks", step),
                 over("shared_prefix", step), goal);
  };
  shared(32, {Figure::speed_up, 4.0, 6.0});
  shared(8, {Figure::speed_up, 1.6, 2.0});
  shared(1, {Figure::speed_up, 1.0, 1.1});
}

/// The attention layers of models, without goals; left out unless a filter asks for them.
void add_models(List& list) {
  for (const char* dtype : {"f32", "bf16", "f16", "int8", "int4"}) {
    for (const ModelShape& model : models) {
      for (const Index threads : {1, 2}) {
        const auto add = [&](Case c) {
          c.model = model;
          c.threads = threads;
          list.entries.push_back(
              {.name = message("models/", model.name, "/", name_of(c)), .first = c});
        };
        for (const Index kv_len : {512, 4096, 32768}) add(decode(dtype, model, kv_len));
        for (const Index q_len : {128, 512, 2048}) add(prefill(dtype, model, q_len));
        if (model.num_kv_heads == 8 && model.head_dim == 128) {
          Case batch = decode(dtype, model, 4096);
          batch.batch = 8;
          add(batch);
        }
      }
    }
  }
}

}  // namespace

std::vector<Entry> entries() {
  List list;
  add_decode(list);
  add_ratios(list);
  add_prefill(list);
  add_backward(list);
  add_caches(list);
  add_models(list);
  return list.entries;
}

const char* name_of(Figure figure) {
  switch (figure) {
    case Figure::roofline:
      return "roofline";
    case Figure::time_ratio:
      return "time ratio";
    case Figure::speed_up:
      return "speed-up";
    case Figure::roofline_ratio:
      return "roofline ratio";
  }
  return "";
}

const char* verdict(const Goal& goal, double figure) {
  const auto reached = [&](double bound) {
    return small_is_good(goal.figure) ? figure <= bound : figure >= bound;
  };
  return reached(goal.aim) ? "aim" : reached(goal.accepted) ? "yes" : "NO";
}

}  // namespace gqa::bench
