// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What the cases are made of: shapes, what rules borrow, calls of attend(). Only the public
// interface of the library is used, and as little of it as possible: this must compile against the
// versions of the library that are compared.
#pragma once

#include <gqa/gqa.hpp>
#include <limits>
#include <string>
#include <vector>

#include "numbers.hpp"
#include "report.hpp"

namespace gqa::bits {

/// So many workers, that take turns: plans depend on their number.
struct Workers {
  Index count = 1;
  Index concurrency() const { return count; }
  template <typename F>
  void run(Index n, F&& fn) const {
    for (Index task = 0; task < n; ++task) fn(task, task % count);
  }
};

// --- shapes ---

/// What a case has beside its sizes.
enum class Extra {
  none,
  lengths,    // sequences of different numbers of keys
  q_lens,     // and of queries
  packed,     // queries without gaps
  positions,  // of queries, anywhere
  poison,     // keys and values after the middle are NaN; positions are before it
  large,      // numbers near the largest
};

struct Shape {
  Index batch, q_len, kv_len, num_heads, num_kv_heads, head_dim, value_dim;
  Extra extra = Extra::none;
  Index workers = 1;

  Heads<> heads() const { return {num_heads, num_kv_heads, head_dim, value_dim}; }
  TensorShape keys() const { return {batch, kv_len, num_kv_heads, head_dim}; }
  TensorShape values() const { return {batch, kv_len, num_kv_heads, value_dim}; }
  Index length(Index b) const {
    return extra == Extra::lengths ? (std::max)(kv_len - 67 * b, Index{1}) : kv_len;
  }
  Index queries(Index b) const {
    const bool differ = extra == Extra::q_lens || extra == Extra::packed;
    return differ ? (b % 3 == 0 ? q_len : b % 3 == 1 ? 1 : (q_len + 1) / 2) : q_len;
  }
  /// e.g. 2x17x200_14of2_40_lengths_w3
  std::string name() const {
    static const char* const extras[] = {"",           "_lengths", "_q_lens", "_packed",
                                         "_positions", "_poison",  "_large"};
    const auto n = [](Index i) { return std::to_string(i); };
    std::string text = n(batch) + "x" + n(q_len) + "x" + n(kv_len) + "_" + n(num_heads) + "of" +
                       n(num_kv_heads) + "_" + n(head_dim);
    if (value_dim != head_dim) text += "to" + n(value_dim);
    text += extras[static_cast<int>(extra)];
    if (workers > 1) text += "_w" + n(workers);
    return text;
  }
};

using Shapes = std::vector<Shape>;

/// One query or few; more; more than a block of rows.
inline const Shapes& shapes() {
  static const Shapes all = {
      {1, 1, 1, 8, 8, 64, 64},
      {2, 1, 64, 8, 2, 128, 128},
      {1, 1, 65, 16, 1, 64, 64, Extra::none, 4},
      {3, 1, 513, 14, 2, 64, 64, Extra::lengths, 4},
      {1, 1, 1100, 8, 4, 128, 128, Extra::none, 4},
      {2, 1, 200, 6, 2, 72, 64, Extra::large},
      {2, 3, 7, 4, 4, 40, 24},
      {3, 3, 200, 8, 2, 80, 80, Extra::q_lens},
      {2, 17, 200, 14, 2, 40, 40, Extra::lengths, 3},
      {1, 17, 512, 4, 2, 64, 96, Extra::positions},
      {3, 17, 513, 4, 2, 64, 64, Extra::packed, 3},
      {1, 17, 1100, 4, 2, 64, 64, Extra::large, 3},
      {1, 130, 1100, 4, 1, 64, 64, Extra::none, 3},
      {1, 130, 130, 4, 4, 128, 128},
  };
  return all;
}

/// For masks that hide what comes after a query.
inline const Shapes& causal_shapes() {
  static const Shapes all = [] {
    Shapes more = shapes();
    more.push_back({1, 1, 1100, 8, 2, 128, 128, Extra::poison, 4});
    more.push_back({2, 17, 512, 8, 2, 64, 64, Extra::poison});
    more.push_back({1, 130, 200, 4, 1, 80, 40, Extra::poison});
    return more;
  }();
  return all;
}

/// Every third of them, from number `first` on: for another pair of a storage type and rules.
inline Shapes some(const Shapes& all, std::size_t first) {
  Shapes shapes;
  for (std::size_t i = first % 3; i < all.size(); i += 3) shapes.push_back(all[i]);
  return shapes;
}

/// The exponent of the largest factor of numbers of T, so that sums stay finite.
template <typename T>
constexpr int large_exponent = std::same_as<T, half>     ? 13
                               : std::same_as<T, double> ? 500
                                                         : 58;
template <typename T>
constexpr int large_value_exponent = std::same_as<T, half>     ? 13
                                     : std::same_as<T, double> ? 1020
                                                               : 125;

/// Keys and values of T, as they would be stored in Storage.
template <typename T>
struct KeysAndValues {
  Tensor<T> k, v;

