// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Speculative decoding (Leviathan et al. 2022, arXiv 2211.17192) with the model's own first layers
// as the draft (Zhang et al. 2023, arXiv 2309.08168):
//
//   speculative stories260K.bin tok512.bin --prompt "Once upon a time" --draft-layers 4
//
// A few tokens are drafted one at a time, cheaply; the model then looks at all of them in one pass
// and keeps those that it would have written itself, and one of its own. What was kept in the
// caches for the others is taken back by truncate(), exactly, so that the text is that of greedy
// decoding.

#include "llama/text_model.hpp"

namespace gqa::examples {
namespace {

using Token = TextModel::Token;

struct Options {
  TextModelFiles files;
  std::string prompt = "Once upon a time";
  Index steps = 128;
  Index draft_length = 4;
  Index draft_layers = 4;
};

struct Figures {
  Index passes = 0;    // of the whole model
  Index drafted = 0;   // tokens
  Index accepted = 0;  // of these
};

class Speculation {
 public:
  Speculation(const Llama& model, const Options& options)
      : model_(model),
        drafter_(TextModel::load(options.files).first_layers(options.draft_layers)),
        session_(model.config(), options.steps + options.draft_length + 1),
        draft_session_(drafter_.config(), options.steps + options.draft_length + 1),
        options_(options) {}

  std::vector<Token> run(std::vector<Token> tokens) {
    while (std::ssize(tokens) < options_.steps) {
      const std::vector<Token> drafted = draft(tokens);
      for (const Token token : verify(tokens, drafted)) {
        if (token == Tokenizer::begin_of_sequence || std::ssize(tokens) == options_.steps) {
          return tokens;
        }
        tokens.push_back(token);
      }
    }
    return tokens;
  }
  const Figures& figures() const { return figures_; }

 private:
  /// What the first layers make of the text.
  std::vector<Token> draft(std::vector<Token> tokens) {
    std::vector<Token> drafted;
    for (Index i = 0; i < options_.draft_length; ++i) {
      // All that the draft's caches haven't seen: at first the prompt, later the last tokens.
      const auto unseen =
          std::span<const Token>(tokens).subspan(static_cast<std::size_t>(draft_session_.length()));
      const auto logits = drafter_.forward(unseen, draft_session_, LogitsOf::last_token);
      tokens.push_back(TextModel::likeliest(logits, 0));
      drafted.push_back(tokens.back());
    }
    figures_.drafted += std::ssize(drafted);
    return drafted;
  }

  /// The drafted tokens that the model agrees with, and the one that it writes after them.
  std::vector<Token> verify(const std::vector<Token>& tokens, const std::vector<Token>& drafted) {
    const Index unseen = std::ssize(tokens) - session_.length();
    std::vector<Token> fed(tokens.end() - unseen, tokens.end());
    fed.insert(fed.end(), drafted.begin(), drafted.end());
    const Llama::Matrix logits = model_.forward(fed, session_);  // after every token
    ++figures_.passes;
    std::vector<Token> written;
    for (std::size_t i = 0; i <= drafted.size(); ++i) {
      written.push_back(TextModel::likeliest(logits, unseen - 1 + static_cast<Index>(i)));
      if (i == drafted.size() || written[i] != drafted[i]) break;
      ++figures_.accepted;
    }
    // The last token written has not been fed; what was fed after the others is taken back.
    const Index kept = std::ssize(tokens) + std::ssize(written) - 1;
    session_.truncate(kept);
    draft_session_.truncate(std::min(kept, draft_session_.length()));
    return written;
  }

  const Llama& model_;
  Llama drafter_;
  LlamaSession<float> session_;
  LlamaSession<float> draft_session_;
  Options options_;
  Figures figures_;
};

void speculate(const Options& options) {
  const TextModel text_model(options.files);
  const std::vector<Token> prompt = text_model.encode(options.prompt);
  require(std::ssize(prompt) < options.steps && options.steps <= text_model.config().max_len,
          "--steps ", options.steps, " must be above the prompt's ", prompt.size(),
          " tokens and at most the model's ", Index{text_model.config().max_len});
  Speculation speculation(text_model.model(), options);
  const std::vector<Token> tokens = speculation.run(prompt);
  std::cout << text_model.text(tokens) << "\n";

  const Figures& figures = speculation.figures();
  std::cerr << tokens.size() - prompt.size() << " tokens by " << figures.passes
            << " passes of the model; " << figures.accepted << " of " << figures.drafted
            << " drafted tokens accepted\n";
  if (tokens != text_model.greedy(prompt, options.steps)) {
    throw std::runtime_error("greedy decoding writes another text");
  }
}

}  // namespace
}  // namespace gqa::examples

int main(int argc, char** argv) {
  using namespace gqa::examples;
  Options options;
  CLI::App app("Drafts tokens with a model's first layers, and verifies them in one pass.",
               "speculative");
  options.files.add_to(app);
  app.add_option("--prompt", options.prompt, "the beginning of the text")->capture_default_str();
  add_option(app, "--steps", options.steps, "tokens in all, the prompt's included")
      ->check(CLI::Range(2, 1 << 20))
      ->capture_default_str();
  add_option(app, "--draft-length", options.draft_length, "tokens drafted at a time")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  add_option(app, "--draft-layers", options.draft_layers, "layers that draft")
      ->capture_default_str();
  return run_program(app, argc, argv, [&] { speculate(options); });
}
