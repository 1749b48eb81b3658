"""Waiting for what another thread or process makes true, and tells nobody."""

import time
from collections.abc import Callable

DEADLINE_S = 60.0
"""Of anything at all: to start a process takes a second of CPU time, which is long on a machine with much to do."""
_POLL_S = 0.01
_COUNTED_S = 5.0
"""Of the time between two looks: when it was longer, those who are waited for have stood still as well."""


def wait_until(
    condition: Callable[[], object],
    what: str = "the condition holds",
    timeout_s: float = DEADLINE_S,
    account: object = "",
) -> None:
    """Poll until a condition holds; an assertion error that says what did not happen in time, and gives an account.

    Args:
        account: something that can tell more then, or a function that finds it out.
    """
    if not comes_true(condition, timeout_s):
        raise AssertionError(f"not within {timeout_s:.0f} s: {what} {account() if callable(account) else account}")


def comes_true(condition: Callable[[], object], timeout_s: float = DEADLINE_S) -> bool:
    """Poll until a condition holds; whether it has in time."""
    last_s = time.monotonic()
    while not condition():
        now_s = time.monotonic()
        timeout_s -= min(now_s - last_s, _COUNTED_S)
        last_s = now_s
        if timeout_s <= 0:
            return False
        time.sleep(_POLL_S)
    return True
