#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The gqa authors
#
# each_header.sh INCLUDE_DIR FOLDER COMPILER FLAGS...
# Compiles each header alone. What takes the time is Eigen, which most headers get by core/eigen.hpp:
# for those, and only for those, it is read once, into FOLDER, as a precompiled header. (The CMake
# target all_verify_interface_header_sets does the same without that, in three times the time.)
set -euo pipefail
include=$1
folder=$2
shift 2

# The headers of gqa that a header includes, directly or not.
closure() {
  local -A seen=()
  local queue=("$1") header target
  while [[ ${#queue[@]} -gt 0 ]]; do
    header=${queue[0]}
    queue=("${queue[@]:1}")
    [[ ! -v seen[$header] ]] || continue
    seen[$header]=1
    while read -r target; do queue+=("$target"); done \
      < <(sed -nE 's|^ *# *include "(gqa/[^"]*)".*|\1|p' "$include/$header")
  done
  printf '%s\n' "${!seen[@]}"
}

rm -rf "$folder"
mkdir -p "$folder/gqa/core"
echo '#include <gqa/core/eigen.hpp>' > "$folder/eigen.hpp"
"$@" -x c++-header "$folder/eigen.hpp" -o "$folder/eigen.hpp.gch"

broken=0 count=0
while read -r header; do
  echo "#include <$header>" > "$folder/alone.cpp"
  precompiled=()
  if [[ $header != gqa/core/eigen.hpp ]] && closure "$header" | grep -qx gqa/core/eigen.hpp; then
    precompiled=(-include "$folder/eigen.hpp")
  fi
  if ! "$@" -fsyntax-only "${precompiled[@]}" "$folder/alone.cpp"; then
    echo "$header does not compile alone"
    broken=1
  fi
  count=$((count + 1))
done < <(cd "$include" && find gqa -name '*.hpp' | sort)
[[ $count -gt 50 ]] || { echo "only $count headers found: the check itself is broken"; exit 1; }
exit "$broken"
