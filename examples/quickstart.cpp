// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The README's code, word for word: a test compares the marked regions. Each function checks its
// own result, and the program exits with 1 if one is wrong.
#include <cstdio>

// [attention]
#include <gqa/gqa.hpp>

using Tensor = Eigen::Tensor<float, 4, Eigen::RowMajor>;  // [batch, tokens, heads, head_dim]
using Llama3 = gqa::Heads<32, 8, 128>;                    // 32 query heads share 8 KV heads

bool attend_with_a_cache() {
  // Keys and values of one layer, in bfloat16. A quarter of what 32 KV heads would take.
  gqa::KvCache<gqa::bfloat16, Llama3> cache({.batch = 1, .capacity = 4096});

  // A prompt of 100 tokens: each sees itself and those before it.
  Tensor q(1, 100, 32, 128), k(1, 100, 8, 128), v(1, 100, 8, 128), out(1, 100, 32, 128);
  q.setRandom(), k.setRandom(), v.setRandom();
  cache.append(k, v);
  gqa::attend(q, cache, out, gqa::Causal{});

  // One more token: the same call decodes.
  Tensor q1(1, 1, 32, 128), k1(1, 1, 8, 128), v1(1, 1, 8, 128), out1(1, 1, 32, 128);
  q1.setRandom(), k1.setRandom(), v1.setRandom();
  cache.append(k1, v1);
  gqa::attend(q1, cache, out1, gqa::Causal{});

  // Masks and score rules are joined by &. Scratch memory and threads are yours to give.
  const auto rules = gqa::Causal{} & gqa::SlidingWindow::from_hf(64) & gqa::SoftCap{50.0f};
  Eigen::Tensor<float, 3, Eigen::RowMajor> lse(1, 32, 1);  // [batch, num_heads, q_len], natural log
  gqa::Workspace scratch;
  Eigen::ThreadPool threads(2);
  gqa::EigenPool pool(threads);
  gqa::attend(q1, cache, out1, rules, {.lse = lse, .workspace = &scratch}, pool);

  // The definition takes the same arguments and computes in double. Check your own engine with it.
  Tensor expected(1, 1, 32, 128);
  gqa::reference(q1, cache, expected, rules);
  // Of bfloat16 products, 8 bits are right; a float cache agrees to 1e-6.
  const Eigen::Tensor<bool, 0, Eigen::RowMajor> close = ((out1 - expected).abs() < 4e-3f).all();
  return close();
}
// [/attention]

// [layer]
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

bool decode_with_a_layer() {
  gqa::MultiHeadAttention<float> layer({.hidden_size = 2048,
                                        .num_heads = 32,
                                        .num_kv_heads = 8,
                                        .rope = gqa::RopeConfig{.theta = 500000}});
  const auto checkpoint = [](int out, int in) -> Matrix { return 0.02f * Matrix::Random(out, in); };
  layer.set_weight("q_proj.weight", checkpoint(2048, 2048));  // or "wq": llama2.c's names and order
  layer.set_weight("k_proj.weight", checkpoint(512, 2048));
  layer.set_weight("v_proj.weight", checkpoint(512, 2048));
  layer.set_weight("o_proj.weight", checkpoint(2048, 2048));

  gqa::KvCache<float> cache({.batch = 1, .capacity = 4096, .heads = layer.heads()});
  gqa::Workspace scratch;
  const Matrix x = Matrix::Random(21, 2048);  // [tokens, hidden_size]
  Matrix y(21, 2048), whole(21, 2048);
  layer.forward(x.topRows(20), y.topRows(20), &cache, &scratch);      // a prompt
  layer.forward(x.bottomRows(1), y.bottomRows(1), &cache, &scratch);  // one more token

  layer.forward(x, whole);  // without a cache: a whole sequence
  return y.isApprox(whole, 1e-6f);
}
// [/layer]

int main() {
  const bool attention = attend_with_a_cache();
  const bool layer = decode_with_a_layer();
  std::printf("attention with a cache: %s\n", attention ? "equals the reference" : "WRONG");
  std::printf("a layer, token by token: %s\n", layer ? "equals the whole sequence" : "WRONG");
  const bool printed = std::fflush(stdout) == 0;
  return attention && layer && printed ? 0 : 1;
}
