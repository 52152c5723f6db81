// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Attention over a cache that the library has never seen: an engine's own memory, cut into pages of
// 16 tokens which a page table puts in order, as PagedAttention does (Kwon et al. 2023, arXiv
// 2309.06180). Nothing is copied into a cache of the library's. `PagedKv` below is all that it
// takes.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <gqa/gqa.hpp>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

using gqa::Index;
using Tensor = Eigen::Tensor<float, 4, Eigen::RowMajor>;  // [batch, tokens, heads, dim]

/// What an engine might have already: two arrays that hold the pages of all sequences, and for each
/// sequence the numbers of its pages, in any order.
struct Engine {
  static constexpr Index page_tokens = 16;
  Index num_kv_heads, head_dim;
  std::vector<float> keys;                // [pages][page_tokens][num_kv_heads][head_dim]
  std::vector<float> values;              // the same
  std::vector<std::vector<Index>> pages;  // per sequence: its page table
  std::vector<Index> lengths;             // per sequence: tokens written so far

  /// Where the element 0 of one token and KV head lies in both arrays.
  Index offset(Index sequence, Index token, Index kv_head) const {
    const Index page = pages[std::size_t(sequence)][std::size_t(token / page_tokens)];
    return ((page * page_tokens + token % page_tokens) * num_kv_heads + kv_head) * head_dim;
  }
};

/// The engine's memory as a gqa::KvSource. It owns nothing and is cheap to make, one per layer and
/// step.
class PagedKv {
 public:
  /// What runs point at, and how: rows of head_dim numbers, which the kernels rearrange on the way.
  using Storage = float;
  static constexpr gqa::KvLayout layout = gqa::KvLayout::rows;

  explicit PagedKv(const Engine& engine) : engine_(engine) {}

  /// Sizes, for attend() to check the queries and outputs against.
  Index batch() const { return std::ssize(engine_.lengths); }
  Index num_kv_heads() const { return engine_.num_kv_heads; }
  Index head_dim() const { return engine_.head_dim; }
  Index value_dim() const { return engine_.head_dim; }

  /// Keys of one sequence. Its last query stands at length - 1 unless the call says otherwise.
  Index length(Index sequence) const { return engine_.lengths[std::size_t(sequence)]; }

  /// Hands out the keys [begin, end) of one KV head in order, one run per page. Called from several
  /// threads at once, so it only reads.
  template <typename F>
  void for_each_run(Index sequence, Index kv_head, Index begin, Index end, F&& fn) const {
    for (Index token = begin; token < end;) {
      const Index page_end = (token / Engine::page_tokens + 1) * Engine::page_tokens;
      const Index count = std::min(page_end, end) - token;
      const Index at = engine_.offset(sequence, token, kv_head);
      const Index stride = num_kv_heads() * head_dim();  // from one token to the next in a page
      fn(gqa::RowRun<float>{.keys = engine_.keys.data() + at,
                            .key_stride = stride,
                            .values = engine_.values.data() + at,
                            .value_stride = stride,
                            .first = token,
                            .count = count});
      token += count;
    }
  }

 private:
  const Engine& engine_;
};
// A class that lacks something fails here, with the name of what it lacks, and not inside of
// attend().
static_assert(gqa::KvSource<PagedKv>);

