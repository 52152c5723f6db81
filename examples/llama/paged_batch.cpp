// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Continuous batching (Yu et al. 2022, "Orca"; Kwon et al. 2023, arXiv 2309.06180): requests come
// and go while others are being answered.
//
//   paged_batch stories260K.bin tok512.bin --pages 40 --progress
//
// One step is one pass of the model over whatever there is to do: a chunk of a prompt for those who
// have just come, a token for the others, each with its own length, in one call. A request is
// admitted when there are pages for all that it may need, and gives them back when it has ended.

#include <cstdio>
#include <deque>

#include "llama/text_model.hpp"

namespace gqa::examples {
namespace {

using Token = TextModel::Token;
using Cache = PagedKvCache<float>;

struct Options {
  TextModelFiles files;
  std::vector<std::string> prompts;
  Index steps = 96;  // tokens of a request, the prompt's included
  Index batch = 3;   // requests at once
  Index chunk = 8;   // tokens of a prompt at once
  Index pages = 40;  // of 64 tokens of one layer
  Index every = 4;   // steps from one request's arrival to the next's
  bool progress = false;
};

struct Request {
  std::size_t number;
  std::vector<Token> tokens;  // the prompt, then what is written
  std::size_t fed = 0;        // of these, those that the caches hold
};

class Engine {
 public:
  Engine(const Llama& model, const Options& options)
      : model_(model), options_(options), running_(static_cast<std::size_t>(options.batch)) {
    const Heads<> heads(model.config().num_heads, model.config().num_kv_heads,
                        model.config().head_dim());
    allocator_ = std::make_shared<PageAllocator>(
        PageAllocator::Options{.pages = options.pages, .page_bytes = Cache::page_bytes(heads)});
    stack_.emplace(
        model.config().num_layers, allocator_,
        Cache::Options{.batch = options.batch, .capacity = options.steps, .heads = heads});
    require(pages_of(options.steps) <= options.pages, "--pages ", options.pages, ": a request of ",
            options.steps, " tokens takes ", pages_of(options.steps));
  }

  void arrive(Request request) { waiting_.push_back(std::move(request)); }
  bool busy() const { return !waiting_.empty() || count_running() > 0; }

  /// One pass of the model; returns the requests that have ended.
  std::vector<Request> step() {
    admit();
    std::vector<Index> sequences;
    std::vector<std::vector<Token>> tokens;
    for (Index s = 0; s < options_.batch; ++s) {
      const auto& request = slot(s);
      if (!request) continue;
      const std::size_t unseen = request->tokens.size() - request->fed;
      const auto begin = request->tokens.begin() + static_cast<std::ptrdiff_t>(request->fed);
      const std::size_t count = std::min(unseen, static_cast<std::size_t>(options_.chunk));
      tokens.emplace_back(begin, begin + static_cast<std::ptrdiff_t>(count));
      sequences.push_back(s);
    }
    std::vector<Request> ended;
    if (sequences.empty()) return ended;
    const Llama::Matrix logits = model_.forward(tokens, *stack_, sequences, workspace_);
    for (std::size_t i = 0; i < sequences.size(); ++i) {
      auto& request = slot(sequences[i]);
      request->fed += tokens[i].size();
      if (request->fed < request->tokens.size()) continue;  // more of the prompt to come
      const Token next = TextModel::likeliest(logits, static_cast<Index>(i));
      const bool ends = next == Tokenizer::begin_of_sequence;
      if (!ends) request->tokens.push_back(next);
      if (ends || std::ssize(request->tokens) == options_.steps) {
        ended.push_back(std::move(*request));
        request.reset();
        stack_->clear(sequences[i]);
      }
    }
    return ended;
  }

  Index count_running() const {
    return std::count_if(running_.begin(), running_.end(),
                         [](const auto& request) { return request.has_value(); });
  }
  std::size_t count_waiting() const { return waiting_.size(); }
  PageStatistics pages() const { return allocator_->statistics(); }
  double fragmentation() const { return (*stack_)[0].fragmentation(); }
  Index page_bytes() const { return allocator_->page_bytes(); }

