// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The JSON header of a safetensors file: which tensor has which dtype and shape, and where it lies.
// It comes from somewhere else, so all of it is checked before any of it is used: the tensors must
// cover the data section exactly, without overlap and without holes, as the format demands.
// safetensors.hpp is what reads files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "support/binary_file.hpp"
#include "support/dtype.hpp"

namespace gqa::examples {

/// One tensor of a safetensors file, which must outlive it.
struct FileTensor {
  DType dtype = DType::f32;
  std::vector<std::int64_t> shape;   ///< outer to inner; empty is a scalar
  std::span<const std::byte> bytes;  ///< row-major, little-endian
  std::uint64_t byte = 0;            ///< where they begin in the file

  /// Elements.
  std::size_t size() const { return bytes.size() * 8 / bits_of(dtype); }
};

/// "[2, 3, 8]"
inline std::string to_string(const std::vector<std::int64_t>& shape) {
  std::string text = "[";
  for (const std::int64_t n : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(n);
  return text + "]";
}

/// "tensor "q" (F32 [2, 3, 8])"
inline std::string describe(const std::string& name, const FileTensor& tensor) {
  return "tensor \"" + name + "\" (" + std::string(name_of(tensor.dtype)) + " " +
         to_string(tensor.shape) + ")";
}

/// What a header says, checked against the data that follows it.
class SafeTensorsHeader {
 public:
  static constexpr std::size_t length_bytes = 8;  ///< in front of the header

  /// The length of the header that a file of `file_bytes`, which begins with `bytes`, has. Throws
  /// std::runtime_error if it has no room for one. The limit is the reference implementation's:
  /// nobody needs more, and no header may make us allocate more.
  static std::uint64_t checked_bytes(const std::string& file, const std::byte* bytes,
                                     std::uint64_t file_bytes);

  /// `text` is the JSON, `data` what follows it. Throws std::runtime_error with `file`'s name and
  /// the byte where something is wrong.
  SafeTensorsHeader(std::string file, std::string_view text, std::span<const std::byte> data);

  std::map<std::string, FileTensor> tensors;
  std::map<std::string, std::string> metadata;
};

}  // namespace gqa::examples
