"""An ensemble that serves while the models of its steps are unloaded, loaded anew, changed, broken, or fail.

On the server `control`, in explicit mode, and on `poll`, which follows its repository; all with models of their own.
"""

from __future__ import annotations

from tritonclient.grpc import service_pb2 as pb

from ..messages import grpc_infer, grpc_tensor, infer, tensor
from ..steps import AwaitAnswer, AwaitState, Case, Grpc, RemoveTree, Step, Together, WriteFile, WriteTree
from .ensemble_loading import (
    _CONFIG,
    _RAISES,
    _adds,
    _ensemble,
    _ensemble_config,
    _gone,
    _index,
    _load,
    _model,
    _unload,
)
from .ensemble_loading import _ready as _is_ready

_IN = [tensor("IN", "INT32", [1], [1])]
_SLOW = """import time
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        time.sleep(1.5)
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("OUT", request.inputs()[0].as_numpy() + 1000)])
            for request in requests
        ]
"""
_FAILS = """import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        error = pb_utils.TritonError("not this one", pb_utils.TritonError.NOT_FOUND)
        return [pb_utils.InferenceResponse([], error=error) for _ in requests]
"""


def _case(name: str, *steps: tuple[Step, ...] | Step, server: str = "control") -> Case:
    flat: list[Step] = []
    for step in steps:
        flat.extend(step if isinstance(step, tuple) else (step,))
    return Case(f"ensemble-life-{name}", tuple(flat), server)


def _slow(name: str) -> tuple[Step, ...]:
    return (WriteFile(f"{name}/config.pbtxt", _CONFIG), WriteFile(f"{name}/1/model.py", _SLOW))


def _grpc(model: str) -> Grpc:
    return grpc_infer(model, [grpc_tensor("IN", "INT32", [1])], [b"\1\0\0\0"])


def _tree(name: str, source: str, config: str = _CONFIG) -> WriteTree:
    return WriteTree(name, (("config.pbtxt", config), ("1/model.py", source)))


def _ensemble_tree(name: str, *models: str) -> WriteTree:
    return WriteTree(name, (("config.pbtxt", _ensemble_config(*models)), ("1/notes.txt", "no files")))


def _answers(model: str, value: int) -> AwaitAnswer:
    return AwaitAnswer(infer(model, _IN), f"[{value}]")


_UNLOADS = (
    _case(
        "one-of-two-steps-goes",
        _model("elo_a", 1),
        _model("elo_b", 10),
        _ensemble("elo", "elo_a", "elo_b"),
        _load("elo"),
        _unload("elo_b"),
        AwaitState("elo_b", "UNAVAILABLE"),
        AwaitState("elo", "UNAVAILABLE"),
        _index("elo", "elo_a", "elo_b"),
        infer("elo", _IN),
        _grpc("elo"),
        Grpc("ModelReady", pb.ModelReadyRequest(name="elo")),
        Grpc("ModelMetadata", pb.ModelMetadataRequest(name="elo")),
        infer("elo_a", _IN),
        _gone("elo", "elo_a", "elo_b"),
    ),
    _case(
        "gone-ensemble-is-loaded",
        _model("elg_step"),
        _ensemble("elg", "elg_step"),
        _load("elg"),
        _unload("elg_step"),
        AwaitState("elg", "UNAVAILABLE"),
        _load("elg"),
        _index("elg", "elg_step"),
        infer("elg", _IN),
        _gone("elg", "elg_step"),
    ),
    _case(
        "gone-ensemble-is-unloaded",
        _model("elx_step"),
        _ensemble("elx", "elx_step"),
        _load("elx"),
        _unload("elx_step"),
        AwaitState("elx", "UNAVAILABLE"),
        AwaitState("elx_step", "UNAVAILABLE"),
        _unload("elx"),
        _index("elx", "elx_step"),
        _load("elx_step"),
        _index("elx", "elx_step"),
        infer("elx", _IN),
        _gone("elx", "elx_step"),
    ),
    _case(
        "step-goes-with-dependents",
        _model("eld2_step"),
        _ensemble("eld2", "eld2_step"),
        _load("eld2"),
        _unload("eld2_step", dependents=True),
        AwaitState("eld2_step", "UNAVAILABLE"),
        AwaitState("eld2", "UNAVAILABLE"),
        _index("eld2", "eld2_step"),
        _load("eld2_step"),
        _index("eld2", "eld2_step"),
        _gone("eld2", "eld2_step"),
    ),
    _case(
        "nested-step-goes-and-comes",
        _model("elnc_step"),
        _ensemble("elnc_inner", "elnc_step"),
        _ensemble("elnc", "elnc_inner", "elnc_step"),
        _load("elnc"),
        _unload("elnc_step"),
        AwaitState("elnc_step", "UNAVAILABLE"),
        AwaitState("elnc_inner", "UNAVAILABLE"),
        AwaitState("elnc", "UNAVAILABLE"),
        _index("elnc", "elnc_inner", "elnc_step"),
        infer("elnc", _IN),
        infer("elnc_inner", _IN),
        _load("elnc_step"),
        _index("elnc", "elnc_inner", "elnc_step"),
        infer("elnc", _IN),
        _gone("elnc", "elnc_inner", "elnc_step"),
    ),
    _case(
        "inner-ensemble-goes",
        _model("elin_step"),
        _ensemble("elin_inner", "elin_step"),
        _ensemble("elin", "elin_inner"),
        _load("elin"),
        _unload("elin_inner"),
        AwaitState("elin_inner", "UNAVAILABLE"),
        AwaitState("elin", "UNAVAILABLE"),
        _index("elin", "elin_inner", "elin_step"),
        infer("elin", _IN),
        _load("elin_inner"),
        _index("elin", "elin_inner", "elin_step"),
        infer("elin", _IN),
        _gone("elin", "elin_inner", "elin_step"),
    ),
    _case(
        "step-of-two-ensembles-goes-and-comes",
        _model("elte_step"),
        _ensemble("elte_a", "elte_step"),
        _ensemble("elte_b", "elte_step", "elte_step"),
        _load("elte_a"),
        _load("elte_b"),
        _unload("elte_step"),
        AwaitState("elte_a", "UNAVAILABLE"),
        AwaitState("elte_b", "UNAVAILABLE"),
        _load("elte_step"),
        _index("elte_a", "elte_b", "elte_step"),
        infer("elte_a", _IN),
        infer("elte_b", _IN),
        _gone("elte_a", "elte_b", "elte_step"),
    ),
    _case(
        "removed-step-is-loaded",
        _model("elrs_step"),
        _ensemble("elrs", "elrs_step"),
        _load("elrs"),
        RemoveTree("elrs_step"),
        infer("elrs", _IN),
        _load("elrs_step"),
        infer("elrs", _IN),
        _index("elrs", "elrs_step"),
        _unload("elrs"),
        AwaitState("elrs", "UNAVAILABLE"),
        RemoveTree("elrs"),
        _unload("elrs_step"),
    ),
)

