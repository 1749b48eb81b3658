"""A client that has registered regions is watched, once for all of them."""

import queue
import subprocess
import sys
from typing import Any

from tensorhub.hub.clients import ClientWatch
from tensorhub.ipc.watch import Watcher, start_ticks
from tensorhub.protocol import messages

WAIT_S = 60.0


def test_the_death_of_a_client_is_told_once() -> None:
    deaths: queue.Queue[Any] = queue.Queue()
    watcher = Watcher()
    clients = ClientWatch(watcher, lambda *client: deaths.put(client), enabled=True)
    watcher.start()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        ticks = start_ticks(child.pid)
        for number in range(3):
            clients.mark(messages.SystemRegion(name=str(number), client_pid=child.pid, client_ticks=ticks), "")
        child.kill()
    assert deaths.get(timeout=WAIT_S) == (child.pid, ticks)
    watcher.later(0, lambda: deaths.put("later"))
    assert deaths.get(timeout=WAIT_S) == "later"
    watcher.close()
