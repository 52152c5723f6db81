#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The gqa authors
"""What Hugging Face transformers makes of folders that convert_checkpoint wrote.

  pip install torch transformers safetensors
  load_in_transformers.py ORIGINAL CONVERTED...

Loads each folder as a causal language model, refuses missing or unexpected tensors, and prints
num_key_value_heads and how far the logits of random tokens are from the original's.
"""
import sys

import torch
import transformers

torch.manual_seed(1)


def load(folder):
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, torch_dtype=torch.float32, output_loading_info=True)
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    wrong = {key: value for key, value in info.items() if set(value) - tied}
    assert not wrong, f"{folder}: {wrong}"
    return model.eval()


original = load(sys.argv[1])
tokens = torch.randint(original.config.vocab_size, (4, 40))
with torch.no_grad():
    expected = original(tokens).logits
    for folder in sys.argv[1:]:
        model = load(folder)
        logits = model(tokens).logits
        assert torch.isfinite(logits).all()
        off = (logits - expected).norm() / expected.norm()
        print(f"{folder}: num_key_value_heads {model.config.num_key_value_heads}, "
              f"logits off by {off:.4f}")
