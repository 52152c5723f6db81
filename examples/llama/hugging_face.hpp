// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Llama models of Hugging Face: a config.json, and weights in safetensors by the names that
// transformers gives them. What model.hpp doesn't do (biases, heads of another width, other ways of
// stretching rotary embedding than linear and llama3) is refused, not ignored.
#pragma once

#include <filesystem>

#include "checkpoint/model_config.hpp"
#include "llama/model.hpp"
#include "support/safetensors.hpp"

namespace gqa::examples {

/// Throws std::runtime_error, naming the file and what is wrong with it.
LlamaConfig llama_config(const ModelConfig& model);
/// The same of a file.
LlamaConfig read_hugging_face_config(const std::filesystem::path& path);

}  // namespace gqa::examples
