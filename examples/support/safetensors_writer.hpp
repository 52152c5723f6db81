// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Writing safetensors files: collect tensors by name, then write them all at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "support/dtype.hpp"
#include "support/safetensors.hpp"

namespace gqa::examples {

class SafeTensorsWriter {
 public:
  /// Copies `values`, row-major in `shape`. Throws std::invalid_argument if the name is taken or
  /// reserved, or if the shape has another number of elements.
  template <FileElement T>
  void add(const std::string& name, const std::vector<std::int64_t>& shape,
           std::span<const T> values) {
    std::int64_t size = 1;
    for (const std::int64_t n : shape) {
      if (n < 0) throw std::invalid_argument("tensor \"" + name + "\": shape " + to_string(shape));
      size *= n;
    }
    if (size != static_cast<std::int64_t>(values.size())) {
      throw std::invalid_argument("tensor \"" + name + "\": shape " + to_string(shape) + " has " +
                                  std::to_string(size) + " elements, got " +
                                  std::to_string(values.size()));
    }
    if (name == "__metadata__" || tensors_.contains(name)) {
      throw std::invalid_argument("tensor \"" + name + "\" exists already");
    }
    Tensor tensor{dtype_of<T>(), shape, std::vector<char>(values.size_bytes())};
    if (!values.empty()) std::memcpy(tensor.bytes.data(), values.data(), values.size_bytes());
    tensors_.emplace(name, std::move(tensor));
  }
  template <FileElement T>
  void add(const std::string& name, const std::vector<std::int64_t>& shape,
           const std::vector<T>& values) {
    add(name, shape, std::span<const T>(values));
  }

  void add_metadata(const std::string& key, const std::string& value) { metadata_[key] = value; }

  /// Widest elements first, so that every tensor is aligned. An existing file is replaced, but only
  /// by a complete one. Throws std::runtime_error if it cannot be written.
  void write(const std::filesystem::path& path) const;

 private:
  struct Tensor {
    DType dtype;
    std::vector<std::int64_t> shape;
    std::vector<char> bytes;
  };
  std::map<std::string, Tensor> tensors_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace gqa::examples
