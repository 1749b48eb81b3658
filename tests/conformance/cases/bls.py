"""Models that call other models: `exec` and `async_exec` of the Python backend, over the models of `graph`."""

from __future__ import annotations

import json
from typing import Any

from ..messages import grpc_infer, grpc_tensor, infer, strings, tensor
from ..steps import Case, Http

_SUM = [["A", "INT32", [2], [5, 7]], ["B", "INT32", [2], [1, 2]]]
_IN = [["IN", "INT32", [2], [1, 2]]]


def _ask(model: str, /, **call: Any) -> Http:
    return infer(model, [tensor("CALL", "BYTES", [1], [json.dumps(call)])])


def _one(name: str, values: list[int], **call: Any) -> dict[str, Any]:
    return {"model_name": name, "inputs": [["IN", "INT32", [len(values)], values]], "outputs": ["OUT"], **call}


_CALLS: dict[str, dict[str, Any]] = {
    "works": {"model_name": "add_sub", "inputs": _SUM, "outputs": ["SUM", "DIFF"]},
    "one-output": {"model_name": "add_sub", "inputs": _SUM, "outputs": ["DIFF"]},
    "no-outputs-listed": {"model_name": "add_sub", "inputs": _SUM, "outputs": []},
    "several": {"model_name": "add_sub", "inputs": _SUM, "outputs": ["SUM"], "times": 3},
    "latest-version": _one("add_one", [1, 2]),
    "first-version": _one("add_one", [1, 2], model_version=1),
    "missing-version": _one("add_one", [1, 2], model_version=3),
    "unknown-model": _one("nothing", [1]),
    "unknown-output": {"model_name": "add_one", "inputs": _IN, "outputs": ["NONE"]},
    "unknown-input": {"model_name": "add_one", "inputs": [["X", "INT32", [1], [1]]], "outputs": ["OUT"]},
    "missing-input": {"model_name": "add_sub", "inputs": _SUM[:1], "outputs": ["SUM"]},
    "too-many-inputs": {"model_name": "add_one", "inputs": [*_IN, *_SUM], "outputs": ["OUT"]},
    "wrong-type": {"model_name": "add_one", "inputs": [["IN", "FP32", [1], [1.5]]], "outputs": ["OUT"]},
    "wrong-rank": {"model_name": "add_one", "inputs": [["IN", "INT32", [1, 1], [1]]], "outputs": ["OUT"]},
    "empty-tensor": _one("add_one", []),
    "batch": {"model_name": "add_one_batched", "inputs": [["IN", "INT32", [2, 2], [1, 2, 3, 4]]], "outputs": ["OUT"]},
    "batch-too-large": {
        "model_name": "add_one_batched",
        "inputs": [["IN", "INT32", [5, 2], list(range(10))]],
        "outputs": ["OUT"],
    },
    "error-unknown": _one("add_one", [-1]),
    "error-internal": _one("add_one", [-2]),
    "error-not-found": _one("add_one", [-3]),
    "error-invalid": _one("add_one", [-4]),
    "error-cancelled": _one("add_one", [-8]),
    "raises": _one("add_one", [-100]),
    "strings": {"model_name": "tell", "inputs": [], "outputs": ["OUT"]},
    "request-id": {"model_name": "tell", "inputs": [], "outputs": ["OUT"], "request_id": "my id"},
    "correlation-id": {"model_name": "tell", "inputs": _IN, "outputs": ["OUT"], "correlation_id": 7},
    "correlation-text": {"model_name": "tell", "inputs": _IN, "outputs": ["OUT"], "correlation_id": "seven"},
    "flags": {"model_name": "tell", "inputs": [], "outputs": ["OUT"], "flags": 3},
    "timeout": {"model_name": "tell", "inputs": [], "outputs": ["OUT"], "timeout": 5_000_000},
    "parameters": {
        "model_name": "tell",
        "inputs": [],
        "outputs": ["OUT"],
        "parameters": {"text": "a", "number": -3, "flag": True},
    },
    "decoupled-without-asking": _one("repeat", [3]),
}

_STREAMS: dict[str, dict[str, Any]] = {
    "repeat": _one("repeat", [3]),
    "none": _one("repeat", [0]),
    "error-at-the-end": _one("repeat", [-2]),
    "ordinary-model": _one("add_one", [1]),
    "ordinary-model-error": _one("add_one", [-4]),
    "unknown-model": _one("nothing", [1]),
    "unknown-output": {"model_name": "repeat", "inputs": [["IN", "INT32", [1], [1]]], "outputs": ["NONE"]},
    "two-calls": _one("repeat", [2], times=2),
}

CASES = (
    *(Case(f"bls-{name}", (_ask("bls", **call),), "graph") for name, call in _CALLS.items()),
    *(
        Case(f"bls-async-{name}", (_ask("bls_async", **call),), "graph")
        for name, call in _CALLS.items()
        if name != "several"  # which Triton 2.51 does not answer every time
    ),
    *(
        Case(f"bls-decoupled-{name}", (_ask("bls", decoupled=True, **call),), "graph")
        for name, call in _STREAMS.items()
    ),
    *(
        Case(f"bls-async-decoupled-{name}", (_ask("bls_async", decoupled=True, **call),), "graph")
        for name, call in _STREAMS.items()
        if name != "two-calls"  # which Triton 2.51 never answers
    ),
    Case("bls-decoupled-iterated-twice", (_ask("bls", do="twice", **_one("repeat", [2])),), "graph"),
    Case("bls-chain", (_ask("bls", do="chain", model="add_one", length=10),), "graph"),
    Case("bls-ready", (_ask("bls", do="ready", model="add_one"),), "graph"),
    Case("bls-ready-version", (_ask("bls", do="ready", model="add_one", version="1"),), "graph"),
    Case("bls-ready-missing-version", (_ask("bls", do="ready", model="add_one", version="3"),), "graph"),
    Case("bls-ready-unknown", (_ask("bls", do="ready", model="nothing"),), "graph"),
    Case("bls-ready-bad-version", (_ask("bls", do="ready", model="add_one", version="x"),), "graph"),
    Case("bls-load-not-explicit", (_ask("bls", do="load", model="add_one"),), "graph"),
    Case("bls-unload-not-explicit", (_ask("bls", do="unload", model="add_one"),), "graph"),
    Case(
        "bls-grpc",
        (
            grpc_infer(
                "bls",
                [grpc_tensor("CALL", "BYTES", [1])],
                [strings(json.dumps(_CALLS["works"]).encode())],
                id="outer",
            ),
        ),
        "graph",
    ),
)