 private:
  std::optional<Request>& slot(Index s) { return running_[static_cast<std::size_t>(s)]; }
  Index pages_of(Index tokens) const {
    return model_.config().num_layers * ceil_div(tokens, block_keys);
  }
  /// In the order of arrival, while there is a place and the pages that all running requests may
  /// come to need are there.
  void admit() {
    while (!waiting_.empty() &&
           (count_running() + 1) * pages_of(options_.steps) <= options_.pages) {
      const auto free = std::find_if(running_.begin(), running_.end(),
                                     [](const auto& request) { return !request.has_value(); });
      if (free == running_.end()) return;
      *free = std::move(waiting_.front());
      waiting_.pop_front();
    }
  }

  const Llama& model_;
  Options options_;
  std::shared_ptr<PageAllocator> allocator_;
  std::optional<KvCacheStack<Cache>> stack_;
  std::deque<Request> waiting_;
  std::vector<std::optional<Request>> running_;  // by sequence of the caches
  Workspace workspace_;
};

void serve(const Options& options) {
  const TextModel text_model(options.files);
  require(options.steps <= text_model.config().max_len, "--steps ", options.steps,
          " is more than the model's ", Index{text_model.config().max_len});
  std::vector<std::vector<Token>> prompts;
  for (const std::string& prompt : options.prompts) {
    prompts.push_back(text_model.encode(prompt));
    require(std::ssize(prompts.back()) < options.steps, "\"", prompt, "\" has ",
            prompts.back().size(), " tokens, --steps is ", options.steps);
  }
  Engine engine(text_model.model(), options);
  if (options.progress) {
    std::fprintf(stderr, "step  running  waiting  pages in use  KiB in use  unused in pages\n");
  }
  std::vector<std::vector<Token>> answers(prompts.size());
  std::size_t arrived = 0;
  Index most_pages = 0, steps = 0;
  for (; arrived < prompts.size() || engine.busy(); ++steps) {
    if (arrived < prompts.size() && steps % options.every == 0) {
      engine.arrive({.number = arrived, .tokens = prompts[arrived]});
      ++arrived;
    }
    for (Request& request : engine.step()) answers[request.number] = std::move(request.tokens);
    const PageStatistics pages = engine.pages();
    most_pages = std::max(most_pages, pages.used);
    if (options.progress) {
      std::fprintf(stderr, "%4td %8td %8zu %6td of %3td %11td %14.0f %%\n", steps,
                   engine.count_running(), engine.count_waiting(), pages.used, pages.pages,
                   pages.used * engine.page_bytes() / 1024, 100 * engine.fragmentation());
    }
  }
  Index wrong = 0;
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    std::cout << "request " << i + 1 << ": " << text_model.text(answers[i]) << "\n";
    wrong += answers[i] != text_model.greedy(prompts[i], options.steps);
  }
  const PageStatistics pages = engine.pages();
  std::cerr << prompts.size() << " requests in " << steps << " steps; at most " << most_pages
            << " of " << pages.pages << " pages in use, " << pages.free << " free at the end\n";
  if (wrong > 0) throw std::runtime_error(message(wrong, " texts differ from those written alone"));
  if (pages.free != pages.pages) throw std::runtime_error("pages have not come back");
}

}  // namespace
}  // namespace gqa::examples

int main(int argc, char** argv) {
  using namespace gqa::examples;
  Options options;
  CLI::App app("Answers requests as they come, many in one pass of the model.", "paged_batch");
  options.files.add_to(app);
  app.add_option("--prompt", options.prompts, "a request; may be given several times");
  add_option(app, "--steps", options.steps, "tokens of a request, its prompt's included")
      ->check(CLI::Range(2, 1 << 20))
      ->capture_default_str();
  add_option(app, "--batch", options.batch, "requests that are answered at once")
      ->check(CLI::Range(1, 1 << 10))
      ->capture_default_str();
  add_option(app, "--chunk", options.chunk, "tokens of a prompt in one step")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  add_option(app, "--pages", options.pages, "of 64 tokens of one layer, for all requests")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  add_option(app, "--every", options.every, "steps from one request's arrival to the next's")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_flag("--progress", options.progress, "a line for each step");
  return run_program(app, argc, argv, [&] {
    if (options.prompts.empty()) {
      options.prompts = {"Once upon a time",
                         "Lily and Tom went to the park. They saw a big dog",
                         "One day, a little girl named Mia found a box under her bed. She",
                         "The sun was warm",
                         "Tim had a red ball. He liked to throw it up and catch it. But one day",
                         "Once there was a cat who"};
    }
    serve(options);
  });
}
