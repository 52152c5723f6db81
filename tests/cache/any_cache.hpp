// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Every cache of the library, made alike, for tests that hold for all of them.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "gqa/cache/contiguous.hpp"
#include "gqa/cache/paged.hpp"
#include "gqa/cache/ring.hpp"
#include "gqa/kernel/attend.hpp"
#include "support/random.hpp"

namespace gqa::test {

/// What a test asks of any cache.
struct CacheShape {
  Index batch = 1;
  Heads<> heads;
  Index capacity = 0;    ///< tokens per sequence, where the cache has an end
  Index window = 0;      ///< of the mask that the cache is read with
  Index keep_first = 0;  ///< the same
  Index spare = 64;      ///< tokens that are appended or taken back at once
};

/// Each kind names its Cache<Storage>, and make(CacheShape).
struct FixedKind {
  static constexpr const char* name = "contiguous";
  template <typename Storage>
  using Cache = KvCache<Storage>;
  template <typename Storage>
  static Cache<Storage> make(const CacheShape& s) {
    return KvCache<Storage>({.batch = s.batch, .capacity = s.capacity, .heads = s.heads});
  }
};
struct GrowingKind {
  static constexpr const char* name = "growing";
  template <typename Storage>
  using Cache = KvCache<Storage>;
  template <typename Storage>
  static Cache<Storage> make(const CacheShape& s) {
    return KvCache<Storage>(
        {.batch = s.batch, .capacity = 1, .heads = s.heads, .max_capacity = s.capacity});
  }
};
struct RingKind {
  static constexpr const char* name = "ring";
  template <typename Storage>
  using Cache = RingKvCache<Storage>;
  template <typename Storage>
  static Cache<Storage> make(const CacheShape& s) {
    return RingKvCache<Storage>({.batch = s.batch,
                                 .window = s.window,
                                 .keep_first = s.keep_first,
                                 .spare = s.spare,
                                 .heads = s.heads});
  }
};
template <Index page_tokens>
struct PagedKind {
  static constexpr const char* name = page_tokens == 64 ? "paged" : "paged, large pages";
  template <typename Storage>
  using Cache = PagedKvCache<Storage>;
  template <typename Storage>
  static Cache<Storage> make(const CacheShape& s) {
    const Index pages = s.batch * (ceil_div(s.capacity, page_tokens) + 1);
    const auto allocator = std::make_shared<PageAllocator>(PageAllocator::Options{
        .pages = pages, .page_bytes = Cache<Storage>::page_bytes(s.heads, page_tokens)});
    // What pages hold before their first use must not matter: NaN here, whatever the type.
    std::fill_n(allocator->data(0), pages * allocator->page_bytes(), std::byte{0xff});
    return Cache<Storage>(
        allocator,
        {.batch = s.batch, .capacity = s.capacity, .page_tokens = page_tokens, .heads = s.heads});
  }
};

/// A source of strips behind a function: attend() is then compiled once for all caches of a storage
/// type.
template <typename StorageT>
class AnySource {
 public:
  using Storage = StorageT;
  static constexpr KvLayout layout = KvLayout::strips;

  template <typename Cache>
  explicit AnySource(const Cache& cache)
      : heads_(cache.num_kv_heads(), cache.num_kv_heads(), cache.head_dim(), cache.value_dim()),
        runs_([&cache](Index b, Index h, Index begin, Index end, const auto& fn) {
          cache.for_each_run(b, h, begin, end, fn);
        }) {
    for (Index b = 0; b < cache.batch(); ++b) lengths_.push_back(cache.length(b));
  }
  Index batch() const { return std::ssize(lengths_); }
  Index num_kv_heads() const { return heads_.num_kv_heads(); }
  Index head_dim() const { return heads_.head_dim(); }
  Index value_dim() const { return heads_.value_dim(); }
  Index length(Index b) const { return lengths_[static_cast<std::size_t>(b)]; }
  template <typename F>
  void for_each_run(Index b, Index kv_head, Index begin, Index end, F&& fn) const {
    runs_(b, kv_head, begin, end, Handler(fn));
  }

 private:
  using Handler = std::function<void(const StripRun&)>;

  Heads<> heads_;
  std::vector<Index> lengths_;
  std::function<void(Index, Index, Index, Index, const Handler&)> runs_;
};

/// Out, then lse, of attend() over a source under the mask that `shape` names, for the last
/// q_lens[b] tokens of each sequence.
template <typename Storage>
std::vector<AccumulatorOf<Storage>> attend_to(const AnySource<Storage>& source,
                                              const TestTensor<AccumulatorOf<Storage>>& q,
                                              std::span<const Index> q_lens,
                                              const CacheShape& shape) {
  using T = AccumulatorOf<Storage>;
  const TensorShape out{q.shape().batch, q.shape().tokens, q.shape().heads, source.value_dim()};
  const Index rows = out.batch * out.tokens * out.heads;
  std::vector<T> result(static_cast<std::size_t>(rows * (out.dim + 1)), T(-12345));
  attend(q.view(), source, TensorView<T>(result.data(), out),
         Causal{} & SlidingWindow::from_hf(shape.window) & KeepFirst{shape.keep_first},
         {.lse = LseView<T>(result.data() + rows * out.dim, out.batch, out.heads, out.tokens),
          .q_lens = q_lens});
  return result;
}

}  // namespace gqa::test