namespace {

/// Pages for sequences of these lengths, dealt out in random order. Every place that no token is
/// written to holds NaN: whoever reads one will know.
Engine make_engine(Index num_kv_heads, Index head_dim, const std::vector<Index>& lengths) {
  const auto pages_for = [](Index n) {
    return (n + Engine::page_tokens - 1) / Engine::page_tokens;
  };
  Index num_pages = 3;  // some that belong to nobody
  for (const Index n : lengths) num_pages += pages_for(n);
  std::vector<Index> free_pages(static_cast<std::size_t>(num_pages));
  std::iota(free_pages.begin(), free_pages.end(), Index{0});
  std::shuffle(free_pages.begin(), free_pages.end(), std::mt19937(7));

  const auto size =
      static_cast<std::size_t>(num_pages * Engine::page_tokens * num_kv_heads * head_dim);
  Engine engine{.num_kv_heads = num_kv_heads,
                .head_dim = head_dim,
                .keys = std::vector<float>(size, std::numeric_limits<float>::quiet_NaN()),
                .values = std::vector<float>(size, std::numeric_limits<float>::quiet_NaN()),
                .pages = {},
                .lengths = lengths};
  for (const Index n : lengths) {
    const auto end = free_pages.end(), begin = end - pages_for(n);
    engine.pages.emplace_back(begin, end);
    free_pages.erase(begin, end);
  }
  return engine;
}

/// Writes one sequence's tokens where the page table says. k, v [1, tokens, num_kv_heads,
/// head_dim].
void write_tokens(Engine& engine, Index sequence, const Tensor& k, const Tensor& v) {
  const auto width = static_cast<std::size_t>(engine.num_kv_heads * engine.head_dim);
  for (Index token = 0; token < k.dimension(1); ++token) {
    const Index at = engine.offset(sequence, token, 0);
    std::copy_n(&k(0, token, 0, 0), width, &engine.keys[std::size_t(at)]);
    std::copy_n(&v(0, token, 0, 0), width, &engine.values[std::size_t(at)]);
  }
}

/// The largest difference of two tensors; NaN counts as infinite.
float difference(const Tensor& a, const Tensor& b) {
  float largest = 0;
  for (Index i = 0; i < a.size(); ++i) {
    const float d = std::abs(a.data()[i] - b.data()[i]);
    if (!(d <= largest)) largest = std::isnan(d) ? std::numeric_limits<float>::infinity() : d;
  }
  return largest;
}

bool same_bits(const Tensor& a, const Tensor& b) {
  return std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.size()) * sizeof(float)) == 0;
}

}  // namespace

int main() {
  const Index num_heads = 12, num_kv_heads = 4, head_dim = 64;
  const std::vector<Index> lengths = {1, 37, 577};  // three sequences, in one call
  const Index batch = std::ssize(lengths);

  // The same keys and values twice: in the engine's pages, and in the library's own cache.
  Engine engine = make_engine(num_kv_heads, head_dim, lengths);
  gqa::KvCache<float> cache(
      {.batch = batch, .capacity = 1024, .heads = {num_heads, num_kv_heads, head_dim}});
  for (Index b = 0; b < batch; ++b) {
    Tensor k(1, lengths[std::size_t(b)], num_kv_heads, head_dim), v(k.dimensions());
    k.setRandom();
    v.setRandom();
    write_tokens(engine, b, k, v);
    cache.append(b, k, v);
  }

  // One query per sequence decodes; 40 read a prompt. The calls differ in nothing. (The sequence of
  // one token has 39 queries too many: they stand before its first key, see nothing, and give 0.)
  bool ok = true;
  const PagedKv paged(engine);
  for (const Index q_len : {Index{1}, Index{40}}) {
    Tensor q(batch, q_len, num_heads, head_dim), out(q.dimensions());
    q.setRandom();
    gqa::attend(q, paged, out, gqa::Causal{});

    Tensor expected(q.dimensions()), from_cache(q.dimensions());
    gqa::reference(q, paged, expected, gqa::Causal{});
    gqa::attend(q, cache, from_cache, gqa::Causal{});
    const float error = difference(out, expected);
    const bool equal = same_bits(out, from_cache);
    std::printf("%2td queries a sequence: largest difference from the reference %.1e, %s\n", q_len,
                static_cast<double>(error),
                equal ? "bits equal to KvCache's" : "bits DIFFERENT from KvCache's");
    ok = ok && error < 2e-6f && equal;
  }
  const bool printed = std::fflush(stdout) == 0;
  return ok && printed ? 0 : 1;
}
