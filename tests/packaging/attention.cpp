// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// gqa/attention.hpp without Eigen, and with Eigen included before (EIGEN_BEFORE) or after it
// (EIGEN_AFTER): a step over every storage type and cache. Prints the same numbers each time.
#if defined(EIGEN_BEFORE)
#include <Eigen/Core>
#include <unsupported/Eigen/CXX11/Tensor>
#endif

#include <gqa/attention.hpp>

#if defined(EIGEN_AFTER)
#include <Eigen/Core>
#include <unsupported/Eigen/CXX11/Tensor>
#endif

#include <cstdio>
#include <memory>
#include <type_traits>
#include <vector>

#if defined(EIGEN_BEFORE) || defined(EIGEN_AFTER)
static_assert(std::is_same_v<gqa::bfloat16, Eigen::bfloat16>);
static_assert(std::is_same_v<gqa::KvCache<gqa::half>, gqa::KvCache<Eigen::half>>);
#elif defined(EIGEN_WORLD_VERSION)
#error "a header of Eigen's was included"
#endif

namespace model {
constexpr gqa::Index tokens = 100, head_dim = 48, num_heads = 4, num_kv_heads = 2;
}  // namespace model

template <typename T>
std::vector<T> numbers(gqa::Index count, int step) {
  std::vector<T> result;
  for (gqa::Index i = 0; i < count; ++i) {
    result.push_back(T(static_cast<float>(i * step % 61) * 0.125f - 3.75f));
  }
  return result;
}

template <typename T>
void print(const std::vector<T>& out) {
  double sum = 0;
  for (const T x : out) sum = sum * 0.75 + static_cast<double>(x);
  std::printf("%.17g\n", sum);
}

template <typename T = float, typename Cache>
void step(Cache&& cache) {
  const auto k = numbers<T>(model::tokens * model::num_kv_heads * model::head_dim, 7),
             v = numbers<T>(model::tokens * model::num_kv_heads * model::head_dim, 5),
             q = numbers<T>(model::num_heads * model::head_dim, 3);
  std::vector<T> out(q.size());
  const gqa::TensorShape kv{1, model::tokens, model::num_kv_heads, model::head_dim},
      row{1, 1, model::num_heads, model::head_dim};
  cache.append(gqa::TensorView(k.data(), kv), gqa::TensorView(v.data(), kv));
  gqa::attend(gqa::TensorView(q.data(), row), cache, gqa::TensorView(out.data(), row),
              gqa::Causal{} & gqa::SlidingWindow::from_hf(70) & gqa::SoftCap{30.0f});
  print(out);
}

#if defined(EIGEN_AFTER)
/// Eigen's products inline the compiler's header, of which GCC 12 warns where it wasn't told not
/// to.
float product(const Eigen::MatrixXf& a, const Eigen::MatrixXf& b) {
  return (a * b).sum() + (a.transpose() * b).maxCoeff();
}
#endif

#if defined(EIGEN_BEFORE) || defined(EIGEN_AFTER)
/// Tensors, of queries and results, too, where Eigen is. Prints nothing.
template <typename T>
bool same_as_tensors() {
  using Tensor = Eigen::Tensor<T, 4, Eigen::RowMajor>;
  Tensor k(1, model::tokens, model::num_kv_heads, model::head_dim),
      v(1, model::tokens, model::num_kv_heads, model::head_dim);
  Tensor q(1, 1, model::num_heads, model::head_dim), out(1, 1, model::num_heads, model::head_dim),
      rows = out;
  k.setRandom(), v.setRandom(), q.setRandom();
  gqa::KvCache<T> cache(
      {.batch = 1,
       .capacity = model::tokens,
       .heads = gqa::Heads<>(model::num_heads, model::num_kv_heads, model::head_dim)});
  cache.append(k, v);
  Eigen::Tensor<gqa::AccumulatorOf<T>, 3, Eigen::RowMajor> lse(1, model::num_heads, 1);
  gqa::attend(q, cache, out, gqa::Causal{}, {.lse = lse});
  gqa::attend(q, Eigen::TensorMap<Tensor>(k.data(), k.dimensions()), v, rows, gqa::Causal{});
  for (gqa::Index i = 0; i < out.size(); ++i) {
    if (!(static_cast<float>(out.data()[i]) == static_cast<float>(rows.data()[i]))) return false;
  }
  return true;
}
#endif

int main() {
  const gqa::Heads<> heads(model::num_heads, model::num_kv_heads, model::head_dim);
  step(gqa::KvCache<float>({.batch = 1, .capacity = model::tokens, .heads = heads}));
  step<double>(gqa::KvCache<double>({.batch = 1, .capacity = model::tokens, .heads = heads}));
  step(gqa::KvCache<gqa::bfloat16>({.batch = 1, .capacity = model::tokens, .heads = heads}));
  step(gqa::KvCache<gqa::half>({.batch = 1, .capacity = model::tokens, .heads = heads}));
  step(gqa::KvCache<gqa::Int8>({.batch = 1, .capacity = model::tokens, .heads = heads}));
  step(gqa::KvCache<gqa::Int4>({.batch = 1, .capacity = model::tokens, .heads = heads}));
  step(gqa::RingKvCache<gqa::half>({.batch = 1, .window = 128, .spare = 128, .heads = heads}));
  using Paged = gqa::PagedKvCache<gqa::bfloat16>;
  step(Paged(std::make_shared<gqa::PageAllocator>(gqa::PageAllocator::Options{
                 .pages = 8, .page_bytes = Paged::page_bytes(heads, 64)}),
             {.batch = 1, .capacity = model::tokens, .heads = heads}));
#if defined(EIGEN_AFTER)
  const Eigen::MatrixXf ones = Eigen::MatrixXf::Ones(4, 4);
  if (product(ones, ones) != 68.0f) return 1;
#endif
#if defined(EIGEN_BEFORE) || defined(EIGEN_AFTER)
  return same_as_tensors<float>() && same_as_tensors<double>() && same_as_tensors<gqa::half>() &&
                 same_as_tensors<gqa::bfloat16>()
             ? 0
             : 1;
#endif
}
