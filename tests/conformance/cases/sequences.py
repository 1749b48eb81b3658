"""Sequence batching: the flags and ids of requests, what the model sees of them, slots, backlog and time.

The model tells in REPORT what it was given, the controls among it, and with which requests it ran. Where something ends
after a time, either it is certain that the time has passed, or it is far longer than anything takes here.
"""

from __future__ import annotations

from tritonclient.grpc import service_pb2 as pb

from ..messages import Parameter, grpc_infer, grpc_tensor, infer, parameter, tensor
from ..steps import HELD, Case, Grpc, Http, Pause, Step, Together
from .scheduling import SERVER

_START = {"sequence_start": True}
_END = {"sequence_end": True}


def _step(
    model: str,
    sequence: int | str | None,
    flags: str = "",
    name: str = "",
    milliseconds: int = 0,
    rows: int = 1,
    batched: bool = True,
    timeout_us: int = 0,
) -> Http:
    """A step of a sequence; `flags` has an s if it is the first, an e if it is the last."""
    parameters: dict[str, object] = {} if sequence is None else {"sequence_id": sequence}
    if "s" in flags:
        parameters["sequence_start"] = True
    if "e" in flags:
        parameters["sequence_end"] = True
    if timeout_us:
        parameters["timeout"] = timeout_us
    shape = [rows, 1] if batched else [1]
    inputs = [tensor("INPUT0", "INT32", shape, [milliseconds] * rows)]
    members: dict[str, object] = {"id": name} if name else {}
    return infer(model, inputs, parameters=parameters, **members)


def _grpc(model: str, sequence: int | str, flags: str = "", name: str = "", milliseconds: int = 0) -> Grpc:
    parameters: dict[str, Parameter | pb.InferParameter] = {"sequence_id": parameter(sequence)}
    parameters |= {"sequence_start": True} if "s" in flags else {}
    parameters |= {"sequence_end": True} if "e" in flags else {}
    data = milliseconds.to_bytes(4, "little")
    return grpc_infer(model, [grpc_tensor("INPUT0", "INT32", [1, 1])], [data], parameters=parameters, id=name)


def _case(name: str, *steps: Step) -> Case:
    return Case(f"sequences-{name}", steps, server=SERVER)


def _whole(model: str, sequence: int | str, batched: bool = True) -> tuple[Http, ...]:
    """A sequence of three steps."""
    return tuple(_step(model, sequence, flags, batched=batched) for flags in ("s", "", "e"))


