"""Where tensorhub answers otherwise than the recorded Triton 2.51 on purpose, and why.

One difference is general: see `content_type_allowed`. The others belong to a case each, in DELIBERATE_DIFFERENCES.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .differences_caching import CACHING
from .differences_scheduling import SCHEDULING


@dataclass(frozen=True, slots=True)
class Difference:
    """The reason, and what is expected instead: values by the place in the case's answers (`0.json.extensions`).

    `without` names members of the recorded answers that are not expected.
    """

    reason: str
    instead: dict[str, Any]
    without: tuple[str, ...] = ()


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
_PADDING = (
    "White space around a header's value is no part of it (RFC 9110, 5.5); Triton's HTTP library keeps some of it."
)
_NOT_COMPRESSED = "2.51 takes a body that cannot be decompressed for an empty one. Here the client hears what is wrong."
_JSON_IS_JSON = "JSON is sent as such, and not as text/plain."
_RESERVED = "2.51 forwards headers with reserved names; later versions refuse them, with this text."

_DAMAGED = "the request body is not the gzip or zlib data that Content-Encoding promises"


def _echo(name: str, datatype: str, value: object) -> dict[str, Any]:
    """The answer of the model `echo`, which has one output of one element."""
    tensor = {"name": name, "datatype": datatype, "shape": [1], "data": [value]}
    return {"model_name": "echo", "model_version": "1", "outputs": [tensor]}


def _reserved(name: str) -> Difference:
    text = f"Header '{name}' is reserved for Triton usage and cannot be forwarded."
    return Difference(_RESERVED, {"0.status": 400, "0.json": {"error": text}})


def _reserved_metadata(name: str, key: str) -> dict[str, Difference]:
    """The unary call and the stream of one case."""
    text = f"Header '{key}' is reserved for Triton usage and cannot be forwarded."
    refusal = {"error_message": text, "infer_response": {"id": "id"}}
    return {
        f"forwarding-{name}": Difference(
            _RESERVED, {"0.code": "INVALID_ARGUMENT", "0.details": text}, without=("0.response",)
        ),
        f"forwarding-{name}-stream": Difference(_RESERVED, {"0.responses": [refusal]}),
    }


def _mime_length(text: str) -> Difference:
    return Difference(_HEADER_LENGTH, {"0.json.error": f"Unable to parse inference header size, got: {text}"})


def _sagemaker_url(url: str) -> Difference:
    text = f"Invalid \"url\" '{url}': expected a path of the form /opt/ml/models/<hash>/model[/<subdir>]"
    return Difference("2.51 loads from any folder; later versions from SageMaker's only.", {"0.json.error": text})


def _report(parameters: str) -> str:
    """What the model `echo` reports of a request with these parameters (JSON)."""
    return (
        f'{{"correlation_id": 0, "flags": 0, "id": "", "parameters": {parameters}, "requested": ["REPORT"], '
        '"timeout": 0}'
    )


def _forwarded(reason: str, parameters: str) -> Difference:
    return Difference(reason, {"0.json.outputs.0.data.0": _report(parameters)})


DELIBERATE_DIFFERENCES: dict[str, Difference] = {
    **{case: Difference(*parts) for case, parts in (SCHEDULING | CACHING).items()},
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
    "broken-environment_no_archive": Difference(
        "Triton only names the function of its library that failed.",
        {
            "0.json.0.reason": "Internal: the Python environment <repository>/environment_no_archive/config.pbtxt is "
            "neither a folder nor an archive of tar",
            "1.response.models.0.reason": "Internal: the Python environment <repository>/environment_no_archive/"
            "config.pbtxt is neither a folder nor an archive of tar",
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
    "generate-duplicate-input": Difference(
        "Of members with one name the JSON library takes the last, so that there are no two to complain of (RFC 8259).",
        {
            "0.status": 200,
            "0.json": {
                "OTHER": 6,
                "REPORT": '{"correlation_id": 0, "flags": 0, "id": "", "parameters": {}, "requested": ["OTHER", '
                '"REPORT"], "timeout": 0}',
                "model_name": "echo",
                "model_version": "1",
            },
        },
    ),
    "stream-not-a-request": Difference(
        "Bytes that are no request end the stream with an error. Triton stops reading and says nothing.",
        {"0.code": "INTERNAL", "0.details": "Unable to parse request"},
    ),
    "lifecycle-hidden_folder": Difference(
        "Folders whose name begins with a dot are those of tools (checkpoints, trash), not models.", {"2.json": []}
    ),
    "lifecycle-labels_missing": Difference(
        "Clients are not shown paths of the server.",
        {
            "1.json.error": "load failed for model 'life_labels_missing': version 1 is at UNAVAILABLE state: Internal: "
            "failed to open text file for read life_labels_missing/l.txt: No such file or directory;\n"
        },
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
    "class-count-huge": Difference(
        "Counts do not wrap at 32 bits.",
        {
            "0.json.outputs.0": {
                "name": "FP32",
                "datatype": "BYTES",
                "shape": [3],
                "data": ["2.000000:1:one", "1.000000:2:two", "0.500000:0:zero"],
            }
        },
    ),
    "compressed-raw-deflate": Difference(_NOT_COMPRESSED, {"0.json.error": _DAMAGED}),
    "compressed-gzip-not-compressed": Difference(_NOT_COMPRESSED, {"0.json.error": _DAMAGED}),
    "compressed-gzip-bad-checksum": Difference(
        "2.51 does not look at the checksum; damaged data is refused here.",
        {"0.status": 400, "0.json": {"error": _DAMAGED}},
    ),
    "compressed-no-name": Difference(
        "An empty Content-Encoding names no encoding; Triton's HTTP library makes a space of it.",
        {"0.status": 200, "0.headers": {"content-type": "application/json"}, "0.json": _echo("OTHER", "INT32", 5)},
    ),
    "accept-spaces": Difference(_PADDING, {"0.headers.content-encoding": "gzip"}),
    "guarded-infer-value-padded": Difference(
        _PADDING,
        {
            "0.status": 200,
            "0.headers.content-type": "application/json",
            "0.json": _echo("REPORT", "BYTES", _report("{}")),
        },
    ),
    "forward-empty-value": _forwarded(_PADDING, '{"x-one": ""}'),
    "forward-spaces": _forwarded(_PADDING, '{"x-one": "a  b"}'),
    "forward-reserved-exactly": _reserved("sequence_id"),
    "forward-reserved-start": _reserved("sequence_start"),
    "forward-reserved-timeout": _reserved("timeout"),
    "forward-reserved-priority": _reserved("priority"),
    "forward-reserved-headers": _reserved("headers"),
    "forward-reserved-binary": _reserved("binary_data_output"),
    "forward-reserved-prefix": _reserved("triton_x"),
    **_reserved_metadata("sequence-id", "sequence_id"),
    **_reserved_metadata("sequence-start", "sequence_start"),
    **_reserved_metadata("timeout", "timeout"),
    **_reserved_metadata("priority", "priority"),
    **_reserved_metadata("headers", "headers"),
    **_reserved_metadata("reserved-word", "triton_x"),
    **_reserved_metadata("binary-data-output", "binary_data_output"),
    "locked-denied-infer-not-a-request": Difference(
        "Who may not infer is told so before the request is looked at.",
        {
            "0.code": "UNAVAILABLE",
            "0.details": "This protocol is restricted, expecting header 'triton-grpc-protocol-infer-key'",
        },
    ),
    "repository-files-without-folder": Difference(
        "2.51 does not list a model that is made of files of the request if the repository has no folder of its name.",
        {"2.json": [{"name": "made_without_folder", "version": "1", "state": "READY"}]},
    ),
    "repository-files-again": Difference(
        "2.51 does not see that a second load brings other files than the first, and goes on with the first ones.",
        {"3.json.outputs.0.data.0": 102},
    ),
    "sagemaker-invocations-binary-length-word": _mime_length("x"),
    "sagemaker-invocations-binary-length-empty": _mime_length(""),
    "vertex-predict-binary-length-word": _mime_length("x"),
    "vertex-predict-binary-length-empty": _mime_length(""),
    "sagemaker-models-list": Difference(_JSON_IS_JSON, {"0.headers.content-type": "application/json"}),
    "sagemaker-models-list-slash": Difference(_JSON_IS_JSON, {"0.headers.content-type": "application/json"}),
    "sagemaker-models-load-device": _sagemaker_url("/dev/shm"),
    "sagemaker-models-load-process": _sagemaker_url("/proc/self"),
    "sagemaker-models-load-system": _sagemaker_url("/opt/../sys/x"),
    "vertex-redirect-system-register": Difference(
        "2.51 lets a redirection register memory; later versions forbid all that changes something.",
        {"0": {"step": "POST /predict", "request": "d07767eb6376", "status": 403, "headers": {}}},
    ),
}

_BLS_CODE = "2.51 gives every error of a called model to the calling one as INTERNAL; later versions keep its code."
_BLS_STREAM_ERROR = (
    "2.51 loses the error that a decoupled model sends to a model that called it, which hears of the end."
)

DELIBERATE_DIFFERENCES.update(
    {
        f"bls-{kind}{name}": Difference(
            _BLS_CODE, {"0.json.outputs.0.data.0": f'[{{"code": {code}, "error": "told to fail"}}]'}
        )
        for kind in ("", "async-")
        for name, code in (
            ("error-unknown", 0),
            ("error-not-found", 2),
            ("error-invalid", 3),
            ("error-cancelled", 7),
            ("decoupled-ordinary-model-error", 3),
        )
    }
)
DELIBERATE_DIFFERENCES.update(
    {
        f"bls-{kind}decoupled-error-at-the-end": Difference(
            _BLS_STREAM_ERROR,
            {
                "0.json.outputs.0.data.0": '[{"OUT": [0]}, {"OUT": [1]}, {"code": 1, "error": "told to fail"}, {}]',
            },
        )
        for kind in ("", "async-")
    }
)

_FAILED_RUN = (
    "Of a run that fails as a whole a backend does not say how it has spent its time; all of it counts as inference."
)

DELIBERATE_DIFFERENCES.update(
    {
        f"statistics-{name}": Difference(
            _FAILED_RUN,
            {
                "5.json.model_stats.0.batch_stats.0.compute_input.ns": 0,
                "5.json.model_stats.0.batch_stats.0.compute_output.ns": 0,
                "6.response.model_stats.0.batch_stats.0.compute_input": {"count": 1},
                "6.response.model_stats.0.batch_stats.0.compute_output": {"count": 1},
            },
        )
        for name in ("raised", "raised-grpc")
    }
)

_RESPONSES = "2.51 has response statistics and its Python backend does not report any; here they are as documented."
_KINDS = ("compute_infer", "compute_output", "success", "fail", "empty_response", "cancel")


def _responses(*counts: int, over_grpc: bool) -> dict[str, Any]:
    """The response statistics of requests with so many responses each, and an empty one at the end."""
    shown = {}
    for index in range(max(counts) + 1):
        full = sum(count > index for count in counts)
        empty = sum(count == index for count in counts)
        numbers = dict.fromkeys(_KINDS[:3], full) | {"fail": 0, "empty_response": empty, "cancel": 0}
        zero: dict[str, Any] = {} if over_grpc else {"count": 0, "ns": 0}
        shown[str(index)] = {
            kind: {"count": number, "ns": "<time>"} if number else zero for kind, number in numbers.items()
        }
    return shown


DELIBERATE_DIFFERENCES.update(
    {
        f"statistics-decoupled-{'-'.join(map(str, counts))}": Difference(
            _RESPONSES,
            {
                "5.json.model_stats.0.response_stats": _responses(*counts, over_grpc=False),
                "6.response.model_stats.0.response_stats": _responses(*counts, over_grpc=True),
            },
        )
        for counts in ((0,), (1,), (3,), (2, 0, 1))
    }
)

_PRUNED = (
    "When outputs are not asked for, Triton leaves out the steps that only they need, and by a slip the ensemble's "
    "first step as well if such a step takes an input of the request: then nothing can be made. Here it is made."
)
_SEQUENCE = {"sequence_id": 0, "sequence_start": False, "sequence_end": False}

DELIBERATE_DIFFERENCES.update(
    {
        f"ensemble-{name}": Difference(
            _PRUNED,
            {
                "0.status": 200,
                "0.headers": {"content-type": "application/json"},
                "0.json": {
                    "model_name": model,
                    "model_version": "1",
                    "parameters": _SEQUENCE,
                    "outputs": [{"name": output, "datatype": "INT32", "shape": [1], "data": [value]}],
                },
            },
        )
        for name, model, output, value in (
            ("diamond-one-output", "diamond", "DIFF", -1),
            ("diamond-inner-output", "diamond", "X", 6),
            ("halves-pruned", "halves", "A", 2),
        )
    }
)
DELIBERATE_DIFFERENCES.update(
    {
        f"ensemble-{name}": Difference(
            "Later versions have max_inflight_requests and show it.",
            {"0.json.ensemble_scheduling.max_inflight_requests": 0},
        )
        for name in ("config", "config-decoupled", "config-batched")
    }
)
