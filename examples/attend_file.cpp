// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Attention from file to file, to check another engine against:
//
//   attend_file in.safetensors out.safetensors --causal --hf-window 1024 --soft-cap 50
//
// `attend_file --help` tells which tensors it reads and writes. The command line decides at run
// time which rules there are, in a RuleSet.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <gqa/gqa.hpp>
#include <iostream>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "attend_file_options.hpp"
#include "support/attention_input.hpp"
#include "support/command_line.hpp"
#include "support/output_file.hpp"
#include "support/safetensors.hpp"
#include "support/safetensors_writer.hpp"

namespace gqa::examples {
namespace {

using Options = AttendFileOptions;

/// Query is float or double: 16-bit queries are computed as the floats that they are.
template <typename Query, typename Storage>
void attend_file(const Options& options, const SafeTensors& file, const AttentionSizes& n) {
  const std::vector<Query> q = file.convert<Query>("q");
  const std::vector<Query> k = file.convert<Query>("k");
  const std::vector<Query> v = file.convert<Query>("v");
  const auto kv_lens = optional_tensor<Index>(file, "kv_lens", {{n.batch}});
  KvCache<Storage> cache({.batch = n.batch,
                          .capacity = n.kv_len,
                          .heads = {n.num_heads, n.num_kv_heads, n.head_dim, n.value_dim}});
  cache.append(n.view_of(k.data(), n.kv_len, n.num_kv_heads, n.head_dim),
               n.view_of(v.data(), n.kv_len, n.num_kv_heads, n.value_dim), kv_lens);

  // Rules keep pointers to their tables, which stay until the end.
  RuleSet rules = Scale{options.scale.value_or(1.0 / std::sqrt(static_cast<double>(n.head_dim)))};
  if (options.causal) rules.add(Causal{});
  if (options.causal_top_left) rules.add(Causal::top_left());
  SlidingWindow window;
  if (options.hf_window) window = SlidingWindow::from_hf(*options.hf_window);
  if (options.window_left) window.left = *options.window_left;
  if (options.window_right) window.right = *options.window_right;
  rules.add(window);
  rules.add(KeepFirst{options.keep_first.value_or(0)});
  const auto prefix_lens = optional_lengths(file, "prefix_lens", n.batch);
  if (options.prefix_lm || !prefix_lens.empty()) {
    rules.add(PrefixLm{.length = options.prefix_lm.value_or(0), .lengths = prefix_lens});
  }
  const auto q_documents = optional_tensor<int>(file, "q_documents", {{n.batch, n.q_len}});
  const auto kv_documents = optional_tensor<int>(file, "kv_documents", {{n.batch, n.kv_len}});
  require(file.contains("q_documents") == file.contains("kv_documents"),
          "q_documents and kv_documents come together");
  if (file.contains("q_documents")) {
    rules.add(Documents{q_documents, kv_documents, n.q_len, n.kv_len});
  }
  const DenseTensor<bool> dense_mask(file, "mask");
  if (dense_mask.view) rules.add(DenseMask{*dense_mask.view});
  if (options.soft_cap) rules.add(SoftCap{*options.soft_cap});
  if (file.contains("alibi_slopes")) {
    rules.add(Alibi{optional_tensor<float>(file, "alibi_slopes", {{n.num_heads}})});
  } else if (options.alibi) {
    rules.add(Alibi::standard(n.num_heads));
  }
  std::vector<float> buckets;
  if (file.contains("relative_bias")) {
    const auto& shape = file.shape("relative_bias");
    const Index num_buckets = shape.empty() ? 0 : shape[0];
    buckets = optional_tensor<float>(file, "relative_bias", {{num_buckets, n.num_heads}});
    rules.add(RelativeBias{.table = buckets,
                           .num_buckets = num_buckets,
                           .num_heads = n.num_heads,
                           .bidirectional = options.relative_bias == "bidirectional",
                           .max_distance = options.max_distance});
  }
  const DenseTensor<Query> dense_bias(file, "bias");
  if (dense_bias.view) rules.add(AdditiveBias<Query>{*dense_bias.view});
  const auto sink_logits = optional_tensor<float>(file, "sinks", {{n.num_heads}});
  if (file.contains("sinks")) rules.add(SinkLogits{sink_logits});

  // The call.
  auto positions = optional_tensor<Index>(file, "positions", {{n.batch, n.q_len}, {n.q_len}});
  if (file.contains("positions") && file.shape("positions").size() == 1) {
    const std::vector<Index> row = positions;
    for (Index b = 1; b < n.batch; ++b) positions.insert(positions.end(), row.begin(), row.end());
  }
  const auto q_lens = optional_tensor<Index>(file, "q_lens", {{n.batch}});
  std::vector<Query> out(static_cast<std::size_t>(n.batch * n.q_len * n.num_heads * n.value_dim));
  std::vector<Query> lse(static_cast<std::size_t>(n.batch * n.num_heads * n.q_len));
  std::vector<double> scores;
  const AttendOptions<Query> call = {
      .lse = {lse.data(), n.batch, n.num_heads, n.q_len}, .q_lens = q_lens, .positions = positions};
  const auto q_view = n.view_of(q.data(), n.q_len, n.num_heads, n.head_dim);
  const auto out_view = n.view_of(out.data(), n.q_len, n.num_heads, n.value_dim);
  Index longest = 0;  // scores are as wide as the longest sequence
  for (Index b = 0; b < n.batch; ++b) longest = std::max(longest, cache.length(b));
  if (options.kernel == "reference") {
    ReferenceOptions<Query> reference_call{call};
    if (!options.scores.empty()) {
      scores.resize(static_cast<std::size_t>(n.batch * n.num_heads * n.q_len * longest));
      reference_call.scores = scores.data();
      reference_call.stage = options.scores == "scaled"   ? ScoreStage::scaled
                             : options.scores == "capped" ? ScoreStage::capped
                             : options.scores == "biased" ? ScoreStage::biased
                                                          : ScoreStage::softmax;
    }
    reference(q_view, cache, out_view, rules, reference_call);
  } else {
    Eigen::ThreadPool pool(static_cast<int>(std::max<Index>(options.threads - 1, 1)));
    attend(q_view, cache, out_view, rules, call, EigenPool(pool, options.threads));
  }

  SafeTensorsWriter writer;
  writer.add("out", n.out_shape(), out);
  writer.add("lse",
             n.batched ? std::vector<std::int64_t>{n.batch, n.num_heads, n.q_len}
                       : std::vector<std::int64_t>{n.num_heads, n.q_len},
             lse);
  if (!options.scores.empty()) {
    writer.add("scores",
               n.batched ? std::vector<std::int64_t>{n.batch, n.num_heads, n.q_len, longest}
                         : std::vector<std::int64_t>{n.num_heads, n.q_len, longest},
               scores);
  }
  writer.write(options.output);
}

/// What would be ignored is said (a file may hold the other engine's results beside its inputs, but
/// also a misspelt name); options that contradict are an error.
void check_use(const Options& options, const SafeTensors& file) {
  static constexpr std::array<std::string_view, 14> known = {"q",
                                                             "k",
                                                             "v",
                                                             "mask",
                                                             "bias",
                                                             "sinks",
                                                             "positions",
                                                             "q_lens",
                                                             "kv_lens",
                                                             "q_documents",
                                                             "kv_documents",
                                                             "prefix_lens",
                                                             "alibi_slopes",
                                                             "relative_bias"};
  for (const std::string& name : file.names()) {
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      std::cerr << "attend_file: tensor \"" << name << "\" has no meaning here and is not read\n";
    }
  }
  require(options.scores.empty() || options.kernel == "reference",
          "--scores needs --kernel reference: the tiled kernels never have all scores");
  require(!options.alibi || !file.contains("alibi_slopes"),
          "--alibi stands for the standard slopes, but the file has alibi_slopes");
  require(!options.prefix_lm || !file.contains("prefix_lens"),
          "--prefix-lm gives one length, but the file has prefix_lens");
}

void run(const Options& options) {
  check_not_input(options.output, options.input);
  const SafeTensors file(options.input);
  check_use(options, file);
  const AttentionSizes sizes(file, options.layout == "heads-first");
  const DType q_dtype = file.tensor("q").dtype, k_dtype = file.tensor("k").dtype;
  const std::string kv_dtype = options.kv_dtype != "as-stored" ? options.kv_dtype
                               : k_dtype == DType::f64         ? "f64"
                               : k_dtype == DType::f16         ? "f16"
                               : k_dtype == DType::bf16        ? "bf16"
                                                               : "f32";
  require((q_dtype == DType::f64) == (kv_dtype == "f64"), "q is ", std::string(name_of(q_dtype)),
          " and keys are kept as ", kv_dtype, ": double goes with double only (see --kv-dtype)");
  if (kv_dtype == "f64") return attend_file<double, double>(options, file, sizes);
  if (kv_dtype == "bf16") return attend_file<float, bfloat16>(options, file, sizes);
  if (kv_dtype == "f16") return attend_file<float, half>(options, file, sizes);
  return attend_file<float, float>(options, file, sizes);
}

}  // namespace
}  // namespace gqa::examples

int main(int argc, char** argv) {
  gqa::examples::AttendFileOptions options;
  CLI::App app("Attention over tensors of a safetensors file.", "attend_file");
  options.add_to(app);
  return gqa::examples::run_program(app, argc, argv, [&] { gqa::examples::run(options); });
}
