#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The gqa authors
"""Makes a multi-head checkpoint in several files, of random BF16 weights, to measure
convert_checkpoint on:

  large_checkpoint.py FOLDER [LAYERS]         # 90 MB a layer, 8 layers by default
  /usr/bin/time -v convert_checkpoint FOLDER OUT --num-kv-heads 4

Every KV head is there twice, so that half of the heads is an exact conversion.
"""
import json
import os
import random
import struct
import sys

hidden, heads, inner, vocab = 2048, 16, 4608, 4096
folder, layers = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 8
os.makedirs(folder)
random.seed(1)
head_bytes = hidden // heads * hidden * 2


def numbers(count):
    """BF16 between 2**-7 and 2**-5 in size: exponents are a byte's choice, mantissas are noise."""
    low = random.randbytes(count)
    high = random.randbytes(count).translate(bytes((0x3C if i < 128 else 0xBC) for i in range(256)))
    out = bytearray(2 * count)
    out[0::2], out[1::2] = low, high
    return bytes(out)


def write(name, tensors):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for tensor, (shape, data) in tensors.items():
        header[tensor] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(folder, name), "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, data in tensors.values():
            file.write(data)
    weight_map.update({tensor: name for tensor in tensors})
    return at


def matrix(rows, cols):
    return [rows, cols], numbers(rows * cols)


def twice():
    parts = [numbers(head_bytes // 2) for _ in range(heads // 2)]
    return [hidden, hidden], b"".join(part + part for part in parts)


weight_map, total, files = {}, 0, layers + 1
for i in range(layers):
    p = f"model.layers.{i}."
    total += write(f"model-{i + 1:05}-of-{files:05}.safetensors", {
        p + "self_attn.q_proj.weight": matrix(hidden, hidden),
        p + "self_attn.k_proj.weight": twice(),
        p + "self_attn.v_proj.weight": twice(),
        p + "self_attn.o_proj.weight": matrix(hidden, hidden),
        p + "mlp.gate_proj.weight": matrix(inner, hidden),
        p + "mlp.up_proj.weight": matrix(inner, hidden),
        p + "mlp.down_proj.weight": matrix(hidden, inner),
        p + "input_layernorm.weight": ([hidden], numbers(hidden)),
        p + "post_attention_layernorm.weight": ([hidden], numbers(hidden)),
    })
total += write(f"model-{files:05}-of-{files:05}.safetensors", {
    "model.embed_tokens.weight": matrix(vocab, hidden),
    "model.norm.weight": ([hidden], numbers(hidden)),
    "lm_head.weight": matrix(vocab, hidden),
})
with open(os.path.join(folder, "model.safetensors.index.json"), "w") as file:
    json.dump({"metadata": {"total_size": total}, "weight_map": weight_map}, file)
with open(os.path.join(folder, "config.json"), "w") as file:
    json.dump({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden,
               "intermediate_size": inner, "num_hidden_layers": layers,
               "num_attention_heads": heads, "num_key_value_heads": heads, "vocab_size": vocab,
               "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "torch_dtype": "bfloat16"}, file)
print(f"{total / 1e6:.0f} MB in {files} files")
