// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
#include "checkpoint/model_config.hpp"

#include <cmath>
#include <gqa/ops/rope.hpp>
#include <limits>
#include <stdexcept>

namespace gqa::examples {
namespace {

/// Reads the numbers of one object of the file.
struct Numbers {
  const ModelConfig& config;
  const OrderedJson& object;
  std::string prefix = {};  // "rope_parameters.", in messages

  const OrderedJson* find(const char* name) const {
    const auto found = object.find(name);
    return found == object.end() || found->is_null() ? nullptr : &*found;
  }

  std::optional<std::int64_t> whole(const char* name) const {
    const OrderedJson* const found = find(name);
    if (found == nullptr) return std::nullopt;
    const auto value = found->is_number_unsigned() ? found->get<std::uint64_t>() : 0;
    if (value == 0 || value > std::uint64_t(std::numeric_limits<std::int32_t>::max())) {
      config.fail(prefix + name + " is " + json_text(*found) +
                  ", not a whole number from 1 to 2147483647");
    }
    return static_cast<std::int64_t>(value);
  }

  std::optional<double> positive(const char* name) const {
    const OrderedJson* const found = find(name);
    if (found == nullptr) return std::nullopt;
    const double value = found->is_number() ? found->get<double>() : 0.0;
    if (!(value > 0) || !std::isfinite(value)) {
      config.fail(prefix + name + " is " + json_text(*found) + ", not a positive number");
    }
    return value;
  }

  template <typename T>
  T needed(const std::optional<T>& value, const char* name) const {
    if (!value) config.fail("has no " + prefix + name);
    return *value;
  }
};

}  // namespace

ModelConfig::ModelConfig(const std::filesystem::path& path)
    // What is read is written again, indented: so both bounds are well below what is right for
    // other files, and above any that was seen (the labels of an image model take a megabyte).
    : file_(path.string()), json_(read_json(path, {.max_depth = 32, .max_bytes = 4'000'000})) {
  if (const OrderedJson& type = value("model_type"); type.is_string()) {
    model_type = type.get<std::string>();
  } else if (!type.is_null()) {
    fail("model_type is " + json_text(type) + ", not a string");
  }
  const Numbers numbers{*this, json_};
  const auto needed = [&](const char* name) { return numbers.needed(numbers.whole(name), name); };
  hidden_size = needed("hidden_size");
  num_layers = needed("num_hidden_layers");
  num_heads = needed("num_attention_heads");
  num_kv_heads = numbers.whole("num_key_value_heads").value_or(num_heads);
  head_dim = numbers.whole("head_dim").value_or(std::max<std::int64_t>(hidden_size / num_heads, 1));
  intermediate_size = numbers.whole("intermediate_size");
  vocab_size = numbers.whole("vocab_size");
  max_position_embeddings = numbers.whole("max_position_embeddings");
  rms_norm_eps = numbers.positive("rms_norm_eps").value_or(rms_norm_eps);
  if (rms_norm_eps > 1) fail("rms_norm_eps is " + json_text(value("rms_norm_eps")));
  read_rope();
}

void ModelConfig::read_rope() {
  for (const char* name : {"rope_parameters", "rope_scaling"}) {
    const OrderedJson& found = value(name);
    if (found.is_null()) continue;
    if (!found.is_object()) fail(std::string(name) + " is " + json_text(found));
    if (!rope_.is_null() && rope_ != found) fail("rope_parameters and rope_scaling disagree");
    if (!rope_.is_null()) continue;
    rope_name_ = name;
    rope_ = found;
  }
  const OrderedJson none = OrderedJson::object();
  const Numbers outer{*this, json_};
  const Numbers inner{*this, rope_.is_null() ? none : rope_, rope_name_ + "."};
  const auto number = [&](const char* name, double otherwise) {
    const auto within = inner.positive(name), around = outer.positive(name);
    return within.value_or(around.value_or(otherwise));
  };
  rope_theta = number("rope_theta", rope_theta);
  const double part = number("partial_rotary_factor", 1.0);
  rotary_dim = part <= 1 ? static_cast<std::int64_t>(part * static_cast<double>(head_dim)) : 0;
  if (rotary_dim == 0) {
    fail("partial_rotary_factor is " + OrderedJson(part).dump() + ": of " +
         std::to_string(head_dim) + " channels, that is no number from 1 to all");
  }
}

RopeConfig ModelConfig::rope() const {
  RopeConfig rope{.theta = rope_theta, .rotary_dim = rotary_dim, .style = RopeStyle::rotate_half};
  if (!rope_.is_null()) {
    const Numbers numbers{*this, rope_, rope_name_ + "."};
    const OrderedJson* type = numbers.find("rope_type");
    if (type == nullptr) type = numbers.find("type");
    bool one_for_all_layers = true;
    for (const OrderedJson& entry : rope_) one_for_all_layers &= !entry.is_object();
    if (type != nullptr && *type == "linear") {
      rope.scaling =
          LinearRopeScaling{.factor = numbers.needed(numbers.positive("factor"), "factor")};
    } else if (type != nullptr && *type == "llama3") {
      const auto needed = [&](const char* name) {
        return numbers.needed(numbers.positive(name), name);
      };
      const char* const original = "original_max_position_embeddings";
      rope.scaling = Llama3RopeScaling{
          .factor = needed("factor"),
          .low_freq_factor = needed("low_freq_factor"),
          .high_freq_factor = needed("high_freq_factor"),
          .original_max_position_embeddings = numbers.needed(numbers.whole(original), original)};
    } else if (!one_for_all_layers || (type != nullptr && *type != "default")) {
      fail(rope_name_ + " is " + rope_.dump() +
           ", this example knows only null and the types default, linear and llama3");
    }
  }
  if (rotary_dim % 2 != 0) {
    fail("rotary_dim " + std::to_string(rotary_dim) + ", partial_rotary_factor of " +
         std::to_string(head_dim) + ", is odd, but channels turn in pairs");
  }
  try {
    // Checks the numbers, with one pair: how many there are is no reason to take memory for them.
    RopeTable<double>({.theta = rope.theta, .rotary_dim = 2, .scaling = rope.scaling}, 2);
  } catch (const std::invalid_argument& error) {
    fail(error.what());
  }
  return rope;
}

const OrderedJson& ModelConfig::value(const char* name) const {
  static const OrderedJson null;
  const auto found = json_.find(name);
  return found == json_.end() ? null : *found;
}

void ModelConfig::fail(const std::string& what) const {
  // A value that is quoted may be as long as the file.
  throw std::runtime_error(file_ + ": " + (what.size() > 500 ? what.substr(0, 500) + " …" : what));
}

}  // namespace gqa::examples