  template <typename Storage = T>
  static KeysAndValues of(const Shape& s) {
    const bool large = s.extra == Extra::large;
    KeysAndValues kv{
        Tensor<T>(s.keys(), 2, large ? (std::min)(large_exponent<T>, exponent_of<Storage>()) : 0),
        Tensor<T>(s.values(), 3,
                  large ? (std::min)(large_value_exponent<T>, exponent_of<Storage>()) : 0)};
    if (s.extra == Extra::poison) {
      for (Index b = 0; b < s.batch; ++b) {
        for (Index t = s.kv_len / 2; t < s.kv_len; ++t) {
          for (Index h = 0; h < s.num_kv_heads; ++h) {
            const T nan = T(std::numeric_limits<float>::quiet_NaN());
            std::fill_n(kv.k.view().row(b, t, h), s.head_dim, nan);
            std::fill_n(kv.v.view().row(b, t, h), s.value_dim, nan);
          }
        }
      }
    }
    return kv;
  }

 private:
  template <typename Storage>
  static constexpr int exponent_of() {
    return std::same_as<Storage, half> ? 13 : 10000;
  }
};

// --- what rules borrow ---

class Tables {
 public:
  explicit Tables(const Shape& shape) : s(shape) {}

  const Shape s;

  std::vector<float> numbers(Index count, std::uint64_t seed) const {
    std::vector<float> x(static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = number<float>(seed, i);
    return x;
  }
  Alibi alibi() const { return Alibi(numbers(s.num_heads, 11)); }
  SinkLogits sinks() {
    sinks_ = numbers(s.num_heads, 12);
    return {sinks_};
  }
  RelativeBias relative(bool bidirectional) {
    table_ = numbers(32 * s.num_heads, 13);
    return {.table = table_, .num_heads = s.num_heads, .bidirectional = bidirectional};
  }
  /// For all queries and heads alike, or for each: a quarter of the keys is hidden, and all of them
  /// from every seventh query.
  DenseMask mask(bool broadcast) {
    const auto shape = dense_shape<bool>(broadcast);
    visible_ = std::vector<std::uint8_t>(count(shape));
    for (std::size_t i = 0; i < visible_.size(); ++i) visible_[i] = !hides(i, shape);
    return {DenseView<bool>(reinterpret_cast<const bool*>(visible_.data()), shape)};
  }
  template <typename T>
  AdditiveBias<T> bias(bool broadcast) {
    const auto shape = dense_shape<T>(broadcast);
    bias_is_broadcast_ = broadcast;
    auto& to = biases(T());
    to.resize(count(shape));
    for (std::size_t i = 0; i < to.size(); ++i) {
      to[i] = hides(i, shape) ? T(-std::numeric_limits<float>::infinity()) : number<T>(14, i);
    }
    return {DenseView<T>(to.data(), shape)};
  }
  /// Of the last bias.
  template <typename T>
  typename DenseView<T>::Shape bias_shape() const {
    return dense_shape<T>(bias_is_broadcast_);
  }
  Documents documents() {
    const auto number_tokens = [this](std::vector<int>& ids, Index length, Index per_document) {
      ids.clear();
      for (Index i = 0; i < s.batch * length; ++i) {
        ids.push_back(static_cast<int>(i % length / per_document % 3));
      }
    };
    number_tokens(q_ids_, s.q_len, 5);
    number_tokens(k_ids_, s.kv_len, 90);
    return {.q_ids = q_ids_, .k_ids = k_ids_, .q_len = s.q_len, .kv_len = s.kv_len};
  }
  PrefixLm prefixes() {
    prefixes_.clear();
    for (Index b = 0; b < s.batch; ++b) prefixes_.push_back(3 + 90 * b);
    return {.lengths = prefixes_};
  }

 private:
  template <typename T>
  typename DenseView<T>::Shape dense_shape(bool broadcast) const {
    if (broadcast) return {1, 1, s.q_len, (std::max)(s.kv_len - 3, Index{1})};
    return {s.batch, s.num_heads, s.q_len, s.kv_len};
  }
  template <typename DenseShape>
  static std::size_t count(const DenseShape& shape) {
    return static_cast<std::size_t>(shape.batch * shape.num_heads * shape.q_len * shape.kv_len);
  }
  template <typename DenseShape>
  static bool hides(std::size_t i, const DenseShape& shape) {
    return static_cast<Index>(i) / shape.kv_len % 7 == 2 || hash(15, i) % 4 == 0;
  }
  std::vector<float>& biases(float) { return float_bias_; }
  std::vector<double>& biases(double) { return double_bias_; }
  std::vector<bfloat16>& biases(bfloat16) { return bfloat16_bias_; }

  bool bias_is_broadcast_ = false;
  std::vector<float> sinks_, table_, float_bias_;
  std::vector<double> double_bias_;
  std::vector<bfloat16> bfloat16_bias_;
  std::vector<std::uint8_t> visible_;
  std::vector<int> q_ids_, k_ids_;
  std::vector<Index> prefixes_;
};

// --- attend() ---

/// Queries of a shape, and where their results go.
template <typename Query, typename Out>
struct Forward {
  using T = AccumulatorOf<Query>;

