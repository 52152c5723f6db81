// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What storing keys and values in fewer bits costs a model: the loss of stories260K over the
// stories that it writes itself, with each storage type, and for int8 and int4 with the keys' mean
// subtracted and with queries and keys rotated (ops/hadamard.hpp). kv_error measures attention
// alone. A Llama is written out here, since examples/llama hands its queries and keys to the
// library unseen.
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "gqa/gqa.hpp"
#include "llama/checkpoint.hpp"
#include "support/program.hpp"

namespace {

using gqa::Index;
using gqa::TensorView;
using gqa::examples::Checkpoint;
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Tokens = std::vector<int>;

/// What is done to keys before they are stored.
struct Preparation {
  const char* name = "";
  bool rotates = false;
  std::vector<gqa::KeyMean<float>> means = {};  // [layer], or none
};

class Model {
 public:
  explicit Model(const std::filesystem::path& file)
      : file_(file), rope_({.style = gqa::RopeStyle::interleaved}, file_.config().head_dim()) {}

  /// Keys as they would be appended, [layer]: for their mean.
  std::vector<Matrix> keys(const Tokens& tokens, const Preparation& preparation) const {
    std::vector<Matrix> all;
    run<float>(tokens, preparation, &all);
    return all;
  }
  /// Sum of -log p over all tokens but the first, in nats.
  template <gqa::StorageType Storage>
  double loss(const Tokens& tokens, const Preparation& preparation) const {
    const Matrix logits = run<Storage>(tokens, preparation, nullptr);
    double sum = 0;
    for (Index i = 0; i + 1 < logits.rows(); ++i) {
      const Eigen::ArrayXd row = logits.row(i).cast<double>().transpose().array();
      sum += row.maxCoeff() + std::log((row - row.maxCoeff()).exp().sum()) -
             row[tokens[static_cast<std::size_t>(i) + 1]];
    }
    return sum;
  }
  Index num_kv_heads() const { return file_.config().num_kv_heads; }
  Index head_dim() const { return file_.config().head_dim(); }

 private:
  using Map = Eigen::Map<const Matrix>;
  static Matrix times(const Matrix& x, std::span<const float> weight) {
    return x * Map(weight.data(), std::ssize(weight) / x.cols(), x.cols()).transpose();
  }
  Matrix normalized(const Matrix& x, std::span<const float> weight) const {
    Matrix y(x.rows(), x.cols());
    gqa::rms_norm(x, weight, y, file_.config().rms_norm_eps);
    return y;
  }
  template <typename M>
  TensorView<float> heads(M& x, Index count) const {
    return {x.data(), {1, x.rows(), count, head_dim()}};
  }

  /// Logits [tokens, vocab_size]. Token by token, as when decoding.
  template <gqa::StorageType Storage>
  Matrix run(const Tokens& tokens, const Preparation& preparation,
             std::vector<Matrix>* all_keys) const {
    const auto& c = file_.config();
    const Index n = std::ssize(tokens);
    Matrix x(n, c.hidden_size);
    const Map embedding(file_.token_embedding().data(), c.vocab_size, c.hidden_size);
    for (Index i = 0; i < n; ++i) x.row(i) = embedding.row(tokens[static_cast<std::size_t>(i)]);
    for (std::size_t l = 0; l < file_.layers().size(); ++l) {
      const Checkpoint::Layer& w = file_.layers()[l];
      const Matrix h = normalized(x, w.attention_norm);
      Matrix q = times(h, w.wq), k = times(h, w.wk), v = times(h, w.wv), y(n, c.hidden_size);
      const auto queries = heads(q, c.num_heads), keys = heads(k, c.num_kv_heads);
      gqa::apply_rope(rope_, queries, gqa::RopePositions(0));
      gqa::apply_rope(rope_, keys, gqa::RopePositions(0));
      if (preparation.rotates) {
        gqa::apply_hadamard(queries);
        gqa::apply_hadamard(keys);
      }
      if (!preparation.means.empty()) preparation.means[l].subtract_from(keys);
      if (all_keys) all_keys->push_back(k);
      gqa::KvCache<Storage> cache(
          {.capacity = n, .heads = {c.num_heads, c.num_kv_heads, head_dim()}});
      cache.append(keys, heads(v, c.num_kv_heads));
      gqa::attend(queries, cache, heads(y, c.num_heads), gqa::Causal{});
      x += times(y, w.wo);
      const Matrix f = normalized(x, w.feed_forward_norm), gate = times(f, w.w1);
      const Matrix inner = gate.array() / (1 + (-gate.array()).exp()) * times(f, w.w3).array();
      x += times(inner, w.w2);
    }
    return times(normalized(x, file_.final_norm()), file_.classifier());
  }

