"""The errors of Triton's Python models."""

from typing import ClassVar

from tensorhub.errors import Code, TensorhubError, error_for


class TritonModelException(Exception):
    """Raised by a model, or by the library at a model that uses it wrongly."""


class TritonError:
    """The reason why one request failed.

    Args:
        message: for the client.
        code: one of the class's constants; a number that is none of them counts as UNKNOWN.
    """

    __slots__ = ("_code", "_message")

    UNKNOWN: ClassVar[int] = Code.UNKNOWN
    INTERNAL: ClassVar[int] = Code.INTERNAL
    NOT_FOUND: ClassVar[int] = Code.NOT_FOUND
    INVALID_ARG: ClassVar[int] = Code.INVALID_ARG
    UNAVAILABLE: ClassVar[int] = Code.UNAVAILABLE
    UNSUPPORTED: ClassVar[int] = Code.UNSUPPORTED
    ALREADY_EXISTS: ClassVar[int] = Code.ALREADY_EXISTS
    CANCELLED: ClassVar[int] = Code.CANCELLED

    def __init__(self, message: str, code: int = Code.INTERNAL) -> None:
        if not isinstance(message, str):
            raise TypeError(
                "__init__(): incompatible constructor arguments. The following argument types are supported:\n    1. "
                "c_python_backend_utils.TritonError(message: str, code: "
                "c_python_backend_utils.TritonError.__ErrorCode = <__ErrorCode.INTERNAL: 1>)\n\n"
                f"Invoked with: {message!r}"
            )
        self._message = message
        self._code = code

    def code(self) -> int:
        return self._code

    def message(self) -> str:
        return self._message

    def __str__(self) -> str:
        return self._message


def to_tensorhub(error: TritonError) -> TensorhubError:
    """Return the server's form of a model's error."""
    return error_for(error.code(), error.message())
