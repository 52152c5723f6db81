// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The tensors of an attention call in a safetensors file, with their shapes checked: for
// attend_file.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <gqa/core/view.hpp>
#include <gqa/score/mask.hpp>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "support/safetensors.hpp"

namespace gqa::examples {

/// The elements of a tensor, or none if the file has no such tensor. Throws std::runtime_error
/// unless its shape is one of `shapes`.
template <typename To>
std::vector<To> optional_tensor(const SafeTensors& file, const std::string& name,
                                const std::vector<std::vector<std::int64_t>>& shapes) {
  if (!file.contains(name)) return {};
  const FileTensor& tensor = file.tensor(name);
  if (std::find(shapes.begin(), shapes.end(), tensor.shape) == shapes.end()) {
    fail_at(file.file(), tensor.byte,
            "tensor \"" + name + "\" is " + to_string(tensor.shape) + ", expected " +
                to_string(shapes.front()));
  }
  return file.convert<To>(name);
}

/// A length per sequence, or none if the file has no such tensor. Throws std::runtime_error for
/// another shape or a negative length.
inline std::vector<Index> optional_lengths(const SafeTensors& file, const std::string& name,
                                           Index batch) {
  const auto lengths = optional_tensor<Index>(file, name, {{batch}});
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    if (lengths[i] >= 0) continue;
    const FileTensor& tensor = file.tensor(name);
    fail_at(file.file(), tensor.byte + i * bytes_of(tensor.dtype),
            "tensor \"" + name + "\" holds " + std::to_string(lengths[i]) + ", a negative length");
  }
  return lengths;
}

/// What the shapes of q, k and v say, of 4 dimensions, or of 3 without batch.
struct AttentionSizes {
  bool batched = true;
  bool heads_first = false;
  Index batch = 1, q_len = 0, kv_len = 0, num_heads = 0, num_kv_heads = 0, head_dim = 0;
  Index value_dim = 0;

  /// Tokens come before heads, or heads before tokens. Throws std::runtime_error for a wrong number
  /// of dimensions, std::invalid_argument for shapes that contradict each other.
  AttentionSizes(const SafeTensors& file, bool heads_come_first)
      : batched(file.shape("q").size() == 4), heads_first(heads_come_first) {
    const TensorShape q = shape_of(file, "q"), k = shape_of(file, "k"), v = shape_of(file, "v");
    require(k.batch == q.batch && v.batch == q.batch, "q, k and v have batch ", q.batch, ", ",
            k.batch, " and ", v.batch);
    require(v.tokens == k.tokens && v.heads == k.heads, "k is ", to_string(k), ", v is ",
            to_string(v), " as [batch, tokens, heads, dim]");
    require(q.dim == k.dim, "q has head_dim ", q.dim, ", k has ", k.dim);
    batch = q.batch;
    q_len = q.tokens;
    kv_len = k.tokens;
    num_heads = q.heads;
    num_kv_heads = k.heads;
    head_dim = q.dim;
    value_dim = v.dim;
  }

  template <typename T>
  TensorView<T> view_of(T* data, Index tokens, Index heads, Index dim) const {
    const TensorShape shape{.batch = batch, .tokens = tokens, .heads = heads, .dim = dim};
    return heads_first ? gqa::heads_first(data, shape) : TensorView<T>(data, shape);
  }
  std::vector<std::int64_t> out_shape() const {
    std::vector<std::int64_t> shape = {batch, q_len, num_heads, value_dim};
    if (heads_first) std::swap(shape[1], shape[2]);
    if (!batched) shape.erase(shape.begin());
    return shape;
  }

 private:
  TensorShape shape_of(const SafeTensors& file, const std::string& name) const {
    std::vector<std::int64_t> shape = file.shape(name);
    if (shape.size() != (batched ? 4U : 3U)) {
      fail_at(file.file(), file.tensor(name).byte,
              "tensor \"" + name + "\" is " + to_string(shape) +
                  "; q, k and v have 4 dimensions each, or 3 each");
    }
    if (!batched) shape.insert(shape.begin(), 1);
    if (heads_first) std::swap(shape[1], shape[2]);
    return {.batch = shape[0], .tokens = shape[1], .heads = shape[2], .dim = shape[3]};
  }
};

/// A mask or bias per query and key, [batch|1, num_heads|1, q_len|1, kv_len] or [q_len|1, kv_len].
template <typename T>
struct DenseTensor {
  std::unique_ptr<T[]> values;
  std::optional<DenseView<T>> view;

  DenseTensor(const SafeTensors& file, const std::string& name) {
    if (!file.contains(name)) return;
    std::vector<std::int64_t> shape = file.shape(name);
    if (shape.size() != 2 && shape.size() != 4) {
      fail_at(file.file(), file.tensor(name).byte,
              "tensor \"" + name + "\" is " + to_string(shape) + ", expected 2 or 4 dimensions");
    }
    if constexpr (std::same_as<T, bool>) {
      const std::span<const bool> stored = file.values<bool>(name);
      values = std::make_unique<bool[]>(stored.size());
      std::copy(stored.begin(), stored.end(), values.get());
    } else {
      const std::vector<T> stored = file.convert<T>(name);
      values = std::make_unique<T[]>(stored.size());
      std::copy(stored.begin(), stored.end(), values.get());
    }
    if (shape.size() == 2) shape.insert(shape.begin(), {1, 1});
    view = DenseView<T>(
        values.get(),
        {.batch = shape[0], .num_heads = shape[1], .q_len = shape[2], .kv_len = shape[3]});
  }
};

}  // namespace gqa::examples
