"""Server reflection: clients ask which services there are and what their messages look like (grpcurl, grpcui, Postman).

Both names of the service are answered, `grpc.reflection.v1` and the older `v1alpha`: their messages are the same on the
wire. Only files are shown that the listed services need; what the server's own processes say to each other is not.
Source: https://github.com/grpc/grpc/blob/master/doc/server-reflection.md
"""

import threading
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from tensorhub.errors import TensorhubError
from tensorhub.grpc.answering import parse, status_details
from tensorhub.grpc.engine import UNAVAILABLE, UNSENT_LIMIT, Stream, StreamCall
from tensorhub.protocol import messages

SERVICE = "grpc.reflection.v1.ServerReflection"
OLD_SERVICE = "grpc.reflection.v1alpha.ServerReflection"
METHOD = "ServerReflectionInfo"

_NOT_FOUND = 5
_INVALID_ARGUMENT = 3
"""Numbers of google.rpc.Code."""

_Request = messages.message_class("grpc.reflection.v1.ServerReflectionRequest")
_Response = messages.message_class("grpc.reflection.v1.ServerReflectionResponse")


class ServerReflection:
    """The method of both services."""

    def __init__(self, services: Sequence[str]) -> None:
        self._services = sorted(services)

    def __call__(self, call: StreamCall) -> Stream:
        call.read()
        return _Conversation(call, self)

    @cached_property
    def _files(self) -> dict[str, list[bytes]]:
        """File name to the file and those that it needs, serialised."""
        found: dict[str, list[bytes]] = {}
        for name in self._services:
            for file in _with_dependencies(messages.service(name).file):
                found.setdefault(file.name, [item.serialized_pb for item in _with_dependencies(file)])
        return found

    def answer(self, request: Any) -> Any:
        """Return the ServerReflectionResponse to a ServerReflectionRequest."""
        response = _Response(valid_host=request.host, original_request=request)
        kind = request.WhichOneof("message_request")
        if kind == "list_services":
            for name in self._services:
                response.list_services_response.service.add(name=name)
        elif kind == "file_by_filename":
            self._add_file(response, request.file_by_filename)
        elif kind == "file_containing_symbol":
            self._add_file(response, _file_of(request.file_containing_symbol))
        elif kind == "all_extension_numbers_of_type" and self._has(request.all_extension_numbers_of_type):
            # There are no extensions in proto3.
            response.all_extension_numbers_response.base_type_name = request.all_extension_numbers_of_type
        elif kind is None:
            response.error_response.error_code = _INVALID_ARGUMENT
            response.error_response.error_message = "the request asks for nothing that this server knows"
        else:
            _set_not_found(response)
        return response

    def _has(self, type_name: str) -> bool:
        return _file_of(type_name) in self._files

    def _add_file(self, response: Any, name: str) -> None:
        files = self._files.get(name)
        if files is None:
            _set_not_found(response)
        else:
            response.file_descriptor_response.file_descriptor_proto.extend(files)


def _set_not_found(response: Any) -> None:
    response.error_response.error_code = _NOT_FOUND
    response.error_response.error_message = "not found"


def _file_of(symbol: str) -> str:
    """Return the name of the file that declares a symbol; "" if there is none."""
    try:
        return str(messages.POOL.FindFileContainingSymbol(symbol).name)
    except KeyError:
        return _file_of_method(*symbol.rpartition(".")[::2])


def _file_of_method(service: str, method: str) -> str:
    """Methods are symbols that the pool does not look up by itself."""
    try:
        found = messages.service(service)
    except KeyError:
        return ""
    return str(found.file.name) if method in found.methods_by_name else ""


def _with_dependencies(file: Any) -> Iterator[Any]:
    """Yield a file descriptor and those that it imports, directly or not, each once."""
    seen: set[str] = set()
    waiting = [file]
    while waiting:
        item = waiting.pop()
        if item.name not in seen:
            seen.add(item.name)
            waiting.extend(item.dependencies)
            yield item


class _Conversation:
    """One call; see engine.Stream. A client that does not read is not asked for more questions."""

    def __init__(self, call: StreamCall, service: ServerReflection) -> None:
        self._call = call
        self._service = service
        self._lock = threading.Lock()
        self._answered = False  # and the next question has not been asked for

    def on_message(self, message: bytes) -> None:
        try:
            request = parse(_Request, message)
        except TensorhubError as error:
            self._call.finish(error.grpc_status, status_details(error.message))
            return
        self._call.send(self._service.answer(request).SerializeToString())
        self._answered = True
        self._read_on()

    def _read_on(self) -> None:
        with self._lock:
            if not self._answered or self._call.unsent > UNSENT_LIMIT:
                return
            self._answered = False
        self._call.read()

    def on_half_close(self) -> None:
        self._call.finish()

    def on_gone(self) -> None:
        """Nothing is held."""

    def on_caught_up(self) -> None:
        self._read_on()

    def on_stopping(self) -> None:
        self._call.finish(UNAVAILABLE, "Server exiting")