_RELOADS = (
    _case(
        "reload-of-a-step-fails",
        _model("elf2_step"),
        _ensemble("elf2", "elf2_step"),
        _load("elf2"),
        WriteFile("elf2_step/1/model.py", _RAISES),
        _load("elf2_step"),
        _index("elf2", "elf2_step"),
        _is_ready("elf2"),
        infer("elf2", _IN),
        _load("elf2"),
        infer("elf2", _IN),
        WriteFile("elf2_step/1/model.py", _adds(5)),
        _load("elf2_step"),
        infer("elf2", _IN),
        _gone("elf2", "elf2_step"),
    ),
    _case(
        "configuration-of-a-step-breaks",
        _model("elcb_step"),
        _ensemble("elcb", "elcb_step"),
        _load("elcb"),
        WriteFile("elcb_step/config.pbtxt", "no_such_field: 1\n"),
        _load("elcb_step"),
        infer("elcb", _IN),
        _load("elcb"),
        infer("elcb", _IN),
        _is_ready("elcb"),
        _gone("elcb", "elcb_step"),
    ),
    _case(
        "step-comes-back-otherwise",
        _model("elbo_step"),
        _ensemble("elbo", "elbo_step"),
        _load("elbo"),
        _unload("elbo_step"),
        AwaitState("elbo", "UNAVAILABLE"),
        WriteFile("elbo_step/config.pbtxt", _CONFIG.replace("TYPE_INT32", "TYPE_INT64")),
        _load("elbo_step"),
        _index("elbo", "elbo_step"),
        infer("elbo", _IN),
        WriteFile("elbo_step/config.pbtxt", _CONFIG),
        _load("elbo_step"),
        _index("elbo", "elbo_step"),
        infer("elbo", _IN),
        _gone("elbo", "elbo_step"),
    ),
    _case(
        "step-comes-back-broken",
        _model("elbb_step"),
        _ensemble("elbb", "elbb_step"),
        _load("elbb"),
        _unload("elbb_step"),
        AwaitState("elbb", "UNAVAILABLE"),
        WriteFile("elbb_step/1/model.py", _RAISES),
        _load("elbb_step"),
        _index("elbb", "elbb_step"),
        infer("elbb", _IN),
        WriteFile("elbb_step/1/model.py", _adds(7)),
        _load("elbb_step"),
        _index("elbb", "elbb_step"),
        infer("elbb", _IN),
        _gone("elbb", "elbb_step"),
    ),
    _case(
        "configuration-of-the-ensemble-breaks",
        _model("elce_step"),
        _ensemble("elce", "elce_step"),
        _load("elce"),
        WriteFile("elce/config.pbtxt", _ensemble_config("elce_step", "elce_none")),
        _load("elce"),
        AwaitState("elce", "UNAVAILABLE"),
        _index("elce", "elce_step"),
        infer("elce", _IN),
        _is_ready("elce"),
        WriteFile("elce/config.pbtxt", _ensemble_config("elce_step", "elce_step")),
        _load("elce"),
        infer("elce", _IN),
        _gone("elce", "elce_step"),
    ),
    _case(
        "ensemble-takes-another-step",
        _model("elas_a", 1),
        _model("elas_b", 10),
        _ensemble("elas", "elas_a"),
        _load("elas"),
        WriteFile("elas/config.pbtxt", _ensemble_config("elas_b")),
        _load("elas"),
        _index("elas", "elas_a", "elas_b"),
        infer("elas", _IN),
        _unload("elas_a"),
        AwaitState("elas_a", "UNAVAILABLE"),
        infer("elas", _IN),
        _gone("elas", "elas_b"),
        RemoveTree("elas_a"),
    ),
    _case(
        "step-fails",
        WriteFile("elsf_step/config.pbtxt", _CONFIG),
        WriteFile("elsf_step/1/model.py", _FAILS),
        _model("elsf_first", 1),
        _ensemble("elsf", "elsf_first", "elsf_step"),
        _load("elsf"),
        infer("elsf", _IN),
        _grpc("elsf"),
        _is_ready("elsf"),
        infer("elsf_first", _IN),
        _gone("elsf", "elsf_first", "elsf_step"),
    ),
)

