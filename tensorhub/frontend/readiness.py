"""Readiness of models that have to be asked (Python models with `is_ready`): the question to the hub. Pure."""

from collections.abc import Sequence
from typing import Any

from tensorhub.protocol import messages


def readiness_check(load_ids: Sequence[int]) -> Any:
    """Return the `tensorhub.wire.Control` that succeeds if the models of these loads say that they are ready."""
    operation = messages.Control()
    operation.check_ready.load_ids.extend(load_ids)
    return operation
