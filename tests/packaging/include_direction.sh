#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The gqa authors
#
# include_direction.sh INCLUDE_DIR
# Holds the headers to the layers of the architecture: which folder may include which, and which
# headers of others each layer may use, Eigen's above all. Prints every line that breaks a rule.
set -euo pipefail
cd "$1/gqa"

# folder -> folders it may include (itself is always allowed)
declare -A may=(
  [core]=""
  [simd]="core"
  [layout]="core simd"
  [score]="core simd"
  [parallel]="core"
  [ops]="core simd"
  [cache]="core simd layout"
  [kernel]="core simd layout score parallel ops"
  [module]="core simd layout score parallel ops cache kernel"
  [convert]="core module"
  [.]="core simd layout score parallel ops cache kernel module convert"  # gqa.hpp, the umbrella
)

broken=0
complain() { echo "$1: $2"; broken=1; }

while IFS= read -r header; do
  header=${header#./}
  folder=$(dirname "$header")
  if [[ ! -v may[$folder] ]]; then
    complain "$header" "include/gqa/$folder is no layer of the architecture"
    continue
  fi
  while IFS=: read -r line text; do
    where="include/gqa/$header:$line"
    if [[ $text =~ ^[[:space:]]*#[[:space:]]*include[[:space:]]*\"(.*)\" ]]; then
      target=${BASH_REMATCH[1]}
      if [[ $target != gqa/* ]]; then
        complain "$where" "\"$target\" is not spelled from gqa/"
        continue
      fi
      target=${target#gqa/}
      [[ $target != core/eigen.hpp || $folder =~ ^(module|convert|\.)$ ]] ||
        complain "$where" "$folder knows Eigen's types by name and by their members"
      [[ -f $target ]] || complain "$where" "\"gqa/$target\" does not exist"
      to=$(dirname "$target")
      [[ $target == version.hpp || $to == "$folder" || " ${may[$folder]} " == *" $to "* ]] ||
        complain "$where" "$folder may not include $to ($target)"
    elif [[ $text =~ ^[[:space:]]*#[[:space:]]*include[[:space:]]*\<(.*)\> ]]; then
      target=${BASH_REMATCH[1]}
      case $target in
        Eigen/* | unsupported/Eigen/*)
          [[ $header == core/eigen.hpp || $folder == convert || $header == parallel/eigen_pool.hpp ]] ||
            complain "$where" "<$target> is included by core/eigen.hpp" ;;
        *mmintrin.h | arm_neon.h)
          [[ $folder == simd ]] || complain "$where" "<$target>: intrinsics belong to simd/" ;;
        omp.h)
          [[ $header == parallel/openmp.hpp ]] || complain "$where" "<$target> belongs to parallel/openmp.hpp" ;;
        sys/mman.h | unistd.h) ;;  # huge pages
        *[./]*) complain "$where" "<$target> is neither standard C++ nor Eigen" ;;
      esac
    fi
  done < <(grep -nE '^[[:space:]]*#[[:space:]]*include' "$header" || true)
done < <(find . -name '*.hpp' | sort)

exit $broken
