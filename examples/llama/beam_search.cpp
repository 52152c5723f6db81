// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Beam search: of all continuations of a text, the likeliest few are kept at each step.
//
//   beam_search stories260K.bin tok512.bin --prompt "Once upon a time" --beams 4
//
// The beams are the sequences of a stack of paged caches. When one beam goes on as two, reorder()
// lets both refer to the same pages, and a page is copied when one of them writes to it.

#include <cmath>

#include "llama/text_model.hpp"

namespace gqa::examples {
namespace {

using Token = TextModel::Token;
using Cache = PagedKvCache<float>;

struct Options {
  TextModelFiles files;
  std::string prompt = "Once upon a time";
  Index steps = 64;
  Index beams = 4;
};

struct Beam {
  std::vector<Token> tokens;
  double log_probability = 0;  // natural, of what follows the prompt
  bool ended = false;
};

/// Logarithms of the probabilities that logits stand for.
std::vector<double> log_probabilities(const Llama::Matrix& logits, Index row) {
  const auto x = logits.row(row).cast<double>().array();
  const double max = x.maxCoeff();
  const double sum = std::log((x - max).exp().sum()) + max;
  std::vector<double> result(static_cast<std::size_t>(x.size()));
  for (Index i = 0; i < x.size(); ++i) result[static_cast<std::size_t>(i)] = x(i) - sum;
  return result;
}

class BeamSearch {
 public:
  BeamSearch(const Llama& model, const Options& options, const std::vector<Token>& prompt)
      : model_(model), options_(options), stack_(make_stack(model.config(), options)) {
    const Index first[] = {0};
    const std::vector<Token> tokens[] = {prompt};
    logits_ = model.forward(tokens, stack_, first, workspace_);
    for (Index b = 1; b < options.beams; ++b) stack_.fork(0, b);
    beams_ = {{.tokens = prompt}};
  }

  /// Makes every beam a token longer; false when there is nothing left to do.
  bool step() {
    struct Candidate {
      Index beam;
      Token token;  // -1: a beam that has ended stays what it is
      double log_probability;
    };
    std::vector<Candidate> candidates;
    for (std::size_t b = 0; b < beams_.size(); ++b) {
      const auto beam = static_cast<Index>(b);
      if (beams_[b].ended) {
        candidates.push_back({beam, -1, beams_[b].log_probability});
        continue;
      }
      const std::vector<double> next = log_probabilities(logits_, beam);
      for (std::size_t t = 0; t < next.size(); ++t) {
        candidates.push_back({beam, static_cast<Token>(t), beams_[b].log_probability + next[t]});
      }
    }
    const std::size_t count = std::min(candidates.size(), static_cast<std::size_t>(options_.beams));
    std::partial_sort(candidates.begin(), candidates.begin() + static_cast<std::ptrdiff_t>(count),
                      candidates.end(), [](const Candidate& a, const Candidate& b) {
                        return a.log_probability > b.log_probability;
                      });
    std::vector<Beam> beams;
    std::vector<Index> from;
    for (std::size_t i = 0; i < count; ++i) {
      const Candidate& c = candidates[i];
      Beam beam = beams_[static_cast<std::size_t>(c.beam)];
      beam.log_probability = c.log_probability;
      beam.ended = c.token < 0 || c.token == Tokenizer::begin_of_sequence;
      if (!beam.ended) beam.tokens.push_back(c.token);
      beams.push_back(std::move(beam));
      from.push_back(c.beam);
    }
    beams_ = std::move(beams);
    from.resize(static_cast<std::size_t>(options_.beams), from.front());
    stack_.reorder(from);
    return feed();
  }

  const std::vector<Beam>& beams() const { return beams_; }
  PageStatistics pages() const { return stack_[0].allocator()->statistics(); }
  /// References to pages: what would be in use if nothing were shared.
  Index references() const {
    Index n = 0;
    for (const Cache& cache : stack_) n += cache.pages();
    return n;
  }

