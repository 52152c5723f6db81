// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The smallest program of a consumer: one decode step of GQA, checked by hand. Two query heads
// share one KV head whose two keys score equally, so the output is the mean of the two values.
#include <cmath>
#include <cstdio>
#include <gqa/gqa.hpp>

int main() {
  using Tensor = Eigen::Tensor<float, 4, Eigen::RowMajor>;  // [batch, tokens, heads, head_dim]
  Tensor k(1, 2, 1, 2), v(1, 2, 1, 2), q(1, 1, 2, 2), out(1, 1, 2, 2);
  k.setConstant(1.0f);
  q.setConstant(0.5f);
  v.setValues({{{{1.0f, 2.0f}}, {{3.0f, 6.0f}}}});

  gqa::KvCache<float, gqa::Heads<2, 1, 2>> cache({.batch = 1, .capacity = 8});
  cache.append(k, v);
  gqa::attend(q, cache, out, gqa::Causal{});

  for (int head = 0; head < 2; ++head) {
    if (std::abs(out(0, 0, head, 0) - 2.0f) > 1e-6f ||
        std::abs(out(0, 0, head, 1) - 4.0f) > 1e-6f) {
      std::fprintf(stderr, "head %d: got (%g, %g), expected (2, 4)\n", head,
                   double(out(0, 0, head, 0)), double(out(0, 0, head, 1)));
      return 1;
    }
  }
  std::printf("gqa %d.%d.%d: ok\n", GQA_VERSION_MAJOR, GQA_VERSION_MINOR, GQA_VERSION_PATCH);
}
