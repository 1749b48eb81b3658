"""What an infer call over HTTP is made of, between the edge and the codecs: its parts, its limits, its outputs. Pure.

HTTP body = JSON part [binary part]      Inference-Header-Content-Length says how long the JSON part is
raw body  = the bytes of the only input  when that length is 0
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from tensorhub.errors import InvalidArgument
from tensorhub.protocol.json_text import Buffer

DEFAULT_MAX_INPUT_SIZE = 64 * 1024 * 1024
"""Bytes; Triton's default of --http-max-input-size."""

ID_UNKNOWN = "<id_unknown>"


class Target(Protocol):
    """What must be known of the model that will run a request."""

    @property
    def model(self) -> str: ...

    @property
    def config(self) -> Any:
        """The complete `inference.ModelConfig`."""


class BodyRange(NamedTuple):
    """An input whose bytes are a piece of the HTTP body, which lies in an arena."""

    input_index: int
    offset: int
    byte_size: int


class LargeInput(NamedTuple):
    """An input that is too big for the message, and that lies nowhere yet."""

    input_index: int
    data: Buffer


@dataclass(frozen=True, slots=True)
class ResponsePlan:
    """How the client wants its outputs.

    Attributes:
        binary: for outputs that are not in `listed`.
        listed: output name to whether it is wanted in binary.
    """

    binary: bool = False
    listed: Mapping[str, bool] = field(default_factory=dict)

    def wants_binary(self, name: str) -> bool:
        """Whether the data of an output goes behind the JSON part and not into it."""
        return self.listed.get(name, self.binary)


JSON_PLAN = ResponsePlan()
BINARY_PLAN = ResponsePlan(binary=True)


class HttpInfer(NamedTuple):
    """A decoded infer call.

    Attributes:
        request: `inference.ModelInferRequest`; inputs of `ranges` and `large` have no contents in it.
        ranges: offsets count from the start of the body.
        large: byte order and encoding of the wire.
    """

    request: Any
    plan: ResponsePlan
    ranges: Sequence[BodyRange] = ()
    large: Sequence[LargeInput] = ()


class Limits(NamedTuple):
    """What a request may cost.

    Attributes:
        max_input_size: bytes of the JSON part, of each tensor in JSON, of a raw body.
        inline_size: bytes of a tensor that may travel inside the message.
    """

    max_input_size: int = DEFAULT_MAX_INPUT_SIZE
    inline_size: int = 64 * 1024


class EncodedReply(NamedTuple):
    """An HTTP body, in pieces that are to be sent in order.

    Attributes:
        json_size: length of the first chunk if tensors follow it, else None: the body is JSON alone.
        chunks: the JSON part, then the binary outputs; views of the reply's memory.
    """

    json_size: int | None
    chunks: list[bytes | memoryview]


def check_json_size(byte_size: int, limits: Limits) -> None:
    """Raises: InvalidArgument: the JSON part is too long; call it before reading that much."""
    if byte_size > limits.max_input_size:
        raise InvalidArgument(
            f"request JSON size of {byte_size} bytes exceeds the maximum allowed input size of "
            f"{limits.max_input_size} bytes. Use --http-max-input-size to increase the limit."
        )


def check_raw_size(byte_size: int, limits: Limits) -> None:
    """Raises: InvalidArgument: the body of a raw request is too long; call it before reading that much."""
    if byte_size > limits.max_input_size:
        raise InvalidArgument(
            f"Raw input has a byte_size ({byte_size} bytes) that exceeds the maximum allowed value of "
            f"{limits.max_input_size} bytes. Use --http-max-input-size to increase the limit."
        )


def parse_header_length(text: str, body_size: int) -> int:
    """Read Inference-Header-Content-Length as C's `stoi` does: leading blanks, a sign, and as many digits as there are.

    Raises:
        InvalidArgument: no number, or one that does not fit the body.
    """
    name = "Inference-Header-Content-Length"
    number = int(text) if len(text) < 20 and text.isdecimal() and text.isascii() else _stoi(text)
    if number is None:
        raise InvalidArgument(f"Unable to parse {name}, got: {text}")
    if not -(2**31) <= number < 2**31:
        raise InvalidArgument(f"Unable to parse {name}, value is out of range [ -2147483648, 2147483647 ], got: {text}")
    if not 0 <= number <= body_size:
        raise InvalidArgument(f"inference header size should be in range (0, {body_size}), got: {text}")
    return number


def _stoi(text: str) -> int | None:
    rest = text.lstrip(" \t\n\v\f\r")
    sign = -1 if rest.startswith("-") else 1
    digits = rest[1:] if rest[:1] in ("+", "-") else rest
    end = 0
    while end < len(digits) and "0" <= digits[end] <= "9":
        end += 1
    # A number of more digits is out of range anyhow, and int() has a limit of its own.
    return sign * int(digits[: min(end, 20)]) if end else None
