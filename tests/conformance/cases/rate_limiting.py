"""The rate limiter: models that share a resource do not run at the same time, and resources that cannot be had.

A model tells in REPORT which others ran when it began.
"""

from __future__ import annotations

from ..messages import infer, tensor
from ..steps import HELD, Case, Http, Step, Together

_MODELS = ("meets", "meets_too", "meets_not", "free", "global_one", "global_two")


def _ask(model: str, milliseconds: int = 0) -> Http:
    return infer(model, [tensor("INPUT0", "INT32", [1], [milliseconds])])


def _gather(name: str, rows: int = 1) -> Http:
    return infer("gathers", [tensor("INPUT0", "INT32", [rows, 1], [0] * rows)], id=name)


def _case(name: str, *steps: Step) -> Case:
    return Case(f"rate-limit-{name}", steps, server="limited")


def _fails(model: str) -> Case:
    load = Http("POST", f"/v2/repository/models/{model}/load", b"{}")
    unload = Http("POST", f"/v2/repository/models/{model}/unload", b"{}")
    return _case(model, load, Http("POST", "/v2/repository/index", only=(model,)), unload)


CASES = (
    _case("shared", Together((_ask("meets", HELD), _ask("meets_too", 100), _ask("meets")))),
    _case("not-shared", Together((_ask("meets", HELD), _ask("meets_not"), _ask("free")))),
    _case("global", Together((_ask("global_one", HELD), _ask("global_two")))),
    _case("batch-grows", Together((_ask("meets", HELD), *(_gather(name) for name in "abc")))),
    _case("batch-grows-full", Together((_ask("meets", HELD), *(_gather(name, 2) for name in "abc")))),
    _case("alone", *(_ask(model) for model in _MODELS)),
    _case("config", Http("GET", "/v2/models/meets_too/config"), Http("GET", "/v2/models/global_two/config")),
    *(_fails(model) for model in ("greedy", "unlisted", "both_kinds", "both_kinds_alone")),
)
