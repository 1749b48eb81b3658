"""The server of the tests of safety, for what is to be seen of regions from outside."""

from tests.safety.conftest import guarded, http, safety_log

__all__ = ["guarded", "http", "safety_log"]
