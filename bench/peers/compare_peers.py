#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The gqa authors
"""Times gqa, PyTorch, ONNX Runtime and OpenVINO on the same shapes, in turn; README.md says how.

    pip install -r requirements.txt
    ./compare_peers.py --bench ../../build/release/bench/attention_bench
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
PEERS = ("torch", "onnxruntime", "openvino")


def cases(dtypes, threads):
    """Names of attention_bench's cases: 32 query heads, head_dim 128, one sequence, causal."""
    def name(phase, dtype, kv_heads, tokens):
        length = "kv_len" if phase == "decode" else "q_len"
        return (f"{phase}/{dtype}/heads:32/kv_heads:{kv_heads}/head_dim:128/{length}:{tokens}"
                f"/batch:1/threads:{threads}")
    for dtype in dtypes:
        for tokens in (512, 4096, 32768):
            for kv_heads in (32, 8, 1):
                yield name("decode", dtype, kv_heads, tokens)
        for tokens in (512, 2048):
            for kv_heads in (32, 8, 1):
                yield name("prefill", dtype, kv_heads, tokens)


class Player:
    """A process that answers the names of cases with seconds."""

    def __init__(self, name, command, threads):
        self.name = name
        environment = dict(os.environ, OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads),
                           THP_MEM_ALLOC_ENABLE="1")  # huge pages for PyTorch
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True, env=environment,
                                        preexec_fn=lambda: os.sched_setaffinity(0, cores(threads)))

    def ask(self, case):
        """{"seconds": ...} or {"error": ...}."""
        try:
            self.process.stdin.write(case + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        line = self.process.stdout.readline().strip()
        time.sleep(0.05)  # thread pools keep spinning for a while
        if not line:
            return {"error": f"ended with {self.process.wait()}"}
        if line.startswith("error: "):
            return {"error": line[7:]}
        return json.loads(line) if line.startswith("{") else {"seconds": float(line)}

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def cores(threads):
    """The first of the cores that this process may use."""
    return set(sorted(os.sched_getaffinity(0))[:threads])


def measure(players, case, rounds):
    """All players in turn, round after round, after one round that doesn't count."""
    answers = {player.name: player.ask(case) for player in players}
    result = {}
    for player in players:
        answer = answers[player.name]
        result[player.name] = ({"error": answer["error"]} if "error" in answer
                               else {"how": answer.get("how", "attend"), "rounds": []})
    for _ in range(rounds):
        for player in players:
            if "rounds" in result[player.name]:
                answer = player.ask(case)
                if "error" in answer:
                    result[player.name] = answer
                else:
                    result[player.name]["rounds"].append(answer["seconds"])
    for entry in result.values():
        if "rounds" in entry:
            entry["seconds"] = statistics.median(entry["rounds"])
    return result


def compare(result):
    """Adds how many times as long each peer takes (median of the rounds' ratios), and the best peer."""
    own = result["gqa"].get("rounds")
    best = None
    for name in PEERS:
        theirs = result.get(name, {}).get("rounds")
        if own and theirs:
            ratio = statistics.median(b / a for a, b in zip(own, theirs))
            result[name]["over_gqa"] = ratio
            if best is None or ratio < result[best]["over_gqa"]:
                best = name
    return best


def wanted(case):
    """How many times as long the best peer should take: at least, and what is aimed at."""
    if case.startswith("decode/f32") and "/kv_heads:32/" in case and not "kv_len:512/" in case:
        return 1 / 1.05, 1.0  # all are bound by memory
    if case.startswith("decode") and "/kv_heads:32/" not in case:
        return 1.0, 2.0
    return 1.0, 1.0


def processor():
    try:
        return re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())[1]
    except (OSError, TypeError):
        return platform.processor()


def versions():
    found = {}
    for package in PEERS:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def time_text(entry):
    if "seconds" not in entry:
        return "-"
    seconds = entry["seconds"]
    return f"{seconds * 1e3:.3g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.0f} us"


def print_table(cells):
    print(f"\n{'':62}{'gqa':>9}" + "".join(f"{name:>20}" for name in PEERS) + "   best peer / gqa")
    for cell in cells:
        row = f"{cell['case'].replace('/batch:1', ''):62}{time_text(cell['result']['gqa']):>9}"
        for name in PEERS:
            entry = cell["result"].get(name, {})
            ratio = f" ({entry['over_gqa']:.2f}x)" if "over_gqa" in entry else ""
            row += f"{time_text(entry) + ratio:>20}"
        if cell["best"]:
            ratio = cell["result"][cell["best"]]["over_gqa"]
            least, aim = wanted(cell["case"])
            row += f"   {ratio:.2f} {'aim' if ratio >= aim else 'yes' if ratio >= least else 'NO'}"
        print(row)
    print("\nmedians; in brackets the time over gqa's. The ways of calling that were fastest, and what "
          "can't be done:")
    for name in PEERS:
        ways = {}
        for cell in cells:
            entry = cell["result"].get(name, {})
            text = entry.get("how") or entry.get("error") or "not asked"
            ways[text] = ways.get(text, 0) + 1
        print(f"  {name}: " + "; ".join(f"{text} ({count})" for text, count in ways.items()))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bench", default=HERE.parent.parent / "build/release/bench/attention_bench",
                        help="the program attention_bench")
    parser.add_argument("--threads", default="1,2", help="numbers of threads, each a run of all cases")
    parser.add_argument("--dtypes", default="f32,bf16,int8")
    parser.add_argument("--filter", default="", help="only cases that this regular expression finds")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", default="peers.json")
    options = parser.parse_args()
    if not pathlib.Path(options.bench).exists():
        sys.exit(f"{options.bench}: no such program; build attention_bench with the release preset")

    document = {"processor": processor(), "versions": versions(), "rounds": options.rounds,
                "date": time.strftime("%Y-%m-%d"), "cells": []}
    print(f"{document['processor']}; " + ", ".join(
        f"{name} {version or 'not installed'}" for name, version in document["versions"].items()))
    for threads in map(int, options.threads.split(",")):
        names = [name for name in cases(options.dtypes.split(","), threads)
                 if re.search(options.filter, name)]
        if not names:
            continue
        players = [Player("gqa", [str(options.bench), "--serve"], threads)]
        players += [Player(name, [sys.executable, str(HERE / "peer.py"), name], threads)
                    for name in PEERS if document["versions"][name]]
        for name in names:
            result = measure(players, name, options.rounds)
            document["cells"].append({"case": name, "result": result, "best": compare(result)})
            print(".", end="", flush=True, file=sys.stderr)
            if "error" in result["gqa"]:
                print(f"{name}: gqa: {result['gqa']['error']}", file=sys.stderr)
        for player in players:
            player.close()
    print_table(document["cells"])
    with open(options.json, "w", encoding="utf-8") as file:
        json.dump(document, file, indent=1)
    print(f"JSON: {options.json}")
    return 1 if any("error" in cell["result"]["gqa"] for cell in document["cells"]) else 0


if __name__ == "__main__":
    sys.exit(main())
