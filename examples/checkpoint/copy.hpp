// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Writing a checkpoint folder that differs from another in some tensors. Everything is written into
// a folder beside the final one, which takes the final name when it is complete: what has that name
// is never half a checkpoint.
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/folder.hpp"

namespace gqa::examples {

/// Throws std::runtime_error if writing the folder `out` could touch the checkpoint in `in`, or
/// anything else that exists.
inline void check_output_folder(const std::filesystem::path& in, const std::filesystem::path& out) {
  if (std::filesystem::exists(std::filesystem::symlink_status(out))) {
    throw std::runtime_error(out.string() + ": exists already, and nothing is written over");
  }
  const auto source = std::filesystem::canonical(in);
  const auto target = std::filesystem::weakly_canonical(std::filesystem::absolute(out));
  const auto [end, ignored] =
      std::mismatch(source.begin(), source.end(), target.begin(), target.end());
  if (end == source.end()) {
    throw std::runtime_error(out.string() + ": is inside of the input, " + in.string());
  }
}

/// The copy of a checkpoint, being written.
class CheckpointCopy {
 public:
  /// Called with the number of bytes written so far, and those in all; may throw to stop.
  using Progress = std::function<void(std::uint64_t, std::uint64_t)>;

  /// `shapes`: of the tensors that will be written by write(); all others are copied. What else is
  /// in the folder (the tokenizer) is copied at once, to fail before the work if that fails; config
  /// and index come last. Throws std::runtime_error.
  CheckpointCopy(const CheckpointFolder& source, const std::filesystem::path& out,
                 std::map<std::string, std::vector<std::int64_t>> shapes, const OrderedJson& config,
                 Progress progress)
      : source_(source), out_(out), shapes_(std::move(shapes)), progress_(std::move(progress)) {
    check_output_folder(source.path(), out);
    out_ = std::filesystem::absolute(out).lexically_normal();
    if (out_.filename().empty()) out_ = out_.parent_path();  // a slash at the end
    partial_ = partial_name(out_);
    std::filesystem::create_directories(partial_.parent_path());
    if (!std::filesystem::create_directory(partial_)) {
      throw std::runtime_error(partial_.string() + ": exists already");
    }
    try {
      for (const Shard& shard : source.shards()) begin(shard);
      texts_["config.json"] = json_text(config) + "\n";
      if (source.index()) texts_[CheckpointFolder::index_name] = index_text(*source.index());
      copy_files(source.path(), "");
    } catch (...) {
      discard();
      throw;
    }
  }
  CheckpointCopy(const CheckpointCopy&) = delete;
  CheckpointCopy& operator=(const CheckpointCopy&) = delete;
  ~CheckpointCopy() {
    if (!finished_) discard();
  }

  /// Copies all tensors that have no new shape, byte for byte.
  void copy_others() {
    constexpr std::size_t chunk = std::size_t{16} << 20;
    for (std::size_t i = 0; i < files_.size(); ++i) {
      const Shard& shard = source_.shards()[i];
      for (const auto& [name, tensor] : shard.tensors()) {
        if (shapes_.contains(name)) continue;
        const std::uint64_t begin = places_.at(name).byte;
        for (std::size_t at = 0; at < tensor.bytes.size(); at += chunk) {
          const auto part = tensor.bytes.subspan(at, std::min(chunk, tensor.bytes.size() - at));
          write_bytes(i, begin + at, part);
        }
        shard.forget(tensor);
      }
    }
  }

  /// Writes one of the tensors that have a new shape, in the type that it had. Throws
  /// std::invalid_argument unless the matrix has as many numbers.
  template <typename Derived>
  void write(const std::string& name, const Eigen::MatrixBase<Derived>& matrix) {
    const Place& place = places_.at(name);
    with_type_of(source_.find(name).tensor->dtype, [&]<typename To>(To) {
      if constexpr (Scalar<To>) {
        std::vector<To> values;
        values.reserve(static_cast<std::size_t>(matrix.size()));
        for (Eigen::Index row = 0; row < matrix.rows(); ++row) {
          for (Eigen::Index col = 0; col < matrix.cols(); ++col) {
            values.push_back(gqa::convert<To>(matrix(row, col)));
          }
        }
        const auto bytes = std::as_bytes(std::span(values));
        if (bytes.size() != place.bytes) {
          throw std::invalid_argument("\"" + name + "\" has " + std::to_string(bytes.size()) +
                                      " bytes, its place " + std::to_string(place.bytes));
        }
        write_bytes(place.file, place.byte, bytes);
      } else {
        throw std::invalid_argument("\"" + name + "\" isn't floating point");
      }
    });
    written_.insert(name);
  }

  /// What of the source's folder the copy doesn't have: weights in other formats, which are of the
  /// old model; hidden folders and links to folders; what isn't a file.
  const std::vector<std::string>& left_out() const { return left_out_; }

  /// Writes config.json and the index, and gives the folder its name.
  void finish() {
    if (written_.size() != shapes_.size()) {
      throw std::logic_error(std::to_string(shapes_.size() - written_.size()) +
                             " tensors were not written");
    }
    for (OutputFile& file : files_) file.close();
    files_.clear();
    for (const auto& [name, text] : texts_) write_text(name, text);
    if (std::filesystem::exists(out_)) {
      throw std::runtime_error(out_.string() + ": has come to exist meanwhile");
    }
    std::filesystem::rename(partial_, out_);
    finished_ = true;
  }

