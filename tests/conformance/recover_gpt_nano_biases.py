# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The gqa authors
"""Recovers c_attn.bias of gpt_nano_sort, which ../shared/data's model.safetensors lacks.

Its activations were computed with these biases. Layer 0's follow from the stored qkv; those of the
other layers are fitted to the stored outputs of their blocks, 1584 numbers for 96 unknowns (the bias
of q and v; that of k adds the same to all scores of a row, so no output depends on it). What is left
of the 1584 shows that the fit is the bias and not something else.

    python recover_gpt_nano_biases.py DATA_DIR > gpt_nano_biases.hpp        (PyTorch 2.5.1)
"""
import json
import math
import struct
import sys

import torch

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)


def load(path: str) -> dict:
    data = open(path, "rb").read()
    (length,) = struct.unpack("<Q", data[:8])
    tensors = {}
    for name, t in json.loads(data[8 : 8 + length]).items():
        if name != "__metadata__":
            begin, end = (8 + length + n for n in t["data_offsets"])
            flat = torch.frombuffer(bytearray(data[begin:end]), dtype=torch.float32)
            tensors[name] = flat.reshape(t["shape"]).double()
    return tensors


def block(w: dict, i: int, x, bias):
    """Block i of minGPT on x [batch, tokens, 48]; bias [144]."""
    p = f"transformer.h.{i}."
    norm = lambda x, n: torch.nn.functional.layer_norm(x, (48,), w[p + n + ".weight"], w[p + n + ".bias"])
    linear = lambda x, n: x @ w[p + n + ".weight"].T + w[p + n + ".bias"]
    qkv = norm(x, "ln_1") @ w[p + "attn.c_attn.weight"].T + bias
    q, k, v = (t.reshape(*t.shape[:2], 3, 16).transpose(1, 2) for t in qkv.split(48, dim=-1))
    scores = (q @ k.transpose(-1, -2) / 4).masked_fill(torch.ones(11, 11).triu(1).bool(), -math.inf)
    heads = (scores.softmax(-1) @ v).transpose(1, 2).reshape(x.shape)
    x = x + linear(heads, "attn.c_proj")
    inner = torch.nn.functional.gelu(linear(norm(x, "ln_2"), "mlp.c_fc"), approximate="tanh")
    return x + linear(inner, "mlp.c_proj")


def fit(w: dict, i: int, x, y):
    """Gauss-Newton on the bias of q and v."""
    whole = lambda b: torch.cat([b[:48], torch.zeros(48), b[48:]])
    residual = lambda b: (block(w, i, x, whole(b)) - y).flatten()
    b = torch.zeros(96)
    for _ in range(100):
        r = residual(b)
        jacobian = torch.autograd.functional.jacobian(residual, b)
        step = torch.linalg.lstsq(jacobian, -r).solution
        while residual(b + step).norm() > r.norm() and step.norm() > 1e-12:
            step = step / 2
        b = b + step
        if step.norm() < 1e-10:
            break
    print(f"layer {i}: largest residual {residual(b).abs().max():.2e}, with bias 0 it is "
          f"{residual(0 * b).abs().max():.2e}; condition {torch.linalg.cond(jacobian):.1e}", file=sys.stderr)
    return whole(b)


def main():
    folder = sys.argv[1] + "/gpt_nano_sort/"
    w, a = load(folder + "model.safetensors"), load(folder + "activations.safetensors")
    difference = a["qkv"] - a["ln1"] @ w["transformer.h.0.attn.c_attn.weight"].T
    print(f"layer 0: largest spread {difference.std(dim=(0, 1)).max():.2e}", file=sys.stderr)
    biases = [difference.mean(dim=(0, 1)), fit(w, 1, a["block0"], a["block1"]),
              fit(w, 2, a["block1"], a["block2"])]
    print("""// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// c_attn.bias of gpt_nano_sort's layers, [q, k, v]; see recover_gpt_nano_biases.py, which
// wrote this.
#pragma once

namespace gqa::test {

// clang-format off
inline constexpr float gpt_nano_qkv_bias[3][144] = {""")
    for bias in biases:
        numbers = [f"{x:.9g}f" if "." in f"{x:.9g}" else "0.0f" for x in bias.tolist()]
        print("    {" + ",\n     ".join(", ".join(numbers[n : n + 6]) for n in range(0, 144, 6)) + "},")
    print("};\n\n}  // namespace gqa::test")


main()
