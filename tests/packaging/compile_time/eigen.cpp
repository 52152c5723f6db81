// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The unit of compile times: what a program pays that includes Eigen's matrices and tensors.
#include <Eigen/Dense>
#include <unsupported/Eigen/CXX11/Tensor>
