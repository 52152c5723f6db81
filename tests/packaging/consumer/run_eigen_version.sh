#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The gqa authors
#
# run_eigen_version.sh WORK_DIR CMAKE GENERATOR COMPILER BUILD_DIR
# What find_package(gqa) makes of several Eigens: 3.3.9 is refused with both numbers, 3.4.0 and 5.0.1
# (whose version file rejects a request for 3.4) are taken, and none at all is refused with a hint.
set -euo pipefail
work=$1 cmake=$2 generator=$3 compiler=$4 build=$5
rm -rf "$work"
mkdir -p "$work/consumer"
"$cmake" --install "$build" --prefix "$work/gqa" > /dev/null
cat > "$work/consumer/CMakeLists.txt" << 'END'
cmake_minimum_required(VERSION 3.23)
project(eigen_version LANGUAGES CXX)
find_package(gqa CONFIG REQUIRED)
if(NOT TARGET gqa::gqa)
  message(FATAL_ERROR "found, but without gqa::gqa")
endif()
END

configure() {  # configure LABEL ARGUMENTS...
  rm -rf "$work/build"
  "$cmake" -S "$work/consumer" -B "$work/build" -G "$generator" "-DCMAKE_CXX_COMPILER=$compiler" \
    "-DCMAKE_PREFIX_PATH=$work/gqa" "${@:2}" > "$work/$1.log" 2>&1
}
fake_eigen() {  # a package that is nothing but a version, with Eigen's SameMajorVersion rule
  mkdir -p "$work/eigen-$1"
  echo 'add_library(Eigen3::Eigen INTERFACE IMPORTED)' > "$work/eigen-$1/Eigen3Config.cmake"
  cat > "$work/eigen-$1/Eigen3ConfigVersion.cmake" << END
set(PACKAGE_VERSION "$1")
if(NOT PACKAGE_FIND_VERSION_MAJOR STREQUAL "${1%%.*}")
  set(PACKAGE_VERSION_COMPATIBLE FALSE)
else()
  set(PACKAGE_VERSION_COMPATIBLE TRUE)
endif()
END
}
fail() { echo "$1"; cat "$work/$2.log"; exit 1; }

for version in 3.4.0 5.0.1; do
  fake_eigen $version
  configure $version "-DEigen3_DIR=$work/eigen-$version" || fail "Eigen $version was refused" $version
done
fake_eigen 3.3.9
! configure 3.3.9 "-DEigen3_DIR=$work/eigen-3.3.9" || fail "Eigen 3.3.9 was taken" 3.3.9
tr -s ' \n' ' ' < "$work/3.3.9.log" | grep -q 'needs Eigen >= 3.4, but .* has 3.3.9' ||
  fail "the message for Eigen 3.3.9 lacks the versions" 3.3.9
! configure none -DCMAKE_DISABLE_FIND_PACKAGE_Eigen3=ON || fail "no Eigen at all was taken" none
grep -q 'libeigen3-dev' "$work/none.log" || fail "the message for a missing Eigen lacks the hint" none
