// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
#include "support/safetensors_writer.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "support/output_file.hpp"

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

  const std::uint64_t header_bytes = text.size();
  std::vector<std::span<const std::byte>> parts = {std::as_bytes(std::span(&header_bytes, 1)),
                                                   std::as_bytes(std::span(text))};
  for (const auto* entry : order) parts.push_back(std::as_bytes(std::span(entry->second.bytes)));
  replace_file(path, parts);
}

}  // namespace gqa::examples
