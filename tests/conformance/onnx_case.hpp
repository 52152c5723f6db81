// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The backend node tests of ONNX (github.com/onnx/onnx, onnx/backend/test/case/node), as
// ../shared/data/onnx holds them: each case is one call of one operator with its inputs, attributes
// and outputs. What is peculiar to ONNX is dealt with in the tests, not in the library.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <ostream>
#include <string>
#include <vector>

#include "examples/files.hpp"
#include "support/near.hpp"
#include "support/safetensors.hpp"

namespace gqa::test {

struct OnnxCase {
  std::string name;
  std::string op_type;
  nlohmann::json attributes;
  /// By the operator's name of the slot ("Q", "attn_mask", "Y"): the tensor's name in the file.
  /// Optional slots that a case leaves out are absent.
  std::map<std::string, std::string> inputs, outputs;

  template <typename T>
  T attribute(const std::string& key, T otherwise) const {
    return attributes.value(key, otherwise);
  }
};

inline void PrintTo(const OnnxCase& c, std::ostream* out) { *out << c.name; }

/// All tensors of all cases, read once.
inline const examples::SafeTensors& onnx_tensors() {
  static const examples::SafeTensors file(shared_data("onnx/onnx_node.safetensors"));
  return file;
}

/// The cases of one operator; none if the data is absent (AllCasesAreThere tells).
inline std::vector<OnnxCase> onnx_cases(const std::string& op_type) {
  std::vector<OnnxCase> result;
  std::ifstream in(shared_data("onnx/onnx_node_cases.json"));
  if (!in) return result;
  const nlohmann::json list = nlohmann::json::parse(in);
  for (const auto& entry : list.at("cases")) {
    if (entry.at("op_type") != op_type) continue;
    OnnxCase c{entry.at("name"), entry.at("op_type"), entry.at("attributes"), {}, {}};
    for (const auto& slot : entry.at("inputs")) {
      if (!slot.is_null()) c.inputs[slot.at("name")] = slot.at("tensor");
    }
    for (const auto& slot : entry.at("outputs")) {
      if (!slot.is_null()) c.outputs[slot.at("name")] = slot.at("tensor");
    }
    result.push_back(std::move(c));
  }
  return result;
}

/// Name of a parameterised test: the case's own.
inline std::string onnx_name(const testing::TestParamInfo<OnnxCase>& info) {
  return info.param.name;
}

/// A tensor of a case: the shape as stored, the elements as T.
template <typename T>
struct OnnxTensor {
  std::vector<std::int64_t> shape;
  std::vector<T> values;

  bool present() const { return !shape.empty(); }
  std::int64_t size(std::size_t axis) const { return shape.at(axis); }
};

namespace detail {
template <typename T>
OnnxTensor<T> onnx_slot(const std::map<std::string, std::string>& slots, const std::string& slot) {
  const auto found = slots.find(slot);
  if (found == slots.end()) return {};
  const auto& file = onnx_tensors();
  return {file.shape(found->second), file.convert<T>(found->second)};
}
}  // namespace detail

template <typename T>
OnnxTensor<T> onnx_input(const OnnxCase& c, const std::string& slot) {
  return detail::onnx_slot<T>(c.inputs, slot);
}
template <typename T>
OnnxTensor<T> onnx_output(const OnnxCase& c, const std::string& slot) {
  return detail::onnx_slot<T>(c.outputs, slot);
}

/// The dtype of an input slot, which must be there.
inline examples::DType onnx_dtype(const OnnxCase& c, const std::string& slot) {
  return onnx_tensors().tensor(c.inputs.at(slot)).dtype;
}

/// How far a result in this type may be from the stored one: absolute, all stored values are of
/// the order of 1.
inline double onnx_tolerance(examples::DType dtype) {
  return dtype == examples::DType::f16 ? 2e-3 : 2e-6;
}

}  // namespace gqa::test
