// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
#include "support/safetensors_writer.hpp"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

namespace gqa::examples {

void SafeTensorsWriter::write(const std::filesystem::path& path) const {
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

}  // namespace gqa::examples
