#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The gqa authors
#
# compile_and_run.sh SOURCE PROGRAM RUNNER COMPILER FLAGS...
# Compiles SOURCE as PROGRAM and has RUNNER run it: an emulator, or env.
set -euo pipefail
source=$1 program=$2 runner=$3
shift 3
mkdir -p "$(dirname "$program")"
"$@" "$source" -o "$program"
"$runner" "$program"
