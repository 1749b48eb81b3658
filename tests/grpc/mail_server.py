"""A reactor whose handler answers from another thread, through mail: in a test, or as a process.

`python -m tests.grpc.mail_server` prints its port, and reads lines of NAME=VALUE: constants of the reactor, which are
such from then on. It ends with its standard input.
"""

import os
import select
import socket
import sys
import threading
from collections import deque

from tensorhub.grpc.engine import Call, Endpoint, UnaryMethod
from tensorhub.grpc.main import let_the_loop_poll

METHOD = "/test.Test/Echo"


class Mail:
    """Answers that other threads have, read by whoever has the turn."""

    def __init__(self, *, can_be_waited_for: bool) -> None:
        self.readers: set[str] = set()
        self._waiting: deque[tuple[Call, bytes]] = deque()
        self._bell, self._rope = socket.socketpair()
        self._turn = threading.Lock()
        self._closing = False
        self._can_be_waited_for = can_be_waited_for
        self._thread = threading.Thread(target=self._read_for_ever, name="replies", daemon=True)
        self._thread.start()

    def answer_later(self, call: Call, message: bytes) -> None:
        def drop() -> None:
            self._waiting.append((call, message))
            self._rope.send(b"x")

        threading.Thread(target=drop).start()

    def _read_for_ever(self) -> None:
        while not self._closing:
            with select.epoll() as bell:
                bell.register(self._bell)
                bell.poll()
            self.hold()
            self.read()
            self.release()

    def close(self) -> None:
        self._closing = True
        self._rope.send(b"x")
        self._thread.join()
        self._bell.close()
        self._rope.close()

    @property
    def fd(self) -> int | None:
        return self._bell.fileno() if self._can_be_waited_for else None

    def hold(self) -> None:
        self._turn.acquire()

    def release(self) -> None:
        self._turn.release()

    def send(self) -> None:
        pass

    def read(self) -> None:
        self._bell.setblocking(False)
        try:
            self._bell.recv(100)
        except BlockingIOError:
            return
        self.readers.add(threading.current_thread().name)
        while self._waiting:
            call, message = self._waiting.popleft()
            call.reply(message)


def main() -> None:
    let_the_loop_poll(os.environ)
    from tensorhub.grpc import reactor

    mail = Mail(can_be_waited_for=True)
    engine = reactor.ReactorEngine({METHOD: UnaryMethod(mail.answer_later)}, Endpoint("127.0.0.1:0"), mail)
    print(engine.start(), flush=True)
    for line in sys.stdin:
        name, value = line.split("=")
        assert hasattr(reactor, name)
        setattr(reactor, name, float(value))
        print(name, flush=True)


if __name__ == "__main__":
    main()
