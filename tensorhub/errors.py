"""The errors that clients see, each with its gRPC code, HTTP status and Triton name.

One class for each of Triton's error codes; the class fixes how both protocols show it. The message is the exact text
for the client. Source of the two tables: HttpCodeFromError and GrpcStatusUtil in Triton's server.
"""

from enum import IntEnum
from typing import ClassVar


class Code(IntEnum):
    """Triton's error codes with the numbers of TRITONSERVER_Error_Code."""

    UNKNOWN = 0
    INTERNAL = 1
    NOT_FOUND = 2
    INVALID_ARG = 3
    UNAVAILABLE = 4
    UNSUPPORTED = 5
    ALREADY_EXISTS = 6
    CANCELLED = 7


HTTP_STATUS: dict[Code, int] = {
    Code.UNKNOWN: 400,
    Code.INTERNAL: 500,
    Code.NOT_FOUND: 404,
    Code.INVALID_ARG: 400,
    Code.UNAVAILABLE: 503,
    Code.UNSUPPORTED: 501,
    Code.ALREADY_EXISTS: 400,
    Code.CANCELLED: 400,
}

# The numbers of google.rpc.Code.
GRPC_STATUS: dict[Code, int] = {
    Code.UNKNOWN: 2,
    Code.INTERNAL: 13,
    Code.NOT_FOUND: 5,
    Code.INVALID_ARG: 3,
    Code.UNAVAILABLE: 14,
    Code.UNSUPPORTED: 12,
    Code.ALREADY_EXISTS: 6,
    Code.CANCELLED: 1,
}

# As Triton prints them in front of a message inside another one: "load failed ...: Invalid argument: ...".
TITLES: dict[Code, str] = {
    Code.UNKNOWN: "Unknown",
    Code.INTERNAL: "Internal",
    Code.NOT_FOUND: "Not found",
    Code.INVALID_ARG: "Invalid argument",
    Code.UNAVAILABLE: "Unavailable",
    Code.UNSUPPORTED: "Unsupported",
    Code.ALREADY_EXISTS: "Already exists",
    Code.CANCELLED: "Cancelled",
}


class TensorhubError(Exception):
    """An error with a text for the client; raise a subclass."""

    code: ClassVar[Code] = Code.UNKNOWN

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    @property
    def http_status(self) -> int:
        return HTTP_STATUS[self.code]

    @property
    def grpc_status(self) -> int:
        return GRPC_STATUS[self.code]


class UnknownError(TensorhubError):
    """Nothing more precise is known."""

    code = Code.UNKNOWN


class InternalError(TensorhubError):
    """The server or the model failed; also Triton's code for JSON that does not parse."""

    code = Code.INTERNAL


class NotFound(TensorhubError):
    """No such model, version or region."""

    code = Code.NOT_FOUND


class InvalidArgument(TensorhubError):
    """The request is wrong; the message says what, got and allowed."""

    code = Code.INVALID_ARG


class Unavailable(TensorhubError):
    """Not now: a queue is full, a worker died, the server is starting or stopping."""

    code = Code.UNAVAILABLE


class Unsupported(TensorhubError):
    """The server knows what is asked and does not do it."""

    code = Code.UNSUPPORTED


class AlreadyExists(TensorhubError):
    """The name is taken."""

    code = Code.ALREADY_EXISTS


class Cancelled(TensorhubError):
    """The client gave the request up."""

    code = Code.CANCELLED


_CLASSES: dict[Code, type[TensorhubError]] = {
    cls.code: cls
    for cls in (
        UnknownError,
        InternalError,
        NotFound,
        InvalidArgument,
        Unavailable,
        Unsupported,
        AlreadyExists,
        Cancelled,
    )
}


def error_for(code: int, message: str) -> TensorhubError:
    """Build the error of `code`, as it came over the wire; a number that is no Code gives UnknownError."""
    try:
        return _CLASSES[Code(code)](message)
    except ValueError:
        return UnknownError(message)
