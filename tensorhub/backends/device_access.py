"""How models of a process reach the memory of GPUs: set by the worker, once."""

from collections.abc import Callable

from tensorhub.devices import DevicePort


def _no_port() -> DevicePort | None:
    return None


_open: Callable[[], DevicePort | None] = _no_port


def install(open_port: Callable[[], DevicePort | None]) -> None:
    """Have `maybe_port` ask this function."""
    global _open
    _open = open_port


def maybe_port() -> DevicePort | None:
    """Return the port to the driver; None where there is no GPU."""
    return _open()
