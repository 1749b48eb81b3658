"""The response cache: what is found again, what is not, what is refused, and what is counted.

Output B is how many requests the model has seen, so that it tells a cached answer. Triton keeps entries when a model is
loaded anew, so each case has inputs of its own.
"""

from __future__ import annotations

import struct

from tritonclient.grpc import service_pb2 as pb

from ..messages import grpc_infer, grpc_output, grpc_tensor, infer, infer_binary, output, post, tensor
from ..steps import RUN_TOKEN, AwaitCounted, AwaitState, Case, Grpc, Http, ReleaseRegion, ShmCreate, ShmRead, Step

_MODEL = "cached"


def _fresh(*models: str) -> tuple[Step, ...]:
    """Load the last one, and with it the others, from nothing."""
    steps: list[Step] = []
    for model in reversed(models):
        steps += [Http("POST", f"/v2/repository/models/{model}/unload"), AwaitState(model, "UNAVAILABLE")]
    return (*steps, Http("POST", f"/v2/repository/models/{models[-1]}/load"))


def _stats(model: str, count: int) -> tuple[Step, ...]:
    return (AwaitCounted(model, count), Http("GET", f"/v2/models/{model}/stats"))


def _ask(*values: int, model: str = _MODEL, name: str = "I", **members: object) -> Http:
    return infer(model, [tensor(name, "INT32", [1, len(values)], list(values))], **members)


def _listed(values: list[int], *names: str) -> Http:
    return infer(_MODEL, [tensor("I", "INT32", [1, len(values)], values)], [output(name) for name in names])


def _raw(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}i", *values)


def _grpc(*values: int, outputs: tuple[pb.ModelInferRequest.InferRequestedOutputTensor, ...] = ()) -> Grpc:
    return grpc_infer(_MODEL, [grpc_tensor("I", "INT32", [1, len(values)])], [_raw(*values)], outputs)


def _binary(*values: int) -> Http:
    entry = tensor("I", "INT32", [1, len(values)], binary_data_size=4 * len(values))
    return infer_binary(_MODEL, {"inputs": [entry]}, _raw(*values))


def _case(name: str, *steps: Step, model: str = _MODEL, counted: bool = True) -> Case:
    asked = sum(isinstance(step, Grpc) or (isinstance(step, Http) and step.path.endswith("/infer")) for step in steps)
    return Case(f"cache-{name}", (*_fresh(model), *steps, *(_stats(model, asked) if counted else ())), "cached")


def _region(name: str, *steps: Step, data: bytes) -> tuple[Step, ...]:
    region = f"cache-{name}"
    key = f"/{RUN_TOKEN}-{region}"
    register = post(
        f"/v2/systemsharedmemory/region/{region}/register", {"key": key, "offset": 0, "byte_size": len(data)}
    )
    return (ShmCreate(key, data), register, *steps, ShmRead(key, 0, len(data)), ReleaseRegion(region))


def _place(name: str, byte_size: int, offset: int = 0) -> dict[str, object]:
    return {
        "shared_memory_region": f"cache-{name}",
        "shared_memory_byte_size": byte_size,
        "shared_memory_offset": offset,
    }


def _to_region(name: str, values: list[int]) -> Http:
    inputs = [tensor("I", "INT32", [1, len(values)], values)]
    return infer(_MODEL, inputs, [output("A", **_place(name, 8)), output("B", **_place(name, 8, 8))])


def _from_region(name: str) -> Http:
    return infer(_MODEL, [tensor("I", "INT32", [1, 2], **_place(name, 8))])


def _refused(model: str) -> Case:
    load = Http("POST", f"/v2/repository/models/{model}/load", b"{}")
    return Case(f"cache-{model}", (load, Http("POST", "/v2/repository/index", only=(model,))), "cached")


def _two(first: str, second: str) -> Http:
    values = {"I": [61, 62], "J": [63, 64]}
    return infer(_MODEL, [tensor(name, "INT32", [1, 2], values[name]) for name in (first, second)])


