"""The event loop of an instance, on a thread of its own, which starts with the first coroutine."""

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any

log = logging.getLogger(__name__)


class LoopThread:
    """See the module."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine to its end, and return what it returns or raise what it raises."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._started()).result()

    def start(self, coroutine: Coroutine[Any, Any, Any], on_end: Callable[[Future[Any]], None]) -> None:
        """Begin a coroutine; `on_end` hears of its end, also if `stop` cancels it, and must not raise."""
        asyncio.run_coroutine_threadsafe(coroutine, self._started()).add_done_callback(on_end)

    def stop(self) -> None:
        """End the thread; tasks that are left are cancelled."""
        if self._loop is None or self._thread is None:
            return
        asyncio.run_coroutine_threadsafe(_cancel_tasks(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._loop = self._thread = None

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            loop = self._loop
            if loop is None:
                loop = self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=_run, args=(loop,), name=f"{self._name} asyncio", daemon=True)
                self._thread.start()
            return loop


def _run(loop: asyncio.AbstractEventLoop) -> None:
    """Run the loop until it is stopped. SystemExit of a task ends `run_forever`, with all that is left in the loop."""
    while True:
        try:
            loop.run_forever()
            return
        except (KeyboardInterrupt, SystemExit) as exc:
            log.warning("a coroutine raised %s; the event loop goes on", type(exc).__name__)


async def _cancel_tasks() -> None:
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
