#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The gqa authors
"""One of the libraries that compare_peers.py times: reads names of attention_bench's cases, a line each,
and answers each with a line of JSON: {"seconds": of a call, "how": the way that was fastest}, or
{"error": why not}, as `attention_bench --serve` does for gqa.

    echo decode/f32/heads:32/kv_heads:8/head_dim:128/kv_len:4096/batch:1/threads:1 | peer.py torch

A peer may be called in several ways; each is checked against the exact formula, and the fastest is what
counts.
"""

import dataclasses
import json
import os
import re
import sys
import time

import numpy as np

PATTERN = re.compile(
    r"(decode|prefill)/(\w+)/heads:(\d+)/kv_heads:(\d+)/head_dim:(\d+)/(?:kv_len|q_len):(\d+)"
    r"/batch:1/threads:(\d+)$")


@dataclasses.dataclass(frozen=True)
class Case:
    phase: str
    dtype: str
    heads: int
    kv_heads: int
    dim: int
    kv_len: int
    threads: int

    @property
    def decodes(self):
        return self.phase == "decode"

    @property
    def q_len(self):
        return 1 if self.decodes else self.kv_len

    @property
    def group(self):
        return self.heads // self.kv_heads


def case_of(name):
    match = PATTERN.match(name)
    if not match:
        raise ValueError(f"no case is called '{name}'")
    return Case(match[1], match[2], *(int(match[i]) for i in range(3, 8)))


