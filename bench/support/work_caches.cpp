// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
#include "support/work_caches.hpp"

namespace gqa::bench {
namespace {

Heads<> heads_of(const Case& c) {
  return {c.model.num_heads, c.model.num_kv_heads, c.model.head_dim};
}
/// Appends random tokens to sequence b of a cache.
template <typename Cache>
void append_random(Random& random, Cache& cache, Index b, Index tokens) {
  append_random(random, 1, tokens, cache.num_kv_heads(), cache.head_dim(),
                [&](const Tensor& k, const Tensor& v) { cache.append(b, k, v); });
}

template <typename Storage>
class PagedWork final : public WorkOverQueries {
 public:
  explicit PagedWork(const Case& c)
      : WorkOverQueries(c),
        page_tokens_(c.cache == "paged_512" ? 512 : block_keys),
        cache_(shuffled_pages<Storage>(heads_of(c), c.batch * ceil_div(c.kv_len, page_tokens_),
                                       page_tokens_),
               {.batch = c.batch,
                .capacity = c.kv_len,
                .page_tokens = page_tokens_,
                .heads = heads_of(c)}) {
    Random random(1);
    for (Index b = 0; b < c.batch; ++b) append_random(random, cache_, b, c.kv_len);
    find_reference(cache_);
    products = best_products<Storage>();
    kv_bytes = static_cast<double>(c.kv_len * c.batch * cache_.bytes_per_token());
  }
  void attend(const EigenPool& executor) override { attend_over(cache_, executor); }
  std::span<const std::byte> memory() const override {
    const PageAllocator& pages = *cache_.allocator();
    return {pages.data(0), static_cast<std::size_t>(pages.pages() * pages.page_bytes())};
  }

 private:
  Index page_tokens_;
  PagedKvCache<Storage> cache_;
};

/// A ring of exactly kv_len tokens, half of them written in its second round.
template <typename Storage>
class RingWork final : public WorkOverQueries {
 public:
  explicit RingWork(const Case& c)
      : WorkOverQueries(c),
        // All that is left, to the queries of a step: two blocks more than the ring's own window.
        rules_(Causal{} & SlidingWindow::from_hf(c.kv_len - c.q_len + 1)),
        cache_({.batch = c.batch,
                .window = c.kv_len - 2 * block_keys,
                .spare = block_keys,
                .heads = heads_of(c)}) {
    require(c.kv_len % (2 * block_keys) == 0 && c.kv_len > 2 * block_keys, name_of(c),
            ": a ring needs a kv_len that is a multiple of ", 2 * block_keys);
    Random random(1);
    for (Index b = 0; b < c.batch; ++b) {
      for (Index t = 0; t < c.kv_len * 3 / 2; t += block_keys) {
        append_random(random, cache_, b, block_keys);
      }
    }
    find_reference(cache_, rules_);
    products = best_products<Storage>();
    kv_bytes = static_cast<double>(c.kv_len * c.batch * cache_.bytes_per_token());
  }
  void attend(const EigenPool& executor) override { attend_over(cache_, executor, rules_); }
  std::span<const std::byte> memory() const override {
    const std::byte* begin = nullptr;  // block kv_len / 64 has the place of block 0
    const Index first = cache_.length(0) / 3 * 2;
    cache_.for_each_run(0, 0, first, first + 1, [&](const StripRun& run) { begin = run.blocks; });
    return {begin, static_cast<std::size_t>(cache_.bytes())};
  }

 private:
  Rules<Causal, SlidingWindow> rules_;
  RingKvCache<Storage> cache_;
};

/// Sequences that share all tokens but their last 64.
class PrefixWork final : public WorkOverQueries {
 public:
  explicit PrefixWork(const Case& c)
      : WorkOverQueries(c),
        shared_(c.cache == "shared_prefix"),
        cache_(shuffled_pages<float>(heads_of(c), ceil_div(c.kv_len, block_keys) + 2 * c.batch),
               {.batch = c.batch, .capacity = c.kv_len, .heads = heads_of(c)}) {
    require(c.kv_len > block_keys, name_of(c), ": kv_len must be above ", block_keys);
    Random random(1);
    append_random(random, cache_, 0, c.kv_len - block_keys);
    for (Index b = 1; b < c.batch; ++b) cache_.fork(0, b);
    for (Index b = 0; b < c.batch; ++b) append_random(random, cache_, b, block_keys);
    find_reference(cache_);
    // The prefix once: what is read again may come from L3.
    const Index tokens = c.kv_len + (c.batch - 1) * block_keys;
    kv_bytes = static_cast<double>(tokens * cache_.bytes_per_token());
  }
  void attend(const EigenPool& executor) override {
    if (shared_) {
      gqa::attend_shared_prefix(q_, cache_, out_, Causal{}, {.workspace = &workspace_}, executor);
    } else {
      attend_over(cache_, executor);
    }
  }
  std::span<const std::byte> memory() const override {
    const PageAllocator& pages = *cache_.allocator();
    return {pages.data(0), static_cast<std::size_t>(pages.pages() * pages.page_bytes())};
  }

