// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// A cache of the user's own that lacks a function of KvSource: the error names the concept.
// EXPECT: no matching function for call to .*attend
// EXPECT: KvSource
#include <gqa/gqa.hpp>

using Tensor = Eigen::Tensor<float, 4, Eigen::RowMajor>;

struct MyCache {
  using Storage = float;
  static constexpr gqa::KvLayout layout = gqa::KvLayout::rows;
  gqa::Index batch() const { return 1; }
  gqa::Index num_kv_heads() const { return 8; }
  gqa::Index head_dim() const { return 128; }
  gqa::Index value_dim() const { return 128; }
  gqa::Index length(gqa::Index) const { return 0; }
#ifdef FIXED
  template <typename F>
  void for_each_run(gqa::Index, gqa::Index, gqa::Index, gqa::Index, F&&) const {}
#endif
};

void decode(const Tensor& q, const MyCache& cache, Tensor& out) {
  gqa::attend(q, cache, out, gqa::Causal{});
}
