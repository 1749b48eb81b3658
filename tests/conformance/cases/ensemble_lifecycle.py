"""An ensemble that serves while the models of its steps are unloaded, loaded anew, changed, broken, or fail.

On the server `control`, in explicit mode, and on `poll`, which follows its repository; all with models of their own.
"""

from __future__ import annotations

from tritonclient.grpc import service_pb2 as pb

from ..messages import grpc_infer, grpc_tensor, infer, tensor
from ..repository import adding_model, index, load, ready, unload
from ..steps import AwaitAnswer, AwaitState, Case, Grpc, RemoveTree, Step, Together, WriteFile, WriteTree
from .ensemble_loading import CONFIG, RAISES, ensemble_config, ensemble_files, gone, model_files

_IN = [tensor("IN", "INT32", [1], [1])]
_HOLDS = """import time
from pathlib import Path

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.gate = Path(args["model_repository"]).parent.parent / "gate"

    def execute(self, requests):
        (self.gate / "held-").touch()
        while not (self.gate / "open").exists():
            time.sleep(0.005)
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


def _holds(name: str) -> tuple[Step, ...]:
    return (WriteFile(f"{name}/config.pbtxt", CONFIG), WriteFile(f"{name}/1/model.py", _HOLDS))


def _grpc(model: str) -> Grpc:
    return grpc_infer(model, [grpc_tensor("IN", "INT32", [1])], [b"\1\0\0\0"])


def _tree(name: str, source: str, config: str = CONFIG) -> WriteTree:
    return WriteTree(name, (("config.pbtxt", config), ("1/model.py", source)))


def _ensemble_tree(name: str, *models: str) -> WriteTree:
    return WriteTree(name, (("config.pbtxt", ensemble_config(*models)), ("1/notes.txt", "no files")))


def _answers(model: str, value: int) -> AwaitAnswer:
    return AwaitAnswer(infer(model, _IN), f"[{value}]")


def _refuses(model: str) -> AwaitAnswer:
    """The index has no model whose folder is gone, so its state says nothing."""
    return AwaitAnswer(infer(model, _IN), '"error"')


_UNLOADS = (
    _case(
        "one-of-two-steps-goes",
        model_files("elo_a", 1),
        model_files("elo_b", 10),
        ensemble_files("elo", "elo_a", "elo_b"),
        load("elo"),
        unload("elo_b"),
        AwaitState("elo_b", "UNAVAILABLE"),
        AwaitState("elo", "UNAVAILABLE"),
        index("elo", "elo_a", "elo_b"),
        infer("elo", _IN),
        _grpc("elo"),
        Grpc("ModelReady", pb.ModelReadyRequest(name="elo")),
        Grpc("ModelMetadata", pb.ModelMetadataRequest(name="elo")),
        infer("elo_a", _IN),
        gone("elo", "elo_a", "elo_b"),
    ),
    _case(
        "gone-ensemble-is-loaded",
        model_files("elg_step"),
        ensemble_files("elg", "elg_step"),
        load("elg"),
        unload("elg_step"),
        AwaitState("elg", "UNAVAILABLE"),
        load("elg"),
        index("elg", "elg_step"),
        infer("elg", _IN),
        gone("elg", "elg_step"),
    ),
    _case(
        "gone-ensemble-is-unloaded",
        model_files("elx_step"),
        ensemble_files("elx", "elx_step"),
        load("elx"),
        unload("elx_step"),
        AwaitState("elx", "UNAVAILABLE"),
        AwaitState("elx_step", "UNAVAILABLE"),
        unload("elx"),
        index("elx", "elx_step"),
        load("elx_step"),
        index("elx", "elx_step"),
        infer("elx", _IN),
        gone("elx", "elx_step"),
    ),
    _case(
        "step-goes-with-dependents",
        model_files("eld2_step"),
        ensemble_files("eld2", "eld2_step"),
        load("eld2"),
        unload("eld2_step", dependents=True),
        AwaitState("eld2_step", "UNAVAILABLE"),
        AwaitState("eld2", "UNAVAILABLE"),
        index("eld2", "eld2_step"),
        load("eld2_step"),
        index("eld2", "eld2_step"),
        gone("eld2", "eld2_step"),
    ),
    _case(
        "nested-step-goes-and-comes",
        model_files("elnc_step"),
        ensemble_files("elnc_inner", "elnc_step"),
        ensemble_files("elnc", "elnc_inner", "elnc_step"),
        load("elnc"),
        unload("elnc_step"),
        AwaitState("elnc_step", "UNAVAILABLE"),
        AwaitState("elnc_inner", "UNAVAILABLE"),
        AwaitState("elnc", "UNAVAILABLE"),
        index("elnc", "elnc_inner", "elnc_step"),
        infer("elnc", _IN),
        infer("elnc_inner", _IN),
        load("elnc_step"),
        index("elnc", "elnc_inner", "elnc_step"),
        infer("elnc", _IN),
        gone("elnc", "elnc_inner", "elnc_step"),
    ),
    _case(
        "inner-ensemble-goes",
        model_files("elin_step"),
        ensemble_files("elin_inner", "elin_step"),
        ensemble_files("elin", "elin_inner"),
        load("elin"),
        unload("elin_inner"),
        AwaitState("elin_inner", "UNAVAILABLE"),
        AwaitState("elin", "UNAVAILABLE"),
        index("elin", "elin_inner", "elin_step"),
        infer("elin", _IN),
        load("elin_inner"),
        index("elin", "elin_inner", "elin_step"),
        infer("elin", _IN),
        gone("elin", "elin_inner", "elin_step"),
    ),
    _case(
        "step-of-two-ensembles-goes-and-comes",
        model_files("elte_step"),
        ensemble_files("elte_a", "elte_step"),
        ensemble_files("elte_b", "elte_step", "elte_step"),
        load("elte_a"),
        load("elte_b"),
        unload("elte_step"),
        AwaitState("elte_a", "UNAVAILABLE"),
        AwaitState("elte_b", "UNAVAILABLE"),
        load("elte_step"),
        index("elte_a", "elte_b", "elte_step"),
        infer("elte_a", _IN),
        infer("elte_b", _IN),
        gone("elte_a", "elte_b", "elte_step"),
    ),
    _case(
        "removed-step-is-loaded",
        model_files("elrs_step"),
        ensemble_files("elrs", "elrs_step"),
        load("elrs"),
        RemoveTree("elrs_step"),
        infer("elrs", _IN),
        load("elrs_step"),
        infer("elrs", _IN),
        index("elrs", "elrs_step"),
        unload("elrs"),
        AwaitState("elrs", "UNAVAILABLE"),
        RemoveTree("elrs"),
        unload("elrs_step"),
    ),
)

_RELOADS = (
    _case(
        "reload-of-a-step-fails",
        model_files("elf2_step"),
        ensemble_files("elf2", "elf2_step"),
        load("elf2"),
        WriteFile("elf2_step/1/model.py", RAISES),
        load("elf2_step"),
        index("elf2", "elf2_step"),
        ready("elf2"),
        infer("elf2", _IN),
        load("elf2"),
        infer("elf2", _IN),
        WriteFile("elf2_step/1/model.py", adding_model(5, "IN", "OUT")),
        load("elf2_step"),
        infer("elf2", _IN),
        gone("elf2", "elf2_step"),
    ),
    _case(
        "configuration-of-a-step-breaks",
        model_files("elcb_step"),
        ensemble_files("elcb", "elcb_step"),
        load("elcb"),
        WriteFile("elcb_step/config.pbtxt", "no_such_field: 1\n"),
        load("elcb_step"),
        infer("elcb", _IN),
        load("elcb"),
        infer("elcb", _IN),
        ready("elcb"),
        gone("elcb", "elcb_step"),
    ),
    _case(
        "step-comes-back-otherwise",
        model_files("elbo_step"),
        ensemble_files("elbo", "elbo_step"),
        load("elbo"),
        unload("elbo_step"),
        AwaitState("elbo", "UNAVAILABLE"),
        WriteFile("elbo_step/config.pbtxt", CONFIG.replace("TYPE_INT32", "TYPE_INT64")),
        load("elbo_step"),
        index("elbo", "elbo_step"),
        infer("elbo", _IN),
        WriteFile("elbo_step/config.pbtxt", CONFIG),
        load("elbo_step"),
        index("elbo", "elbo_step"),
        infer("elbo", _IN),
        gone("elbo", "elbo_step"),
    ),
    _case(
        "step-comes-back-broken",
        model_files("elbb_step"),
        ensemble_files("elbb", "elbb_step"),
        load("elbb"),
        unload("elbb_step"),
        AwaitState("elbb", "UNAVAILABLE"),
        WriteFile("elbb_step/1/model.py", RAISES),
        load("elbb_step"),
        index("elbb", "elbb_step"),
        infer("elbb", _IN),
        WriteFile("elbb_step/1/model.py", adding_model(7, "IN", "OUT")),
        load("elbb_step"),
        index("elbb", "elbb_step"),
        infer("elbb", _IN),
        gone("elbb", "elbb_step"),
    ),
    _case(
        "configuration-of-the-ensemble-breaks",
        model_files("elce_step"),
        ensemble_files("elce", "elce_step"),
        load("elce"),
        WriteFile("elce/config.pbtxt", ensemble_config("elce_step", "elce_none")),
        load("elce"),
        AwaitState("elce", "UNAVAILABLE"),
        index("elce", "elce_step"),
        infer("elce", _IN),
        ready("elce"),
        WriteFile("elce/config.pbtxt", ensemble_config("elce_step", "elce_step")),
        load("elce"),
        infer("elce", _IN),
        gone("elce", "elce_step"),
    ),
    _case(
        "ensemble-takes-another-step",
        model_files("elas_a", 1),
        model_files("elas_b", 10),
        ensemble_files("elas", "elas_a"),
        load("elas"),
        WriteFile("elas/config.pbtxt", ensemble_config("elas_b")),
        load("elas"),
        index("elas", "elas_a", "elas_b"),
        infer("elas", _IN),
        unload("elas_a"),
        AwaitState("elas_a", "UNAVAILABLE"),
        infer("elas", _IN),
        gone("elas", "elas_b"),
        RemoveTree("elas_a"),
    ),
    _case(
        "step-fails",
        WriteFile("elsf_step/config.pbtxt", CONFIG),
        WriteFile("elsf_step/1/model.py", _FAILS),
        model_files("elsf_first", 1),
        ensemble_files("elsf", "elsf_first", "elsf_step"),
        load("elsf"),
        infer("elsf", _IN),
        _grpc("elsf"),
        ready("elsf"),
        infer("elsf_first", _IN),
        gone("elsf", "elsf_first", "elsf_step"),
    ),
)

_IN_FLIGHT = (
    _case(
        "step-goes-during-a-request",
        _holds("elsg_a"),
        model_files("elsg_b", 10),
        ensemble_files("elsg", "elsg_a", "elsg_b"),
        load("elsg"),
        Together((infer("elsg", _IN), unload("elsg_a"))),
        AwaitState("elsg", "UNAVAILABLE"),
        infer("elsg", _IN),
        gone("elsg", "elsg_a", "elsg_b"),
    ),
    _case(
        "later-step-goes-during-a-request",
        _holds("elsl_a"),
        model_files("elsl_b", 10),
        ensemble_files("elsl", "elsl_a", "elsl_b"),
        load("elsl"),
        Together((infer("elsl", _IN), unload("elsl_b"))),
        AwaitState("elsl", "UNAVAILABLE"),
        gone("elsl", "elsl_a", "elsl_b"),
    ),
    _case(
        "ensemble-goes-during-a-request",
        _holds("elsh_a"),
        model_files("elsh_b", 10),
        ensemble_files("elsh", "elsh_a", "elsh_b"),
        load("elsh"),
        Together((infer("elsh", _IN), unload("elsh"))),
        AwaitState("elsh", "UNAVAILABLE"),
        index("elsh", "elsh_a", "elsh_b"),
        gone("elsh", "elsh_a", "elsh_b"),
    ),
    _case(
        "all-go-during-a-request",
        _holds("elsi_a"),
        model_files("elsi_b", 10),
        ensemble_files("elsi", "elsi_a", "elsi_b"),
        load("elsi"),
        Together((infer("elsi", _IN), unload("elsi", dependents=True))),
        AwaitState("elsi", "UNAVAILABLE"),
        AwaitState("elsi_a", "UNAVAILABLE"),
        AwaitState("elsi_b", "UNAVAILABLE"),
        gone("elsi", "elsi_a", "elsi_b"),
    ),
    _case(
        "later-step-changes-during-a-request",
        _holds("elsj_a"),
        model_files("elsj_b", 10),
        ensemble_files("elsj", "elsj_a", "elsj_b"),
        load("elsj"),
        WriteFile("elsj_b/1/model.py", adding_model(20, "IN", "OUT")),
        Together((infer("elsj", _IN), load("elsj_b"))),
        infer("elsj", _IN),
        gone("elsj", "elsj_a", "elsj_b"),
    ),
)

_POLLED = (
    _case(
        "polled-step-goes-and-comes",
        _tree("epg_step", adding_model(1, "IN", "OUT")),
        _ensemble_tree("epg", "epg_step"),
        _answers("epg", 2),
        RemoveTree("epg_step"),
        _refuses("epg_step"),
        _refuses("epg"),
        index("epg", "epg_step"),
        infer("epg", _IN),
        _tree("epg_step", adding_model(3, "IN", "OUT")),
        _answers("epg", 4),
        RemoveTree("epg"),
        RemoveTree("epg_step"),
        _refuses("epg"),
        _refuses("epg_step"),
        server="poll",
    ),
    _case(
        "polled-step-changes",
        _tree("epc_step", adding_model(1, "IN", "OUT")),
        _ensemble_tree("epc", "epc_step", "epc_step"),
        _answers("epc", 3),
        WriteFile("epc_step/1/model.py", adding_model(10, "IN", "OUT")),
        _answers("epc", 21),
        index("epc", "epc_step"),
        RemoveTree("epc"),
        RemoveTree("epc_step"),
        _refuses("epc"),
        _refuses("epc_step"),
        server="poll",
    ),
)

CASES = (*_UNLOADS, *_RELOADS, *_IN_FLIGHT, *_POLLED)
