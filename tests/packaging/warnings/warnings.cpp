// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Every header, and the calls of units/surface.cpp, compiled with more warnings than gqa's own: our
// headers are to be silent in the projects of others, whatever those ask for.
#define GQA_UNIT warnings
#include <gqa/convert/attention_jacobian.hpp>
#include <gqa/convert/head_alignment.hpp>
#include <gqa/convert/head_fitting.hpp>
#include <gqa/convert/layer_pooling.hpp>
#include <gqa/parallel/openmp.hpp>

#include "../units/surface.cpp"
