// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// attend_backward(), over what attend() left.
#include "cases.hpp"

namespace gqa::bits {
namespace {

const Shapes& gradient_shapes() {
  static const Shapes all = {
      {1, 1, 1, 4, 4, 64, 64},
      {2, 7, 65, 4, 2, 40, 40},
      {2, 17, 130, 6, 1, 64, 64, Extra::lengths, 3},
      {3, 17, 64, 4, 2, 64, 96, Extra::q_lens},
      {1, 130, 200, 4, 2, 64, 64, Extra::none, 4},
      {1, 64, 513, 7, 1, 80, 80, Extra::none, 3},
      {2, 33, 100, 4, 4, 128, 128, Extra::positions},
      {1, 1, 1100, 8, 2, 64, 64, Extra::none, 4},
  };
  return all;
}
const Shapes& causal_gradient_shapes() {
  static const Shapes all = [] {
    Shapes more = gradient_shapes();
    more.push_back({2, 17, 512, 8, 2, 64, 64, Extra::poison});
    return more;
  }();
  return all;
}

/// Of which of the rules' numbers a gradient is asked for, beside those of q, k and v.
enum class Of { tensors, bias, table, sinks };

template <typename T, typename MakeRules>
void gradients_of(const std::string& rules_name, const Shapes& shapes, Of of,
                  const MakeRules& make_rules) {
  using Real = AccumulatorOf<T>;
  for (const Shape& s : shapes) {
    Tables tables(s);
    const auto rules = make_rules(tables);
    const auto kv = KeysAndValues<T>::template of<T>(s);
    std::vector<Index> lengths;
    for (Index b = 0; s.extra == Extra::lengths && b < s.batch; ++b) lengths.push_back(s.length(b));
    const auto source = rows_kv(kv.k.view(), kv.v.view(), lengths);
    Forward<T, T> forward(s);
    attend(forward.q.view(), source, forward.out.view(), rules, forward.options(),
           Workers{s.workers});

    const Tensor<T> dout({s.batch, s.q_len, s.num_heads, s.value_dim}, 4, 0);
    Tensor<T> dq(forward.q_shape()), dk(s.keys()), dv(s.values());
    std::vector<Real> of_rules;
    BackwardOptions<Real> options;
    options.q_lens = forward.q_lens;
    options.positions = forward.positions;
    if (of == Of::bias) {
      const auto shape = tables.template bias_shape<Real>();
      of_rules.resize(
          static_cast<std::size_t>(shape.batch * shape.num_heads * shape.q_len * shape.kv_len));
      options.bias_gradient = DenseGradient<Real>(of_rules.data(), shape);
    } else if (of == Of::table) {
      of_rules.resize(static_cast<std::size_t>(32 * s.num_heads));
      options.relative_bias_gradient = of_rules;
    } else if (of == Of::sinks) {
      of_rules.resize(static_cast<std::size_t>(s.num_heads));
      options.sink_gradient = of_rules;
    }
    const auto lse = forward.options().lse;
    attend_backward(dout.view(), forward.q.view(), source, forward.out.view(), lse, dq.view(),
                    dk.view(), dv.view(), rules, options, Workers{s.workers});
    Digest digest;
    for (const auto* tensor : {&forward.out, &dq, &dk, &dv}) digest.add(tensor->numbers());
    digest.add(of_rules);
    report(std::string("gradients/") + scalar_name<T>() + "/" + rules_name + "/" + s.name(),
           digest.value());
  }
}

/// Called, not inlined, as in float_caches.cpp.
template <typename T>
[[gnu::noinline]] T bent(T x, const Where& where) {
  return x * x * T(0.125) + static_cast<T>(where.k_pos % 5) * T(0.125);
}
template <typename T>
[[gnu::noinline]] T bent_derivative(T x) {
  return x * T(0.25);
}

}  // namespace

void gradients() {
  gradients_of<float>("none", gradient_shapes(), Of::tensors, [](Tables&) { return NoMask{}; });
  gradients_of<float>("causal", causal_gradient_shapes(), Of::tensors,
                      [](Tables&) { return Causal{}; });
  gradients_of<float>(
      "causal_window_keep_sinks", causal_gradient_shapes(), Of::sinks,
      [](Tables& t) { return Causal{} & SlidingWindow::from_hf(50) & KeepFirst{5} & t.sinks(); });
  gradients_of<float>("mask", some(gradient_shapes(), 0), Of::tensors,
                      [](Tables& t) { return t.mask(false); });
  gradients_of<float>("causal_cap_alibi", causal_gradient_shapes(), Of::tensors,
                      [](Tables& t) { return Causal{} & SoftCap{2.0f} & t.alibi(); });
  gradients_of<float>("bias", gradient_shapes(), Of::bias,
                      [](Tables& t) { return t.bias<float>(false); });
  gradients_of<float>("cap_bias_broadcast", some(gradient_shapes(), 1), Of::bias,
                      [](Tables& t) { return SoftCap{2.0f} & t.bias<float>(true); });
  gradients_of<float>("causal_relative", causal_gradient_shapes(), Of::table,
                      [](Tables& t) { return Causal{} & t.relative(false); });
  gradients_of<float>(
      "causal_own_score", some(causal_gradient_shapes(), 2), Of::tensors, [](Tables&) {
        return Causal{} & score_function([](auto x, const Where& w) { return bent(x, w); },
                                         [](auto x, const Where&) { return bent_derivative(x); });
      });
  gradients_of<double>("causal", causal_gradient_shapes(), Of::tensors,
                       [](Tables&) { return Causal{}; });
  gradients_of<double>("cap_bias", some(gradient_shapes(), 0), Of::bias,
                       [](Tables& t) { return SoftCap{2.0f} & t.bias<double>(false); });
  gradients_of<bfloat16>("causal", causal_gradient_shapes(), Of::tensors,
                         [](Tables&) { return Causal{}; });
  gradients_of<bfloat16>("cap_sinks", some(gradient_shapes(), 1), Of::sinks,
                         [](Tables& t) { return SoftCap{2.0f} & t.sinks(); });
  gradients_of<half>("causal", some(causal_gradient_shapes(), 0), Of::tensors,
                     [](Tables&) { return Causal{}; });
}

}  // namespace gqa::bits
