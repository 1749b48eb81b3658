"""Ensembles: the way of tensors through the steps, shapes between who batches and who does not, and errors of steps."""

from __future__ import annotations

import json
from typing import Any

from ..messages import grpc_infer, grpc_output, grpc_tensor, infer, output, strings, tensor
from ..steps import Case, Http, Step


def _in(values: list[int], name: str = "IN", shape: list[int] | None = None) -> dict[str, Any]:
    return tensor(name, "INT32", shape or [len(values)], values)


def _grpc_in(values: list[int], name: str = "IN") -> Any:
    return grpc_tensor(name, "INT32", [len(values)], {"int_contents": values})


def _through_bls(model: str, values: list[int], outputs: list[str], **call: Any) -> Http:
    """A request of a model to the ensemble: the only way to a decoupled one without a stream."""
    value = {"model_name": model, "inputs": [["IN", "INT32", [len(values)], values]], "outputs": outputs, **call}
    return infer("bls", [tensor("CALL", "BYTES", [1], [json.dumps(value)])])


_STEPS: dict[str, Step] = {
    "chain": infer("chain", [_in([1, 2, 3])]),
    "chain-grpc": grpc_infer("chain", [_grpc_in([1, 2, 3])], id="a"),
    "chain-id": infer("chain", [_in([1])], id="my id"),
    "chain-version": infer("chain", [_in([1])], version="1"),
    "chain-missing-version": infer("chain", [_in([1])], version="2"),
    "chain-empty-tensor": infer("chain", [_in([], shape=[0])]),
    "versions": infer("versions", [_in([10])]),
    "diamond": infer("diamond", [_in([5])]),
    "diamond-one-output": infer("diamond", [_in([5])], [output("DIFF")]),
    "diamond-inner-output": infer("diamond", [_in([5])], [output("X")]),
    "diamond-outputs-in-order": infer("diamond", [_in([5])], [output("SUM"), output("X")]),
    "same-tensor-twice": infer("same_twice", [_in([3, 4])]),
    "nested": infer("nested", [_in([1])]),
    "nested-error": infer("nested", [_in([-2])]),
    "text": infer("text", [tensor("IN", "BYTES", [2], ["a", "b"])]),
    "text-grpc": grpc_infer("text", [grpc_tensor("IN", "BYTES", [2])], [strings(b"a", b"")]),
    "halves": infer("halves", [_in([1], "LEFT"), _in([2], "RIGHT")]),
    "halves-pruned": infer("halves", [_in([1], "LEFT"), _in([-100], "RIGHT")], [output("A")]),
    "halves-not-pruned": infer("halves", [_in([1], "LEFT"), _in([-2], "RIGHT")], [output("B")]),
    "halves-missing-input": infer("halves", [_in([1], "LEFT")], [output("A")]),
    "optional-given": infer("tells", [_in([1, 2])]),
    "optional-not-given": infer("tells", []),
    "parameters": infer("tells", [], id="x", parameters={"a": 1, "b": "two", "c": True}),
    "timeout": infer("tells", [], parameters={"timeout": 5_000_000}),
    "sequence": infer(
        "tells", [], parameters={"sequence_id": 7, "sequence_start": True, "sequence_end": True, "priority": 1}
    ),
    "sequence-text": infer("tells", [], parameters={"sequence_id": "seven", "sequence_start": True}),
    "parameters-grpc": grpc_infer("tells", [], parameters={"a": 1, "sequence_id": 3, "sequence_end": True}),
    "batch-1": infer("batched", [_in([1, 2], shape=[1, 2])]),
    "batch-4": infer("batched", [_in([1, 2, 3, 4, 5, 6, 7, 8], shape=[4, 2])]),
    "batch-5": infer("batched", [_in(list(range(10)), shape=[5, 2])]),
    "batch-0": infer("batched", [_in([], shape=[0, 2])]),
    "batch-missing": infer("batched", [_in([1, 2])]),
    "batch-smaller": infer("batched_smaller", [_in([1, 2, 3, 4], shape=[2, 2])]),
    "batch-smaller-3": infer("batched_smaller", [_in([1, 2, 3, 4, 5, 6], shape=[3, 2])]),
    "plain-of-batched": infer("plain_of_batched", [_in([1, 2])]),
    "full-of-batched": infer("full_of_batched", [_in([1, 2, 3, 4], shape=[2, 2])]),
    "full-of-batched-too-large": infer("full_of_batched", [_in(list(range(10)), shape=[5, 2])]),
    "batched-of-plain": infer("batched_of_plain", [_in([1, 2, 3, 4], shape=[2, 2])]),
    "batched-of-plain-1": infer("batched_of_plain", [_in([1, 2], shape=[1, 2])]),
    "batched-of-vector-1": infer("batched_of_vector", [_in([1, 2, 3], shape=[1, 3])]),
    "batched-of-vector-2": infer("batched_of_vector", [_in([1, 2, 3, 4], shape=[2, 2])]),
    "reshaped": infer("reshaped", [_in([1, 2, 3, 4])]),
    "left-out-output": infer("maybe_one", [_in([0, 1])]),
    "not-left-out-output": infer("maybe_one", [_in([1, 2])]),
    "left-out-input": infer("maybe_through", [_in([0, 1])]),
    "not-left-out-input": infer("maybe_through", [_in([1, 2])]),
    "left-out-optional-input": infer("maybe_tells", [_in([0, 1])]),
    "not-left-out-optional-input": infer("maybe_tells", [_in([1, 2])]),
    "error-unknown": infer("chain", [_in([-1])]),
    "error-internal": infer("chain", [_in([-2])]),
    "error-not-found": infer("chain", [_in([-3])]),
    "error-invalid": infer("chain", [_in([-4])]),
    "error-unavailable": infer("chain", [_in([-5])]),
    "error-unsupported": infer("chain", [_in([-6])]),
    "error-exists": infer("chain", [_in([-7])]),
    "error-cancelled": infer("chain", [_in([-8])]),
    "error-internal-grpc": grpc_infer("chain", [_grpc_in([-2])], id="a"),
    "error-not-found-grpc": grpc_infer("chain", [_grpc_in([-3])]),
    "error-in-second-step": infer("versions", [_in([-3])]),
    "raises": infer("chain", [_in([-100])]),
    "error-in-one-branch": infer("halves", [_in([1], "LEFT"), _in([-2], "RIGHT")]),
    "error-in-both-branches": infer("halves", [_in([-2], "LEFT"), _in([-2], "RIGHT")], id="b"),
    "step-refuses-shape": infer("plain_of_batched", [_in([1, 2, 3])]),
    "unknown-input": infer("chain", [_in([1], "WRONG")]),
    "extra-input": infer("chain", [_in([1]), _in([1], "MID")]),
    "unknown-output": infer("chain", [_in([1])], [output("MID")]),
    "wrong-type": infer("chain", [tensor("IN", "FP32", [1], [1.5])]),
    "wrong-rank": infer("chain", [_in([1], shape=[1, 1])]),
    "missing-input": infer("chain", []),
    "classification": infer("chain", [_in([3, 1, 2])], [output("OUT", classification=2)]),
    "classification-grpc": grpc_infer("chain", [_grpc_in([3, 1, 2])], outputs=[grpc_output("OUT", classification=2)]),
    "decoupled-refused": infer("stream", [_in([2])]),
    "decoupled-refused-grpc": grpc_infer("stream", [_grpc_in([2])]),
    "decoupled": _through_bls("stream", [3], ["OUT", "LEFT"], decoupled=True, only_tensors=True),
    "decoupled-one-output": _through_bls("stream", [3], ["LEFT"], decoupled=True, only_tensors=True),
    "decoupled-none": _through_bls("stream", [0], ["OUT", "LEFT"], decoupled=True, only_tensors=True),
    "decoupled-twice": _through_bls("stream_twice", [3], ["OUT"], decoupled=True, only_tensors=True),
    "decoupled-without-asking": _through_bls("stream", [3], ["OUT"]),
    "from-a-model": _through_bls("chain", [1, 2], ["OUT"]),
    "from-a-model-error": _through_bls("chain", [-2], ["OUT"]),
    "metadata": Http("GET", "/v2/models/chain"),
    "metadata-decoupled": Http("GET", "/v2/models/stream"),
    "config": Http("GET", "/v2/models/diamond/config"),
    "config-decoupled": Http("GET", "/v2/models/stream/config"),
    "config-batched": Http("GET", "/v2/models/batched/config"),
    "ready": Http("GET", "/v2/models/chain/ready"),
    "ready-version": Http("GET", "/v2/models/chain/versions/1/ready"),
    "ready-missing-version": Http("GET", "/v2/models/chain/versions/2/ready"),
}

CASES = tuple(Case(f"ensemble-{name}", (step,), "graph") for name, step in _STEPS.items())
