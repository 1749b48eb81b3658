"""A TLS endpoint in front of a plain server on this host, for servers in tests that were built without TLS."""

from __future__ import annotations

import selectors
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_CHUNK = 1 << 16


def _readable(*connections: socket.socket) -> list[socket.socket]:
    """Wait for one of them."""
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            selector.register(connection, selectors.EVENT_READ)
        ready = {key.fd for key, _ in selector.select()}
    return [connection for connection in connections if connection.fileno() in ready]


class _Proxy:
    def __init__(self, context: ssl.SSLContext, target_port: int) -> None:
        self._context = context
        self._target_port = target_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.asked_names: list[str | None] = []
        context.sni_callback = lambda connection, name, used: self.asked_names.append(name)
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with (
            suppress(OSError),
            socket.create_connection(("127.0.0.1", self._target_port)) as target,
            self._context.wrap_socket(connection, server_side=True) as client,
        ):
            while True:
                readable = [client] if client.pending() else _readable(client, target)
                for source in readable:
                    data = source.recv(_CHUNK)
                    if not data:
                        return
                    (target if source is client else client).sendall(data)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@contextmanager
def tls_proxy(context: ssl.SSLContext, target_port: int) -> Iterator[_Proxy]:
    """Take TLS connections on a free port, and pass on what they say, until the block ends.

    The proxy's `asked_names` are the server names that clients have said.
    """
    proxy = _Proxy(context, target_port)
    try:
        yield proxy
    finally:
        proxy.close()