CASES = (
    *(
        _case(f"whole-{model}", *_whole(model, 11, batched=model not in ("seq_nobatch", "seq_int32")))
        for model in (
            "seq_direct",
            "seq_direct_fp32",
            "seq_direct_bool",
            "seq_inverted",
            "seq_nobatch",
            "seq_int32",
            "seq_bare",
            "seq_oldest",
            "seq_one",
        )
    ),
    _case("one-step", _step("seq_direct", 12, "se"), _step("seq_oldest", 12, "se")),
    _case("string-id", *_whole("seq_string", "a name")),
    _case("string-id-without-control", *_whole("seq_bare", "a name")),
    _case("string-id-for-integer-control", _step("seq_direct", "a name", "se"), _step("seq_oldest", "x", "se")),
    _case("integer-id-for-string-control", _step("seq_string", 13, "se")),
    _case("grpc", *(_grpc("seq_direct", 14, flags) for flags in ("s", "", "e"))),
    _case("grpc-string-id", *(_grpc("seq_bare", "of gRPC", flags) for flags in ("s", "", "e"))),
    _case("grpc-negative-id", _grpc("seq_direct", -1, "se"), _grpc("seq_direct_fp32", -1, "se")),
    _case("large-id", _step("seq_direct", 2**64 - 1, "se"), _step("seq_direct_bool", 2**32 + 5, "se")),
    _case("both-protocols", _step("seq_direct", 15, "s"), _grpc("seq_direct", 15), _step("seq_direct", 15, "e")),
    _case("two-ids-alike", _step("seq_bare", 1, "s"), _step("seq_bare", "1", ""), _step("seq_bare", 1, "e")),
    _case("no-id", _step("seq_direct", None, "s"), _step("seq_oldest", None)),
    _case("no-id-grpc", grpc_infer("seq_direct", [grpc_tensor("INPUT0", "INT32", [1, 1])], [bytes(4)])),
    _case("zero-id", _step("seq_direct", 0, "s"), _step("seq_direct", "", "s")),
    _case("no-id-with-request-id", _step("seq_direct", None, "s", "my id")),
    _case("not-started", _step("seq_direct", 16), _step("seq_direct", 16, "e"), _step("seq_oldest", 16)),
    _case("not-started-string", _step("seq_string", "unknown"), _grpc("seq_string", "unknown")),
    _case("not-started-with-request-id", _step("seq_direct", 16, "", "my id")),
    _case("ended-before", _step("seq_direct", 17, "se"), _step("seq_direct", 17)),
    _case("started-twice", _step("seq_direct", 18, "s"), _step("seq_direct", 18, "s"), _step("seq_direct", 18, "e")),
    _case("started-twice-oldest", *(_step("seq_oldest", 18, flags) for flags in ("s", "s", "e"))),
    _case("batch-of-two", _step("seq_direct", 19, "s", rows=2), _step("seq_oldest", 19, "s", rows=2)),
    _case("batch-too-large", _step("seq_direct", 19, "s", rows=9)),
    _case("not-sequence-model", _step("dyn", 20, "s"), _step("dyn", 20)),
    _case(
        "control-as-input", infer("seq_direct", [tensor("START", "INT32", [1, 1], [1])], parameters={"sequence_id": 3})
    ),
    _case("metadata", Http("GET", "/v2/models/seq_direct"), Http("GET", "/v2/models/seq_state")),
    _case(
        "direct-slots",
        _step("seq_direct", 21, "s"),
        _step("seq_direct", 22, "s"),
        _step("seq_direct", 23, "s"),
        _step("seq_direct", 23, name="third"),
        _step("seq_direct", 22, name="second"),
        _step("seq_direct", 21, "e"),
        _step("seq_direct", 23, "e"),
        _step("seq_direct", 24, "se", name="in the first slot"),
        _step("seq_direct", 22, "e"),
    ),
    _case(
        "direct-together",
        _step("seq_direct", 25, "s"),
        _step("seq_direct", 26, "s"),
        Together(
            (
                _step("seq_direct", 25, name="long", milliseconds=HELD),
                _step("seq_direct", 26, name="b"),
                _step("seq_direct", 25, name="c"),
                _step("seq_direct", 25, name="d"),
            )
        ),
        _step("seq_direct", 25, "e"),
        _step("seq_direct", 26, "e"),
    ),
    _case(
        "direct-backlog",
        *(_step("seq_direct", number, "s") for number in (31, 32, 33)),
        Together(
            (
                _step("seq_direct", 34, "s", name="waits"),
                _step("seq_direct", 34, "e", name="waits too"),
                _step("seq_direct", 31, "e", name="makes room"),
            )
        ),
        *(_step("seq_direct", number, "e") for number in (32, 33)),
    ),
    _case(
        "direct-two-lives-in-the-backlog",
        _step("seq_one", 35, "s"),
        Together(
            (
                _step("seq_one", 36, "s", "first life"),
                _step("seq_one", 36, "e", "first end"),
                _step("seq_one", 36, "s", "second life"),
                _step("seq_one", 36, "e", "second end"),
                _step("seq_one", 35, "e", "makes room"),
            )
        ),
    ),
    _case(
        "direct-delay-utilised",
        Together((_step("seq_delay", 41, "s", "a"), _step("seq_delay", 42, "s", "b"))),
        Together((_step("seq_delay", 43, "s", "c"), _step("seq_delay", 41, name="d"))),
        Together((_step("seq_delay", 41, name="e"), _step("seq_delay", 43, name="f"))),
        Together((_step("seq_delay", 41, "e", "g"), _step("seq_delay", 42, "e", "h"))),
        _step("seq_delay", 43, "e", "alone, so it waits"),
    ),
    _case(
        "oldest-together",
        _step("seq_oldest", 51, "s"),
        _step("seq_oldest", 52, "s"),
        Together(
            (
                _step("seq_oldest", 51, "e", name="long", milliseconds=HELD),
                _step("seq_oldest", 52, name="b"),
            )
        ),
        _step("seq_oldest", 53, "se"),
        _step("seq_oldest", 52, "e"),
    ),
    _case(
        "oldest-backlog",
        _step("seq_oldest_one", 54, "s"),
        Together(
            (
                _step("seq_oldest_one", 55, "s", name="waits"),
                _step("seq_oldest_one", 55, "e", name="waits too"),
                _step("seq_oldest_one", 54, "e", name="makes room"),
            )
        ),
    ),
    _case(
        "oldest-preferred",
        _step("seq_oldest_delay", 56, "s", "alone, so it waits"),
        Together((_step("seq_oldest_delay", 56, name="c"), _step("seq_oldest_delay", 57, "s", "d"))),
        Together((_step("seq_oldest_delay", 56, "e", "a"), _step("seq_oldest_delay", 57, "e", "b"))),
    ),
    _case(
        "idle",
        _step("seq_idle", 61, "s"),
        Pause(900),
        _step("seq_idle", 61),
        _step("seq_idle", 61, "se"),
    ),
    _case(
        "idle-not-yet",
        _step("seq_idle_later", 62, "s"),
        *(step for _ in range(3) for step in (Pause(800), _step("seq_idle_later", 62))),
        _step("seq_idle_later", 62, "e"),
    ),
    _case("idle-oldest", _step("seq_idle_oldest", 63, "s"), Pause(900), _step("seq_idle_oldest", 63, "e")),
    _case("idle-makes-room", _step("seq_idle_oldest", 64, "s"), _step("seq_idle_oldest", 65, "se")),
    _case("busy-is-idle", _step("seq_idle", 66, "s", milliseconds=900), _step("seq_idle", 66, "e")),
    _case(
        "busy-is-idle-oldest", _step("seq_idle_oldest", 67, "s", milliseconds=900), _step("seq_idle_oldest", 67, "e")
    ),
    _case(
        "backlog-expires",
        Together(
            (
                _step("seq_idle_oldest", 68, "s", "long", milliseconds=HELD),
                _step("seq_idle_oldest", 69, "s", "waits longer than a sequence may be idle"),
            ),
            hold_ms=900,
        ),
        Pause(600),
    ),
    _case(
        "backlog-timeout",
        Together(
            (
                _step("seq_one", 81, "s", "long", milliseconds=HELD),
                _step("seq_one", 82, "s", "waits too long", timeout_us=2_000_000),
                _step("seq_one", 82, "", "waits too long too"),
                _step("seq_one", 83, "se", "waits", timeout_us=60_000_000),
                _step("seq_one", 81, "e", "last"),
            ),
            before=(1, 2),
        ),
    ),
    _case(
        "backlog-timeout-of-ended",
        Together(
            (
                _step("seq_one", 84, "s", "long", milliseconds=HELD),
                _step("seq_one", 85, "se", "waits too long", timeout_us=100_000),
                _step("seq_one", 84, "e", "last"),
            ),
            before=(1,),
        ),
    ),
    _case(
        "timeout-in-slot",
        _step("seq_one", 86, "s"),
        Together(
            (
                _step("seq_one", 86, "", "long", milliseconds=HELD),
                _step("seq_one", 86, "e", "waits", timeout_us=100_000),
            ),
            hold_ms=300,
        ),
    ),
    _case("state", *_whole("seq_state", 71)),
    _case("state-of-file", *_whole("seq_state_file", 72, batched=False)),
    _case("state-strings", *_whole("seq_state_string", 74)),
)
