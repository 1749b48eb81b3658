"""How long the long tests run: TENSORHUB_SOAK=full asks for everything."""

import os

FULL = os.environ.get("TENSORHUB_SOAK") == "full"


FULL_TIMEOUT_S = 3600
"""For a test in its long form, on whatever machine."""


def turns(small: int, full: int) -> int:
    """Return how often, or for how many seconds, a test is to repeat what it does."""
    return full if FULL else small
