"""No request is lost, answered twice, or served twice or after its time, whatever happens in whatever order.

That is: requests, cancellations, frames on their way, time, runs that end, deaths of workers, when the frontend hears
of them, new workers, and reloads. TENSORHUB_INTERLEAVINGS is how many are tried of each kind of model.
"""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .small_server import FLAGS, SmallServer

_EXAMPLES = int(os.environ.get("TENSORHUB_INTERLEAVINGS", "60"))

_HEAD = """
name: "m" backend: "python" max_batch_size: 4
input [ { name: "x" data_type: TYPE_UINT8 dims: [ -1 ] } ] output [ { name: "y" data_type: TYPE_UINT8 dims: [ 1 ] } ]
instance_group [ { count: 2 kind: KIND_CPU } ]
"""
_MODELS = {
    "default": "",
    "dynamic": """dynamic_batching {
        preferred_batch_size: [ 2, 4 ] max_queue_delay_microseconds: 30 priority_levels: 2 default_priority_level: 1
        default_queue_policy {
            timeout_action: REJECT default_timeout_microseconds: 100 allow_timeout_override: true max_queue_size: 3 }
    }""",
    "delayed": """dynamic_batching {
        default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 50 allow_timeout_override: true }
    }""",
    "direct": "sequence_batching { max_sequence_idle_microseconds: 2000 }",
    "oldest": """sequence_batching {
        max_sequence_idle_microseconds: 2000
        oldest { max_candidate_sequences: 2 preferred_batch_size: [ 2 ] max_queue_delay_microseconds: 20 }
    }""",
}
_names = st.sampled_from(["cpu0", "cpu1"])
_asked = st.fixed_dictionaries(
    {
        "rows": st.integers(1, 4),
        "length": st.integers(1, 2),
        "priority": st.integers(0, 3),
        "timeout": st.sampled_from([0, 0, 20, 200]),
        "deadline_us": st.sampled_from([0, 0, 0, 40, 150]),
    }
)
_step = st.fixed_dictionaries(
    {
        "sequence_id": st.integers(1, 6),
        "flags": st.sampled_from([FLAGS[text] for text in ("s", "s", "s", "", "", "e", "se")]),
        "timeout": st.sampled_from([0, 0, 60]),
        "deadline_us": st.sampled_from([0, 0, 0, 40, 150]),
    }
)
_NOTHING = st.just(None)


def _events(asked: st.SearchStrategy[dict[str, int]]) -> st.SearchStrategy[list[tuple[str, object]]]:
    usual = st.one_of(
        st.tuples(st.just("infer"), asked),
        st.tuples(st.just("infer"), asked),
        st.tuples(st.just("arrive"), _names),
        st.tuples(st.just("arrive"), _names),
        st.tuples(st.just("deliver"), _NOTHING),
        st.tuples(st.just("pass_time"), st.sampled_from([1, 10, 60, 1000])),
        st.tuples(st.just("finish"), st.tuples(_names, st.integers(0, 3))),
        st.tuples(st.just("cancel"), st.integers(0, 30)),
    )
    rare = st.one_of(
        st.tuples(st.just("kill"), _names),
        st.tuples(st.just("bury"), _NOTHING),
        st.tuples(st.just("start"), _names),
        st.tuples(st.just("publish"), _NOTHING),
        st.tuples(st.just("reload"), _NOTHING),
    )
    return st.lists(st.one_of(usual, usual, usual, rare), max_size=80)


def _do(server: SmallServer, event: str, argument: object) -> None:
    if event == "infer":
        assert isinstance(argument, dict)
        server.infer(f"r{len(server.calls)}", **argument)
    elif event == "cancel":
        assert isinstance(argument, int)
        if server.calls:
            server.cancel(list(server.calls.values())[argument % len(server.calls)])
    elif event == "finish":
        assert isinstance(argument, tuple)
        server.finish(*argument)
    elif argument is None:
        getattr(server, event)()
    else:
        getattr(server, event)(argument)


@pytest.mark.parametrize("model", _MODELS)
def test_whatever_happens(model: str) -> None:
    asked = _step if "sequence" in _MODELS[model] else _asked

    @settings(max_examples=_EXAMPLES, deadline=None)
    @given(_events(asked))
    def run(events: list[tuple[str, object]]) -> None:
        server = SmallServer(_HEAD + _MODELS[model])
        try:
            for event, argument in events:
                _do(server, event, argument)
                server.check()
            server.settle(by_us=500)
            server.check_all_answered()
        finally:
            server.close()

    run()


def test_a_death_is_an_answer() -> None:
    server = SmallServer(_HEAD)
    try:
        for number in range(4):
            server.infer(f"r{number}")
        server.arrive("cpu0")
        server.kill("cpu0")
        server.finish("cpu1", 0)
        server.bury()
        server.settle(by_us=1)
        server.check_all_answered()
        assert [error.code.name for error in server.errors()] == ["UNAVAILABLE"] * 2
    finally:
        server.close()
