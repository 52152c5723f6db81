// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// A Hugging Face checkpoint as it lies in its folder: config.json and model.safetensors, or several
// files with model.safetensors.index.json, or one safetensors file of another name. Nothing is read
// into memory but the headers; tensors are looked at through maps of the files. The folder comes
// from somewhere else: what it says is checked before it is used.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <gqa/core/scalar.hpp>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/model_config.hpp"
#include "support/json.hpp"
#include "support/mapped_file.hpp"
#include "support/safetensors_header.hpp"

namespace gqa::examples {

/// One safetensors file, mapped.
class Shard {
 public:
  /// Throws std::runtime_error, naming the file and the byte.
  explicit Shard(const std::filesystem::path& path)
      : name_(path.filename().string()), file_(path), header_(read(file_)) {}

  /// Without its folder.
  const std::string& name() const { return name_; }
  const std::string& path() const { return file_.name(); }
  const std::map<std::string, FileTensor>& tensors() const { return header_.tensors; }
  const std::map<std::string, std::string>& metadata() const { return header_.metadata; }
  void forget(const FileTensor& tensor) const { file_.forget(tensor.bytes); }

 private:
  static SafeTensorsHeader read(const MappedFile& file) {
    const auto bytes = file.bytes();
    constexpr std::size_t length_bytes = SafeTensorsHeader::length_bytes;
    const auto size = static_cast<std::size_t>(
        SafeTensorsHeader::checked_bytes(file.name(), bytes.data(), bytes.size()));
    const std::string text(reinterpret_cast<const char*>(bytes.data()) + length_bytes, size);
    return {file.name(), text, bytes.subspan(length_bytes + size)};
  }

  std::string name_;
  MappedFile file_;
  SafeTensorsHeader header_;
};

/// Where a tensor is.
struct TensorPlace {
  const Shard* shard = nullptr;
  const FileTensor* tensor = nullptr;
};

class CheckpointFolder {
 public:
  static constexpr const char* index_name = "model.safetensors.index.json";
  static constexpr const char* single_name = "model.safetensors";

  /// Throws std::runtime_error.
  explicit CheckpointFolder(const std::filesystem::path& path)
      : path_(path), config_((check_is_folder(path), path / "config.json")) {
    if (exists(index_name)) read_index();
    // transformers takes the single file, too, if an index lies beside it; and what lies beside
    // either is of other programs (Mistral's consolidated.safetensors).
    const bool in_index = std::ranges::any_of(
        weight_map_, [](const auto& entry) { return entry.second == single_name; });
    if (exists(single_name) && !in_index) {
      index_.reset();
      shards_.emplace_back(path / single_name);
    } else if (index_) {
      open_shards();
    } else {
      shards_.emplace_back(only_safetensors_file());
    }
    for (const Shard& shard : shards_) {
      for (const auto& [name, tensor] : shard.tensors()) {
        const auto [found, is_new] = tensors_.emplace(name, TensorPlace{&shard, &tensor});
        if (!is_new) {
          fail_at(shard.path(), tensor.byte,
                  describe(name, tensor) + " is in " + found->second.shard->name() + " as well");
        }
      }
    }
    if (index_) check_index();
  }

  const std::filesystem::path& path() const { return path_; }
  const ModelConfig& config() const { return config_; }
  /// Of a checkpoint in several files.
  const std::optional<OrderedJson>& index() const { return index_; }
  const std::vector<Shard>& shards() const { return shards_; }
  const std::map<std::string, TensorPlace>& tensors() const { return tensors_; }

  bool contains(const std::string& name) const { return tensors_.contains(name); }
  /// Throws std::runtime_error if there is none.
  TensorPlace find(const std::string& name) const {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) {
      throw std::runtime_error(path_.string() + ": no tensor named \"" + name + "\"");
    }
    return found->second;
  }

  /// The elements in any floating-point type as float, [rows, cols] or [rows] (cols 1). Throws
  /// std::runtime_error for another shape.
  template <typename T = float>
  Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> matrix(
      const std::string& name, std::int64_t rows, std::int64_t cols) const {
    check_matrix(name, rows, cols);
    const TensorPlace place = find(name);
    const FileTensor& tensor = *place.tensor;
    Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> result(rows, cols);
    with_type_of(tensor.dtype, [&]<typename From>(From) {
      if constexpr (Scalar<From>) {
        for (std::size_t i = 0; i < tensor.size(); ++i) {
          From value;
          std::memcpy(&value, tensor.bytes.data() + i * sizeof(From), sizeof(From));
          result.data()[i] = gqa::convert<T>(value);
        }
      }
    });
    place.shard->forget(tensor);
    return result;
  }

