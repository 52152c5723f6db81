// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The one place that holds the version: CMake reads these three lines, and the package config and
// gqa.pc are made from them. Semantic versioning; before 1.0 a new minor version may break users.
#pragma once

#define GQA_VERSION_MAJOR 0
#define GQA_VERSION_MINOR 1
#define GQA_VERSION_PATCH 0

/// One number to compare with: major * 10000 + minor * 100 + patch.
#define GQA_VERSION (GQA_VERSION_MAJOR * 10000 + GQA_VERSION_MINOR * 100 + GQA_VERSION_PATCH)