 private:
  static KvCacheStack<Cache> make_stack(const LlamaConfig& config, const Options& options) {
    const Heads<> heads(config.num_heads, config.num_kv_heads, config.head_dim());
    const Index pages =
        config.num_layers * options.beams * (ceil_div(options.steps, block_keys) + 1);
    const auto allocator = std::make_shared<PageAllocator>(
        PageAllocator::Options{.pages = pages, .page_bytes = Cache::page_bytes(heads)});
    return {config.num_layers,
            allocator,
            {.batch = options.beams, .capacity = options.steps, .heads = heads}};
  }

  /// Runs the model over the last token of each beam that goes on.
  bool feed() {
    std::vector<Index> sequences;
    std::vector<std::vector<Token>> tokens;
    for (std::size_t b = 0; b < beams_.size(); ++b) {
      if (beams_[b].ended) continue;
      if (std::ssize(beams_[b].tokens) == options_.steps) return false;
      sequences.push_back(static_cast<Index>(b));
      tokens.push_back({beams_[b].tokens.back()});
    }
    if (tokens.empty()) return false;
    const Llama::Matrix rows = model_.forward(tokens, stack_, sequences, workspace_);
    logits_.resize(options_.beams, rows.cols());
    for (std::size_t i = 0; i < sequences.size(); ++i) {
      logits_.row(sequences[i]) = rows.row(static_cast<Index>(i));
    }
    return true;
  }

  const Llama& model_;
  Options options_;
  KvCacheStack<Cache> stack_;
  Workspace workspace_;
  std::vector<Beam> beams_;
  Llama::Matrix logits_;  // [beams, vocab_size]
};

/// The same probability from one pass over the whole text, without caches.
double log_probability(const Llama& model, const Beam& beam, std::size_t prompt) {
  std::vector<Token> tokens = beam.tokens;
  if (beam.ended) tokens.push_back(Tokenizer::begin_of_sequence);
  const Llama::Matrix logits = model.forward(tokens);
  double sum = 0;
  for (std::size_t i = prompt; i < tokens.size(); ++i) {
    sum +=
        log_probabilities(logits, static_cast<Index>(i) - 1)[static_cast<std::size_t>(tokens[i])];
  }
  return sum;
}

void search(const Options& options) {
  const TextModel text_model(options.files);
  const std::vector<Token> prompt = text_model.encode(options.prompt);
  require(std::ssize(prompt) < options.steps && options.steps <= text_model.config().max_len,
          "--steps ", options.steps, " must be above the prompt's ", prompt.size(),
          " tokens and at most the model's ", Index{text_model.config().max_len});
  BeamSearch search(text_model.model(), options, prompt);
  while (search.step()) {
  }
  for (const Beam& beam : search.beams()) {
    std::cout << "log probability " << beam.log_probability << ": " << text_model.text(beam.tokens)
              << "\n";
    const double again = log_probability(text_model.model(), beam, prompt.size());
    if (std::abs(again - beam.log_probability) > 1e-3 * (1 + std::abs(again))) {
      throw std::runtime_error(message("without caches this text has log probability ", again));
    }
  }
  const PageStatistics pages = search.pages();
  std::cerr << "pages: " << pages.used << " in use for " << search.references() << " references, "
            << pages.free << " of " << pages.pages << " free\n";
}

}  // namespace
}  // namespace gqa::examples

int main(int argc, char** argv) {
  using namespace gqa::examples;
  Options options;
  CLI::App app("Keeps the likeliest continuations of a text.", "beam_search");
  options.files.add_to(app);
  app.add_option("--prompt", options.prompt, "the beginning of the text")->capture_default_str();
  add_option(app, "--steps", options.steps, "tokens in all, the prompt's included")
      ->check(CLI::Range(2, 1 << 20))
      ->capture_default_str();
  add_option(app, "--beams", options.beams, "texts kept")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  return run_program(app, argc, argv, [&] { search(options); });
}
