"""Where the response cache differs from that of the recorded Triton 2.51 on purpose; see `differences`."""

from __future__ import annotations

from typing import Any

_LISTED = "Of a cached answer, 2.51 sends all outputs that it has, and not those that the client listed."
_SOME = (
    "2.51 answers with the outputs that an earlier client listed, whatever this one wants. Here an entry is found if "
    "it has what is wanted."
)
_SHAPE = "2.51 looks at the bytes of inputs only: another shape or datatype finds the same answer, and here does not."
_ERROR = "2.51 keeps an error as an answer without outputs and tells the next client that all went well."
_RELOAD = "2.51 answers for a model that was loaded anew with what the one before it said."


def _tensor(name: str, *data: int, shape: tuple[int, ...] = ()) -> dict[str, Any]:
    return {"name": name, "datatype": "INT32", "shape": list(shape) or [1, len(data)], "data": list(data)}


def _failed(text: str) -> dict[str, Any]:
    return {"4.status": 500, "4.json": {"error": text}}


CACHING: dict[str, tuple[str, dict[str, Any]]] = {
    "cache-outputs-of-all": (_LISTED, {"4.json.outputs": [_tensor("A", 16, 17)]}),
    "cache-outputs-grpc": (
        _LISTED,
        {
            "4.response.outputs": [{"name": "B", "datatype": "INT32", "shape": [1, 2]}],
            "4.response.raw_output_contents": ["0100000001000000"],
        },
    ),
    "cache-classes": (
        _LISTED,
        {"4.json.outputs": [{"name": "A", "datatype": "BYTES", "shape": [1, 1], "data": ["25:1"]}]},
    ),
    "cache-outputs-of-some": (
        _SOME,
        {"4.json.outputs": [_tensor("B", 2, 2)], "5.json.outputs": [_tensor("A", 22, 23), _tensor("B", 3, 3)]},
    ),
    "cache-shape": (
        _SHAPE,
        {"4.json.outputs": [_tensor("A", 32, 33, 34, 35, shape=(2, 2)), _tensor("B", 2, 2, 2, 2, shape=(2, 2))]},
    ),
    "cache-raised": (
        _ERROR,
        _failed("Failed to process the request(s) for model 'cached_0_0', message: ValueError: told to raise"),
    ),
    "cache-error": (_ERROR, _failed("told to fail")),
    "cache-reload": (_RELOAD, {"8.json.outputs": [_tensor("A", 72, 73), _tensor("B", 2, 2)]}),
}
