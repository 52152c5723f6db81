#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The gqa authors
"""Draws what uptrain has measured, after the figures of Ainslie et al. 2023 (arXiv 2305.13245): loss
against the share alpha of uptraining, loss by method, loss against time. Says on stdout which
num_kv_heads the numbers recommend.

    plot.py FOLDER [PICTURE.png]        # needs matplotlib; without it only the recommendation
"""

import json
import os
import statistics
import sys

METHODS = ("mean", "first", "random", "aligned", "fit")
WITHIN = 0.01  # of the control's loss: what a recommendation may cost


class Results:
    """Means over seeds, by (method, num_kv_heads)."""

    def __init__(self, document):
        self.alphas = document["alphas"]
        self.runs = {}
        for run in document["runs"]:
            self.runs.setdefault((run["method"], run["num_kv_heads"]), []).append(run)
        self.control = next(key for key in self.runs if key[0] == "control")
        self.heads = sorted({heads for method, heads in self.runs if method != "control"},
                            reverse=True)
        self.methods = [m for m in METHODS if any((m, h) in self.runs for h in self.heads)]

    def losses(self, key, point):
        return [run["points"][point]["loss"] for run in self.runs[key]]

    def loss(self, key, point):
        return statistics.mean(self.losses(key, point))

    def curve(self, key):
        return [self.loss(key, i) for i in range(len(self.alphas))]

    def mean_of(self, key, name):
        return statistics.mean(run[name] for run in self.runs[key])

    def seconds(self, key):
        return [statistics.mean(run["points"][i]["seconds"] for run in self.runs[key])
                for i in range(len(self.alphas))]

    def best_method(self, heads, point):
        candidates = [m for m in self.methods if (m, heads) in self.runs]
        return min(candidates, key=lambda m: self.loss((m, heads), point))


def recommend(results):
    """The fewest KV heads whose best method is within WITHIN of the control, at alpha 0.05 or the
    nearest to it that there is."""
    point = min(range(len(results.alphas)), key=lambda i: abs(results.alphas[i] - 0.05))
    control = results.loss(results.control, point)
    print(f"control, {results.control[1]} KV heads, alpha {results.alphas[point]:g}: {control:.4f}")
    choice = None
    for heads in results.heads:
        method = results.best_method(heads, point)
        losses = results.losses((method, heads), point)
        excess = statistics.mean(losses) / control - 1
        print(f"{heads} KV heads by {method}: {statistics.mean(losses):.4f} ({100 * excess:+.2f} %), "
              f"{min(losses):.4f} to {max(losses):.4f} over {len(losses)} seeds")
        if excess <= WITHIN:
            choice = (heads, method)
    if choice is None:
        print(f"recommendation: keep {results.control[1]} KV heads, fewer cost more than "
              f"{100 * WITHIN:g} % of the loss")
    else:
        print(f"recommendation: {choice[0]} KV heads by {choice[1]}, the fewest within "
              f"{100 * WITHIN:g} % of the control's loss; the cache is "
              f"{results.control[1] / choice[0]:g} times smaller")
    return point


def draw(results, point, path):
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib import ticker

    figure, ((by_alpha, by_method), (by_time, by_decode)) = plt.subplots(2, 2, figsize=(12, 9))
    percent = [100 * alpha for alpha in results.alphas]
    colours = {heads: f"C{i}" for i, heads in enumerate(results.heads)}
    styles = dict(zip(METHODS, ("o-", "s--", "x:", "^-.", "d-")))

    for axes, xs, what in ((by_alpha, lambda key: percent, "alpha, % of the base's steps"),
                           (by_time, results.seconds, "seconds of uptraining")):
        axes.plot(xs(results.control), results.curve(results.control), "k-", label="control")
        for heads in results.heads:
            for method in results.methods:
                key = (method, heads)
                if key in results.runs:
                    axes.plot(xs(key), results.curve(key), styles[method], color=colours[heads],
                              label=f"{method}, {heads} KV heads")
        axes.set(xlabel=what, ylabel="held-out loss, nats per token", yscale="log")
        axes.yaxis.set_major_locator(ticker.MaxNLocator(10))
        axes.yaxis.set_major_formatter("{x:.2f}")
        axes.yaxis.set_minor_locator(ticker.NullLocator())
        axes.grid(alpha=0.3)
    by_alpha.legend(fontsize=7, ncol=2, loc="upper right")

    width = 0.8 / max(len(results.heads), 1)
    for i, heads in enumerate(results.heads):
        for j, method in enumerate(results.methods):
            if (method, heads) not in results.runs:
                continue
            losses = results.losses((method, heads), point)
            mean = statistics.mean(losses)
            by_method.bar(j + (i - (len(results.heads) - 1) / 2) * width, mean, width,
                          color=colours[heads], label=f"{heads} KV heads" if j == 0 else None,
                          yerr=[[mean - min(losses)], [max(losses) - mean]], capsize=3)
    control = results.loss(results.control, point)
    by_method.axhline(control, color="k", label="control")
    by_method.set(xticks=range(len(results.methods)), xticklabels=results.methods,
                  ylabel=f"held-out loss at alpha {results.alphas[point]:g}",
                  ylim=(0.95 * control, None))
    by_method.legend(fontsize=8)

    for heads in results.heads:
        key = (results.best_method(heads, point), heads)
        by_decode.plot(1e6 * results.mean_of(key, "decode_seconds"), results.loss(key, point), "o",
                       color=colours[heads], label=f"{heads} KV heads by {key[0]}")
    by_decode.plot(1e6 * results.mean_of(results.control, "decode_seconds"), control, "ks",
                   label=f"control, {results.control[1]} KV heads")
    by_decode.set(xlabel="us per decoded token",
                  ylabel=f"held-out loss at alpha {results.alphas[point]:g}")
    by_decode.legend(fontsize=8)
    by_decode.grid(alpha=0.3)

    figure.tight_layout()
    figure.savefig(path, dpi=120)
    print(path)


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    folder = sys.argv[1]
    with open(os.path.join(folder, "results.json"), encoding="utf-8") as file:
        results = Results(json.load(file))
    point = recommend(results)
    try:
        draw(results, point, sys.argv[2] if len(sys.argv) == 3 else os.path.join(folder, "plot.png"))
    except ModuleNotFoundError as error:
        sys.exit(f"no picture: {error}")


if __name__ == "__main__":
    main()
