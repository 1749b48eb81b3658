"""System shared memory: registration, status, inference in and out; CUDA registration on a server without GPUs.

Cases create real objects in /dev/shm, under keys unique to the run, and register regions under names of their own.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping

from tritonclient.grpc import service_pb2 as pb

from ..messages import (
    Json,
    Parameter,
    compact,
    grpc_infer,
    grpc_output,
    grpc_tensor,
    infer,
    output,
    post,
    strings,
    tensor,
)
from ..steps import RUN_TOKEN, Case, Grpc, Http, ReleaseRegion, ShmCreate, ShmRead, Step

_KEY = f"/conformance_{RUN_TOKEN}"
_OTHER_KEY = f"{_KEY}_other"
_PAGE = 4096
_A = struct.pack("<4f", 1, 2, 3, 4)
_B = struct.pack("<4f", 10, 20, 30, 40)
_HANDLE = base64.b64encode(bytes(64)).decode()


def _register(region: str, key: object = _KEY, byte_size: object = 64, **more: object) -> Http:
    return post(f"/v2/systemsharedmemory/region/{region}/register", {"key": key, **more, "byte_size": byte_size})


def _unregister(region: str) -> Http:
    return Http("POST", f"/v2/systemsharedmemory/region/{region}/unregister")


def _status(region: str) -> Http:
    return Http("GET", f"/v2/systemsharedmemory/region/{region}/status")


def _grpc_register(region: str, key: str = _KEY, byte_size: int = 64, offset: int = 0) -> Grpc:
    return Grpc(
        "SystemSharedMemoryRegister",
        pb.SystemSharedMemoryRegisterRequest(name=region, key=key, offset=offset, byte_size=byte_size),
    )


def _grpc_unregister(region: str) -> Grpc:
    return Grpc("SystemSharedMemoryUnregister", pb.SystemSharedMemoryUnregisterRequest(name=region))


def _grpc_status(region: str) -> Grpc:
    return Grpc("SystemSharedMemoryStatus", pb.SystemSharedMemoryStatusRequest(name=region))


def _in(name: str, region: object, byte_size: object = 16, offset: object = None, **more: object) -> Json:
    place: dict[str, object] = {"shared_memory_region": region, "shared_memory_byte_size": byte_size}
    if offset is not None:
        place["shared_memory_offset"] = offset
    return tensor(name, "FP32", [1, 4], **place, **more)


def _out(name: str, region: object, byte_size: object = 16, offset: object = 0, **more: object) -> Json:
    return output(
        name, shared_memory_region=region, shared_memory_byte_size=byte_size, shared_memory_offset=offset, **more
    )


def _registration(name: str, body: object, region: str = "reg") -> Case:
    """One registration that should fail, and what the status says then."""
    data = body if isinstance(body, bytes) else compact(body)
    request = Http("POST", f"/v2/systemsharedmemory/region/{region}/register", data)
    return Case(f"shm-register-{name}", (ShmCreate(_KEY, bytes(_PAGE)), request, _status(region), _unregister(region)))


def _use(name: str, *steps: Step, data: bytes = _A + _B + bytes(64)) -> Case:
    """Steps between the registration of 96 bytes as region `data` and its end."""
    return Case(f"shm-{name}", (ShmCreate(_KEY, data), _register("data", byte_size=96), *steps, ReleaseRegion("data")))


def _grpc_in(
    parameters: Mapping[str, Parameter | pb.InferParameter], contents: Mapping[str, list[float]] | None = None
) -> Grpc:
    return grpc_infer("identity_batch", [grpc_tensor("INPUT0", "FP32", [1, 2, 2], contents, **parameters)])


_JSON_A = tensor("INPUT0", "FP32", [1, 4], [1, 2, 3, 4])
_JSON_B = tensor("INPUT1", "FP32", [1, 4], [10, 20, 30, 40])
_PLACE: dict[str, Parameter | pb.InferParameter] = {"shared_memory_region": "data", "shared_memory_byte_size": 16}

_REGISTER = (
    _registration("empty-body", b""),
    _registration("malformed", b"{"),
    _registration("not-object", []),
    _registration("empty-object", {}),
    _registration("no-key", {"byte_size": 64}),
    _registration("no-byte-size", {"key": _KEY}),
    _registration("key-number", {"key": 1, "byte_size": 64}),
    _registration("key-empty", {"key": "", "byte_size": 64}),
    _registration("key-slash", {"key": "/", "byte_size": 64}),
    _registration("key-unknown", {"key": f"/{RUN_TOKEN}_nothing", "byte_size": 64}),
    _registration("byte-size-string", {"key": _KEY, "byte_size": "64"}),
    _registration("byte-size-negative", {"key": _KEY, "byte_size": -1}),
    _registration("byte-size-float", {"key": _KEY, "byte_size": 64.0}),
    _registration("byte-size-zero", {"key": _KEY, "byte_size": 0}),
    _registration("byte-size-whole", {"key": _KEY, "byte_size": _PAGE}),
    _registration("byte-size-one-too-many", {"key": _KEY, "byte_size": _PAGE + 1}),
    _registration("byte-size-huge", {"key": _KEY, "byte_size": 2**64 - 1}),
    _registration("byte-size-beyond-64-bits", {"key": _KEY, "byte_size": 2**64}),
    _registration("offset-string", {"key": _KEY, "offset": "0", "byte_size": 64}),
    _registration("offset-negative", {"key": _KEY, "offset": -1, "byte_size": 64}),
    _registration("offset-not-page", {"key": _KEY, "offset": 16, "byte_size": 64}),
    _registration("offset-at-end", {"key": _KEY, "offset": _PAGE, "byte_size": 1}),
    _registration("offset-wraps", {"key": _KEY, "offset": 2**64 - 4096, "byte_size": 8192}),
    _registration("extra-member", {"key": _KEY, "byte_size": 64, "more": 1}),
    _registration("name-with-spaces", {"key": _KEY, "byte_size": 64}, "a%20b"),
    _registration("key-without-slash", {"key": _KEY[1:], "byte_size": 64}),
)

_LIFE = (
    Case(
        "shm-status-none",
        (Http("GET", "/v2/systemsharedmemory/status"), _status("nothing"), _grpc_status(""), _grpc_status("nothing")),
    ),
    Case("shm-unregister-unknown", (_unregister("nothing"), _grpc_unregister("nothing"))),
    Case("shm-unregister-ignores-body", (Http("POST", "/v2/systemsharedmemory/region/nothing/unregister", b"{"),)),
    Case(
        "shm-life",
        (
            ShmCreate(_KEY, bytes(64)),
            ShmCreate(_OTHER_KEY, bytes(3 * _PAGE)),
            _register("one"),
            _register("two", key=_OTHER_KEY, offset=_PAGE, byte_size=2 * _PAGE),
            _status("one"),
            _status("two"),
            Http("GET", "/v2/systemsharedmemory/status"),
            _grpc_status(""),
            _grpc_status("two"),
            _unregister("one"),
            _status("one"),
            Http("GET", "/v2/systemsharedmemory/status"),
            Http("POST", "/v2/systemsharedmemory/unregister"),
            Http("GET", "/v2/systemsharedmemory/status"),
        ),
    ),
    Case(
        "shm-life-grpc",
        (
            ShmCreate(_KEY, bytes(64)),
            ShmCreate(_OTHER_KEY, bytes(2 * _PAGE)),
            _grpc_register("one"),
            _grpc_register("two", key=_OTHER_KEY, offset=_PAGE),
            _grpc_status("one"),
            Http("GET", "/v2/systemsharedmemory/status"),
            _grpc_unregister("one"),
            _grpc_status("one"),
            _grpc_unregister(""),
            _grpc_status(""),
        ),
    ),
    Case(
        "shm-register-twice",
        (
            ShmCreate(_KEY, bytes(64)),
            _register("twice"),
            _register("twice"),
            _grpc_register("twice"),
            _unregister("twice"),
            _register("twice"),
            _unregister("twice"),
        ),
    ),
    Case(
        "shm-register-again-after-failure",
        (ShmCreate(_KEY, bytes(64)), _register("again", byte_size=65), _register("again"), _unregister("again")),
    ),
    Case(
        "shm-register-errors-grpc",
        (
            ShmCreate(_KEY, bytes(64)),
            _grpc_register("reg", byte_size=65),
            _grpc_register("reg", key=f"/{RUN_TOKEN}_nothing"),
            _grpc_register("reg", key=""),
            _grpc_register("reg", byte_size=0),
            _grpc_register("reg", offset=16, byte_size=16),
            _grpc_register("", byte_size=16),
            _grpc_status(""),
            _grpc_unregister(""),
        ),
    ),
)

_USE = (
    _use("input", infer("add_sub", [_in("INPUT0", "data"), _in("INPUT1", "data", offset=16)])),
    _use("input-and-json", infer("add_sub", [_in("INPUT0", "data"), _JSON_B])),
    _use("output", infer("add_sub", [_JSON_A, _JSON_B], [_out("OUTPUT0", "data", offset=32)]), ShmRead(_KEY, 32, 32)),
    _use(
        "output-and-json",
        infer("add_sub", [_JSON_A, _JSON_B], [_out("OUTPUT0", "data", offset=32), output("OUTPUT1")]),
        ShmRead(_KEY, 32, 32),
    ),
    _use(
        "output-and-binary",
        infer("add_sub", [_JSON_A, _JSON_B], [_out("OUTPUT0", "data", offset=32), output("OUTPUT1", binary_data=True)]),
        ShmRead(_KEY, 32, 32),
    ),
    _use(
        "input-and-output",
        infer(
            "add_sub",
            [_in("INPUT0", "data"), _in("INPUT1", "data", offset=16)],
            [_out("OUTPUT0", "data", offset=32), _out("OUTPUT1", "data", offset=48)],
        ),
        ShmRead(_KEY, 0, 96),
    ),
    _use(
        "output-over-input",
        infer(
            "add_sub", [_in("INPUT0", "data"), _JSON_B], [_out("OUTPUT0", "data"), _out("OUTPUT1", "data", offset=16)]
        ),
        ShmRead(_KEY, 0, 48),
    ),
    _use(
        "output-bigger-place",
        infer("add_sub", [_JSON_A, _JSON_B], [_out("OUTPUT0", "data", 64, 32)]),
        ShmRead(_KEY, 32, 64),
    ),
    _use(
        "output-too-small",
        infer("add_sub", [_JSON_A, _JSON_B], [_out("OUTPUT0", "data", 15, 32)]),
        ShmRead(_KEY, 32, 16),
    ),
    _use(
        "output-unaligned",
        infer("add_sub", [_JSON_A, _JSON_B], [_out("OUTPUT0", "data", 16, 33)]),
        ShmRead(_KEY, 32, 20),
    ),
    _use(
        "input-unaligned", infer("add_sub", [_in("INPUT0", "data", offset=3), _JSON_B]), data=bytes(3) + _A + bytes(77)
    ),
    _use("output-binary-data-too", infer("add_sub", [_JSON_A, _JSON_B], [_out("OUTPUT0", "data", binary_data=True)])),
    _use(
        "output-binary-data-false",
        infer("add_sub", [_JSON_A, _JSON_B], [_out("OUTPUT0", "data", binary_data=False)]),
        ShmRead(_KEY, 0, 16),
    ),
    _use(
        "output-classification-too", infer("add_sub", [_JSON_A, _JSON_B], [_out("OUTPUT0", "data", classification=1)])
    ),
    _use(
        "output-binary-default",
        infer("add_sub", [_JSON_A, _JSON_B], [_out("OUTPUT0", "data")], parameters={"binary_data_output": True}),
        ShmRead(_KEY, 0, 16),
    ),
    _use("unknown-region", infer("add_sub", [_in("INPUT0", "nothing"), _JSON_B])),
    _use("unknown-region-with-id", infer("add_sub", [_in("INPUT0", "nothing"), _JSON_B], id="abc")),
    _use("unknown-output-region", infer("add_sub", [_JSON_A, _JSON_B], [_out("OUTPUT0", "nothing")])),
    _use("offset-at-end", infer("add_sub", [_in("INPUT0", "data", offset=96), _JSON_B])),
    _use("offset-beyond-end", infer("add_sub", [_in("INPUT0", "data", offset=4096), _JSON_B])),
    _use("size-beyond-end", infer("add_sub", [_in("INPUT0", "data", offset=81), _JSON_B])),
    _use("size-to-end", infer("add_sub", [_in("INPUT0", "data", offset=80), _JSON_B])),
    _use("size-overflow", infer("add_sub", [_in("INPUT0", "data", 2**64 - 1, 16), _JSON_B])),
    _use("output-size-beyond-end", infer("add_sub", [_JSON_A, _JSON_B], [_out("OUTPUT0", "data", 16, 96)])),
    _use("size-too-small", infer("add_sub", [_in("INPUT0", "data", 12), _JSON_B])),
    _use("size-too-big", infer("add_sub", [_in("INPUT0", "data", 20), _JSON_B])),
    _use("size-zero", infer("add_sub", [_in("INPUT0", "data", 0), _JSON_B])),
    _use("size-absent", infer("add_sub", [tensor("INPUT0", "FP32", [1, 4], shared_memory_region="data"), _JSON_B])),
    _use("region-absent", infer("add_sub", [tensor("INPUT0", "FP32", [1, 4], shared_memory_byte_size=16), _JSON_B])),
    _use("region-number", infer("add_sub", [_in("INPUT0", 1), _JSON_B])),
    _use("size-string", infer("add_sub", [_in("INPUT0", "data", "16"), _JSON_B])),
    _use("size-negative", infer("add_sub", [_in("INPUT0", "data", -16), _JSON_B])),
    _use("offset-string", infer("add_sub", [_in("INPUT0", "data", offset="0"), _JSON_B])),
    _use("offset-negative", infer("add_sub", [_in("INPUT0", "data", offset=-1), _JSON_B])),
    _use("data-too", infer("add_sub", [{**_in("INPUT0", "data"), "data": [1, 2, 3, 4]}, _JSON_B])),
    _use("binary-size-too", infer("add_sub", [_in("INPUT0", "data", binary_data_size=16), _JSON_B])),
    _use("output-region-number", infer("add_sub", [_JSON_A, _JSON_B], [_out("OUTPUT0", 1)])),
    _use("output-size-string", infer("add_sub", [_JSON_A, _JSON_B], [_out("OUTPUT0", "data", "16")])),
    _use("output-size-absent", infer("add_sub", [_JSON_A, _JSON_B], [output("OUTPUT0", shared_memory_region="data")])),
    _use(
        "strings",
        infer(
            "identity_bytes",
            [tensor("INPUT0", "BYTES", [2], shared_memory_region="data", shared_memory_byte_size=11)],
            [output("OUTPUT0", shared_memory_region="data", shared_memory_byte_size=16, shared_memory_offset=16)],
        ),
        ShmRead(_KEY, 0, 32),
        data=strings(b"ab", b"c") + bytes(85),
    ),
    _use(
        "strings-output-too-small",
        infer(
            "identity_bytes",
            [tensor("INPUT0", "BYTES", [1], ["abc"])],
            [output("OUTPUT0", shared_memory_region="data", shared_memory_byte_size=6)],
        ),
    ),
    _use(
        "strings-too-few",
        infer(
            "identity_bytes", [tensor("INPUT0", "BYTES", [3], shared_memory_region="data", shared_memory_byte_size=11)]
        ),
        data=strings(b"ab", b"c") + bytes(85),
    ),
    _use(
        "empty-output",
        infer(
            "identity_fp32",
            [tensor("INPUT0", "FP32", [0], [])],
            [output("OUTPUT0", shared_memory_region="data", shared_memory_byte_size=16)],
        ),
        ShmRead(_KEY, 0, 16),
    ),
    _use(
        "error-of-model-leaves-output",
        infer("errors", [tensor("KIND", "BYTES", [1], ["value_error"])], [_out("OUTPUT0", "data")]),
        ShmRead(_KEY, 0, 16),
    ),
    Case(
        "shm-region-with-offset",
        (
            ShmCreate(_KEY, bytes(_PAGE) + _A + _B + bytes(64)),
            _register("shifted", offset=_PAGE, byte_size=96),
            infer(
                "add_sub",
                [_in("INPUT0", "shifted"), _in("INPUT1", "shifted", offset=16)],
                [_out("OUTPUT0", "shifted", offset=32)],
            ),
            ShmRead(_KEY, _PAGE + 32, 16),
            _unregister("shifted"),
        ),
    ),
)

_GRPC_USE = (
    _use("input-grpc", _grpc_in(_PLACE)),
    _use("input-offset-grpc", _grpc_in({**_PLACE, "shared_memory_offset": 16})),
    _use(
        "input-and-raw-grpc",
        grpc_infer(
            "add_sub", [grpc_tensor("INPUT0", "FP32", [1, 4], **_PLACE), grpc_tensor("INPUT1", "FP32", [1, 4])], [_B]
        ),
    ),
    _use(
        "raw-and-input-grpc",
        grpc_infer(
            "add_sub", [grpc_tensor("INPUT0", "FP32", [1, 4]), grpc_tensor("INPUT1", "FP32", [1, 4], **_PLACE)], [_B]
        ),
    ),
    _use(
        "output-grpc",
        grpc_infer(
            "add_sub",
            [grpc_tensor("INPUT0", "FP32", [1, 4], **_PLACE), grpc_tensor("INPUT1", "FP32", [1, 4], **_PLACE)],
            outputs=[grpc_output("OUTPUT0", **_PLACE, shared_memory_offset=32), grpc_output("OUTPUT1")],
        ),
        ShmRead(_KEY, 32, 32),
    ),
    _use(
        "output-too-small-grpc",
        grpc_infer(
            "add_sub",
            [grpc_tensor(f"INPUT{i}", "FP32", [1, 4]) for i in (0, 1)],
            [_A, _B],
            [grpc_output("OUTPUT0", **{**_PLACE, "shared_memory_byte_size": 15})],
        ),
    ),
    _use(
        "output-classification-grpc",
        grpc_infer(
            "add_sub",
            [grpc_tensor(f"INPUT{i}", "FP32", [1, 4]) for i in (0, 1)],
            [_A, _B],
            [grpc_output("OUTPUT0", **_PLACE, classification=1)],
        ),
    ),
    _use(
        "output-unknown-region-grpc",
        grpc_infer(
            "add_sub",
            [grpc_tensor(f"INPUT{i}", "FP32", [1, 4]) for i in (0, 1)],
            [_A, _B],
            [grpc_output("OUTPUT0", **{**_PLACE, "shared_memory_region": "nothing"})],
        ),
    ),
    _use("unknown-region-grpc", _grpc_in({**_PLACE, "shared_memory_region": "nothing"})),
    _use("offset-at-end-grpc", _grpc_in({**_PLACE, "shared_memory_offset": 96})),
    _use("size-beyond-end-grpc", _grpc_in({**_PLACE, "shared_memory_offset": 81})),
    _use("size-negative-grpc", _grpc_in({**_PLACE, "shared_memory_byte_size": -1})),
    _use("offset-negative-grpc", _grpc_in({**_PLACE, "shared_memory_offset": -1})),
    _use("size-too-small-grpc", _grpc_in({**_PLACE, "shared_memory_byte_size": 12})),
    _use("size-zero-grpc", _grpc_in({**_PLACE, "shared_memory_byte_size": 0})),
    _use("size-absent-grpc", _grpc_in({"shared_memory_region": "data"})),
    _use("region-absent-grpc", _grpc_in({"shared_memory_byte_size": 16})),
    _use("offset-alone-grpc", _grpc_in({"shared_memory_offset": 0})),
    _use("region-int-grpc", _grpc_in({**_PLACE, "shared_memory_region": 1})),
    _use("size-string-grpc", _grpc_in({**_PLACE, "shared_memory_byte_size": "16"})),
    _use("offset-string-grpc", _grpc_in({**_PLACE, "shared_memory_offset": "0"})),
    _use("size-unsigned-grpc", _grpc_in({**_PLACE, "shared_memory_byte_size": pb.InferParameter(uint64_param=16)})),
    _use("contents-too-grpc", _grpc_in(_PLACE, {"fp32_contents": [1, 2, 3, 4]})),
)

_CUDA_PATH = "/v2/cudasharedmemory/region/c/register"
_CUDA: dict[str, object] = {
    "register": {"raw_handle": {"b64": _HANDLE}, "device_id": 0, "byte_size": 64},
    "empty-object": {},
    "no-handle": {"device_id": 0, "byte_size": 64},
    "no-device": {"raw_handle": {"b64": _HANDLE}, "byte_size": 64},
    "no-byte-size": {"raw_handle": {"b64": _HANDLE}, "device_id": 0},
    "handle-string": {"raw_handle": _HANDLE, "device_id": 0, "byte_size": 64},
    "handle-without-b64": {"raw_handle": {}, "device_id": 0, "byte_size": 64},
    "handle-too-short": {"raw_handle": {"b64": "AAAA"}, "device_id": 0, "byte_size": 64},
}

_CUDA_CASES = (
    *(Case(f"cuda-{name}", (post(_CUDA_PATH, body),)) for name, body in _CUDA.items()),
    Case("cuda-malformed", (Http("POST", _CUDA_PATH, b"{"),)),
    Case(
        "cuda-status", (Http("GET", "/v2/cudasharedmemory/status"), Http("GET", "/v2/cudasharedmemory/region/c/status"))
    ),
    Case(
        "cuda-unregister",
        (Http("POST", "/v2/cudasharedmemory/region/c/unregister"), Http("POST", "/v2/cudasharedmemory/unregister")),
    ),
    Case(
        "cuda-grpc",
        (
            Grpc(
                "CudaSharedMemoryRegister",
                pb.CudaSharedMemoryRegisterRequest(name="c", raw_handle=bytes(64), byte_size=64),
            ),
            Grpc(
                "CudaSharedMemoryRegister", pb.CudaSharedMemoryRegisterRequest(name="c", raw_handle=b"x", byte_size=64)
            ),
            Grpc("CudaSharedMemoryStatus", pb.CudaSharedMemoryStatusRequest()),
            Grpc("CudaSharedMemoryStatus", pb.CudaSharedMemoryStatusRequest(name="c")),
            Grpc("CudaSharedMemoryUnregister", pb.CudaSharedMemoryUnregisterRequest(name="c")),
            Grpc("CudaSharedMemoryUnregister", pb.CudaSharedMemoryUnregisterRequest()),
        ),
    ),
    Case(
        "cuda-status-of-system-region",
        (
            ShmCreate(_KEY, bytes(64)),
            _register("kind"),
            Http("GET", "/v2/cudasharedmemory/region/kind/status"),
            Http("POST", "/v2/cudasharedmemory/region/kind/unregister"),
            Http("GET", "/v2/cudasharedmemory/status"),
            _status("kind"),
            _unregister("kind"),
        ),
    ),
)

CASES = (*_REGISTER, *_LIFE, *_USE, *_GRPC_USE, *_CUDA_CASES)
