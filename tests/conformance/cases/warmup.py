"""Warm-up: what a model has seen before its first client, and which samples keep it from being loaded."""

from __future__ import annotations

from ..messages import infer, tensor
from ..steps import Case, Http

_SERVES = ("warm_zero", "warm_batch", "warm_count", "warm_skipped", "warm_file", "warm_two_instances", "warm_sequence")
_FAILS = (
    "warm_fails",
    "warm_short",
    "warm_file_missing",
    "warm_no_data",
    "warm_unknown_input",
    "warm_wrong_type",
    "warm_wrong_shape",
    "warm_variable",
    "seq_state_short",
    "seq_state_missing",
)


def _load(model: str) -> Http:
    return Http("POST", f"/v2/repository/models/{model}/load", b"{}")


def _unload(model: str) -> Http:
    return Http("POST", f"/v2/repository/models/{model}/unload", b"{}")


def _serves(model: str, shape: list[int]) -> Case:
    request = infer(
        model, [tensor("INPUT0", "INT32", shape, [1])], parameters={"sequence_id": 1, "sequence_start": True}
    )
    return Case(f"warmup-{model}", (_load(model), request, _unload(model)), server="warmup")


CASES = (
    *(_serves(model, [1, 1]) for model in _SERVES),
    _serves("warm_nobatch", [1]),
    *(
        Case(
            f"warmup-{model}",
            (
                _load(model),
                Http("POST", "/v2/repository/index", only=(model,)),
                Http("GET", f"/v2/models/{model}/ready"),
                _unload(model),
            ),
            server="warmup",
        )
        for model in _FAILS
    ),
)
