// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Small Hugging Face checkpoints.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "support/safetensors_writer.hpp"

namespace gqa::test {

/// A folder with config.json and model.safetensors: attention layers of 4 query heads and 2 KV
/// heads, and what `more` adds.
inline void write_checkpoint(const std::filesystem::path& folder, int layers,
                             const std::function<void(examples::SafeTensorsWriter&)>& more = {}) {
  constexpr std::int64_t hidden = 8, head_dim = 2, heads = 4, kv_heads = 2;
  std::filesystem::create_directory(folder);
  std::ofstream(folder / "config.json")
      << R"({"model_type": "llama", "hidden_size": 8, "num_attention_heads": 4,)"
      << R"( "num_key_value_heads": 2, "num_hidden_layers": )" << layers << "}\n";
  examples::SafeTensorsWriter file;
  const auto add = [&](int layer, const std::string& name, std::int64_t rows, std::int64_t cols) {
    std::vector<float> values(static_cast<std::size_t>(rows * cols));
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = static_cast<float>((i * i + 7 * i) % 13) - 6;
    }
    file.add("model.layers." + std::to_string(layer) + ".self_attn." + name + "_proj.weight",
             {rows, cols}, values);
  };
  for (int layer = 0; layer < layers; ++layer) {
    add(layer, "q", heads * head_dim, hidden);
    add(layer, "k", kv_heads * head_dim, hidden);
    add(layer, "v", kv_heads * head_dim, hidden);
    add(layer, "o", hidden, heads * head_dim);
  }
  if (more) more(file);
  file.write(folder / "model.safetensors");
}

}  // namespace gqa::test
