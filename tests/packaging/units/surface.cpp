// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The rest of what computes: instantiated, so that two units with all of it link, and so that
// isa_tags.sh sees every function; it holds these to the tag as well. Nothing here is run.
#include <gqa/gqa.hpp>

namespace unit::GQA_UNIT {
inline namespace GQA_ISA {

template <typename T>
using Tensor = Eigen::Tensor<T, 4, Eigen::RowMajor>;

template <typename Query, typename Storage>
void attention(const Tensor<Query>& q, Tensor<Query>& out, const Tensor<Storage>& k,
               const Tensor<Storage>& v, const gqa::EigenPool& pool) {
  gqa::KvCache<Storage> cache({.batch = 1, .capacity = 64, .heads = gqa::Heads<>(8, 2, 64)});
  cache.append(k, v);
  cache.truncate_all(1);
  const auto rules = gqa::Causal{} & gqa::SlidingWindow::from_hf(1024) & gqa::SoftCap{50.0f};
  gqa::attend(q, cache, out, gqa::NoMask{});
  gqa::attend(q, cache, out, rules, {}, pool);
  gqa::attend(q, k, v, out, rules);
  gqa::reference(q, cache, out, rules);
}

template void attention(const Tensor<float>&, Tensor<float>&, const Tensor<float>&,
                        const Tensor<float>&, const gqa::EigenPool&);
template void attention(const Tensor<float>&, Tensor<float>&, const Tensor<gqa::bfloat16>&,
                        const Tensor<gqa::bfloat16>&, const gqa::EigenPool&);
template void attention(const Tensor<gqa::half>&, Tensor<gqa::half>&, const Tensor<gqa::half>&,
                        const Tensor<gqa::half>&, const gqa::EigenPool&);
template void attention(const Tensor<double>&, Tensor<double>&, const Tensor<double>&,
                        const Tensor<double>&, const gqa::EigenPool&);

void quantised(const Tensor<float>& q, Tensor<float>& out, const Tensor<float>& k) {
  gqa::KvCache<gqa::Int8> cache({.batch = 1, .capacity = 64, .heads = gqa::Heads<>(8, 2, 64)});
  cache.append(k, k);
  gqa::attend(q, cache, out, gqa::Causal{} & gqa::Alibi::standard(8));
  gqa::explain(q, gqa::rows_kv(k, k), out, gqa::Causal{});
}

template <typename Cache>
void cache(Cache& cache, const Tensor<float>& q, Tensor<float>& out, const Tensor<float>& k) {
  gqa::AppendTransaction step;
  step.plan(cache, 0, 1);
  const gqa::Index sequences[] = {0};
  gqa::select(cache, sequences).append(k, k);
  step.commit();
  cache.fork(0, 0);
  gqa::attend(q, cache.clone(), out, gqa::Causal{});
  gqa::attend_shared_prefix(q, cache, out, gqa::Causal{});
}

template void cache(gqa::RingKvCache<float>&, const Tensor<float>&, Tensor<float>&,
                    const Tensor<float>&);
template void cache(gqa::PagedKvCache<float>&, const Tensor<float>&, Tensor<float>&,
                    const Tensor<float>&);

template <typename T>
void gradients(const Tensor<T>& x, Tensor<T>& dx, const Eigen::Tensor<T, 3, Eigen::RowMajor>& lse,
               const gqa::EigenPool& pool) {
  const auto rules = gqa::Causal{} & gqa::SoftCap{50.0f} & gqa::SinkLogits{};
  gqa::attend_backward(x, x, x, x, x, lse, dx, dx, dx, rules, {}, pool);
  gqa::attend_backward(x, x, x, x, x, lse, dx, dx, dx, gqa::AdditiveBias{x});
  gqa::reference_backward(x, x, x, x, dx, dx, dx, rules);
}

template void gradients(const Tensor<float>&, Tensor<float>&,
                        const Eigen::Tensor<float, 3, Eigen::RowMajor>&, const gqa::EigenPool&);
template void gradients(const Tensor<double>&, Tensor<double>&,
                        const Eigen::Tensor<double, 3, Eigen::RowMajor>&, const gqa::EigenPool&);

void row_maths(Tensor<float>& x, std::span<const float> weight) {
  const gqa::RopeTable<float> table({}, 64);
  gqa::apply_rope(table, x, gqa::RopePositions(3));
  gqa::rope_backward(table, x, gqa::RopePositions(3));
  gqa::rms_norm(x, weight, x);
  gqa::rms_norm_backward(x, weight, x, x, std::span<float>());
  gqa::apply_hadamard(x);
}

void layer(const Eigen::Tensor<float, 3, Eigen::RowMajor>& x,
           Eigen::Tensor<float, 3, Eigen::RowMajor>& y, gqa::KvCache<float>& cache) {
  gqa::MultiHeadAttention<float> attention({.hidden_size = 512, .num_heads = 8, .num_kv_heads = 2});
  attention.forward(x, y, &cache);
  attention.forward(x, y);
  gqa::AttentionRecord<float> record;
  gqa::AttentionWeights<float> gradients(attention.config());
  attention.forward(x, y, record);
  attention.backward(x, x, y, record, gradients);
  attention.cross(x, x, y, record);
  attention.cross_backward(x, x, x, y, y, record, gradients);
}

void storage(gqa::KvCache<gqa::Int4>& cache, const Tensor<float>& q, Tensor<float>& out,
             const Tensor<float>& k, std::iostream& file) {
  cache.append(k, k);
  gqa::drop_tokens(cache, 0, 1, 2, gqa::RopeTable<float>({}, 64));
  gqa::save(cache, file);
  gqa::load(cache, file);
  gqa::attend(q, cache, out, gqa::Causal{});
}

void pooling(Eigen::MatrixXf& weight) {
  weight = gqa::mean_pool_heads(weight, {.from = 8, .to = 4});
  weight = gqa::first_pool_heads(weight, {.from = 4, .to = 2});
  weight = gqa::random_pool_heads(weight, {.from = 2, .to = 1}, 1);
}

}  // namespace GQA_ISA
}  // namespace unit::GQA_UNIT
