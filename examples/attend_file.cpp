// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Attention from file to file, to check another engine against:
//
//   attend_file in.safetensors out.safetensors --causal --hf-window 1024 --soft-cap 50
//
// `attend_file --help` tells which tensors it reads and writes. The command line decides at run
// time what `Causal{} & SlidingWindow{...} & ...` decides at compile time: see Maybe.

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

#include "support/attention_input.hpp"
#include "support/command_line.hpp"
#include "support/safetensors.hpp"
#include "support/safetensors_writer.hpp"

namespace gqa::examples {
namespace {

constexpr const char* tensors_help = R"(
Tensors that are read (shapes with --layout tokens-first; heads-first swaps tokens and heads; without
batch, everything is one sequence):
  q                [batch, q_len, num_heads, head_dim]      F32, F16, BF16; F64 computes in double
  k                [batch, kv_len, num_kv_heads, head_dim]  query head h reads KV head
  v                [batch, kv_len, num_kv_heads, value_dim]   h / (num_heads / num_kv_heads)
and, where they are in the file,
  mask             [batch|1, num_heads|1, q_len|1, kv_len] or [q_len|1, kv_len], BOOL: true is visible;
                   shorter than kv_len hides the keys behind it
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

struct Options {
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
};

/// A mask or rule that is there or not: without one it hides nothing and leaves scores alone. A
/// part of your own looks no different from this.
template <RulePart Part>
struct Maybe {
  static constexpr bool per_head = requires { Part::per_head; };
  static constexpr ScoreStage stage = [] {
    if constexpr (requires { Part::stage; }) {
      return Part::stage;
    } else {
      return ScoreStage::biased;
    }
  }();

  std::optional<Part> part;

  void check(const AttentionShape& shape) const {
    if constexpr (requires { part->check(shape); }) {
      if (part) part->check(shape);
    }
  }
  bool visible(const Where& where) const
    requires Mask<Part>
  {
    return !part || part->visible(where);
  }
  bool differs_by_head() const
    requires Mask<Part>
  {
    return part && gqa::detail::differs_by_head(*part);
  }
  Coverage tile(const Tile& tile) const
    requires Mask<Part>
  {
    return part ? part->tile(tile) : Coverage::full;
  }
  template <typename T>
  T score(T x, const Where& where) const
    requires ScoreRule<Part>
  {
    return part ? part->score(x, where) : x;
  }
  float sink(Index head) const
    requires requires(const Part& p) { p.sink(head); }
  {
    return part ? part->sink(head) : -std::numeric_limits<float>::infinity();
  }
};

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

  // Masks.
  Maybe<Causal> causal;
  if (options.causal) causal.part = Causal{};
  Maybe<Causal> top_left;
  if (options.causal_top_left) top_left.part = Causal::top_left();
  SlidingWindow window;
  if (options.hf_window) window = SlidingWindow::from_hf(*options.hf_window);
  if (options.window_left) window.left = *options.window_left;
  if (options.window_right) window.right = *options.window_right;
  const KeepFirst keep_first{options.keep_first.value_or(0)};
  const auto prefix_lens = optional_tensor<Index>(file, "prefix_lens", {{n.batch}});
  Maybe<PrefixLm> prefix_lm;
  if (options.prefix_lm || !prefix_lens.empty()) {
    prefix_lm.part = PrefixLm{.length = options.prefix_lm.value_or(0), .lengths = prefix_lens};
  }
  const auto q_documents = optional_tensor<int>(file, "q_documents", {{n.batch, n.q_len}});
  const auto kv_documents = optional_tensor<int>(file, "kv_documents", {{n.batch, n.kv_len}});
  require(file.contains("q_documents") == file.contains("kv_documents"),
          "q_documents and kv_documents come together");
  Maybe<Documents> documents;
  if (file.contains("q_documents")) {
    documents.part = Documents{q_documents, kv_documents, n.q_len, n.kv_len};
  }
  const DenseTensor<bool> dense_mask(file, "mask");
  Maybe<DenseMask> mask;
  if (dense_mask.view) mask.part = DenseMask{*dense_mask.view};

