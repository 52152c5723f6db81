// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Writing safetensors files: collect tensors by name, then write them all at once.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
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
  void write(const std::filesystem::path& path) const {
    std::vector<const std::pair<const std::string, Tensor>*> order;
    for (const auto& entry : tensors_) order.push_back(&entry);
    std::stable_sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
      return bytes_of(a->second.dtype) > bytes_of(b->second.dtype);
    });

    nlohmann::json header = nlohmann::json::object();
    if (!metadata_.empty()) header["__metadata__"] = metadata_;
    std::uint64_t end = 0;
    for (const auto* entry : order) {
      const Tensor& tensor = entry->second;
      const std::uint64_t begin = std::exchange(end, end + tensor.bytes.size());
      header[entry->first] = {{"dtype", std::string(name_of(tensor.dtype))},
                              {"shape", tensor.shape},
                              {"data_offsets", {begin, end}}};
    }
    std::string text = header.dump();
    text.resize((text.size() + 7) / 8 * 8, ' ');  // so that the data begins at a multiple of 8

    // The last step renames onto `path`: that must not replace a device or a folder.
    if (std::filesystem::exists(path) && !std::filesystem::is_regular_file(path)) {
      throw std::runtime_error(path.string() + ": not a regular file");
    }
    std::filesystem::path partial = path;
    partial += ".partial";
    {
      std::ofstream out(partial, std::ios::binary | std::ios::trunc);
      const std::uint64_t header_bytes = text.size();
      out.write(reinterpret_cast<const char*>(&header_bytes), sizeof(header_bytes));
      out.write(text.data(), static_cast<std::streamsize>(text.size()));
      for (const auto* entry : order) {
        const std::vector<char>& bytes = entry->second.bytes;
        out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
      }
      out.close();
      if (!out) {
        std::error_code ignored;
        std::filesystem::remove(partial, ignored);
        throw std::runtime_error(path.string() + ": cannot write " +
                                 std::to_string(8 + text.size() + end) + " bytes");
      }
    }
    std::error_code error;
    std::filesystem::rename(partial, path, error);
    if (error) {
      std::error_code ignored;
      std::filesystem::remove(partial, ignored);
      throw std::runtime_error(path.string() + ": cannot write the file: " + error.message());
    }
  }

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
