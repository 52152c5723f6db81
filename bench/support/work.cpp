// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
#include <cstdio>
#include <stdexcept>
#include <string_view>

#include "support/work_caches.hpp"

namespace gqa::bench {
namespace {

template <typename Storage>
class CacheWork final : public WorkOverQueries {
 public:
  explicit CacheWork(const Case& c)
      : WorkOverQueries(c),
        cache_({.batch = c.batch,
                .capacity = c.kv_len,
                .heads = {c.model.num_heads, c.model.num_kv_heads, c.model.head_dim}}) {
    Random random(1);
    append_random(random, c.batch, c.kv_len, c.model.num_kv_heads, c.model.head_dim,
                  [this](const Tensor& k, const Tensor& v) { cache_.append(k, v); });
    find_reference(cache_);
    products = best_products<Storage>();
    kv_bytes = static_cast<double>(c.kv_len * c.batch * cache_.bytes_per_token());
  }
  void attend(const EigenPool& executor) override { attend_over(cache_, executor); }
  std::span<const std::byte> memory() const override {
    // The cache is one buffer, which begins with the first sequence's first head.
    const std::byte* begin = nullptr;
    cache_.for_each_run(0, 0, 0, 1, [&](const StripRun& run) { begin = run.blocks; });
    return {begin, static_cast<std::size_t>(cache_.bytes())};
  }

 private:
  KvCache<Storage> cache_;
};

class RowsWork final : public WorkOverQueries {
 public:
  explicit RowsWork(const Case& c)
      : WorkOverQueries(c),
        k_(c.batch, c.kv_len, c.model.num_kv_heads, c.model.head_dim),
        v_(k_.dimensions()),
        source_(view(k_), view(v_)) {
    Random random(1);
    random.fill(k_);
    random.fill(v_);
    find_reference(source_);
    kv_bytes = static_cast<double>(k_.size() + v_.size()) * sizeof(float);
  }
  void attend(const EigenPool& executor) override { attend_over(source_, executor); }
  /// The keys only: two pieces of memory could not be read as one stream.
  std::span<const std::byte> memory() const override {
    return {reinterpret_cast<const std::byte*>(k_.data()),
            static_cast<std::size_t>(k_.size()) * sizeof(float)};
  }

 private:
  Tensor k_;  // [batch, kv_len, num_kv_heads, head_dim]
  Tensor v_;
  RowsKv<float> source_;
};

/// attend_backward() after attend(), causal.
class BackwardWork final : public Work {
 public:
  explicit BackwardWork(const Case& c)
      : q_(c.batch, c.q_len, c.model.num_heads, c.model.head_dim),
        k_(c.batch, c.kv_len, c.model.num_kv_heads, c.model.head_dim),
        v_(k_.dimensions()),
        out_(q_.dimensions()),
        dout_(q_.dimensions()),
        dq_(q_.dimensions()),
        dk_(k_.dimensions()),
        dv_(k_.dimensions()),
        lse_(c.batch, c.model.num_heads, c.q_len) {
    Random random(1);
    for (Tensor* x : {&q_, &k_, &v_, &dout_}) random.fill(*x);
    gqa::attend(q_, k_, v_, out_, Causal{}, {.lse = lse_, .workspace = &workspace_});
    kv_bytes = static_cast<double>(k_.size() + v_.size()) * sizeof(float);
    // Five products where the forward pass has two.
    flops = 2.5 * static_cast<double>(c.batch) *
            causal_flops(c.model.num_heads, c.model.head_dim, c.q_len, c.kv_len);
  }
  void attend(const EigenPool& executor) override {
    attend_backward(dout_, q_, k_, v_, out_, lse_, dq_, dk_, dv_, Causal{},
                    {.workspace = &workspace_}, executor);
  }
  /// One KV head in full: the reference is slow. A tensor's tolerance is one of its largest
  /// element, 30 times what is measured.
  Agreement agreement() const override {
    const Index group = q_.dimension(2) / k_.dimension(2);
    const auto queries = [&](const Tensor& x) { return view(x).heads_slice(0, group); };
    const auto keys = [&](const Tensor& x) { return view(x).heads_slice(0, 1); };
    Tensor dq(q_.dimension(0), q_.dimension(1), group, q_.dimension(3));
    Tensor dk(k_.dimension(0), k_.dimension(1), 1, k_.dimension(3)), dv(dk.dimensions());
    reference_backward(queries(dout_), queries(q_), keys(k_), keys(v_), dq, dk, dv, Causal{});
    Agreement worst;
    compare(queries(dq_), view(dq), worst);
    compare(keys(dk_), view(dk), worst);
    compare(keys(dv_), view(dv), worst);
    return worst;
  }
  std::span<const std::byte> memory() const override {
    return {reinterpret_cast<const std::byte*>(k_.data()),
            static_cast<std::size_t>(k_.size()) * sizeof(float)};
  }

