"""Noticing that a GPU's context is of no use any more: then the process is not, either.

After some errors of the driver (an access to an illegal address, an assertion on the GPU) every later call fails, and
nothing but a new process helps. So when something has failed on a worker that has a GPU, the driver is asked, and a
worker whose context is poisoned ends. The others notice as they notice any death: its requests fail at once, its models
are not ready, and it is started again and loads them.
"""

import logging
import os
from collections.abc import Callable

from tensorhub.devices import DeviceError
from tensorhub.errors import InternalError, TensorhubError
from tensorhub.ipc.cuda_regions import HandleTable

log = logging.getLogger(__name__)

NOTICE_S = 0.05
"""How long the answers that are on their way have to leave, before the process ends."""

EXIT_STATUS = 70
"""EX_SOFTWARE of sysexits.h."""


class DeviceHealth:
    """Looks after a worker's GPU; without one it does nothing."""

    def __init__(
        self, handles: HandleTable | None = None, later: Callable[[float, Callable[[], None]], None] | None = None
    ) -> None:
        """Look after the GPU behind `handles`; `later` calls a function after a delay in seconds."""
        self._handles = handles
        self._later = later

    def after(self, error: TensorhubError) -> None:
        """Something has failed, and whoever waits for it has been told: end the process if its GPU is lost."""
        if self._handles is None or self._later is None or not isinstance(error, InternalError):
            return
        port = self._handles.try_port()
        if port is None:
            return
        poisoned = isinstance(error, DeviceError) and error.poisoned
        try:
            for device in () if poisoned else port.devices():
                port.wait(device.ordinal)
        except DeviceError as exc:
            poisoned = exc.poisoned
            error = exc
        if poisoned:
            log.critical("the GPU can no longer be used by this process, which ends: %s", error.message)
            self._later(NOTICE_S, _end)


def _end() -> None:
    logging.shutdown()
    os._exit(EXIT_STATUS)
