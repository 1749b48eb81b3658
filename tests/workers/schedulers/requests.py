"""Requests for the tests of schedulers, and a look at what was decided about them."""

from collections.abc import Iterable

from tensorhub.requests import InferRequest, Tensor
from tensorhub.tensors import DataType
from tensorhub.workers.schedulers.port import Decision, Reject, Run, Scheduler

MS = 1_000_000
"""Nanoseconds."""


def request(
    name: str = "", rows: int = 1, *, priority: int = 0, timeout_us: int = 0, deadline_ns: int = 0, **shapes: int
) -> InferRequest:
    """A request with the given rows; `shapes` are the lengths of its inputs."""
    inputs = {key: Tensor(key, DataType.UINT8, (rows, length), bytes(rows * length)) for key, length in shapes.items()}
    return InferRequest(
        "m", 1, name, inputs, batch_size=rows, priority=priority, timeout_us=timeout_us, deadline_ns=deadline_ns
    )


def enqueue(scheduler: Scheduler, now_ns: int, *requests: InferRequest) -> None:
    for item in requests:
        scheduler.enqueue(item, now_ns)


def names(requests: Iterable[InferRequest]) -> str:
    return " ".join(item.request_id for item in requests)


def described(decisions: Iterable[Decision]) -> list[str]:
    """One line for each decision: `0: a b (full)` for a run, `reject c: <text>` for a rejection."""
    return [_described(decision) for decision in decisions]


def _described(decision: Decision) -> str:
    if isinstance(decision, Reject):
        return f"reject {decision.request.request_id}: {decision.error.message}"
    assert isinstance(decision, Run)
    reason = f" ({decision.closed.value})" if decision.closed is not None else ""
    return f"{decision.instance}: {names(decision.requests)}{reason}"