  // Score rules.
  const Scale scale{options.scale.value_or(1.0 / std::sqrt(static_cast<double>(n.head_dim)))};
  Maybe<SoftCap> soft_cap;
  if (options.soft_cap) soft_cap.part = SoftCap{*options.soft_cap};
  Maybe<Alibi> alibi;
  if (options.alibi) alibi.part = Alibi::standard(n.num_heads);
  if (file.contains("alibi_slopes")) {
    alibi.part = Alibi{optional_tensor<float>(file, "alibi_slopes", {{n.num_heads}})};
  }
  Maybe<RelativeBias> relative_bias;
  std::vector<float> buckets;
  if (file.contains("relative_bias")) {
    const auto& shape = file.shape("relative_bias");
    const Index num_buckets = shape.empty() ? 0 : shape[0];
    buckets = optional_tensor<float>(file, "relative_bias", {{num_buckets, n.num_heads}});
    relative_bias.part = RelativeBias{.table = buckets,
                                      .num_buckets = num_buckets,
                                      .num_heads = n.num_heads,
                                      .bidirectional = options.relative_bias == "bidirectional",
                                      .max_distance = options.max_distance};
  }
  const DenseTensor<Query> dense_bias(file, "bias");
  Maybe<AdditiveBias<Query>> bias;
  if (dense_bias.view) bias.part = AdditiveBias<Query>{*dense_bias.view};
  const auto sink_logits = optional_tensor<float>(file, "sinks", {{n.num_heads}});
  Maybe<SinkLogits> sinks;
  if (file.contains("sinks")) sinks.part = SinkLogits{sink_logits};

  const auto rules = causal & top_left & window & keep_first & prefix_lm & documents & mask &
                     scale & soft_cap & alibi & relative_bias & bias & sinks;

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

void add_options(CLI::App& app, Options& options) {
  app.footer(tensors_help);
  app.add_option("IN", options.input, "safetensors file with q, k, v")->required();
  app.add_option("OUT", options.output, "safetensors file to write")->required();

  const std::string masks = "Masks", scores = "Scores", call = "How";
  app.add_flag("--causal", options.causal, "keys at the query's position and before (bottom right)")
      ->group(masks);
  app.add_flag("--causal-top-left", options.causal_top_left,
               "query i sees keys 0 ... i, whatever their positions (PyTorch's is_causal)")
      ->group(masks);
  auto* hf = app.add_option("--hf-window", options.hf_window,
                            "the last N keys, oneself included (Hugging Face's sliding_window)")
                 ->check(CLI::PositiveNumber)
                 ->group(masks);
  app.add_option("--window-left", options.window_left,
                 "keys before the query besides itself (FlashAttention's window_size[0])")
      ->check(CLI::NonNegativeNumber)
      ->excludes(hf)
      ->group(masks);
  app.add_option("--window-right", options.window_right, "keys behind the query (window_size[1])")
      ->check(CLI::NonNegativeNumber)
      ->excludes(hf)
      ->group(masks);
  app.add_option("--keep-first", options.keep_first, "beside a window, the first N stay visible")
      ->check(CLI::NonNegativeNumber)
      ->group(masks);
  app.add_option("--prefix-lm", options.prefix_lm, "causal, but the first N are seen by all")
      ->check(CLI::NonNegativeNumber)
      ->group(masks);

  app.add_option("--scale", options.scale, "factor of q.k (default: 1 / sqrt(head_dim))")
      ->group(scores);
  app.add_option("--soft-cap", options.soft_cap, "c * tanh(score / c)")
      ->check(CLI::PositiveNumber)
      ->group(scores);
  app.add_flag("--alibi", options.alibi, "ALiBi with the standard slopes")->group(scores);
  app.add_option("--relative-bias", options.relative_bias, "how relative_bias counts its buckets")
      ->check(CLI::IsMember({"bidirectional", "causal"}))
      ->capture_default_str()
      ->group(scores);
  app.add_option("--max-distance", options.max_distance, "of relative_bias")
      ->check(CLI::PositiveNumber)
      ->capture_default_str()
      ->group(scores);

  app.add_option("--layout", options.layout, "of q, k, v and out")
      ->check(CLI::IsMember({"tokens-first", "heads-first"}))
      ->capture_default_str()
      ->group(call);
  app.add_option("--kv-dtype", options.kv_dtype, "what k and v are rounded to beforehand")
      ->check(CLI::IsMember({"as-stored", "f32", "bf16", "f16", "f64"}))
      ->capture_default_str()
      ->group(call);
  app.add_option("--kernel", options.kernel, "what applications use, or the definition in double")
      ->check(CLI::IsMember({"tiled", "reference"}))
      ->capture_default_str()
      ->group(call);
  app.add_option("--scores", options.scores, "write the scores at this stage (reference only)")
      ->check(CLI::IsMember({"scaled", "capped", "biased", "softmax"}))
      ->group(call);
  app.add_option("--threads", options.threads, "of the tiled kernels; they don't change the result")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str()
      ->group(call);
}

}  // namespace
}  // namespace gqa::examples

int main(int argc, char** argv) {
  gqa::examples::Options options;
  CLI::App app("Attention over tensors of a safetensors file.", "attend_file");
  gqa::examples::add_options(app, options);
  return gqa::examples::run_program(app, argc, argv, [&] { gqa::examples::run(options); });
}
