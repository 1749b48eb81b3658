"""What models that are put together share: labels of a step's output, and tensors that several of them write to."""

from __future__ import annotations

import struct

from ..messages import grpc_infer, grpc_output, grpc_tensor, infer, infer_binary, output, post, tensor
from ..steps import AwaitState, Case, Http

_LABELED = ("labeled", "classy", "classy_own", "classy_deep", "classy_own_deep", "classy_mid", "classy_last")
_BOTH = ("labeled", "classy", "classy_own", "classy_own_deep")
_VALUES = [1, 5, 3]
_STARTED = ("again", "classy_own", "classy_own_deep", "inplace", "labeled", "bothin")


def _case(name: str, *steps: Http) -> Case:
    return Case(f"composed-{name}", steps, "composed")


def _infer(model: str, values: list[int], *outputs: object) -> Http:
    return infer(model, [tensor("IN", "INT32", [len(values)], values)], list(outputs) or None)


def _classes(model: str, count: int) -> Case:
    data = struct.pack("<3i", *_VALUES)
    request = grpc_infer(model, [grpc_tensor("IN", "INT32", [3])], [data], [grpc_output("OUT", classification=count)])
    return Case(f"composed-labels-{model}-{count}-grpc", (request,), "composed")


CASES = (
    *(
        _case(f"labels-{model}-{count}", _infer(model, _VALUES, output("OUT", classification=count)))
        for model in _LABELED
        for count in (1, 3)
    ),
    *(_classes(model, 2) for model in _LABELED),
    *(
        _case(f"labels-{model}-{name}", _infer(model, _VALUES, *(output(item, classification=2) for item in wanted)))
        for model in _BOTH
        for name, wanted in (("other", ("OTHER",)), ("both", ("OUT", "OTHER")))
    ),
    _case("labels-beside-a-tensor", _infer("classy", _VALUES, output("OUT", classification=2), output("OTHER"))),
    *(
        _case(f"in-place-{model}-{len(values)}", _infer(model, values), _infer(model, values))
        for model in ("inplace", "bothin", "again", "asksin")
        for values in ([5], [1, 2, 3])
    ),
    *(
        _case(
            f"in-place-{model}-binary",
            infer_binary(
                model,
                {
                    "inputs": [{**tensor("IN", "INT32", [2]), "parameters": {"binary_data_size": 8}}],
                    "outputs": [output("OUT", binary_data=True)],
                },
                struct.pack("<2i", 7, 8),
            ),
        )
        for model in ("bothin", "again", "asksin")
    ),
    Case(
        "composed-started-with-an-ensemble",
        (
            Http("POST", "/v2/repository/index", only=_STARTED),
            _infer("classy_own_deep", _VALUES, output("OUT", classification=2)),
            _infer("again", [5]),
            Http("GET", "/v2/models/inplace/ready"),
        ),
        "brought",
    ),
    Case(
        "composed-started-and-unloaded-with-dependents",
        (
            post("/v2/repository/models/again/unload", {"parameters": {"unload_dependents": True}}),
            AwaitState("inplace", "UNAVAILABLE"),
            Http("POST", "/v2/repository/index", only=_STARTED),
            Http("POST", "/v2/repository/models/again/load"),
            Http("POST", "/v2/repository/index", only=_STARTED),
            _infer("again", [5]),
        ),
        "brought",
    ),
)
