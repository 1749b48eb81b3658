"""Where tensorhub answers otherwise than the recorded Triton 2.51 on purpose, and why.

One difference is general: see `content_type_allowed`. The others belong to a case each, in DELIBERATE_DIFFERENCES.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Difference:
    """The reason, and what is expected instead: values by the place in the case's answers (`0.json.extensions`)."""

    reason: str
    instead: dict[str, Any]


def content_type_allowed(status: object, recorded: object, got: object) -> bool:
    """Whether an error's content type may be `got` where `recorded` was recorded.

    Triton 2.51 sends some JSON errors as `text/plain`, by which code path made them, and later versions send most of
    those as `application/json`. tensorhub may always say what it is; clients read the body as JSON whatever the type.
    """
    return isinstance(status, int) and status >= 400 and (recorded, got) == ("text/plain", "application/json")


_HEADER_LENGTH = (
    "2.51 reads as much of a header length as is a number, like C's atoi, and takes 0 or a wrapped value for the rest; "
    "later versions refuse what is no number, with this text."
)
_KEY = "A key is checked before anything is opened: it must be one name in /dev/shm. Later versions refuse it too."
_NO_GPU = "The recorded Triton was built for GPUs and runs without one; this is the answer of one built without them."
_MODEL_NAME = "A model's name is checked before it is looked up, as in later versions, so that it stays in its folder."

DELIBERATE_DIFFERENCES: dict[str, Difference] = {
    "json-duplicate-member": Difference(
        "Of members with one name Triton takes the first, our JSON library the last; JSON leaves it open (RFC 8259).",
        {
            "0.json.id": "second",
            "0.json.outputs.0.data.0": '{"correlation_id": 0, "flags": 0, "id": "second", "parameters": {}, '
            '"requested": ["OTHER", "REPORT"], "timeout": 0}',
        },
    ),
    "json-numpy-strings-out": Difference(
        "2.51 refuses arrays of NumPy's own text type as outputs; later versions take them.",
        {
            "0.status": 200,
            "0.headers": {"content-type": "application/json"},
            "0.json": {
                "model_name": "unicode_out",
                "model_version": "1",
                "outputs": [{"name": "OUTPUT0", "datatype": "BYTES", "shape": [2], "data": ["ab", "caf\u00e9"]}],
            },
        },
    ),
    "binary-header-length-word": Difference(
        _HEADER_LENGTH, {"0.json.error": "Unable to parse Inference-Header-Content-Length, got: abc"}
    ),
    "binary-header-length-empty": Difference(
        _HEADER_LENGTH, {"0.json.error": "Unable to parse Inference-Header-Content-Length, got: "}
    ),
    "binary-header-length-out-of-range": Difference(
        _HEADER_LENGTH,
        {
            "0.json.error": "Unable to parse Inference-Header-Content-Length, value is out of range "
            "[ -2147483648, 2147483647 ], got: 99999999999"
        },
    ),
    "grpc-very-negative-dim": Difference(
        "A dimension below -1 is refused as such; Triton computes a negative size with it and compares that.",
        {"0.details": "[request id: <id_unknown>] tensor 'INPUT0' contains an invalid dimension [-2]"},
    ),
    "malformed-invalid-utf8": Difference(
        "JSON has to be UTF-8; Triton does not look.",
        {"0.json.error": "failed to parse the request JSON buffer: Invalid encoding in string. at 6"},
    ),
    "shm-register-key-empty": Difference(
        _KEY,
        {"1.status": 400, "1.json.error": "cannot register shared memory region 'reg' - invalid shm key ''"},
    ),
    "shm-register-key-slash": Difference(
        _KEY,
        {"1.status": 400, "1.json.error": "cannot register shared memory region 'reg' - invalid shm key '/'"},
    ),
    "shm-register-offset-wraps": Difference(
        "Sizes do not wrap, so that the range is seen not to be inside the segment, before mapping it is tried.",
        {"1.json.error": "failed to register shared memory region 'reg': invalid args"},
    ),
    "shm-register-errors-grpc": Difference(
        _KEY,
        {"3.code": "INVALID_ARGUMENT", "3.details": "cannot register shared memory region 'reg' - invalid shm key ''"},
    ),
    "shm-size-overflow": Difference(
        "Sizes do not wrap: 2.51 takes a range whose end does for one inside the region. Later versions refuse it.",
        {
            "2.json.error": "Integer overflow detected: byte_size (18446744073709551615) + offset (16) exceeds maximum "
            "value (18446744073709551615) for region 'data'"
        },
    ),
    "shm-region-with-offset": Difference(
        "2.51 adds the offset of the registration twice, once when it maps and once at each use, and so reads and "
        "writes elsewhere, here beyond what it has mapped. A tensor is at the region's offset plus its own.",
        {"3.data": "000030410000b0410000044200003042"},
    ),
    "cuda-register": Difference(
        _NO_GPU, {"0.json.error": "failed to register CUDA shared memory region: 'c', GPUs not supported"}
    ),
    "cuda-grpc": Difference(
        _NO_GPU,
        {
            "0.details": "failed to register CUDA shared memory region: 'c', GPUs not supported",
            "1.details": "failed to register CUDA shared memory region: 'c', GPUs not supported",
        },
    ),
    "broken-one_version_fails": Difference(
        "2.51 shows the version that it took back as UNLOADING for ever. Here it is unloaded, and the index says so.",
        {
            "0.json": [
                {"name": "one_version_fails", "version": "1", "state": "UNAVAILABLE", "reason": "unloaded"},
                {
                    "name": "one_version_fails",
                    "version": "2",
                    "state": "UNAVAILABLE",
                    "reason": "Internal: RuntimeError: version 2 is broken",
                },
            ],
            "1.response.models": [
                {"name": "one_version_fails", "version": "1", "state": "UNAVAILABLE", "reason": "unloaded"},
                {
                    "name": "one_version_fails",
                    "version": "2",
                    "state": "UNAVAILABLE",
                    "reason": "Internal: RuntimeError: version 2 is broken",
                },
            ],
        },
    ),
    "stream-not-a-request": Difference(
        "Bytes that are no request end the stream with an error. Triton stops reading and says nothing.",
        {"0.code": "INTERNAL", "0.details": "Unable to parse request"},
    ),
    "control-files_without_config": Difference(
        "What is wrong is named, as in later versions.",
        {"2.status": 400, "2.json.error": "Load parameter 'config' must be specified for model file override"},
    ),
    "control-load-empty-name-grpc": Difference(
        _MODEL_NAME,
        {
            "0.code": "INVALID_ARGUMENT",
            "0.details": "Model name cannot be empty. Please enter a valid name to deploy.",
        },
    ),
    "control-load-dots": Difference(
        _MODEL_NAME,
        {
            "0.json.error": "invalid model name '..', model name must not contain path traversal characters",
            "1.code": "INVALID_ARGUMENT",
            "1.details": "invalid model name '../resident', model name must not contain path traversal characters",
            "2.code": "INVALID_ARGUMENT",
            "2.details": "invalid model name 'a/b', model name must not contain path traversal characters",
        },
    ),
}