 private:
  struct Place {
    std::size_t file = 0;
    std::uint64_t byte = 0;  // in the file
    std::uint64_t bytes = 0;
  };

  /// Creates the file and writes its header: tensors in the order that they had.
  void begin(const Shard& shard) {
    std::vector<std::pair<const std::string*, const FileTensor*>> order;
    for (const auto& [name, tensor] : shard.tensors()) order.emplace_back(&name, &tensor);
    std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
      return std::pair(a.second->byte, a.second->bytes.size()) <
             std::pair(b.second->byte, b.second->bytes.size());
    });
    OrderedJson header = OrderedJson::object();
    if (!shard.metadata().empty()) header["__metadata__"] = shard.metadata();
    std::uint64_t end = 0;
    for (const auto& [name, tensor] : order) {
      const auto found = shapes_.find(*name);
      const auto& shape = found == shapes_.end() ? tensor->shape : found->second;
      std::uint64_t bytes = tensor->bytes.size();
      if (found != shapes_.end()) {
        bytes = bytes_of(tensor->dtype);
        for (const std::int64_t n : shape) bytes *= static_cast<std::uint64_t>(n);
        elements_less_ += tensor->size() - bytes / bytes_of(tensor->dtype);
      }
      places_[*name] = {files_.size(), end, bytes};
      header[*name] = {{"dtype", std::string(name_of(tensor->dtype))},
                       {"shape", shape},
                       {"data_offsets", {end, end + bytes}}};
      end += bytes;
    }
    std::string text = header.dump();
    text.resize((text.size() + 7) / 8 * 8, ' ');  // so that the data begins at a multiple of 8
    const std::uint64_t length = text.size();
    for (const auto& [name, tensor] : order) {
      places_[*name].byte += SafeTensorsHeader::length_bytes + length;
    }
    total_bytes_ += end;
    OutputFile& file = files_.emplace_back(partial_ / shard.name());
    file.write(0, std::as_bytes(std::span(&length, 1)));
    file.write(SafeTensorsHeader::length_bytes, std::as_bytes(std::span(text)));
  }

  void write_bytes(std::size_t file, std::uint64_t at, std::span<const std::byte> bytes) {
    files_[file].write(at, bytes);
    done_bytes_ += bytes.size();
    if (progress_) progress_(done_bytes_, total_bytes_);
  }

  /// The index with the sizes that the copy has.
  std::string index_text(OrderedJson index) const {
    OrderedJson& metadata = index["metadata"];
    metadata["total_size"] = total_bytes_;
    if (const auto found = metadata.find("total_parameters"); found != metadata.end()) {
      const auto parameters = found->get<std::uint64_t>();
      if (parameters < elements_less_) {
        throw std::runtime_error((source_.path() / CheckpointFolder::index_name).string() +
                                 ": total_parameters is " + std::to_string(parameters) +
                                 ", but the tensors have more");
      }
      *found = parameters - elements_less_;
    }
    return json_text(index) + "\n";
  }

  /// Copies the files of a folder, and of those in it; `below` is its name within the source.
  void copy_files(const std::filesystem::path& folder, const std::filesystem::path& below) {
    static const std::set<std::string> weights = {".safetensors", ".bin",  ".pt",      ".pth",
                                                  ".gguf",        ".h5",   ".onnx",    ".npz",
                                                  ".onnx_data",   ".ckpt", ".msgpack", ".tflite"};
    std::vector<std::filesystem::directory_entry> entries;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) entries.push_back(entry);
    std::ranges::sort(entries);
    for (const auto& entry : entries) {
      const std::filesystem::path name = below / entry.path().filename();
      const std::string last = name.filename().string();
      std::error_code none;  // links that lead nowhere are left out
      if (entry.is_directory(none)) {
        if (entry.is_symlink(none) || last.starts_with('.')) {
          left_out_.push_back(name.string());
        } else {
          copy_files(entry.path(), name);
        }
        continue;
      }
      if (is_written(name)) continue;
      // params.json describes Mistral's and Meta's own weights.
      if (!entry.is_regular_file(none) || weights.contains(name.extension().string()) ||
          last.ends_with(".index.json") || last == "params.json") {
        left_out_.push_back(name.string());
        continue;
      }
      std::filesystem::create_directories((partial_ / name).parent_path());
      std::filesystem::copy_file(entry.path(), partial_ / name);
    }
  }

  /// Whether the copy has a file of that name of its own.
  bool is_written(const std::filesystem::path& name) const {
    return texts_.contains(name.string()) ||
           std::ranges::any_of(source_.shards(),
                               [&](const Shard& shard) { return name == shard.name(); });
  }

  void write_text(const std::string& name, const std::string& text) {
    OutputFile file(partial_ / name);
    file.write(0, std::as_bytes(std::span(text)));
    file.close();
  }

  void discard() {
    files_.clear();
    std::error_code ignored;
    std::filesystem::remove_all(partial_, ignored);
  }

  const CheckpointFolder& source_;
  std::filesystem::path out_;
  std::filesystem::path partial_;
  std::map<std::string, std::vector<std::int64_t>> shapes_;
  std::set<std::string> written_;
  std::vector<std::string> left_out_;
  std::map<std::string, std::string> texts_;  // of config.json and the index
  Progress progress_;
  std::vector<OutputFile> files_;
  std::map<std::string, Place> places_;
  std::uint64_t total_bytes_ = 0;
  std::uint64_t elements_less_ = 0;  // than the source has
  std::uint64_t done_bytes_ = 0;
  bool finished_ = false;
};

}  // namespace gqa::examples
