#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The gqa authors
#
# isa_tags.sh OBJECT...
# Functions that the linker may merge with their namesakes of another translation unit (weak symbols)
# carry the tag of their instruction set (GQA_ISA, GQA_TAG): else a unit compiled for AVX-512 could lend
# its code to one for a processor that lacks it. Those that a compiler declares by itself can't, copies
# and destructors of aggregates; they must not call a function with a tag. Nor can functions of other
# libraries: units/shared_code.sh sees to these.
# The objects are compiled without optimisation, so that every function and every call is seen.
set -euo pipefail
export LC_ALL=C
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

broken=0
for object in "$@"; do
  nm "$object" | awk '$2 ~ /^[WVu]$/ { print $3 }' | sort > "$work/weak"
  tagged=$(grep -c isa_ "$work/weak" || true)
  [[ $tagged -gt 10 ]] || { echo "$object: $tagged tagged functions seen: the check itself is broken"; exit 1; }

  # Constructors, destructors and assignments that are declared by the compiler: X::X(), X::X(X&&),
  # X::X(X const&), X::~X(), X::operator=(X&&), X::operator=(X const&).
  nm "$object" | awk '$2 == "W" { print $3 }' | grep -E '^_ZNK?3gqa' | grep -v isa_ | c++filt | sort -u |
    grep -vE '::~[A-Za-z0-9_]+\(\)$|::([A-Za-z0-9_]+)(<.*>)?::\1\(\)$|::([A-Za-z0-9_]+)(<.*>)?::(\3|operator=)\(.*\3(<.*>)?( const&|&&)\)$' > "$work/untagged" || true
  if grep . "$work/untagged"; then
    echo "^ $object: functions without GQA_TAG, outside of the namespace GQA_ISA"
    broken=1
  fi

  # Each weak function has a section of its own, called .text.<function>.
  objdump -r "$object" | awk '
    /^RELOCATION RECORDS FOR / { caller = $4; gsub(/^\[\.text\.|\]:$/, "", caller); next }
    caller ~ /^_ZNK?3gqa/ && caller !~ /isa_/ && $3 ~ /isa_/ { callee = $3; sub(/[-+]0x[0-9a-f]+$/, "", callee)
                                      print caller, callee }' |
    sort -u > "$work/calls"
  if join "$work/calls" "$work/weak" | c++filt | grep .; then
    echo "^ $object: untagged function, then the tagged one that it calls"
    broken=1
  fi
done
exit $broken
