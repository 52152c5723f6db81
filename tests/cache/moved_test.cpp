// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// One rule for everything that is moved: what was moved from is empty and may be used again, and
// moving to itself changes nothing.
#include <gtest/gtest.h>

#include <sstream>
#include <type_traits>

#include "any_cache.hpp"
#include "gqa/cache/kv_cache_stack.hpp"
#include "gqa/cache/selection.hpp"
#include "gqa/cache/serialize.hpp"
#include "gqa/core/workspace.hpp"
#include "support/errors.hpp"
#include "tokens.hpp"

namespace gqa::test {
namespace {

CacheShape shape() {
  return {.batch = 2, .heads = Heads<>(2, 1, 4), .capacity = 300, .window = 100, .spare = 100};
}

/// What moves to itself, out of a compiler's sight.
template <typename T>
void move_to_itself(T& x) {
  T* const same = &x;
  x = std::move(*same);
}

template <typename Kind>
class Moved : public testing::Test {
 public:
  using Cache = typename Kind::template Cache<float>;
  static Cache make() {
    Cache cache = Kind::template make<float>(shape());
    append_numbers(cache, 0, counting(0, 70));
    append_numbers(cache, 1, counting(500, 3));
    return cache;
  }
  static void expect_as_made(const Cache& cache) {
    EXPECT_EQ(cache.batch(), 2);
    EXPECT_EQ(read_numbers(cache, 0), counting(0, 70));
    EXPECT_EQ(read_numbers(cache, 1), counting(500, 3));
  }
  /// Everything that a cache can be asked, of one that has nothing.
  static void expect_empty(Cache& cache) {
    EXPECT_EQ(cache.batch(), 0);
    EXPECT_EQ(cache.bytes(), 0);
    EXPECT_EQ(cache.bytes_per_token(), 2 * 4 * 4);
    cache.clear();
    cache.truncate_all(0);
    cache.reserve(std::span<const Index>{});
    cache.reorder(std::span<const Index>{});
    TestTensor<float> none({0, 1, 1, 4}), one({1, 1, 1, 4}), two({2, 1, 1, 4});
    cache.append(none.view(), none.view());
    const auto refused = [](auto f) { return error_of(f) != "no exception"; };
    EXPECT_TRUE(refused([&] { cache.append(two.view(), two.view()); }));
    EXPECT_TRUE(refused([&] { cache.append(0, one.view(), one.view()); }));
    EXPECT_TRUE(refused([&] { cache.reserve(0, 1); }));
    EXPECT_TRUE(refused([&] { cache.reserve(std::vector<Index>{1, 1}); }));
    EXPECT_TRUE(refused([&] { cache.truncate(0, 0); }));
    EXPECT_TRUE(refused([&] { cache.fork(0, 0); }));
    EXPECT_TRUE(refused([&] { cache.reorder(std::vector<Index>{0, 1}); }));
    EXPECT_TRUE(refused([&] { cache.read(0, one.view(), one.view()); }));
    EXPECT_TRUE(refused([&] { cache.read(0, 0, one.view(), one.view()); }));
    EXPECT_TRUE(refused([&] { (void)cache.clone(); }));
    const std::vector<Index> first{0};
    EXPECT_TRUE(refused([&] { (void)select(cache, first); }));
    AppendTransaction step;
    EXPECT_TRUE(refused([&] { step.plan(cache, 0, 1); }));
    EXPECT_TRUE(refused([&] { step.plan(cache, std::vector<Index>{1, 1}); }));
    step.plan(cache, std::span<const Index>{});
    EXPECT_FALSE(step.is_open());
    std::stringstream file;
    EXPECT_TRUE(refused([&] { save(cache, file); }));
    EXPECT_TRUE(refused([&] { load(cache, file); }));
    EXPECT_TRUE(refused([&] { load(cache, 0, file); }));
    TestTensor<float> q({1, 1, 2, 4}), out(q.shape());
    EXPECT_TRUE(refused([&] { attend(q.view(), cache, out.view(), NoMask{}); }));
    EXPECT_NE(error_of([&] { cache.clear(0); }).find("it was moved from"), std::string::npos);
  }
};
using Kinds = testing::Types<FixedKind, GrowingKind, RingKind, PagedKind<64>, PagedKind<128>>;
TYPED_TEST_SUITE(Moved, Kinds);

TYPED_TEST(Moved, CachesAreEmptyAndMayBeUsedAgain) {
  auto cache = TestFixture::make();
  const Index bytes = cache.bytes();
  auto moved = std::move(cache);
  this->expect_as_made(moved);
  EXPECT_EQ(moved.bytes(), bytes);
  this->expect_empty(cache);  // NOLINT(bugprone-use-after-move)
  cache = TestFixture::make();
  this->expect_as_made(cache);
  cache = std::move(moved);  // over what it held
  this->expect_as_made(cache);
  this->expect_empty(moved);  // NOLINT(bugprone-use-after-move)
  moved = std::move(cache);
  this->expect_as_made(moved);
  auto empty = std::move(cache);  // of one that is empty itself
  this->expect_empty(empty);
  this->expect_empty(cache);
}

TYPED_TEST(Moved, CachesMayMoveToThemselves) {
  auto cache = TestFixture::make();
  move_to_itself(cache);
  this->expect_as_made(cache);
  std::swap(cache, cache);
  this->expect_as_made(cache);
  auto other = std::move(cache);
  move_to_itself(cache);  // NOLINT(bugprone-use-after-move)
  this->expect_empty(cache);
  std::swap(cache, other);
  this->expect_as_made(cache);
  this->expect_empty(other);
}

TYPED_TEST(Moved, StacksAreEmptyAndMayBeUsedAgain) {
  using Layer = typename TestFixture::Cache;
  const auto make = [] {
    typename Layer::Options options{.batch = 2, .heads = shape().heads};
    if constexpr (requires { options.window; }) options.window = 100;
    if constexpr (requires { options.capacity; }) options.capacity = 300;
    if constexpr (requires { options.page_tokens; }) {
      const auto pages = std::make_shared<PageAllocator>(PageAllocator::Options{
          .pages = 9, .page_bytes = Layer::page_bytes(options.heads, options.page_tokens)});
      return KvCacheStack<Layer>(2, pages, options);
    } else {
      return KvCacheStack<Layer>(2, options);
    }
  };
  const auto fill = [](auto& stack) {
    for (auto& layer : stack) append_numbers(layer, 1, counting(0, 5));
  };
  const auto expect_empty = [](auto& stack) {
    EXPECT_EQ(stack.num_layers(), 0);
    EXPECT_EQ(stack.batch(), 0);
    EXPECT_EQ(stack.bytes(), 0);
    EXPECT_EQ(stack.bytes_per_token(), 0);
    stack.clear();
    stack.truncate_all(0);
    EXPECT_EQ(error_of([&] { (void)stack.clone(); }),
              "KvCacheStack::clone: the stack was moved from");
    const auto refused = [](auto f) { return error_of(f) != "no exception"; };
    EXPECT_TRUE(refused([&] { stack.clear(0); }));
    EXPECT_TRUE(refused([&] { stack.truncate(0, 0); }));
    EXPECT_TRUE(refused([&] { stack.fork(0, 1); }));
    EXPECT_TRUE(refused([&] { stack.reorder(std::vector<Index>{0, 1}); }));
    EXPECT_TRUE(refused([&] { (void)stack.length(0); }));
    EXPECT_TRUE(refused([&] { (void)stack.capacity(); }));
    EXPECT_TRUE(refused([&] { (void)stack[0]; }));
    AppendTransaction step;
    EXPECT_TRUE(refused([&] { stack.plan_append(step, std::vector<Index>{1, 1}); }));
    EXPECT_TRUE(refused([&] { stack.plan_append(step, 0, 1); }));
    std::stringstream file;
    EXPECT_TRUE(refused([&] { save(stack, file); }));
    EXPECT_TRUE(refused([&] { load(stack, file); }));
    EXPECT_TRUE(refused([&] { save(stack, 0, file); }));
    EXPECT_TRUE(refused([&] { load(stack, 0, file); }));
    if constexpr (requires { stack.share_prefix(0, 0); }) {
      EXPECT_TRUE(refused([&] { (void)stack.share_prefix(0, 0); }));
    }
  };
  auto stack = make();
  fill(stack);
  move_to_itself(stack);
  EXPECT_EQ(read_numbers(stack[1], 1), counting(0, 5));
  auto moved = std::move(stack);
  EXPECT_EQ(read_numbers(moved[1], 1), counting(0, 5));
  expect_empty(stack);  // NOLINT(bugprone-use-after-move)
  stack = make();
  stack = std::move(moved);
  EXPECT_EQ(read_numbers(stack[0], 1), counting(0, 5));
  expect_empty(moved);  // NOLINT(bugprone-use-after-move)
  move_to_itself(moved);
  expect_empty(moved);
}

TEST(MovedPagedCache, GivesItsPagesWithIt) {
  using Paged = PagedKvCache<float>;
  const auto heads = shape().heads;
  const auto pages = std::make_shared<PageAllocator>(
      PageAllocator::Options{.pages = 9, .page_bytes = Paged::page_bytes(heads)});
  Paged cache(pages, {.capacity = 300, .heads = heads});
  append_numbers(cache, 0, counting(0, 130));
  Paged other(pages, {.capacity = 300, .heads = heads});
  append_numbers(other, 0, counting(0, 65));
  EXPECT_EQ(pages->statistics().used, 5);
  other = std::move(cache);
  EXPECT_EQ(pages->statistics().used, 3);  // at once, not when `cache` ends
  EXPECT_EQ(cache.allocator(), nullptr);   // NOLINT(bugprone-use-after-move)
  EXPECT_EQ(cache.pages(), 0);
  EXPECT_EQ(cache.fragmentation(), 0);
  EXPECT_EQ(error_of([&] { (void)cache.pages(0); }),
            "PagedKvCache::pages: sequence 0 is outside of a batch of 0 (it was moved from)");
  EXPECT_EQ(error_of([&] { (void)cache.share_prefix(0, 0); }),
            "PagedKvCache::length: sequence 0 is outside of a batch of 0 (it was moved from)");
  EXPECT_NE(error_of([&] { cache.prepare_truncate(0, 0); }), "no exception");

  Paged::Prefix prefix = other.share_prefix(0, 64);
  EXPECT_EQ(error_of([&] { cache.start_with(0, prefix); }),
            "PagedKvCache::start_with: sequence 0 is outside of a batch of 0 (it was moved from)");
  move_to_itself(prefix);
  const Paged::Prefix moved = std::move(prefix);
  EXPECT_EQ(error_of([&] { other.start_with(0, prefix); }),  // NOLINT(bugprone-use-after-move)
            "PagedKvCache::start_with: the prefix was moved from");
  other.start_with(0, moved);
  EXPECT_EQ(read_numbers(other, 0), counting(0, 64));
}

TEST(MovedPageList, IsEmptyAndKeepsItsPagesFromItself) {
  const auto pages =
      std::make_shared<PageAllocator>(PageAllocator::Options{.pages = 3, .page_bytes = 64});
  const auto list_of = [&](Index count) {
    PageList list(pages, 3);
    PageClaim claim(*pages, count);
    for (Index i = 0; i < count; ++i) list.push(claim.take());
    return list;
  };
  PageList list = list_of(2);
  move_to_itself(list);
  EXPECT_EQ(list.size(), 2);
  EXPECT_EQ(pages->statistics().used, 2);
  PageList other = list_of(1);
  other = std::move(list);
  EXPECT_EQ(other.size(), 2);
  EXPECT_EQ(pages->statistics().used, 2);
  EXPECT_EQ(list.size(), 0);  // NOLINT(bugprone-use-after-move)
  EXPECT_EQ(list.allocator(), nullptr);
  list = PageList();
  EXPECT_EQ(list.size(), 0);
}

TEST(MovedBuffer, IsEmptyAndFreesWhatItReplaced) {
  AlignedBuffer buffer(100);
  std::byte* const memory = buffer.data();
  move_to_itself(buffer);
  EXPECT_EQ(buffer.data(), memory);
  EXPECT_EQ(buffer.bytes(), 100u);
  AlignedBuffer other(200);
  other = std::move(buffer);
  EXPECT_EQ(other.data(), memory);
  EXPECT_EQ(buffer.data(), nullptr);  // NOLINT(bugprone-use-after-move)
  EXPECT_EQ(buffer.bytes(), 0u);
}

TEST(MovedWorkspace, IsEmptyAndMayBeUsedAgain) {
  Workspace workspace;
  std::byte* const memory = workspace.reserve(1000);
  workspace.nested().reserve(64);
  move_to_itself(workspace);
  EXPECT_EQ(workspace.reserve(1000), memory);
  Workspace other(50);
  other = std::move(workspace);
  EXPECT_EQ(other.reserve(1000), memory);
  EXPECT_EQ(workspace.bytes(), 0u);  // NOLINT(bugprone-use-after-move)
  EXPECT_NE(workspace.reserve(10), nullptr);
  EXPECT_NE(workspace.nested().reserve(10), nullptr);
}

/// What others point to stays where it is.
template <typename T>
constexpr bool can_move = std::is_move_constructible_v<T> || std::is_move_assignable_v<T>;
static_assert(!can_move<AppendTransaction> && !can_move<PageAllocator> && !can_move<PageClaim>);
/// Copies are named: clone().
template <typename T>
constexpr bool can_copy = std::is_copy_constructible_v<T> || std::is_copy_assignable_v<T>;
static_assert(!can_copy<KvCache<float>> && !can_copy<RingKvCache<float>> &&
              !can_copy<PagedKvCache<float>> && !can_copy<KvCacheStack<KvCache<float>>> &&
              !can_copy<PagedKvCache<float>::Prefix> && !can_copy<PageList> &&
              !can_copy<AlignedBuffer> && !can_copy<Workspace>);
/// So that a std::vector of them moves them when it grows.
template <typename T>
constexpr bool moves_safely =
    std::is_nothrow_move_constructible_v<T> && std::is_nothrow_move_assignable_v<T>;
static_assert(moves_safely<KvCache<float>> && moves_safely<RingKvCache<float>> &&
              moves_safely<PagedKvCache<float>> && moves_safely<KvCacheStack<KvCache<float>>> &&
              moves_safely<PagedKvCache<float>::Prefix> && moves_safely<Workspace>);

}  // namespace
}  // namespace gqa::test
