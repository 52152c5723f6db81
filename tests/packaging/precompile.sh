#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The gqa authors
#
# precompile.sh FOLDER COMPILER FLAGS...
# Precompiles gqa/gqa.hpp into FOLDER. The programs that must not compile all include it; whatever else
# one of them asks for by its own flags doesn't fit, and it reads the header itself.
set -euo pipefail
folder=$1
shift
mkdir -p "$folder/gqa"
echo '#include <gqa/gqa.hpp>' > "$folder/source.hpp"
if "$1" --version | grep -q clang; then
  "$@" -x c++-header "$folder/source.hpp" -o "$folder/gqa.pch"
else  # gcc finds it as gqa/gqa.hpp where -I FOLDER comes first
  "$@" -x c++-header "$folder/source.hpp" -o "$folder/gqa/gqa.hpp.gch"
fi
