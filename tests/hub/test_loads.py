"""The states of a load: the table, and that nothing else is possible."""

import itertools

import pytest

from tensorhub.hub.loads import TRANSITIONS, WANTED, IllegalTransition, Load, LoadEvent, LoadState


def _load(state: LoadState) -> Load:
    return Load(1, "m", 1, "/r/m", b"", ("cpu0", "cpu1"), state=state)


@pytest.mark.parametrize(("state", "event"), list(itertools.product(LoadState, LoadEvent)))
def test_every_event_is_in_the_table_or_refused(state: LoadState, event: LoadEvent) -> None:
    load = _load(state)
    if (state, event) in TRANSITIONS:
        load.apply(event)
        assert load.state is TRANSITIONS[state, event]
    else:
        with pytest.raises(IllegalTransition, match=event.value):
            load.apply(event)
        assert load.state is state


def test_every_state_can_be_reached_and_retired() -> None:
    reached = {LoadState.LOADING}
    while more := {new for (old, _), new in TRANSITIONS.items() if old in reached} - reached:
        reached |= more
    assert reached == set(LoadState)
    for state in LoadState:
        assert (state, LoadEvent.RETIRE) in TRANSITIONS or state is LoadState.RETIRED
    assert {LoadState.FAILED, LoadState.RETIRED}.isdisjoint(WANTED)


def test_it_is_complete_when_all_its_workers_have_it() -> None:
    load = _load(LoadState.LOADING)
    load.told.update(load.workers)
    assert load.held
    assert not load.complete
    load.ready.add("cpu0")
    assert not load.complete
    load.ready.add("cpu1")
    assert load.complete
