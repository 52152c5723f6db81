# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The gqa authors
"""Attention layers and the gradients of everything that goes into them, in float64: transformers'
Qwen3Attention (grouped heads, biases, QK-norm, rotation in halves) and torch's MultiheadAttention
across to a memory of another width.

transformers' own norm and eager softmax go through float32, so the layer gets torch's RMSNorm and
scaled_dot_product_attention, and cos and sin of the formula.
"""

import torch
from transformers import Qwen3Config
from transformers.models.qwen3.modeling_qwen3 import Qwen3Attention

from attention import random


def layer_cases() -> list:
    return [
        {
            "name": "layer_qwen3",
            "hidden_size": 16,
            "num_heads": 4,
            "num_kv_heads": 2,
            "head_dim": 6,
            "bias": True,
            "theta": 100.0,
            "eps": 1e-6,
        },
        {
            "name": "layer_cross",
            "hidden_size": 12,
            "kv_hidden_size": 10,
            "num_heads": 3,
            "num_kv_heads": 3,
            "head_dim": 4,
            "bias": True,
        },
    ]


def numbers(c: dict, kind: str, *shape: int) -> torch.Tensor:
    return random(f"{c['name']} {kind}", *shape)


def fill(c: dict, weights: dict):
    """Gives weights float32 numbers that keep activations near 1."""
    with torch.no_grad():
        for name, w in weights.items():
            spread = w.shape[1] ** -0.5 if w.dim() == 2 else 0.5
            w.copy_((numbers(c, name, *w.shape) * spread).float().double())


def qwen3(c: dict, x: torch.Tensor):
    config = Qwen3Config(
        hidden_size=c["hidden_size"],
        num_attention_heads=c["num_heads"],
        num_key_value_heads=c["num_kv_heads"],
        head_dim=c["head_dim"],
        attention_bias=c["bias"],
    )
    config._attn_implementation = "sdpa"
    layer = Qwen3Attention(config, layer_idx=0).double()
    layer.q_norm = torch.nn.RMSNorm(c["head_dim"], eps=c["eps"], dtype=torch.float64)
    layer.k_norm = torch.nn.RMSNorm(c["head_dim"], eps=c["eps"], dtype=torch.float64)
    weights = dict(layer.named_parameters())
    fill(c, weights)
    steps = torch.arange(0, c["head_dim"], 2, dtype=torch.float64) / c["head_dim"]
    angles = torch.arange(x.shape[1], dtype=torch.float64)[:, None] / c["theta"] ** steps
    angles = torch.cat([angles, angles], dim=-1)[None]
    y, _ = layer(x, position_embeddings=(angles.cos(), angles.sin()), attention_mask=None)
    return y, weights


def cross(c: dict, x: torch.Tensor, memory: torch.Tensor):
    width, kv_width = c["hidden_size"], c["kv_hidden_size"]
    layer = torch.nn.MultiheadAttention(
        width, c["num_heads"], kdim=kv_width, vdim=kv_width, batch_first=True, dtype=torch.float64
    )
    weights = {
        "q_proj.weight": layer.q_proj_weight,
        "k_proj.weight": layer.k_proj_weight,
        "v_proj.weight": layer.v_proj_weight,
        "in_proj_bias": layer.in_proj_bias,  # of q, k and v
        "o_proj.weight": layer.out_proj.weight,
        "o_proj.bias": layer.out_proj.bias,
    }
    fill(c, weights)
    y, _ = layer(x, memory, memory, need_weights=False)
    return y, weights


def layer_tensors(c: dict) -> dict:
    """Everything by name; gradients, of Σ y dy, are called d<name>."""
    x = numbers(c, "x", 2, 7, c["hidden_size"]).float().double().requires_grad_()
    leaves = {"x": x}
    if "kv_hidden_size" in c:
        memory = numbers(c, "memory", 2, 5, c["kv_hidden_size"]).float().double()
        leaves["memory"] = memory.requires_grad_()
        y, weights = cross(c, x, leaves["memory"])
    else:
        y, weights = qwen3(c, x)
    dy = numbers(c, "dy", *y.shape).float().double()
    y.backward(dy)
    leaves |= weights
    tensors = {"y": y, "dy": dy}
    for name, leaf in leaves.items():
        parts = {name: leaf}
        if name == "in_proj_bias":
            parts = dict(zip(("q_proj.bias", "k_proj.bias", "v_proj.bias"), leaf.chunk(3)))
        gradients = leaf.grad.chunk(len(parts))
        for (part, value), gradient in zip(parts.items(), gradients):
            tensors[part] = value
            tensors["d" + part] = gradient
    return tensors