_IN_FLIGHT = (
    _case(
        "step-goes-during-a-request",
        _slow("elsg_a"),
        _model("elsg_b", 10),
        _ensemble("elsg", "elsg_a", "elsg_b"),
        _load("elsg"),
        Together((infer("elsg", _IN), _unload("elsg_a")), 300),
        AwaitState("elsg", "UNAVAILABLE"),
        infer("elsg", _IN),
        _gone("elsg", "elsg_a", "elsg_b"),
    ),
    _case(
        "later-step-goes-during-a-request",
        _slow("elsl_a"),
        _model("elsl_b", 10),
        _ensemble("elsl", "elsl_a", "elsl_b"),
        _load("elsl"),
        Together((infer("elsl", _IN), _unload("elsl_b")), 300),
        AwaitState("elsl", "UNAVAILABLE"),
        _gone("elsl", "elsl_a", "elsl_b"),
    ),
    _case(
        "ensemble-goes-during-a-request",
        _slow("elsh_a"),
        _model("elsh_b", 10),
        _ensemble("elsh", "elsh_a", "elsh_b"),
        _load("elsh"),
        Together((infer("elsh", _IN), _unload("elsh")), 300),
        AwaitState("elsh", "UNAVAILABLE"),
        _index("elsh", "elsh_a", "elsh_b"),
        _gone("elsh", "elsh_a", "elsh_b"),
    ),
    _case(
        "all-go-during-a-request",
        _slow("elsi_a"),
        _model("elsi_b", 10),
        _ensemble("elsi", "elsi_a", "elsi_b"),
        _load("elsi"),
        Together((infer("elsi", _IN), _unload("elsi", dependents=True)), 300),
        AwaitState("elsi", "UNAVAILABLE"),
        AwaitState("elsi_a", "UNAVAILABLE"),
        AwaitState("elsi_b", "UNAVAILABLE"),
        _gone("elsi", "elsi_a", "elsi_b"),
    ),
    _case(
        "later-step-changes-during-a-request",
        _slow("elsj_a"),
        _model("elsj_b", 10),
        _ensemble("elsj", "elsj_a", "elsj_b"),
        _load("elsj"),
        WriteFile("elsj_b/1/model.py", _adds(20)),
        Together((infer("elsj", _IN), _load("elsj_b")), 300),
        infer("elsj", _IN),
        _gone("elsj", "elsj_a", "elsj_b"),
    ),
)

_POLLED = (
    _case(
        "polled-step-goes-and-comes",
        _tree("epg_step", _adds(1)),
        _ensemble_tree("epg", "epg_step"),
        _answers("epg", 2),
        RemoveTree("epg_step"),
        AwaitState("epg_step", "UNAVAILABLE"),
        AwaitState("epg", "UNAVAILABLE"),
        _index("epg", "epg_step"),
        infer("epg", _IN),
        _tree("epg_step", _adds(3)),
        _answers("epg", 4),
        RemoveTree("epg"),
        RemoveTree("epg_step"),
        AwaitState("epg", "UNAVAILABLE"),
        AwaitState("epg_step", "UNAVAILABLE"),
        server="poll",
    ),
    _case(
        "polled-step-changes",
        _tree("epc_step", _adds(1)),
        _ensemble_tree("epc", "epc_step", "epc_step"),
        _answers("epc", 3),
        WriteFile("epc_step/1/model.py", _adds(10)),
        _answers("epc", 21),
        _index("epc", "epc_step"),
        RemoveTree("epc"),
        RemoveTree("epc_step"),
        AwaitState("epc", "UNAVAILABLE"),
        AwaitState("epc_step", "UNAVAILABLE"),
        server="poll",
    ),
)

CASES = (*_UNLOADS, *_RELOADS, *_IN_FLIGHT, *_POLLED)
