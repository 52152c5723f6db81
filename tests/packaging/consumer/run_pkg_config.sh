#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The gqa authors
#
# run_pkg_config.sh WORK_DIR CMAKE COMPILER BUILD_DIR VERSION
# Installs, moves the installed tree, and compiles the consumer with what pkg-config says.
set -euo pipefail
work=$1 cmake=$2 compiler=$3 build=$4 version=$5
here=$(cd "$(dirname "$0")" && pwd)
rm -rf "$work"
mkdir -p "$work"
"$cmake" --install "$build" --prefix "$work/first" > /dev/null
mv "$work/first" "$work/moved"

export PKG_CONFIG_PATH="$work/moved/share/pkgconfig"
found=$(pkg-config --modversion gqa)
[[ $found == "$version" ]] || { echo "gqa.pc says version $found, the project $version"; exit 1; }
read -ra flags <<< "$(pkg-config --cflags gqa)"
echo "flags: ${flags[*]}"
"$compiler" -std=c++20 "${flags[@]}" "$here/main.cpp" -o "$work/consumer"
"$work/consumer"