  /// Throws std::runtime_error unless matrix() can read it.
  void check_matrix(const std::string& name, std::int64_t rows, std::int64_t cols) const {
    check_shape(name, rows, cols);
    const auto [shard, tensor] = find(name);
    with_type_of(tensor->dtype, [&, shard = shard, tensor = tensor]<typename From>(From) {
      if constexpr (!Scalar<From>) {
        fail_at(shard->path(), tensor->byte,
                describe(name, *tensor) + " is none of F16, BF16, F32, F64");
      }
    });
  }

  /// Throws std::runtime_error unless the tensor is [rows, cols], or [rows] for cols 1.
  void check_shape(const std::string& name, std::int64_t rows, std::int64_t cols) const {
    const auto [shard, tensor] = find(name);
    std::vector<std::int64_t> expected = {rows};
    if (cols != 1) expected.push_back(cols);
    if (tensor->shape != expected) {
      fail_at(shard->path(), tensor->byte,
              describe(name, *tensor) + ": config.json asks for " + to_string(expected));
    }
  }

 private:
  static void check_is_folder(const std::filesystem::path& path) {
    if (!std::filesystem::is_directory(path)) {
      throw std::runtime_error(path.string() + ": not a folder");
    }
  }
  bool exists(const char* name) const { return std::filesystem::exists(path_ / name); }

  std::filesystem::path only_safetensors_file() const {
    std::vector<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::directory_iterator(path_)) {
      if (entry.path().extension() == ".safetensors") files.push_back(entry.path());
    }
    if (files.size() != 1) {
      throw std::runtime_error(path_.string() + ": has " + std::to_string(files.size()) +
                               " safetensors files and no " + index_name + " to say which");
    }
    return files[0];
  }

  [[noreturn]] void fail_index(const std::string& what) const {
    throw std::runtime_error((path_ / index_name).string() + ": " + what);
  }

  void read_index() {
    // 200,000 tensors take some 20 MB.
    index_ = read_json(path_ / index_name, {.max_depth = 8, .max_bytes = 64'000'000});
    const auto metadata = index_->find("metadata");
    if (metadata != index_->end() && !metadata->is_null()) {
      if (!metadata->is_object()) fail_index("metadata isn't an object");
      if (metadata->contains("total_parameters") &&
          !(*metadata)["total_parameters"].is_number_unsigned()) {
        fail_index("total_parameters isn't a whole number");
      }
    }
    const auto map = index_->find("weight_map");
    if (map == index_->end() || !map->is_object()) fail_index("has no weight_map");
    for (const auto& [tensor, shard] : map->items()) {
      if (!shard.is_string()) fail_index("the file of \"" + tensor + "\" isn't a string");
      const auto name = shard.get<std::string>();
      // Nothing outside of the folder, whatever the index says.
      const std::filesystem::path as_path(name);
      if (as_path.filename() != as_path || as_path.extension() != ".safetensors" ||
          name.find('\0') != name.npos) {
        fail_index(shard.dump() + " is no safetensors file of this folder");
      }
      weight_map_.emplace(tensor, name);
    }
    if (weight_map_.empty()) fail_index("the weight_map is empty");
  }

  void open_shards() {
    std::set<std::string> names;
    for (const auto& [tensor, shard] : weight_map_) names.insert(shard);
    shards_.reserve(names.size());  // places point into it
    for (const std::string& name : names) shards_.emplace_back(path_ / name);
  }

  /// The index and the files must name the same tensors.
  void check_index() const {
    for (const auto& [name, place] : tensors_) {
      const auto found = weight_map_.find(name);
      if (found == weight_map_.end() || found->second != place.shard->name()) {
        fail_index("does not say that \"" + name + "\" is in " + place.shard->name());
      }
    }
    for (const auto& [name, shard] : weight_map_) {
      if (!tensors_.contains(name)) fail_index("\"" + name + "\" is not in " + shard);
    }
  }

  std::filesystem::path path_;
  ModelConfig config_;
  std::optional<OrderedJson> index_;
  std::map<std::string, std::string> weight_map_;  // of the index: tensor to file
  std::vector<Shard> shards_;
  std::map<std::string, TensorPlace> tensors_;
};

}  // namespace gqa::examples