  Checkpoint file_;
  gqa::RopeTable<float> rope_;
};

template <gqa::StorageType Storage>
void report(const Model& model, const std::vector<Tokens>& texts, double exact,
            const Preparation& preparation = {}) {
  double sum = 0;
  Index count = 0;
  for (const Tokens& tokens : texts) {
    sum += model.loss<Storage>(tokens, preparation);
    count += std::ssize(tokens) - 1;
  }
  const double loss = sum / static_cast<double>(count);
  std::printf("| %s%s | %.4f | %+.4f |\n", gqa::scalar_name<Storage>(), preparation.name, loss,
              loss - exact);
}

std::vector<Tokens> texts_of(const std::filesystem::path& file, const char* what) {
  const auto json = nlohmann::json::parse(std::ifstream(file));
  std::vector<Tokens> texts;
  if (json.contains("tokens")) {
    for (const auto& tokens : json.at("tokens")) texts.push_back(tokens.get<Tokens>());
  } else {
    for (const auto& run : json.at("cases")) texts.push_back(run.at(what).get<Tokens>());
  }
  return texts;
}

/// The means of a text's keys, as they are stored.
Preparation centred(const char* name, const Model& model, const Tokens& text, bool rotates) {
  Preparation preparation{.name = name, .rotates = rotates};
  std::vector<gqa::KeyMean<float>> means;
  for (Matrix& k : model.keys(text, preparation)) {
    means.emplace_back(
        TensorView<float>(k.data(), {1, k.rows(), model.num_kv_heads(), model.head_dim()}));
  }
  preparation.means = std::move(means);
  return preparation;
}

int run() {
  const auto folder = std::filesystem::path(GQA_SHARED_DATA_DIR) / "stories260K";
  if (!std::filesystem::exists(folder)) {
    std::fprintf(stderr, "%s is not there\n", folder.c_str());
    return 1;
  }
  const Model model(folder / "stories260K.bin");
  const std::vector<Tokens> evaluation = texts_of(folder / "eval_stories.json", nullptr);
  const std::vector<Tokens> greedy = texts_of(folder / "greedy.json", "fed_tokens");
  std::printf("instruction set: %s\n", gqa::simd::isa_name);
  for (const auto& [name, texts] :
       {std::pair("its own greedy text", &greedy), std::pair("eval_stories.json", &evaluation)}) {
    double sum = 0;
    Index count = 0;
    for (const Tokens& tokens : *texts) {
      sum += model.loss<float>(tokens, {});
      count += std::ssize(tokens) - 1;
    }
    const double exact = sum / static_cast<double>(count);
    std::printf("\n%s, %d tokens\n\n| storage | loss | more than f32 |\n|---|---|---|\n", name,
                static_cast<int>(count));
    report<float>(model, *texts, exact);
    report<gqa::half>(model, *texts, exact);
    report<gqa::bfloat16>(model, *texts, exact);
    const Preparation preparations[]{{},
                                     centred(", mean", model, evaluation[0], false),
                                     {.name = ", rotated", .rotates = true},
                                     centred(", rotated, mean", model, evaluation[0], true)};
    for (const Preparation& p : preparations) report<gqa::Int8>(model, *texts, exact, p);
    for (const Preparation& p : preparations) report<gqa::Int4>(model, *texts, exact, p);
  }
  return 0;
}

}  // namespace

int main() { return gqa::examples::run_program("kv_loss", run); }
