#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The gqa authors
#
# isa_tags.sh OBJECT...
# A function that the linker may merge with its namesake of another translation unit (a weak symbol)
# must not call code for one instruction set, unless its own name carries the tag of that instruction
# set (GQA_ISA): else a unit compiled for AVX-512 could lend its code to one that checked for AVX2 only.
# The objects are compiled without optimisation, so that every call is seen.
set -euo pipefail
export LC_ALL=C
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

broken=0
for object in "$@"; do
  # Each weak function has a section of its own, called .text.<function>.
  objdump -r "$object" | awk '
    /^RELOCATION RECORDS FOR / { caller = $4; gsub(/^\[\.text\.|\]:$/, "", caller); next }
    caller !~ /isa_/ && $3 ~ /isa_/ { callee = $3; sub(/[-+]0x[0-9a-f]+$/, "", callee)
                                      print caller, callee }' |
    sort -u > "$work/calls"
  nm "$object" | awk '$2 ~ /^[WVu]$/ { print $3 }' | sort > "$work/weak"
  tagged=$(grep -c isa_ "$work/weak" || true)
  [[ $tagged -gt 10 ]] || { echo "$object: $tagged tagged functions seen: the check itself is broken"; exit 1; }
  if join "$work/calls" "$work/weak" | c++filt | grep .; then
    echo "^ $object: untagged function, then the tagged one that it calls"
    broken=1
  fi
done
exit $broken
