"""Parameters of a request: the reserved ones, and what reaches the model."""

from __future__ import annotations

from tritonclient.grpc import service_pb2 as pb

from ..messages import Parameter, grpc_infer, grpc_output, grpc_tensor, infer, output, tensor
from ..steps import Case

_IN = [tensor("INPUT0", "INT32", [1], [1])]
_OUT = [output("REPORT")]
_VALUES: dict[str, dict[str, object]] = {
    "none": {},
    "string": {"p": "text"},
    "empty-string": {"p": ""},
    "unicode-string": {"p": 'caf\u00e9 "x" \n'},
    "int": {"p": 7},
    "negative-int": {"p": -7},
    "largest-int": {"p": 2**63 - 1},
    "unsigned": {"p": 2**63},
    "beyond-64-bits": {"p": 2**64},
    "bool": {"p": True},
    "double": {"p": 1.5},
    "null": {"p": None},
    "list": {"p": [1]},
    "object": {"p": {"a": 1}},
    "several": {"b": 1, "a": "x", "c": False},
    "empty-key": {"": 1},
    "reserved-prefix": {"triton_x": 1},
    "reserved-final": {"triton_enable_empty_final_response": True},
    "sequence-id": {"sequence_id": 7},
    "sequence-id-largest": {"sequence_id": 2**64 - 1},
    "sequence-id-string": {"sequence_id": "seven"},
    "sequence-id-empty-string": {"sequence_id": ""},
    "sequence-id-128": {"sequence_id": "x" * 128},
    "sequence-id-129": {"sequence_id": "x" * 129},
    "sequence-id-negative": {"sequence_id": -1},
    "sequence-id-float": {"sequence_id": 1.5},
    "sequence-id-bool": {"sequence_id": True},
    "sequence-flags": {"sequence_id": 1, "sequence_start": True, "sequence_end": True},
    "sequence-start": {"sequence_start": True},
    "sequence-end": {"sequence_end": True},
    "sequence-start-int": {"sequence_start": 1},
    "sequence-end-string": {"sequence_end": "true"},
    "priority": {"priority": 2},
    "priority-negative": {"priority": -1},
    "priority-string": {"priority": "2"},
    "timeout": {"timeout": 1000000},
    "timeout-negative": {"timeout": -1},
    "timeout-float": {"timeout": 1.5},
    "binary-data-output-string": {"binary_data_output": "true"},
}
_GRPC: dict[str, dict[str, Parameter | pb.InferParameter]] = {
    "none": {},
    "string": {"p": "text"},
    "empty-string": {"p": ""},
    "int": {"p": -7},
    "bool": {"p": True},
    "double": {"p": 1.5},
    "unsigned": {"p": pb.InferParameter(uint64_param=7)},
    "unset": {"p": pb.InferParameter()},
    "several": {"b": 1, "a": "x", "c": False},
    "reserved-prefix": {"triton_x": 1},
    "reserved-final": {"triton_enable_empty_final_response": True},
    "reserved-final-int": {"triton_enable_empty_final_response": 1},
    "sequence-id": {"sequence_id": 7},
    "sequence-id-negative": {"sequence_id": -1},
    "sequence-id-string": {"sequence_id": "seven"},
    "sequence-id-129": {"sequence_id": "x" * 129},
    "sequence-id-bool": {"sequence_id": True},
    "sequence-id-unsigned": {"sequence_id": pb.InferParameter(uint64_param=7)},
    "sequence-flags": {"sequence_id": 1, "sequence_start": True, "sequence_end": True},
    "sequence-start-int": {"sequence_start": 1},
    "sequence-end-int": {"sequence_end": 1},
    "priority": {"priority": 2},
    "priority-unsigned": {"priority": pb.InferParameter(uint64_param=2)},
    "priority-negative": {"priority": -1},
    "priority-string": {"priority": "2"},
    "timeout": {"timeout": 1000000},
    "timeout-string": {"timeout": "1"},
    "timeout-unsigned": {"timeout": pb.InferParameter(uint64_param=1)},
    "binary-data-output": {"binary_data_output": True},
}

CASES = (
    *(Case(f"parameters-{name}", (infer("echo", _IN, _OUT, parameters=values),)) for name, values in _VALUES.items()),
    *(
        Case(
            f"parameters-{name}-grpc",
            (
                grpc_infer(
                    "echo",
                    [grpc_tensor("INPUT0", "INT32", [1])],
                    [b"\x01\x00\x00\x00"],
                    [grpc_output("REPORT")],
                    values,
                ),
            ),
        )
        for name, values in _GRPC.items()
    ),
    Case("parameters-not-object", (infer("echo", _IN, _OUT, parameters=1),)),
    Case("parameters-list-instead", (infer("echo", _IN, _OUT, parameters=[]),)),
    Case("parameters-with-id", (infer("echo", _IN, _OUT, id="i 1", parameters={"p": "q"}),)),
    Case("parameters-unknown-of-input", (infer("echo", [tensor("INPUT0", "INT32", [1], [1], other="x")], _OUT),)),
    Case("parameters-of-input-not-object", (infer("echo", [{**_IN[0], "parameters": 1}], _OUT),)),
    Case(
        "id-seen-by-model-grpc",
        (grpc_infer("echo", [grpc_tensor("INPUT0", "INT32", [1])], [bytes(4)], [grpc_output("REPORT")], id="i 1"),),
    ),
    Case("sequence-id-with-id-too-long", (infer("echo", _IN, _OUT, id="i", parameters={"sequence_id": "x" * 129}),)),
)
