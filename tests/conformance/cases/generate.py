"""The generate extension: how fields become tensors and parameters, what comes back, and errors on the way."""

from __future__ import annotations

from ..messages import compact
from ..steps import Case, Http


def _path(model: str, verb: str, version: str = "") -> str:
    return f"/v2/models/{model}/versions/{version}/{verb}" if version else f"/v2/models/{model}/{verb}"


def _generate(model: str, value: object, version: str = "", verb: str = "generate") -> Http:
    return Http("POST", _path(model, verb, version), value if isinstance(value, bytes) else compact(value))


def _stream(model: str, value: object, version: str = "") -> Http:
    return _generate(model, value, version, "generate_stream")


def _script(words: str, **fields: object) -> dict[str, object]:
    return {"SCRIPT": words, **fields}


_BOTH = {
    "echo": ("echo", {"INPUT0": 5}),
    "echo-array": ("echo", {"INPUT0": [5]}),
    "id": ("echo", {"INPUT0": 5, "id": "the-id"}),
    "id-number": ("echo", {"INPUT0": 5, "id": 7}),
    "parameters-at-the-top": ("echo", {"INPUT0": 5, "text": "a", "number": -3, "flag": True, "real": 2.5}),
    "parameters-nested": ("echo", {"INPUT0": 5, "parameters": {"text": "a", "number": 3, "flag": False}}),
    "input-nested": ("echo", {"parameters": {"INPUT0": 5, "text": "a"}}),
    "input-twice": ("echo", {"INPUT0": 5, "parameters": {"INPUT0": 6}}),
    "input-twice-with-id": ("echo", {"id": "x", "INPUT0": 5, "parameters": {"INPUT0": 6}}),
    "parameters-not-an-object": ("echo", {"INPUT0": 5, "parameters": [1]}),
    "parameters-text": ("echo", {"INPUT0": 5, "parameters": "x"}),
    "parameters-empty": ("echo", {"INPUT0": 5, "parameters": {}}),
    "parameters-twice-nested": ("echo", {"INPUT0": 5, "parameters": {"parameters": {"text": "a"}}}),
    "parameter-null": ("echo", {"INPUT0": 5, "nothing": None}),
    "parameter-array": ("echo", {"INPUT0": 5, "list": [1, 2]}),
    "parameter-object": ("echo", {"INPUT0": 5, "thing": {"a": 1}}),
    "parameter-nested-array": ("echo", {"INPUT0": 5, "parameters": {"list": [1]}}),
    "parameter-large": ("echo", {"INPUT0": 5, "large": 2**63}),
    "reserved-parameters": (
        "echo",
        {"INPUT0": 5, "sequence_id": 7, "priority": 1, "timeout": 3, "sequence_start": True, "triton_x": 1},
    ),
    "binary-data-output": ("echo", {"INPUT0": 5, "binary_data_output": True}),
    "inputs-as-parameter": ("echo", {"INPUT0": 5, "inputs": "x", "outputs": "y"}),
    "unknown-model": ("nobody", {"INPUT0": 5}),
    "missing-input": ("echo", {"text": "a"}),
    "empty-object": ("echo", {}),
    "not-an-object": ("echo", [1]),
    "number": ("echo", 5),
    "text": ("echo", "x"),
    "null": ("echo", None),
    "no-json": ("echo", b"{nonsense"),
    "empty-body": ("echo", b""),
    "trailing": ("echo", b'{"INPUT0":5} x'),
    "wrong-type": ("echo", {"INPUT0": "text"}),
    "wrong-type-float": ("echo", {"INPUT0": 2.5}),
    "wrong-type-bool": ("echo", {"INPUT0": True}),
    "wrong-type-null": ("echo", {"INPUT0": None}),
    "wrong-type-object": ("echo", {"INPUT0": {"a": 1}}),
    "wrong-type-in-array": ("echo", {"INPUT0": ["x"]}),
    "mixed-array": ("identity_variable", {"INPUT0": [1, "x"]}),
    "too-many-elements": ("echo", {"INPUT0": [1, 2]}),
    "no-elements": ("echo", {"INPUT0": []}),
    "no-elements-of-a-variable-tensor": ("identity_variable", {"INPUT0": []}),
    "no-strings": ("identity_bytes", {"INPUT0": []}),
    "nested-array": ("identity_variable", {"INPUT0": [[1, 2], [3, 4]]}),
    "two-variable-dimensions": ("identity_variable", {"INPUT0": [1, 2, 3, 4]}),
    "variable-scalar": ("identity_variable", {"INPUT0": 4}),
    "fixed-dimensions": ("identity_fixed", {"INPUT0": [1, 2, 3, 4, 5, 6]}),
    "fixed-dimensions-too-few": ("identity_fixed", {"INPUT0": [1, 2, 3]}),
    "fixed-dimensions-too-many": ("identity_fixed", {"INPUT0": list(range(12))}),
    "batch": ("add_sub", {"INPUT0": [1, 2, 3, 4], "INPUT1": [4, 3, 2, 1]}),
    "batch-of-two": ("add_sub", {"INPUT0": list(range(8)), "INPUT1": list(range(8))}),
    "batch-not-divisible": ("add_sub", {"INPUT0": [1, 2, 3], "INPUT1": [1, 2, 3]}),
    "batch-variable": ("identity_batch", {"INPUT0": [1, 2, 3, 4]}),
    "batch-variable-odd": ("identity_batch", {"INPUT0": [1, 2, 3]}),
    "bytes": ("identity_bytes", {"INPUT0": "text with \u00e9 and \u4e2d"}),
    "bytes-array": ("identity_bytes", {"INPUT0": ["a", "", "c"]}),
    "bytes-empty": ("identity_bytes", {"INPUT0": ""}),
    "bytes-number": ("identity_bytes", {"INPUT0": 5}),
    "bytes-2d": ("identity_bytes_2d", {"INPUT0": ["a", "b", "c", "d"]}),
    "bytes-batch": ("identity_bytes_batch", {"INPUT0": ["a", "b"]}),
    "bytes-escapes": ("identity_bytes", {"INPUT0": 'quote " back \\ tab \t line \n nul \u0000 end'}),
    "optional-left-out": ("optional", {"A": [1, 2]}),
    "optional-given": ("optional", {"A": [1, 2], "B": [3, 4], "C": "x"}),
    "nothing-needed": ("all_optional", {}),
    "many-outputs": ("many_outputs", {"INPUT0": [1, 2]}),
    "floats": ("floats", {"INPUT0": 1}),
    "fp16": ("identity_fp16", {"INPUT0": [1, 2]}),
    "bf16": ("identity_bf16", {"INPUT0": [1, 2]}),
    "bool": ("identity_bool", {"INPUT0": [True, False]}),
    "bool-number": ("identity_bool", {"INPUT0": 1}),
    "int8-wraps": ("identity_int8", {"INPUT0": 300}),
    "uint8": ("identity_uint8", {"INPUT0": [1, 255]}),
    "uint8-negative": ("identity_uint8", {"INPUT0": -1}),
    "int64": ("identity_int64", {"INPUT0": [-(2**63), 2**63 - 1]}),
    "uint64": ("identity_uint64", {"INPUT0": [2**64 - 1]}),
    "fp32-of-integers": ("identity_fp32", {"INPUT0": [1, 2.5]}),
    "fp64": ("identity_fp64", {"INPUT0": [0.1, 1e300]}),
    "reshape": ("reshape_variable", {"INPUT0": [1, 2, 3, 4]}),
    "no-response-id": ("decoupled", {"COUNT": 1}),
    "decoupled-none": ("decoupled", {"COUNT": 0}),
    "decoupled-two": ("decoupled", {"COUNT": 2}),
    "decoupled-many": ("decoupled", {"COUNT": 20}),
    "decoupled-final-with-response": ("script", _script("send-final", id="x")),
    "decoupled-two-elements": ("script", _script("two-elements final")),
    "decoupled-no-outputs": ("script", _script("no-outputs final")),
    "decoupled-error": ("script", _script("error-final")),
    "decoupled-error-not-found": ("script", _script("not-found final")),
    "decoupled-response-then-error": ("script", _script("send error final")),
    "decoupled-error-then-response": ("script", _script("error send final")),
    "decoupled-later": ("script", _script("later send send final", id="later")),
    "decoupled-raise": ("script", _script("raise")),
    "sender-then-final": ("senders", _script("send final")),
    "sender-later": ("senders", _script("later send-final")),
    "model-error": ("errors", {"KIND": "NOT_FOUND"}),
    "model-error-internal": ("errors", {"KIND": "default_code"}),
    "model-raises": ("errors", {"KIND": "value_error"}),
    "model-error-unicode": ("errors", {"KIND": "unicode_message"}),
    "unknown-output": ("errors", {"KIND": "unknown_output"}),
    "wrong-output-shape": ("errors", {"KIND": "wrong_shape"}),
    "empty-tensor": ("errors", {"KIND": "empty_tensor"}),
}


