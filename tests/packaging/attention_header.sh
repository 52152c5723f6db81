#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The gqa authors
#
# attention_header.sh SOURCE FOLDER EIGEN_FLAGS COMPILER FLAGS...
# gqa/attention.hpp needs no Eigen: SOURCE is compiled and run without Eigen's path, and with Eigen
# before and after it (EIGEN_FLAGS, separated by semicolons). All three print the same numbers.
set -euo pipefail
source=$1 folder=$2
IFS=';' read -ra eigen <<< "$3"
shift 3
mkdir -p "$folder"

"$@" "$source" -o "$folder/without"
"$folder/without" > "$folder/without.txt"
[[ -s $folder/without.txt ]]
if "$@" -M "$source" | grep -i eigen; then
  echo "^ headers of Eigen's, included by gqa/attention.hpp"
  exit 1
fi

for order in BEFORE AFTER; do
  "$@" "${eigen[@]}" "-DEIGEN_$order" "$source" -o "$folder/$order"
  "$folder/$order" > "$folder/$order.txt"
  diff "$folder/without.txt" "$folder/$order.txt"
done
