// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
#include "precompiled.hpp"

namespace gqa {
GQA_COMMON_CLASSES(template);
namespace detail {
inline namespace GQA_ISA {
GQA_COMMON_CALLS(template);
}
}  // namespace detail
}  // namespace gqa
template class Eigen::ThreadPoolTempl<Eigen::StlThreadEnvironment>;
template class std::basic_string<char>;