 private:
  bool shared_;
  PagedKvCache<float> cache_;
};

/// A token for one layer after the other.
template <typename Storage>
class AppendWork final : public Work {
 public:
  explicit AppendWork(const Case& c)
      : kv_len_(c.kv_len),
        layers_(32, {.batch = c.batch, .capacity = c.kv_len + 64, .heads = heads_of(c)}),
        k_(c.batch, 1, c.model.num_kv_heads, c.model.head_dim),
        v_(k_.dimensions()) {
    Random random(1);
    random.fill(k_);
    random.fill(v_);
    for (auto& layer : layers_) {
      append_random(random, c.batch, kv_len_, c.model.num_kv_heads, c.model.head_dim,
                    [&](const Tensor& k, const Tensor& v) { layer.append(k, v); });
    }
    kv_bytes = static_cast<double>(c.batch * layers_[0].bytes_per_token());
  }
  void attend(const EigenPool&) override {
    auto& layer = layers_[next_];
    if (layer.length(0) == layer.capacity()) layer.truncate_all(kv_len_);
    layer.append(k_, v_);
    last_ = next_;
    next_ = (next_ + 1) % layers_.num_layers();
  }
  /// Is the token that was appended last there? An Int8 is off by half a step of 127 at most, the
  /// largest Int4 of a token by 2 steps of 9 (int4_scale()).
  Agreement agreement() const override {
    Tensor k(1, 1, k_.dimension(2), k_.dimension(3)), v(k.dimensions());
    const auto& layer = layers_[last_];
    layer.read(0, layer.length(0) - 1, k, v);
    Agreement worst;
    for (Index i = 0; i < k.size(); ++i) {
      worst.difference = std::max({worst.difference, test::difference(k.data()[i], k_.data()[i]),
                                   test::difference(v.data()[i], v_.data()[i])});
    }
    worst.share_of_tolerance = worst.difference / (std::same_as<Storage, Int4> ? 0.25 : 0.01);
    return worst;
  }
  std::span<const std::byte> memory() const override {
    const std::byte* begin = nullptr;
    layers_[0].for_each_run(0, 0, 0, 1, [&](const StripRun& run) { begin = run.blocks; });
    return {begin, static_cast<std::size_t>(layers_[0].bytes())};
  }

 private:
  Index kv_len_;
  KvCacheStack<KvCache<Storage>> layers_;
  Tensor k_;  // [batch, 1, num_kv_heads, head_dim]
  Tensor v_;
  Index next_ = 0;
  Index last_ = 0;
};

template <template <typename> class WorkOf>
std::unique_ptr<Work> make(const Case& c) {
  if (c.dtype == "f32") return std::make_unique<WorkOf<float>>(c);
  if (c.dtype == "bf16") return std::make_unique<WorkOf<bfloat16>>(c);
  if (c.dtype == "int8") return std::make_unique<WorkOf<Int8>>(c);
  return nullptr;
}

}  // namespace

std::unique_ptr<Work> make_cache_work(const Case& c) {
  if (c.rows || !c.decodes()) return nullptr;
  if (c.cache == "paged" || c.cache == "paged_512") return make<PagedWork>(c);
  if (c.cache == "ring") return make<RingWork>(c);
  if (c.cache == "append") {
    return c.dtype == "int4" ? std::make_unique<AppendWork<Int4>>(c) : make<AppendWork>(c);
  }
  const bool prefix = c.cache == "forks" || c.cache == "shared_prefix";
  return prefix && c.dtype == "f32" ? std::make_unique<PrefixWork>(c) : nullptr;
}

}  // namespace gqa::bench