def _both() -> list[Case]:
    cases = []
    for name, (model, value) in _BOTH.items():
        cases += [
            Case(f"generate-{name}", (_generate(model, value),)),
            Case(f"generate-stream-{name}", (_stream(model, value),)),
        ]
    return cases


_ECHO = compact({"INPUT0": 5})

CASES: tuple[Case, ...] = (
    *_both(),
    Case("generate-version", (_generate("versions_all", {"INPUT0": 5}, "2"),)),
    Case("generate-unknown-version", (_generate("echo", {"INPUT0": 5}, "7"),)),
    Case("generate-stream-unknown-version", (_stream("echo", {"INPUT0": 5}, "7"),)),
    Case("generate-version-word", (Http("POST", "/v2/models/echo/versions/x/generate", _ECHO),)),
    Case("generate-get", (Http("GET", "/v2/models/echo/generate"),)),
    Case("generate-stream-get", (Http("GET", "/v2/models/echo/generate_stream"),)),
    Case("generate-put", (Http("PUT", "/v2/models/echo/generate", _ECHO),)),
    Case("generate-slash", (Http("POST", "/v2/models/echo/generate/", _ECHO),)),
    Case("generate-other-verb", (Http("POST", "/v2/models/echo/generate_other", _ECHO),)),
    Case("generate-gzip", (Http("POST", "/v2/models/echo/generate", _ECHO, (("Content-Encoding", "gzip"),)),)),
    Case("generate-identity", (Http("POST", "/v2/models/echo/generate", _ECHO, (("Content-Encoding", "identity"),)),)),
    Case("generate-accept", (Http("POST", "/v2/models/echo/generate", _ECHO, (("Accept-Encoding", "gzip"),)),)),
    Case(
        "generate-stream-accept",
        (Http("POST", "/v2/models/echo/generate_stream", _ECHO, (("Accept-Encoding", "gzip"),)),),
    ),
    Case(
        "generate-header-length",
        (Http("POST", "/v2/models/echo/generate", _ECHO, (("Inference-Header-Content-Length", "3"),)),),
    ),
    Case("generate-duplicate-input", (Http("POST", "/v2/models/echo/generate", b'{"INPUT0":5,"INPUT0":6}'),)),
)
