"""What `tensorhub bench` measures, over HTTP or over gRPC: a server, the form of its requests, and the load on it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, Protocol
from urllib.parse import urlsplit

from tensorhub.client import load, placed
from tensorhub.client.http import DEFAULT_URL, Server, infer_call, model_path
from tensorhub.client.load import LoadResult
from tensorhub.client.placed import Layout
from tensorhub.client.tensors import Tensor

Tick = Callable[[float], None]


class Inferring(Protocol):
    """A server, by either protocol; see `client.http.Server` for the contracts."""

    def metadata(self, model: str, version: str = "") -> Any:
        """Return the metadata of a model."""

    def infer(self, model: str, inputs: Sequence[Tensor], *, version: str = "") -> list[Tensor]:
        """Run a model once."""

    def register_system(self, name: str, key: str, byte_size: int, offset: int = 0) -> None:
        """Register a segment."""

    def unregister_system(self, name: str) -> None:
        """Let it go."""


class Subject(Protocol):
    """One protocol's way to ask and to load."""

    @property
    def server(self) -> Inferring:
        """The server, for single calls."""

    def inline(self, model: str, version: str, tensors: Sequence[Tensor]) -> bytes:
        """Return a request that carries its tensors."""

    def placed(self, model: str, version: str, inputs: Layout, outputs: Layout, row: int) -> bytes:
        """Return a request that names them."""

    def load(self, requests: Sequence[bytes], seconds: float, timeout_s: float, on_tick: Tick) -> LoadResult:
        """Keep all requests in flight; see `client.load.run`."""


@contextmanager
def opened(protocol: str, url: str | None, timeout_s: float) -> Iterator[Subject]:
    """Give the subject at an address; None: the protocol's usual one.

    Raises:
        ValueError: the address is not one, or is one of https.
    """
    if protocol == "grpc":
        # Here and not above: it takes a while to import, and who measures HTTP does not need it.
        from tensorhub.client import rpc

        with closing(rpc.RpcServer(url or rpc.DEFAULT_URL, timeout_s)) as channel:
            yield _OverGrpc(channel, channel.url)
    else:
        with closing(Server(url or DEFAULT_URL, timeout_s)) as server:
            yield _OverHttp(server)


class _OverHttp:
    """Whole HTTP/1.1 requests."""

    def __init__(self, server: Server) -> None:
        parts = urlsplit(server.url)
        if parts.scheme != "http" or parts.hostname is None:
            raise ValueError("load goes over http only, not over https")
        self.server = server
        self._address = (parts.hostname, parts.port or 80)
        self._host = parts.netloc

    def inline(self, model: str, version: str, tensors: Sequence[Tensor]) -> bytes:
        return self._request(*infer_call(model, tensors, version=version))

    def placed(self, model: str, version: str, inputs: Layout, outputs: Layout, row: int) -> bytes:
        headers = {"Content-Type": "application/json"}
        return self._request(f"{model_path(model, version)}/infer", headers, placed.json_request(inputs, outputs, row))

    def load(self, requests: Sequence[bytes], seconds: float, timeout_s: float, on_tick: Tick) -> LoadResult:
        return load.run(self._address, requests, seconds, timeout_s=timeout_s, on_tick=on_tick)

    def _request(self, path: str, headers: dict[str, str], body: bytes) -> bytes:
        fields = {"Host": self._host, "Content-Length": str(len(body)), **headers}
        lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
        return "\r\n".join(lines).encode("latin-1") + body


class _OverGrpc:
    """Serialised ModelInferRequests."""

    def __init__(self, server: Inferring, target: str) -> None:
        self.server = server
        self._target = target

    def inline(self, model: str, version: str, tensors: Sequence[Tensor]) -> bytes:
        from tensorhub.client import rpc

        return rpc.infer_message(model, version, tensors)

    def placed(self, model: str, version: str, inputs: Layout, outputs: Layout, row: int) -> bytes:
        return placed.message(model, version, inputs, outputs, row)

    def load(self, requests: Sequence[bytes], seconds: float, timeout_s: float, on_tick: Tick) -> LoadResult:
        from tensorhub.client import rpc_load

        return rpc_load.run(self._target, requests, seconds, timeout_s=timeout_s, on_tick=on_tick)
