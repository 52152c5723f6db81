// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What storing keys and values in fewer bits costs in exactness: attention over a cache of each
// storage type against the reference, in double, over the numbers before they were stored; of int8
// and int4 also with the keys' mean subtracted, and with queries and keys rotated. On random
// numbers and, where ../shared/data is, on the queries, keys and values of a trained model.
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "gqa/gqa.hpp"
#include "support/program.hpp"
#include "support/safetensors.hpp"

namespace {

using gqa::Index;
using Tensor = Eigen::Tensor<float, 4, Eigen::RowMajor>;

struct Data {
  std::string name;
  std::vector<Tensor> q = {}, k = {},
                      v = {};  // calls: [1, q_len, num_heads, head_dim], [1, kv_len, …]
};

Data random_numbers(Index kv_len, float size_of_queries) {
  std::mt19937 generator(1);
  std::normal_distribution<float> normal;
  const auto tensor = [&](Index tokens, Index heads, float size) {
    Tensor x(1, tokens, heads, 128);
    for (Index i = 0; i < x.size(); ++i) x.data()[i] = size * normal(generator);
    return x;
  };
  char name[64];
  std::snprintf(name, sizeof(name), "random, scores of %g, %d keys", double{size_of_queries},
                static_cast<int>(kv_len));
  return {name, {tensor(8, 8, size_of_queries)}, {tensor(kv_len, 2, 1)}, {tensor(kv_len, 2, 1)}};
}

/// Random numbers with what keys of models have: a mean, in a few channels a large one.
Data keys_with_outliers() {
  Data data = random_numbers(8192, 1);
  data.name = "the same, 4 channels of keys with a mean of 10";
  for (Index t = 0; t < 8192; ++t) {
    for (Index c = 0; c < 128; c += 37) {
      for (Index h = 0; h < 2; ++h) data.k[0](0, t, h, c) += 10;
    }
  }
  return data;
}

Data model_data(const std::filesystem::path& file) {
  const gqa::examples::SafeTensors tensors(file);
  Data data{.name = "stories260K, 5 layers, 256 tokens"};
  const auto layers = [&](const std::string& name, std::vector<Tensor>& to) {
    const auto shape = tensors.shape(name);  // [layer, token, head, channel]
    const auto numbers = tensors.to_double(name);
    const auto size = static_cast<std::size_t>(shape[1] * shape[2] * shape[3]);
    for (std::size_t layer = 0; layer < static_cast<std::size_t>(shape[0]); ++layer) {
      Tensor x(1, shape[1], shape[2], shape[3]);
      for (std::size_t i = 0; i < size; ++i) {
        x.data()[i] = static_cast<float>(numbers[layer * size + i]);
      }
      to.push_back(std::move(x));
    }
  };
  layers("q", data.q);
  layers("k", data.k);
  layers("v", data.v);
  return data;
}

/// What is done to keys before they are stored (ops/hadamard.hpp).
struct Preparation {
  const char* name = "";
  bool centres = false;
  bool rotates = false;
};

constexpr Preparation preparations[]{
    {}, {", mean", true, false}, {", rotated", false, true}, {", rotated, mean", true, true}};

template <gqa::StorageType Storage>
void measure(const Data& data, const Preparation& preparation = {}) {
  double square = 0, square_error = 0, largest = 0, keys = 0, values = 0;
  Index bytes = 0, elements = 0;
  for (std::size_t call = 0; call < data.q.size(); ++call) {
    const Tensor &q = data.q[call], &k = data.k[call], &v = data.v[call];
    Tensor queries = q, stored = k;
    if (preparation.rotates) {
      gqa::apply_hadamard(queries);
      gqa::apply_hadamard(stored);
    }
    if (preparation.centres) {  // by the mean of the first quarter, as of a prompt
      const gqa::TensorView<const float> all = gqa::view(std::as_const(stored));
      const gqa::KeyMean<float> mean(all.tokens_slice(0, all.tokens() / 4));
      mean.subtract_from(stored);
    }
    gqa::KvCache<Storage> cache(
        {.capacity = k.dimension(1),
         .heads = {q.dimension(2), k.dimension(2), k.dimension(3), v.dimension(3)}});
    cache.append(stored, v);
    const gqa::StorageError error_of = gqa::storage_error(cache, 0, 0, stored, v);
    const auto calls = static_cast<double>(data.q.size());
    keys += error_of.keys.relative_rms / calls;
    values += error_of.values.relative_rms / calls;
    Tensor out(q.dimensions()), exact(q.dimensions());
    gqa::attend(queries, cache, out, gqa::Causal{});
    gqa::reference(q, gqa::rows_kv(k, v), exact, gqa::Causal{});
    for (Index i = 0; i < out.size(); ++i) {
      const double error = double{out.data()[i]} - double{exact.data()[i]};
      square += double{exact.data()[i]} * double{exact.data()[i]};
      square_error += error * error;
      largest = std::max(largest, std::abs(error));
    }
    bytes = cache.bytes_per_token();
    elements = k.dimension(2) * (k.dimension(3) + v.dimension(3));
  }
  std::printf("| %s | %s%s | %.2f | %.1e | %.1e | %.1e | %.1e |\n", data.name.c_str(),
              gqa::scalar_name<Storage>(), preparation.name, double(bytes) / double(elements), keys,
              values, std::sqrt(square_error / square), largest);
}

int run() {
  std::vector<Data> all{random_numbers(512, 1), random_numbers(8192, 4), random_numbers(8192, 1),
                        keys_with_outliers()};
  const auto file =
      std::filesystem::path(GQA_SHARED_DATA_DIR) / "stories260K" / "attention_io.safetensors";
  if (std::filesystem::exists(file)) {
    all.push_back(model_data(file));
  } else {
    std::fprintf(stderr, "%s is not there: random numbers only\n", file.c_str());
  }
  std::printf("instruction set: %s\n\n", gqa::simd::isa_name);
  std::printf(
      "| data | storage | bytes per element | keys, relative RMS error | values | attention | "
      "largest "
      "error |\n");
  std::printf("|---|---|---|---|---|---|---|\n");
  for (const Data& data : all) {
    measure<float>(data);
    measure<gqa::half>(data);
    measure<gqa::bfloat16>(data);
    for (const Preparation& preparation : preparations) measure<gqa::Int8>(data, preparation);
    for (const Preparation& preparation : preparations) measure<gqa::Int4>(data, preparation);
  }
  return 0;
}

}  // namespace

int main() { return gqa::examples::run_program("kv_error", run); }
