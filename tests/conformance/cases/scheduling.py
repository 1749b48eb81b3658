"""Dynamic batching: which requests run together, in which order, who is turned away and who waits too long.

Every request says in INPUT0 for how many milliseconds it keeps its model busy, and is told in REPORT with which others
it ran. A first request that is held lets the others gather. What is too short a time for some requests is passed for
certain, and what is long enough for others is far longer than anything takes.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..messages import Json, Parameter, grpc_infer, grpc_tensor, infer, tensor
from ..steps import HELD, NOTED, Case, Grpc, Http, Pause, Together

SERVER = "scheduling"
_TOO_LONG_MS = 500
"""For a request that waits, of whatever policy."""


def ask(model: str, name: str, *values: int, rows: int = 1, batched: bool = True, **parameters: object) -> Http:
    """A request whose first value is its time in milliseconds; each row has the values."""
    given = list(values or (0,))
    shape = [rows, len(given)] if batched else [len(given)]
    inputs = [tensor("INPUT0", "INT32", shape, given * rows)]
    return infer(model, inputs, id=name, **({"parameters": parameters} if parameters else {}))


def ask_grpc(model: str, name: str, milliseconds: int = 0, /, **parameters: Parameter) -> Grpc:
    data = milliseconds.to_bytes(4, "little")
    return grpc_infer(model, [grpc_tensor("INPUT0", "INT32", [1, 1])], [data], parameters=parameters, id=name)


def _case(name: str, *steps: Http | Grpc | Together | Pause) -> Case:
    return Case(f"scheduling-{name}", steps, server=SERVER)


def _gather(name: str, model: str, *requests: Http | Grpc, hold_ms: int = 0, batched: bool = True) -> Case:
    """A first request that is held until the others have come, and `hold_ms` longer."""
    return _case(name, Together((ask(model, "first", HELD, batched=batched), *requests), hold_ms))


def _expire(name: str, model: str, *requests: Http | Grpc) -> Case:
    """A first request that is held for longer than others may wait."""
    return _gather(f"timeout-{name}", model, *requests, hold_ms=_TOO_LONG_MS)


def _ones(model: str, names: str, **parameters: object) -> tuple[Http, ...]:
    return tuple(ask(model, name, **parameters) for name in names)  # type: ignore[arg-type]


def _with_optional(name: str, optional: bool) -> Http:
    inputs: list[Json] = [tensor("INPUT0", "INT32", [1, 1], [0])]
    if optional:
        inputs.append(tensor("INPUT1", "INT32", [1, 1], [7]))
    return infer("dyn_optional", inputs, id=name)


_TIMEOUTS: Mapping[str, tuple[str, dict[str, object]]] = {
    "default": ("dyn_timeout", {}),
    "shorter": ("dyn_timeout", {"timeout": 50_000}),
    "longer": ("dyn_timeout", {"timeout": 60_000_000}),
    "not-allowed": ("dyn_timeout_fixed", {"timeout": 50_000}),
    "fixed": ("dyn_timeout_fixed", {}),
    "without-default": ("dyn_timeout_none", {"timeout": 50_000}),
    "without-policy": ("dyn", {"timeout": 50_000}),
    "without-batching": ("none", {"timeout": 50_000}),
}

_SHOWN = ("dyn", "dyn_preferred", "dyn_priority", "dyn_ragged", "dyn_timeout", "seq_direct", "seq_oldest")

CASES = (
    _gather("gathered", "dyn", *_ones("dyn", "abc")),
    _gather("full", "dyn", *(ask("dyn", name, rows=3) for name in "abc")),
    _gather("full-exactly", "dyn", *(ask("dyn", name, rows=4) for name in "abc")),
    _gather("large-first", "dyn", ask("dyn", "a", rows=8), ask("dyn", "b")),
    _gather("grpc-and-http", "dyn", ask_grpc("dyn", "a"), ask("dyn", "b"), ask_grpc("dyn", "c")),
    _gather("without-batching", "none", *_ones("none", "abc")),
    _gather(
        "not-batching-model", "dyn_nobatch", *(ask("dyn_nobatch", name, batched=False) for name in "ab"), batched=False
    ),
    _gather("preferred", "dyn_preferred", *_ones("dyn_preferred", "abcdef")),
    _gather("preferred-passed", "dyn_preferred", *(ask("dyn_preferred", name, rows=3) for name in "ab")),
    _gather("preferred-small", "dyn_preferred", *_ones("dyn_preferred", "abc")),
    _case("alone", ask("dyn", "a"), ask("dyn", "b")),
    _case("delay-ends", Together(_ones("dyn_delay", "ab"))),
    _case("delay-preferred", Together(_ones("dyn_delay", "abcd"))),
    _case("delay-alone", ask("dyn_delay", "a")),
    _case("delay-large", Together((ask("dyn_delay", "a", rows=5), ask("dyn_delay", "b")))),
    _case("delay-full", Together(_ones("dyn_delay_full", "abcd"))),
    _case("delay-does-not-fit", Together((ask("dyn_delay_full", "a", rows=2), ask("dyn_delay_full", "b", rows=2)))),
    _gather(
        "shapes",
        "dyn_variable",
        ask("dyn_variable", "a", 0, 1),
        ask("dyn_variable", "b", 0, 2),
        ask("dyn_variable", "c", 0),
    ),
    _gather(
        "ragged", "dyn_ragged", ask("dyn_ragged", "a", 0, 1), ask("dyn_ragged", "b", 0, 2, 3), ask("dyn_ragged", "c", 0)
    ),
    _case(
        "optional-inputs",
        Together(
            (
                infer("dyn_optional", [tensor("INPUT0", "INT32", [1, 1], [HELD])], id="first"),
                _with_optional("a", False),
                _with_optional("b", False),
                _with_optional("c", True),
                _with_optional("d", True),
                _with_optional("e", False),
            )
        ),
    ),
    _case(
        "two-instances",
        Together((ask("dyn_two", "first", HELD), ask("dyn_two", "second", HELD), *_ones("dyn_two", "abc"))),
    ),
    _case(
        "preserve-ordering",
        Together(
            (ask("dyn_order", "slow", HELD), ask("dyn_order", "quick", NOTED), ask("dyn_order", "quick too", NOTED))
        ),
    ),
    _gather("queue-full", "dyn_queue", *_ones("dyn_queue", "abcdef")),
    _gather("queue-full-grpc", "dyn_queue", *(ask_grpc("dyn_queue", name) for name in "abcdef")),
    _gather(
        "queue-full-not-batching",
        "dyn_queue_alone",
        *(ask("dyn_queue_alone", name, batched=False) for name in "abcd"),
        batched=False,
    ),
    _gather(
        "queue-full-of-levels",
        "dyn_queue_strict",
        *(ask("dyn_queue_strict", name, priority=level) for name, level in (("a", 1), ("b", 1), ("c", 2), ("d", 2))),
    ),
    _gather("queue-full-without-id", "dyn_queue_strict", ask("dyn_queue_strict", "a"), ask("dyn_queue_strict", "")),
    *(_expire(name, model, ask(model, "a", **values)) for name, (model, values) in _TIMEOUTS.items()),  # type: ignore[arg-type]
    _expire("grpc", "dyn_timeout", ask_grpc("dyn_timeout", "a", timeout=50_000)),
    _gather("timeout-not-yet", "dyn_timeout_long", ask("dyn_timeout_long", "a", timeout=70_000_000)),
    _case("timeout-not-waiting", ask("dyn_timeout", "a", 500)),
    _expire(
        "delayed",
        "dyn_delayed",
        ask("dyn_delayed", "a", timeout=50_000),
        ask("dyn_delayed", "b"),
        ask("dyn_delayed", "c", timeout=50_000),
        ask("dyn_delayed", "d"),
    ),
    _gather(
        "priorities-order",
        "dyn_priority",
        ask("dyn_priority", "low", priority=3),
        ask("dyn_priority", "unset"),
        ask("dyn_priority", "beyond", priority=7),
        ask("dyn_priority", "high", priority=1),
    ),
    _gather(
        "priorities-queue-full",
        "dyn_priority",
        ask("dyn_priority", "a", priority=3),
        ask("dyn_priority", "b", priority=3),
        ask("dyn_priority", "c", priority=2),
    ),
    _gather(
        "priorities-batch",
        "dyn_priority_batch",
        *(ask("dyn_priority_batch", name, priority=level) for name, level in (("a", 2), ("b", 2), ("c", 1), ("d", 1))),
    ),
    _gather("priorities-without-levels", "dyn", ask("dyn", "a", priority=9), ask("dyn", "b", priority=1)),
    *(
        Case(f"scheduling-config-{name}", (Http("GET", f"/v2/models/{name}/config"),), server=SERVER)
        for name in (
            "dyn",
            "dyn_preferred",
            "dyn_priority",
            "dyn_ragged",
            "dyn_timeout",
            "seq_direct",
            "seq_oldest",
            "warm_zero",
        )
    ),
)