 private:
  static void compare(TensorView<const float> x, TensorView<const float> expected,
                      Agreement& worst) {
    double difference = 0, largest = 0;
    for (Index b = 0; b < x.batch(); ++b) {
      for (Index t = 0; t < x.tokens(); ++t) {
        for (Index h = 0; h < x.heads(); ++h) {
          for (Index c = 0; c < x.dim(); ++c) {
            const double exact{expected.row(b, t, h)[c]};
            difference = std::max(difference, test::difference(x.row(b, t, h)[c], exact));
            largest = std::max(largest, std::abs(exact));
          }
        }
      }
    }
    worst.difference = std::max(worst.difference, difference);
    worst.share_of_tolerance = std::max(worst.share_of_tolerance, difference / (3e-5 * largest));
  }

  Tensor q_;  // [batch, q_len, num_heads, head_dim]
  Tensor k_;  // [batch, kv_len, num_kv_heads, head_dim]
  Tensor v_, out_, dout_, dq_, dk_, dv_;
  Eigen::Tensor<float, 3, Eigen::RowMajor> lse_;
  Workspace workspace_;
};

std::unique_ptr<Work> make_work(const Case& c) {
  if (c.backward && c.dtype == "f32") return std::make_unique<BackwardWork>(c);
  if (!c.cache.empty()) {
    if (auto work = make_cache_work(c)) return work;
    throw std::invalid_argument(name_of(c) + ": no such cache in this program");
  }
  if (c.rows && c.dtype == "f32") return std::make_unique<RowsWork>(c);
  if (!c.rows && c.dtype == "f32") return std::make_unique<CacheWork<float>>(c);
  if (!c.rows && c.dtype == "bf16") return std::make_unique<CacheWork<bfloat16>>(c);
  if (!c.rows && c.dtype == "f16") return std::make_unique<CacheWork<half>>(c);
  if (!c.rows && c.dtype == "int8") return std::make_unique<CacheWork<Int8>>(c);
  if (!c.rows && c.dtype == "int4") return std::make_unique<CacheWork<Int4>>(c);
  // A storage type to come needs a line here, and its instructions in best_products().
  throw std::invalid_argument(name_of(c) + ": no such keys and values in this program");
}

}  // namespace

std::string name_of(const Case& c) {
  return message(c.backward    ? "backward"
                 : c.decodes() ? "decode"
                               : "prefill",
                 c.rows ? "_rows/" : "/", c.dtype, "/heads:", c.model.num_heads,
                 "/kv_heads:", c.model.num_kv_heads, "/head_dim:", c.model.head_dim,
                 c.decodes() ? "/kv_len:" : "/q_len:", c.kv_len, "/batch:", c.batch,
                 "/threads:", c.threads, c.cache.empty() ? "" : "/cache:", c.cache);
}

std::optional<Case> case_of(const std::string& name) {
  char phase[16], dtype[16], cache[16] = "";
  Case c;
  const int fields = std::sscanf(name.c_str(),
                                 "%15[a-z_]/%15[a-z0-9]/heads:%td/kv_heads:%td/head_dim:%td/"
                                 "%*[a-z_]:%td/batch:%td/threads:%td/cache:%15[a-z0-9_]",
                                 phase, dtype, &c.model.num_heads, &c.model.num_kv_heads,
                                 &c.model.head_dim, &c.kv_len, &c.batch, &c.threads, cache);
  if (fields < 8) return std::nullopt;
  c.cache = cache;
  const std::string_view kind = phase;
  c.dtype = dtype;
  c.q_len = kind.starts_with("decode") ? 1 : c.kv_len;
  c.backward = kind.starts_with("backward");
  c.rows = kind.ends_with("_rows");
  // Whatever was overlooked makes another name.
  if (name_of(c) != name) return std::nullopt;
  return c;
}

Work& Works::operator()(const Case& c) {
  Case key = c;
  key.threads = 1;  // tensors don't depend on it
  const std::string name = name_of(key);
  const auto found = std::find_if(entries_.begin(), entries_.end(),
                                  [&](const Entry& entry) { return entry.name == name; });
  if (found != entries_.end()) {
    entries_.splice(entries_.begin(), entries_, found);
  } else {
    entries_.push_front({name, make_work(key)});
  }
  double bytes = 0;
  Index place = 0;
  for (auto entry = entries_.begin(); entry != entries_.end(); ++place) {
    bytes += entry->work->kv_bytes;
    const bool keep = place < 2 || bytes < 3.0 * (1 << 30);
    entry = keep ? std::next(entry) : entries_.erase(entry);
  }
  return *entries_.front().work;
}

}  // namespace gqa::bench