  explicit Forward(const Shape& shape)
      : s(shape),
        q(q_shape(), 1, shape.extra == Extra::large ? large_exponent<Query> : 0),
        out({q_shape().batch, q_shape().tokens, s.num_heads, s.value_dim}, Out(7.0f)),
        lse(static_cast<std::size_t>(q_shape().batch * s.num_heads * q_shape().tokens), T(7)) {
    if (s.extra == Extra::q_lens) {
      for (Index b = 0; b < s.batch; ++b) q_lens.push_back(s.queries(b));
    }
    if (s.extra == Extra::packed) {
      q_starts.push_back(0);
      for (Index b = 0; b < s.batch; ++b) q_starts.push_back(q_starts.back() + s.queries(b));
    }
    if (s.extra == Extra::positions || s.extra == Extra::poison) {
      for (Index i = 0; i < s.batch * s.q_len; ++i) {
        const auto random = hash(5, static_cast<std::uint64_t>(i));
        const Index most = s.extra == Extra::poison ? s.kv_len / 2 : s.kv_len + 9;
        positions.push_back(static_cast<Index>(random % static_cast<std::uint64_t>(most)));
      }
    }
  }
  AttendOptions<T> options() {
    AttendOptions<T> options;
    options.lse = LseView<T>(lse.data(), q_shape().batch, s.num_heads, q_shape().tokens);
    options.q_lens = q_lens;
    options.q_starts = q_starts;
    options.positions = positions;
    return options;
  }
  TensorShape q_shape() const {
    if (s.extra != Extra::packed) return {s.batch, s.q_len, s.num_heads, s.head_dim};
    Index tokens = 0;
    for (Index b = 0; b < s.batch; ++b) tokens += s.queries(b);
    return {1, tokens, s.num_heads, s.head_dim};
  }

  Shape s;
  std::vector<Index> q_lens, q_starts, positions;
  Tensor<Query> q;
  Tensor<Out> out;
  std::vector<T> lse;
};

/// One case of attend(), or of what is called in its place.
template <typename Query, typename Out, typename Source, typename MakeRules>
void attend_case(const std::string& name, const Shape& s, const Source& source,
                 const MakeRules& make_rules) {
  Tables tables(s);
  const auto rules = make_rules(tables);
  Forward<Query, Out> forward(s);
  attend(forward.q.view(), source, forward.out.view(), rules, forward.options(),
         Workers{s.workers});
  Digest digest;
  digest.add(forward.out.numbers());
  digest.add(forward.lse);
  report(name + "/" + s.name(), digest.value());
}

/// Appends what a shape has of keys and values, to each sequence in pieces of different sizes.
template <typename Cache, typename T>
void fill(Cache& cache, const Shape& s, const KeysAndValues<T>& kv) {
  for (Index b = 0; b < s.batch; ++b) {
    const Index pieces[] = {1, 70, 256, 3};
    for (Index done = 0, i = 0; done < s.length(b); ++i) {
      const Index count = (std::min)(pieces[i % 4], s.length(b) - done);
      cache.append(b, kv.k.view().sequence(b).tokens_slice(done, count),
                   kv.v.view().sequence(b).tokens_slice(done, count));
      done += count;
    }
  }
}

/// attend() over a KvCache<Storage>, for all of `shapes`; make_rules(tables) gives the rules.
template <typename Storage, typename Query = AccumulatorOf<Storage>, typename Out = Query,
          typename MakeRules>
void over_cache(const std::string& rules_name, const Shapes& shapes, const MakeRules& make_rules) {
  std::string name = std::string("cache_") + scalar_name<Storage>();
  if (!std::same_as<Query, AccumulatorOf<Storage>> || !std::same_as<Query, Out>) {
    name += std::string("_q_") + scalar_name<Query>() + "_out_" + scalar_name<Out>();
  }
  for (const Shape& s : shapes) {
    using T = AccumulatorOf<Storage>;
    KvCache<Storage> cache({.batch = s.batch, .capacity = s.kv_len, .heads = s.heads()});
    fill(cache, s, KeysAndValues<T>::template of<Storage>(s));
    attend_case<Query, Out>("attend/" + name + "/" + rules_name, s, cache, make_rules);
  }
}

}  // namespace gqa::bits
