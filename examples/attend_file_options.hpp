// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The command line of attend_file, and what its help tells of tensors.
#pragma once

#include <CLI/CLI.hpp>
#include <gqa/core/config.hpp>
#include <optional>
#include <string>

#include "support/command_line.hpp"

namespace gqa::examples {

inline constexpr const char* tensors_help = R"(
Tensors that are read (shapes with --layout tokens-first; heads-first swaps tokens and heads; without
batch, everything is one sequence):
  q                [batch, q_len, num_heads, head_dim]      F32, F16, BF16; F64 computes in double
  k                [batch, kv_len, num_kv_heads, head_dim]  query head h reads KV head
  v                [batch, kv_len, num_kv_heads, value_dim]   h / (num_heads / num_kv_heads)
and, where they are in the file,
  mask             [batch|1, num_heads|1, q_len|1, kv_len] or [q_len|1, kv_len], BOOL: true is visible;
                   shorter than kv_len hides the keys after its last
  bias             shaped as mask: added to the scores; -inf hides
  sinks            [num_heads]: logits that join the softmax and stand for no key
  positions        [batch, q_len] or [q_len], integers: of the queries (default: the last q_len of the
                   sequence); keys are at 0 ... kv_len - 1
  q_lens, kv_lens  [batch], integers: tokens of each sequence, where they differ
  q_documents, kv_documents  [batch, q_len] and [batch, kv_len], integers: queries see the keys of
                   their own document
  prefix_lens      [batch], integers: --prefix-lm for each sequence
  alibi_slopes     [num_heads]: ALiBi with these slopes
  relative_bias    [num_buckets, num_heads]: T5's table, see --relative-bias
Other tensors are not read, which stderr says. Tensors that are written:
  out              shaped as q, with value_dim for head_dim; F32, or F64 for F64 queries
  lse              [batch, num_heads, q_len]: natural logarithm of each row's sum of e^score
  scores           [batch, num_heads, q_len, kv_len], F64, if asked for with --scores

The order is (q.k) * scale, soft cap, ALiBi and biases, masks, softmax, times v. All masks given must
agree that a key is visible; --keep-first makes an exception to windows only. A row that sees no key
gives out = 0 and lse = -inf.)";

/// As they are given, and as they are without.
struct AttendFileOptions {
  std::string input;
  std::string output;
  bool causal = false;
  bool causal_top_left = false;
  std::optional<Index> hf_window;
  std::optional<Index> window_left;
  std::optional<Index> window_right;
  std::optional<Index> keep_first;
  std::optional<Index> prefix_lm;
  std::optional<double> scale;
  std::optional<float> soft_cap;
  bool alibi = false;
  std::string relative_bias = "bidirectional";
  Index max_distance = 128;
  std::string layout = "tokens-first";
  std::string kv_dtype = "as-stored";
  std::string kernel = "tiled";
  std::string scores;
  Index threads = 1;

  void add_to(CLI::App& app);
};

inline void AttendFileOptions::add_to(CLI::App& app) {
  app.footer(tensors_help);
  add_option(app, "IN", input, "safetensors file with q, k, v")->required();
  add_option(app, "OUT", output, "safetensors file to write")->required();

  const std::string in_masks = "Masks", in_scores = "Scores", in_how = "How";
  app.add_flag("--causal", causal, "keys at the query's position and before (bottom right)")
      ->group(in_masks);
  app.add_flag("--causal-top-left", causal_top_left,
               "query i sees keys 0 ... i, whatever their positions (PyTorch's is_causal)")
      ->group(in_masks);
  auto* hf = add_option(app, "--hf-window", hf_window,
                        "the last N keys, oneself included (Hugging Face's sliding_window)")
                 ->check(CLI::PositiveNumber)
                 ->group(in_masks);
  add_option(app, "--window-left", window_left,
             "keys before the query besides itself (FlashAttention's window_size[0])")
      ->check(CLI::NonNegativeNumber)
      ->excludes(hf)
      ->group(in_masks);
  add_option(app, "--window-right", window_right, "keys after the query (window_size[1])")
      ->check(CLI::NonNegativeNumber)
      ->excludes(hf)
      ->group(in_masks);
  add_option(app, "--keep-first", keep_first, "beside a window, the first N stay visible")
      ->check(CLI::NonNegativeNumber)
      ->group(in_masks);
  add_option(app, "--prefix-lm", prefix_lm, "causal, but the first N are seen by all")
      ->check(CLI::NonNegativeNumber)
      ->group(in_masks);

  add_option(app, "--scale", scale, "factor of q.k (default: 1 / sqrt(head_dim))")
      ->group(in_scores);
  add_option(app, "--soft-cap", soft_cap, "c * tanh(score / c)")
      ->check(CLI::PositiveNumber)
      ->group(in_scores);
  app.add_flag("--alibi", alibi, "ALiBi with the standard slopes")->group(in_scores);
  add_option(app, "--relative-bias", relative_bias, "how relative_bias counts its buckets")
      ->check(CLI::IsMember({"bidirectional", "causal"}))
      ->capture_default_str()
      ->group(in_scores);
  add_option(app, "--max-distance", max_distance, "of relative_bias")
      ->check(CLI::PositiveNumber)
      ->capture_default_str()
      ->group(in_scores);

  add_option(app, "--layout", layout, "of q, k, v and out")
      ->check(CLI::IsMember({"tokens-first", "heads-first"}))
      ->capture_default_str()
      ->group(in_how);
  add_option(app, "--kv-dtype", kv_dtype, "what k and v are rounded to beforehand")
      ->check(CLI::IsMember({"as-stored", "f32", "bf16", "f16", "f64"}))
      ->capture_default_str()
      ->group(in_how);
  add_option(app, "--kernel", kernel, "what applications use, or the definition in double")
      ->check(CLI::IsMember({"tiled", "reference"}))
      ->capture_default_str()
      ->group(in_how);
  add_option(app, "--scores", scores, "write the scores at this stage (reference only)")
      ->check(CLI::IsMember({"scaled", "capped", "biased", "softmax"}))
      ->group(in_how);
  add_option(app, "--threads", threads, "of the tiled kernels; they don't change the result")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str()
      ->group(in_how);
}

}  // namespace gqa::examples
