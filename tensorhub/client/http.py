"""One connection to a server of the v2 protocol, over HTTP; `tensors` makes and reads the bodies."""

import http.client
import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlsplit

from tensorhub.client.tensors import Tensor, infer_request, infer_response

DEFAULT_URL = "http://127.0.0.1:8000"
_HEADER_LENGTH = "Inference-Header-Content-Length"


class Unreachable(Exception):
    """Nobody answers at the address, or what answers is no HTTP server; the text is one line."""


class Refused(Exception):
    """The server answered with an error.

    Attributes:
        status: of HTTP.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Server:
    """A server at `url`: http://host:port, or host:port. Not for several threads at once; `close` it."""

    def __init__(self, url: str = DEFAULT_URL, timeout_s: float = 60.0) -> None:
        """Take the address; nothing is connected before the first call.

        Raises:
            ValueError: it is not such an address.
        """
        wrong = ValueError(f"'{url}' is not an address such as {DEFAULT_URL}")
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            port = parts.port
        except ValueError:
            raise wrong from None
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
            raise wrong
        self.url = f"{parts.scheme}://{parts.netloc}"
        connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = connect(parts.hostname, port, timeout=timeout_s)

    def __repr__(self) -> str:
        return f"<Server {self.url}>"

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        self._connection.close()

    def healthy(self, what: str) -> bool:
        """Whether the server is `live` or `ready`.

        Raises:
            Unreachable: nobody answers.
        """
        return self._exchange("GET", f"/v2/health/{what}")[0] == 200

    def metadata(self, model: str = "", version: str = "") -> Any:
        """Return the metadata of the server, or of a model.

        Raises:
            Refused: the server has no such model.
            Unreachable: nobody answers.
        """
        return self._json("GET", model_path(model, version) if model else "/v2")

    def index(self) -> Any:
        """Return the repository index: a list of name, version, state and reason."""
        return self._json("POST", "/v2/repository/index")

    def regions(self, kind: str) -> Any:
        """Return the registered shared memory; `kind` is `system` or `cuda`."""
        return self._json("GET", f"/v2/{kind}sharedmemory/status")

    def register_system(self, name: str, key: str, byte_size: int, offset: int = 0) -> None:
        """Register a segment of shared memory.

        Raises:
            Refused: the server does not take it; its text.
            Unreachable: nobody answers.
        """
        body = json.dumps({"key": key, "offset": offset, "byte_size": byte_size}).encode()
        path = f"/v2/systemsharedmemory/region/{quote(name, safe='')}/register"
        status, answer, _ = self._exchange("POST", path, body)
        _check(status, answer)

    def unregister_system(self, name: str) -> None:
        """Let a segment go; one that is not registered is gone already.

        Raises:
            Refused: this client may not.
            Unreachable: nobody answers.
        """
        path = f"/v2/systemsharedmemory/region/{quote(name, safe='')}/unregister"
        status, answer, _ = self._exchange("POST", path)
        _check(status, answer)

    def infer(
        self, model: str, inputs: Sequence[Tensor], *, version: str = "", outputs: Sequence[str] = ()
    ) -> list[Tensor]:
        """Run a model once and return its outputs.

        Raises:
            Refused: the server or the model has an error.
            TensorError: what came back is not a response.
            Unreachable: nobody answers.
        """
        path, headers, body = infer_call(model, inputs, version=version, outputs=outputs)
        status, answer, length = self._exchange("POST", path, body, headers)
        _check(status, answer)
        return infer_response(answer, length)

    def _json(self, method: str, path: str) -> Any:
        status, body, _ = self._exchange(method, path)
        _check(status, body)
        try:
            return json.loads(body)
        except ValueError as exc:
            raise Unreachable(f"{self.url} does not speak the v2 protocol: {path} is not JSON") from exc

    def _exchange(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, bytes, int | None]:
        try:
            self._connection.request(method, path, body, headers or {})
            response = self._connection.getresponse()
            content = response.read()
        except http.client.RemoteDisconnected as exc:
            self._connection.close()
            raise Unreachable(f"{self.url} closed the connection without an answer") from exc
        except http.client.HTTPException as exc:
            self._connection.close()
            raise Unreachable(f"{self.url} does not speak HTTP; is it the port of gRPC?") from exc
        except OSError as exc:
            self._connection.close()
            raise Unreachable(
                f"no answer from {self.url}: {exc.strerror or exc} (start a server with 'tensorhub serve', or name it "
                "with --url)"
            ) from exc
        except BaseException:
            # Ctrl-C in the middle: what comes next on this connection is the answer to a question that is over.
            self._connection.close()
            raise
        length = response.getheader(_HEADER_LENGTH)
        return response.status, content, int(length) if length and length.isdecimal() else None


def infer_call(
    model: str, inputs: Sequence[Tensor], *, version: str = "", outputs: Sequence[str] = ()
) -> tuple[str, dict[str, str], bytes]:
    """Return path, headers and body of the POST request that runs a model."""
    body, header_length = infer_request(inputs, outputs)
    headers = {"Content-Type": "application/octet-stream", _HEADER_LENGTH: str(header_length)}
    return f"{model_path(model, version)}/infer", headers, body


def model_path(model: str, version: str = "") -> str:
    """Return the path of a model, or of one version."""
    path = f"/v2/models/{quote(model, safe='')}"
    return f"{path}/versions/{quote(version, safe='')}" if version else path


def _check(status: int, body: bytes) -> None:
    if status == 200:
        return
    try:
        message = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        message = f"HTTP {status}"
    raise Refused(status, str(message))
