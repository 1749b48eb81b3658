"""The header that says how long the JSON part is."""

import pytest

from tensorhub.errors import InvalidArgument
from tensorhub.protocol.http_infer import parse_header_length


@pytest.mark.parametrize(
    ("text", "size", "length"), [("5", 9, 5), (" +5", 9, 5), ("5x", 9, 5), ("1.5", 9, 1), ("0x10", 9, 0), ("9", 9, 9)]
)
def test_header_lengths(text: str, size: int, length: int) -> None:
    assert parse_header_length(text, size) == length


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("x", "Unable to parse Inference-Header-Content-Length, got: x"),
        ("", "Unable to parse Inference-Header-Content-Length, got: "),
        ("-1", "inference header size should be in range (0, 9), got: -1"),
        ("10", "inference header size should be in range (0, 9), got: 10"),
        *(
            (
                digits,
                "Unable to parse Inference-Header-Content-Length, value is out of range [ -2147483648, 2147483647 ], "
                f"got: {digits}",
            )
            for digits in ("2147483648", "9" * 19, "9" * 5000)
        ),
    ],
)
def test_header_lengths_that_are_wrong(text: str, error: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_header_length(text, 9)
    assert caught.value.message == error
