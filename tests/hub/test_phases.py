"""The order in which a server stops."""

from tensorhub.hub.phases import ENDING_IN, NEXT_WHEN_STOPPING, Phase
from tensorhub.ipc.wire import Role


def test_whoever_depends_on_others_ends_before_them() -> None:
    phase, ended = Phase.NOTIFYING, list[set[Role]]()
    while phase.stopping:
        ended.append(set(ENDING_IN[phase]))
        phase = NEXT_WHEN_STOPPING[phase]
    assert ended == [set(), {Role.HTTP, Role.GRPC}, {Role.WORKER}, {Role.HUB}]
    assert phase is Phase.STOPPED


def test_a_server_that_starts_or_serves_is_not_stopping() -> None:
    assert not any(phase.stopping for phase in (Phase.STARTING, Phase.SERVING, Phase.STOPPED))
