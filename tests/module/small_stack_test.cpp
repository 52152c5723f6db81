// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What each call takes of its thread's stack: 64 KiB at most, as README says, so that it runs on
// threads of musl (128 KiB) and of engines that give theirs less. Every call runs on a thread whose
// stack was filled with one byte beforehand; what has another afterwards was used.
#include <gtest/gtest.h>
#include <pthread.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "layer.hpp"

namespace gqa {
namespace {

constexpr std::size_t kib = 1024;

/// Bytes of stack that a thread uses to run f, its own beginning and end included.
std::size_t stack_of(std::function<void()> f) {
  constexpr std::byte untouched{0x5a};
  std::vector<std::byte> memory(4096 * kib, untouched);
  void* begin = memory.data();
  std::size_t size = memory.size();
  std::align(16 * kib, 4000 * kib, begin, size);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  EXPECT_EQ(pthread_attr_setstack(&attributes, begin, 4000 * kib), 0);
  const auto run = [](void* call) -> void* {
    (*static_cast<std::function<void()>*>(call))();
    return nullptr;
  };
  pthread_t thread;
  EXPECT_EQ(pthread_create(&thread, &attributes, run, &f), 0);
  pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
  const auto first =
      std::find_if(memory.begin(), memory.end(), [=](std::byte byte) { return byte != untouched; });
  return static_cast<std::size_t>(static_cast<std::byte*>(begin) + 4000 * kib - &*first);
}

/// Runs a call and holds its need against what README promises.
void expect_small(const std::string& name, const std::function<void()>& f) {
  const std::size_t used = stack_of(f);
  EXPECT_LE(used, 64 * kib) << name << " takes " << used / kib << " KiB of stack";
  ::testing::Test::RecordProperty(name, static_cast<int>(used / kib));
}

template <typename T>
using Tensor = Eigen::Tensor<T, 4, Eigen::RowMajor>;

template <typename T>
Tensor<T> numbers(Index batch, Index tokens, Index heads, Index dim) {
  Tensor<T> x(batch, tokens, heads, dim);
  for (Index i = 0; i < x.size(); ++i) x.data()[i] = static_cast<T>(float(i * 7 % 31 - 15) / 15);
  return x;
}

template <typename Storage, typename T>
struct Kind {
  using S = Storage;
  using Q = T;
};
template <typename K>
class SmallStackOf : public ::testing::Test {};
using Kinds = ::testing::Types<Kind<float, float>, Kind<double, double>, Kind<bfloat16, bfloat16>,
                               Kind<half, half>, Kind<Int8, float>, Kind<Int4, float>>;
TYPED_TEST_SUITE(SmallStackOf, Kinds);

constexpr Index batch = 2, tokens = 300, kv_heads = 2, heads = 8, dim = 128;

/// Everything that an engine does with a cache.
template <typename T, typename Cache>
void expect_small_for(const std::string& kind, Cache& cache) {
  const Tensor<T> k = numbers<T>(batch, tokens, kv_heads, dim);
  const Tensor<T> one = numbers<T>(batch, 1, heads, dim), many = numbers<T>(batch, 70, heads, dim);
  Tensor<T> out_one = one, out_many = many;
  const auto rules = Causal{} & SoftCap{30.0f} & Alibi::standard(heads);
  expect_small(kind + ", append", [&] { cache.append(k, k); });
  expect_small(kind + ", decode", [&] { attend(one, cache, out_one, Causal{}); });
  expect_small(kind + ", decode with rules", [&] { attend(one, cache, out_one, rules); });
  expect_small(kind + ", prefill", [&] { attend(many, cache, out_many, Causal{}); });
  expect_small(kind + ", prefill with rules", [&] { attend(many, cache, out_many, rules); });
  expect_small(kind + ", shared prefix",
               [&] { attend_shared_prefix(one, cache, out_one, Causal{}); });
  expect_small(kind + ", reference", [&] { reference(one, cache, out_one, Causal{}); });
  expect_small(kind + ", explain", [&] { explain(many, cache, out_many, Causal{}); });
  std::stringstream file;
  expect_small(kind + ", save", [&] { save(cache, file); });
  expect_small(kind + ", load", [&] { load(cache, file); });
  const Tensor<T> other = numbers<T>(batch, 1, heads, dim + 8);
  expect_small(kind + ", refusal", [&] {
    EXPECT_THROW(attend(other, cache, out_one, Causal{}), std::invalid_argument);
    EXPECT_THROW(cache.append(k, k), std::length_error);
  });
  expect_small(kind + ", truncate", [&] { cache.truncate(0, 200); });
  expect_small(kind + ", fork", [&] { cache.fork(0, 1); });
}

TYPED_TEST(SmallStackOf, EveryCallOnACache) {
  using Storage = typename TypeParam::S;
  using T = typename TypeParam::Q;
  const Heads<> shape(heads, kv_heads, dim);
  KvCache<Storage> plain({.batch = batch, .capacity = 400, .heads = shape});
  expect_small_for<T>("KvCache", plain);
  const RopeTable<AccumulatorOf<Storage>> rope({}, dim);
  expect_small("drop_tokens", [&] { drop_tokens(plain, 0, 10, 60, rope); });
  RingKvCache<Storage> ring({.batch = batch, .window = 300, .spare = 300, .heads = shape});
  const Tensor<typename TypeParam::Q> k = numbers<typename TypeParam::Q>(batch, 300, kv_heads, dim);
  expect_small("RingKvCache, append", [&] { ring.append(k, k); });
  const Index page_bytes = PagedKvCache<Storage>::page_bytes(shape);
  PagedKvCache<Storage> paged(std::make_shared<PageAllocator>(
                                  PageAllocator::Options{.pages = 40, .page_bytes = page_bytes}),
                              {.batch = batch, .capacity = 400, .heads = shape});
  expect_small_for<T>("PagedKvCache", paged);
}

template <typename T>
class SmallStackIn : public ::testing::Test {};
using Reals = ::testing::Types<float, double>;
TYPED_TEST_SUITE(SmallStackIn, Reals);

TYPED_TEST(SmallStackIn, Gradients) {
  using T = TypeParam;
  const Tensor<T> q = numbers<T>(batch, 70, heads, dim);
  const Tensor<T> k = numbers<T>(batch, 90, kv_heads, dim);
  Tensor<T> out = q, dq = q, dk = k, dv = k;
  Eigen::Tensor<T, 3, Eigen::RowMajor> lse(batch, heads, 70);
  attend(q, k, k, out, Causal{}, {.lse = lse});
  expect_small("attend_backward",
               [&] { attend_backward(q, q, k, k, out, lse, dq, dk, dv, Causal{}); });
  expect_small("reference_backward", [&] { reference_backward(q, q, k, k, dq, dk, dv, Causal{}); });
}

TYPED_TEST(SmallStackIn, Layers) {
  using T = TypeParam;
  const auto layer = test::random_layer<T>({.hidden_size = 512,
                                            .num_heads = 8,
                                            .num_kv_heads = 2,
                                            .qkv_bias = true,
                                            .rope = RopeConfig{},
                                            .qk_norm = QkNorm{}});
  const auto across =
      test::random_layer<T>({.hidden_size = 512, .num_heads = 8, .num_kv_heads = 2});
  KvCache<T> cache({.batch = 1, .capacity = 200, .heads = layer.heads()}), memory = cache.clone();
  AttentionRecord<T> record;
  AttentionWeights<T> gradients(layer.config()), across_gradients(across.config());
  for (const Index rows : {1, 3, 5, 64, 100}) {
    const std::string name = std::to_string(rows) + " tokens, ";
    const auto x = test::random_matrix<T>(rows, 512, 1);
    auto y = x, dx = x, dmemory = x;
    cache.clear();
    memory.clear();
    expect_small(name + "forward", [&] { layer.forward(x, y, &cache); });
    expect_small(name + "forward without cache", [&] { layer.forward(x, y); });
    expect_small(name + "forward to be trained", [&] { layer.forward(x, y, record); });
    expect_small(name + "backward", [&] { layer.backward(x, x, dx, record, gradients); });
    expect_small(name + "project_memory", [&] { across.project_memory(x, memory); });
    expect_small(name + "cross", [&] { across.cross(x, y, memory); });
    expect_small(name + "cross to be trained", [&] { across.cross(x, x, y, record); });
    expect_small(name + "cross_backward",
                 [&] { across.cross_backward(x, x, x, dx, dmemory, record, across_gradients); });
  }
}

}  // namespace
}  // namespace gqa
