// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Llama models of Hugging Face: a config.json, and weights in safetensors by the names that
// transformers gives them. What model.hpp doesn't do (biases, stretched rotary embedding, heads of
// another width) is refused, not ignored.
#pragma once

#include <filesystem>

#include "llama/model.hpp"
#include "support/safetensors.hpp"

namespace gqa::examples {

/// Throws std::runtime_error, naming the file and what is wrong with it.
LlamaConfig read_hugging_face_config(const std::filesystem::path& path);

}  // namespace gqa::examples