class Data:
    """q [1, heads, q_len, dim], k and v [1, kv_heads, kv_len, dim], float32; and the exact result for a
    few of the queries."""

    def __init__(self, case):
        self.case = case
        random = np.random.default_rng(1)

        def numbers(heads, tokens):
            """Of mean 0 and variance 1, as attention_bench's are."""
            x = random.random((1, heads, tokens, case.dim), dtype=np.float32)
            x -= 0.5
            x *= np.sqrt(np.float32(12))
            return x

        self.q = numbers(case.heads, case.q_len)
        self.k = numbers(case.kv_heads, case.kv_len)
        self.v = numbers(case.kv_heads, case.kv_len)

    def check(self, out):
        """out [1, heads, q_len, dim]; raises where it is far off."""
        case = self.case
        tolerance = 2e-4 if case.dtype == "f32" else 5e-2
        for i in sorted({0, case.q_len // 2, case.q_len - 1}):
            seen = case.kv_len - case.q_len + i + 1
            for head in (0, case.heads // 2 + 1, case.heads - 1):
                k = self.k[0, head // case.group, :seen].astype(np.float64)
                v = self.v[0, head // case.group, :seen].astype(np.float64)
                score = k @ self.q[0, head, i].astype(np.float64) / np.sqrt(case.dim)
                weight = np.exp(score - score.max())
                expected = weight @ v / weight.sum()
                error = np.abs(out[0, head, i].astype(np.float64) - expected).max()
                if not error <= tolerance * np.abs(v).max():
                    raise ValueError(f"token {i}, head {head}: off by {error:.3g}")


class Peer:
    """What a library is asked to be: ways() yields (name, call, result of the call as an array)."""

    untimed_calls = 0  # of those after a rewind()
    timed_calls = 10**9

    def rewind(self):
        """Makes the next call the one that the case describes."""


class Torch(Peer):
    """scaled_dot_product_attention, contiguous [1, heads, tokens, dim], as its documentation has it."""

    def __init__(self, case, data):
        import torch
        self.torch = torch
        torch.set_num_threads(case.threads)
        torch.set_grad_enabled(False)
        types = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
        if case.dtype not in types:
            raise NotImplementedError(f"PyTorch's attention takes no {case.dtype}")
        dtype = types[case.dtype]
        self.q, self.k, self.v = (torch.from_numpy(x).to(dtype) for x in (data.q, data.k, data.v))
        self.case = case

    def ways(self):
        case, q, k, v = self.case, self.q, self.k, self.v
        sdpa = self.torch.nn.functional.scaled_dot_product_attention
        causal = not case.decodes
        numpy = lambda out: out.float().numpy()
        yield "enable_gqa", lambda: sdpa(q, k, v, is_causal=causal, enable_gqa=True), numpy
        if case.group > 1:
            # What models do that don't use enable_gqa: the copies belong to the step.
            repeat = lambda x: x.repeat_interleave(case.group, dim=1)
            yield "repeat_interleave", lambda: sdpa(q, repeat(k), repeat(v), is_causal=causal), numpy
            if case.decodes:
                # A trick of some engines: the group's heads as tokens of one head.
                shape = (1, case.kv_heads, case.group, case.dim)
                yield ("group as tokens", lambda: sdpa(q.view(shape), k, v),
                       lambda out: numpy(out.reshape(q.shape)))


class OnnxRuntime(Peer):
    """com.microsoft.GroupQueryAttention on the CPU, past and present in one buffer by IO binding. It
    appends the keys and values of its queries to the cache, which is part of the time."""

    def __init__(self, case, data):
        import onnx
        import onnxruntime
        from onnx import helper
        types = {"f32": (onnx.TensorProto.FLOAT, np.float32), "f16": (onnx.TensorProto.FLOAT16, np.float16)}
        if case.dtype not in types:
            raise NotImplementedError(f"GroupQueryAttention takes no {case.dtype} on CPUs")
        element, numpy_type = types[case.dtype]
        n, past = case.q_len, case.kv_len
        q_shape, k_shape = (1, n, case.heads * case.dim), (1, n, case.kv_heads * case.dim)
        cache_shape = (1, case.kv_heads, past, case.dim)
        inputs = [("query", element, q_shape), ("key", element, k_shape), ("value", element, k_shape),
                  ("past_key", element, cache_shape), ("past_value", element, cache_shape),
                  ("seqlens_k", onnx.TensorProto.INT32, (1,)),
                  ("total_sequence_length", onnx.TensorProto.INT32, ())]
        outputs = [("output", element, q_shape), ("present_key", element, cache_shape),
                   ("present_value", element, cache_shape)]
        node = helper.make_node("GroupQueryAttention", [x[0] for x in inputs], [x[0] for x in outputs],
                                domain="com.microsoft", num_heads=case.heads, kv_num_heads=case.kv_heads)
        infos = lambda rows: [helper.make_tensor_value_info(*row) for row in rows]
        graph = helper.make_graph([node], "attention", infos(inputs), infos(outputs))
        model = helper.make_model(graph, ir_version=10, opset_imports=[
            helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = case.threads
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), options,
                                                    providers=["CPUExecutionProvider"])
        rows = lambda x: np.ascontiguousarray(
            x[:, :, -n:].transpose(0, 2, 1, 3).reshape(1, n, -1).astype(numpy_type))
        values = {"query": rows(data.q), "key": rows(data.k), "value": rows(data.v),
                  "past_key": data.k.astype(numpy_type), "past_value": data.v.astype(numpy_type),
                  "seqlens_k": np.array([case.kv_len - 1], np.int32),
                  "total_sequence_length": np.array(case.kv_len, np.int32)}
        self.values = {name: onnxruntime.OrtValue.ortvalue_from_numpy(x) for name, x in values.items()}
        self.values["output"] = onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(q_shape, numpy_type))
        self.binding = self.session.io_binding()
        for name, *_ in inputs:
            self.binding.bind_ortvalue_input(name, self.values[name])
        for name, *_ in outputs:
            self.binding.bind_ortvalue_output(name, self.values[name.replace("present", "past")])
        self.case = case

    def ways(self):
        case = self.case
        shape = (1, case.q_len, case.heads, case.dim)
        yield ("GroupQueryAttention", lambda: self.session.run_with_iobinding(self.binding),
               lambda _: self.values["output"].numpy().reshape(shape).transpose(0, 2, 1, 3))


class OpenVino(Peer):
    """ScaledDotProductAttention in a stateful model, K and V concatenated to their states and repeated
    for the query heads as models exported for it do: the plugin fuses all of it into one operation
    with a KV cache ("not fused" where it did not). A call appends the keys and values of its queries to the state."""

    def __init__(self, case, data):
        import openvino
        from openvino import opset13 as op
        # Precision of the arithmetic, and of the KV cache.
        types = {"f32": ("f32", "f32"), "bf16": ("bf16", "bf16"), "int8": ("f32", "u8")}
        if case.dtype not in types:
            raise NotImplementedError(f"OpenVINO keeps no {case.dtype} here")
        self.openvino = openvino
        f32 = openvino.Type.f32
        kv_shape = openvino.PartialShape([-1, case.kv_heads, -1, case.dim])
        q = op.parameter(openvino.PartialShape([-1, case.heads, -1, case.dim]), f32, name="q")
        beam = op.parameter(openvino.PartialShape([-1]), openvino.Type.i32, name="beam_idx")
        parameters, sinks, whole = [q], [], []
        zero = op.constant(np.int64(0))
        for name in ("k", "v"):
            new = op.parameter(kv_shape, f32, name=name)
            start = op.constant(np.zeros((1, case.kv_heads, 0, case.dim), np.float32))
            past = op.read_value(start, name, f32, kv_shape)
            joined = op.concat([op.gather(past, beam, zero), new], axis=2)
            sinks.append(op.assign(joined, name))
            parameters.append(new)
            if case.group > 1:
                ones = np.ones((1, 1, case.group, 1, 1), np.float32)
                wide = op.multiply(op.unsqueeze(joined, op.constant(np.int64(2))), op.constant(ones))
                joined = op.reshape(wide, op.constant(
                    np.array([0, case.heads, -1, case.dim], np.int64)), special_zero=True)
            whole.append(joined)
        attention = op.scaled_dot_product_attention(q, *whole, causal=not case.decodes)
        model = openvino.Model([op.result(attention)], sinks, parameters + [beam], "attention")
        core = openvino.Core()
        compiled = core.compile_model(model, "CPU", {
            "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1", "INFERENCE_NUM_THREADS": case.threads,
            "INFERENCE_PRECISION_HINT": types[case.dtype][0],
            "KV_CACHE_PRECISION": types[case.dtype][1], "ENABLE_CPU_PINNING": False})
        self.fused = any("ScaledDotProductAttention" in str(node.get_rt_info()["layerType"].value)
                         for node in compiled.get_runtime_model().get_ops())
        self.request = compiled.create_infer_request()
        n = case.q_len
        self.past = {"k": np.ascontiguousarray(data.k[:, :, :-n]),
                     "v": np.ascontiguousarray(data.v[:, :, :-n])}
        # A decoding call lengthens the state; the first one also brings it into the plugin's layout.
        self.untimed_calls = 1 if case.decodes else 0
        self.timed_calls = max(case.kv_len // 100, 1) if case.decodes else 1
        last = lambda x: np.ascontiguousarray(x[:, :, -n:])
        for name, x in (("q", data.q), ("k", last(data.k)), ("v", last(data.v)),
                        ("beam_idx", np.zeros(1, np.int32))):
            self.request.set_tensor(name, openvino.Tensor(x))
        self.case = case

    def ways(self):
        yield ("stateful" + ("" if self.fused else ", not fused"), self.request.infer,
               lambda _: np.array(self.request.get_output_tensor(0).data))

    def rewind(self):
        if not self.case.decodes:
            return self.request.reset_state()
        for state in self.request.query_state():
            state.state = self.openvino.Tensor(self.past[state.name])


PEERS = {"torch": Torch, "onnxruntime": OnnxRuntime, "openvino": OpenVino}


def time_of_call(peer, call, seconds):
    """Mean of calls that together take at least `seconds`."""
    total, count = 0.0, 0
    while total < seconds:
        peer.rewind()
        for _ in range(peer.untimed_calls):
            call()
        for _ in range(peer.timed_calls):
            start = time.perf_counter()
            call()
            total += time.perf_counter() - start
            count += 1
            if total >= seconds:
                break
    return total / count


class Server:
    def __init__(self, make):
        self.make = make
        self.name = self.peer = None

    def prepare(self, name):
        """Checks every way of calling the peer, and keeps the fastest."""
        self.name = self.peer = self.call = None  # frees their memory first
        case = case_of(name)
        data = Data(case)
        self.peer = self.make(case, data)
        fastest = np.inf
        for how, call, result in self.peer.ways():
            self.peer.rewind()
            data.check(result(call()))
            seconds = min(time_of_call(self.peer, call, 10e-3) for _ in range(2))
            if seconds < fastest:
                fastest, self.how, self.call = seconds, how, call
        self.name = name

    def answer(self, name):
        if self.name != name:
            self.prepare(name)
        time_of_call(self.peer, self.call, 2e-3)  # into the caches, what fits
        return {"seconds": time_of_call(self.peer, self.call, 20e-3), "how": self.how}


def main():
    if len(sys.argv) != 2 or sys.argv[1] not in PEERS:
        sys.exit(f"usage: {sys.argv[0]} {'|'.join(PEERS)}")
    # What libraries print must not get between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    server = Server(PEERS[sys.argv[1]])
    for line in sys.stdin:
        try:
            answer = server.answer(line.strip())
        except Exception as error:  # whatever a peer can't do must not end the comparison
            answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
