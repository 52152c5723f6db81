#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The gqa authors
"""Shows that the inner loops of attend() keep their sums in registers: compiles it for each storage type
and looks, in the assembly, at every innermost loop of at least four multiply-adds, for vector registers
written to the stack or read from it between the loop's head and its end. A sum that has no register
is written and read (spills); a constant is only read (reloads).

    bench/spills.py                                       g++ and clang++, for this machine
    bench/spills.py --compilers clang++-14 --flags='-O2 -march=haswell' --types float
    bench/spills.py --all                                 also lists the loops that are clean

Exits with 1 where a loop spills.
"""

import argparse
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCE = """
#include <gqa/gqa.hpp>
using Tensor = Eigen::Tensor<float, 4, Eigen::RowMajor>;
{calls}
"""
CALL = """
void attend_{name}(const Tensor& q, const gqa::KvCache<gqa::{type}>& cache, Tensor& out) {{
  gqa::attend(q, cache, out, gqa::Causal{{}});
}}
"""
MULTIPLY_ADD = re.compile(r"^(vf(n?)m(add|sub)|vdpbf16ps|vpdp(busd|wssd)|v?mla|fml[as])")
VECTOR = re.compile(r"%[xyz]mm\d+")
JUMP = re.compile(r"^j\w+\s+(\.L\w+)$")


def functions(assembly):
    """(name, lines) of each function; a line is a label with its colon, or an instruction."""
    name, lines = None, []
    for raw in assembly.splitlines():
        line = raw.split("#")[0].strip()
        if re.match(r"^[A-Za-z_][\w.$@]*:$", line):
            if name and lines:
                yield name, lines
            name, lines = line[:-1], []
        elif line and (not line.startswith(".") or line.endswith(":")):
            lines.append(" ".join(line.split()))
    if name and lines:
        yield name, lines


def innermost_loops(lines):
    """Lists of instructions from a label to the jump back to it, without loops inside."""
    labels = {line[:-1]: i for i, line in enumerate(lines) if line.endswith(":")}
    loops = set()
    for i, line in enumerate(lines):
        jump = JUMP.match(line)
        if jump and labels.get(jump[1], i) < i:
            loops.add((labels[jump[1]], i))
    for begin, end in sorted(loops):
        if not any((b, e) != (begin, end) and begin <= b and e <= end for b, e in loops):
            yield [line for line in lines[begin:end + 1] if not line.endswith(":")]


def stack_traffic(loop, frame):
    """Numbers of vector registers stored to the stack and loaded from it."""
    stores = loads = 0
    for line in loop:
        memory = re.search(r"\(%(\w+)[^)]*\)", line)
        if memory and memory[1] in frame and VECTOR.search(line):
            stored = line.endswith(")")  # AT&T: the destination comes last
            stores, loads = stores + stored, loads + (not stored)
    return stores, loads


def short(name):
    """multiply<12, 2, Step<1, 12>, false, float, float> rather than the whole signature."""
    name = re.sub(r"\(anonymous namespace\)", "", name)
    name = re.sub(r"gqa::|isa_\w+::|detail::|Eigen::", "", name)
    multiply = re.search(r"\bmultiply\w*<.*?>(?=\()", name)
    return multiply[0] if multiply else name[:120]


def look(compiler, flags, types):
    """(function, multiply-adds, stores, loads) of each loop."""
    calls = "".join(CALL.format(name=t.lower(), type=t) for t in types)
    calls = calls.replace("gqa::float", "float").replace("gqa::double", "double")
    with tempfile.TemporaryDirectory() as folder:
        source, output = pathlib.Path(folder, "tiles.cpp"), pathlib.Path(folder, "tiles.s")
        source.write_text(SOURCE.format(calls=calls), encoding="utf-8")
        eigen = subprocess.run(["pkg-config", "--cflags", "eigen3"], capture_output=True, text=True)
        includes = eigen.stdout.split() if eigen.returncode == 0 else ["-I/usr/include/eigen3"]
        subprocess.run([compiler, "-std=c++20", *flags, "-S", f"-I{ROOT / 'include'}", *includes,
                        str(source), "-o", str(output)], check=True)
        assembly = output.read_text(encoding="utf-8")
    found = list(functions(assembly))
    names = subprocess.run(["c++filt"], input="\n".join(name for name, _ in found), check=True,
                           capture_output=True, text=True).stdout.splitlines()
    for name, (_, lines) in zip(names, found):
        frame = {"rsp"}
        if any(line in ("movq %rsp, %rbp", "mov %rsp, %rbp") for line in lines):
            frame.add("rbp")
        for loop in innermost_loops(lines):
            count = sum(bool(MULTIPLY_ADD.match(line)) for line in loop)
            if count >= 4:
                yield short(name), count, *stack_traffic(loop, frame)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--compilers", default="g++,clang++")
    parser.add_argument("--flags", default="-O3 -DNDEBUG -march=native")
    parser.add_argument("--types", default="float,bfloat16,half,Int8,Int4",
                        help="of keys and values, as C++ names them")
    parser.add_argument("--all", action="store_true", help="list clean loops, too")
    options = parser.parse_args()
    failed = False
    for compiler in options.compilers.split(","):
        if not shutil.which(compiler):
            print(f"{compiler}: not installed, left out")
            continue
        version = subprocess.run([compiler, "--version"], check=True, capture_output=True,
                                 text=True).stdout.splitlines()[0]
        loops = sorted(set(look(compiler, options.flags.split(), options.types.split(","))))
        if not any("multiply" in name for name, *_ in loops):
            sys.exit("no tile was found: this script doesn't know the code any more")
        print(f"{version}, {options.flags}")
        verdicts = {"SPILLS": 0, "reloads": 0, "clean": 0}
        for name, count, stores, loads in loops:
            verdict = "SPILLS" if stores > 0 else "reloads" if loads > 0 else "clean"
            verdicts[verdict] += 1
            if verdict != "clean" or options.all:
                print(f"  {verdict:7} {stores:3} stores {loads:3} loads {count:3} multiply-adds  {name}")
        failed |= verdicts["SPILLS"] > 0
        print(f"  of {len(loops)} loops {verdicts['clean']} touch no vector register on the stack, "
              f"{verdicts['reloads']} reload constants, {verdicts['SPILLS']} spill")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
