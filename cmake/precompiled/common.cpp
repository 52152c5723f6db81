// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
#include "precompiled.hpp"

namespace gqa {
GQA_COMMON_CLASSES(template);
}  // namespace gqa
template class Eigen::ThreadPoolTempl<Eigen::StlThreadEnvironment>;
template class std::basic_string<char>;
