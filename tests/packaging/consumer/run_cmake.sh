#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The gqa authors
#
# run_cmake.sh KIND WORK_DIR CMAKE GENERATOR COMPILER BUILD_DIR SOURCE_DIR EIGEN_DIR
# Configures, builds and runs the consumer project KIND in an empty folder. For find_package the
# installed tree is moved first: the package must not know where it was installed.
set -euo pipefail
kind=$1 work=$2 cmake=$3 generator=$4 compiler=$5 build=$6 source=$7 eigen=$8
here=$(cd "$(dirname "$0")" && pwd)
rm -rf "$work"
mkdir -p "$work"

arguments=()
case $kind in
  find_package)
    "$cmake" --install "$build" --prefix "$work/first" > /dev/null
    mv "$work/first" "$work/moved"
    arguments+=("-DCMAKE_PREFIX_PATH=$work/moved") ;;
  add_subdirectory) arguments+=("-DGQA_SOURCE_DIR=$source") ;;
  fetch_content) arguments+=("-DFETCHCONTENT_SOURCE_DIR_GQA=$source" "-DFETCHCONTENT_FULLY_DISCONNECTED=ON") ;;
  *) echo "unknown kind $kind" >&2; exit 2 ;;
esac

"$cmake" -S "$here/$kind" -B "$work/build" -G "$generator" "-DCMAKE_CXX_COMPILER=$compiler" \
  -DCMAKE_BUILD_TYPE=Debug "-DEigen3_DIR=$eigen" "${arguments[@]}"
"$cmake" --build "$work/build"
"$work/build/consumer"

if [[ $kind != find_package ]]; then
  # Nothing but the consumer may have been built or offered: no tests, examples or install rules of ours.
  targets=$("$cmake" --build "$work/build" --target help)
  if grep -E 'gqa_tests|example_|bench_' <<< "$targets"; then
    echo "a consumer gets targets of gqa's own tests, examples or benchmarks"
    exit 1
  fi
fi