_LARGE = [7] * 3_000

CASES = (
    _case("repeated", _ask(1, 2), _ask(1, 2), _ask(1, 2)),
    _case("repeated-grpc", _grpc(3, 4), _grpc(3, 4)),
    _case("repeated-batched", _ask(1, 2, model="batched"), _ask(1, 2, model="batched"), model="batched"),
    _case("both-protocols", _ask(5, 6), _grpc(5, 6), _binary(5, 6)),
    _case("other-inputs", _ask(7, 8), _ask(7, 9), _ask(7, 8), _ask(7, 9)),
    _case("id", _ask(11, 12, id="first"), _ask(11, 12, id="second"), _ask(11, 12)),
    _case("parameters", _ask(13, 14, parameters={"a": 1}), _ask(13, 14, parameters={"priority": 1, "timeout": 9})),
    _case("outputs-of-all", _ask(15, 16), _listed([15, 16], "A"), _listed([15, 16], "B", "A")),
    _case("outputs-the-same", _listed([17, 18], "B"), _listed([17, 18], "B")),
    _case("outputs-grpc", _grpc(19, 20), _grpc(19, 20, outputs=(grpc_output("B"),))),
    _case("outputs-of-some", _listed([21, 22], "A"), _listed([21, 22], "B"), _ask(21, 22), counted=False),
    _case(
        "classes",
        _ask(23, 24),
        infer(_MODEL, [tensor("I", "INT32", [1, 2], [23, 24])], [output("A", classification=1)]),
    ),
    _case("two-inputs", _two("I", "J"), _two("J", "I"), _ask(61, 62)),
    _case(
        "shape",
        _ask(31, 32, 33, 34),
        infer(_MODEL, [tensor("I", "INT32", [2, 2], [[31, 32], [33, 34]])]),
        counted=False,
    ),
    _case("raised", _ask(-2), _ask(-2), counted=False),
    _case("error", _ask(-1), _ask(-1), counted=False),
    _case(
        "wrong-is-not-looked-up",
        _ask(35),
        _ask(35, name="X"),
        AwaitCounted(_MODEL, 1),
        *_stats(_MODEL, 1),
        counted=False,
    ),
    _case("not-enabled", _ask(1, 2, model="uncached"), _ask(1, 2, model="uncached"), model="uncached"),
    _case("large", _ask(*_LARGE), _ask(*_LARGE), counted=False),
    _case(
        "eviction",
        *(_ask(*[number] * 800, model=_MODEL) for number in (41, 42, 43, 43, 41)),
        *_stats(_MODEL, 5),
        counted=False,
    ),
    _case(
        "to-a-region",
        *_region("out", _to_region("out", [51, 52]), _to_region("out", [51, 52]), _ask(51, 52), data=bytes(16)),
    ),
    _case("from-a-region", *_region("in", _from_region("in"), _ask(53, 54), _from_region("in"), data=_raw(53, 54))),
    _case("reload", _ask(71, 72), *_fresh(_MODEL), _ask(72, 71), _ask(71, 72), counted=False),
    _case("config", Http("GET", f"/v2/models/{_MODEL}/config"), counted=False),
    Case(
        "cache-graph",
        (
            *_fresh("uncached", "cached_graph"),
            *(_ask(81, 82, model="cached_graph") for _ in range(2)),
            *_stats("cached_graph", 2),
            *_stats("uncached", 1),
        ),
        "cached",
    ),
    Case(
        "cache-step",
        (
            *_fresh("cached", "graph_of_cached"),
            *(_ask(83, 84, model="graph_of_cached") for _ in range(2)),
            *_stats("graph_of_cached", 2),
            *_stats("cached", 2),
        ),
        "cached",
    ),
    _refused("cached_stream"),
    _refused("cached_sequence"),
)
