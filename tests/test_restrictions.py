"""Restricted operations: the one rule of both protocols."""

import pytest

from tensorhub.errors import InvalidArgument
from tensorhub.option_kinds import RESTRICTED_CATEGORIES
from tensorhub.restrictions import GRPC, HTTP, Category, Flavour, Restrictions


def test_what_a_category_needs() -> None:
    restrictions = Restrictions.parse("health,metadata:Key=a=b\nmodel-config : Other = x\n")
    assert restrictions.denial(Category.INFERENCE, []) is None
    assert restrictions.denial(Category.HEALTH, [(b"other", b"x"), (b"key", b"a=b")]) is None
    assert restrictions.denial(Category.MODEL_CONFIG, [("other", "x")]) is None
    refusal = "This API is restricted, expecting header 'Key'"
    for headers in (
        [],
        [(b"key", b"a")],
        [(b"key", b"a=b ")],
        [(b"other", b"a=b")],
        [(b"key", b"x"), (b"key", b"a=b")],
    ):
        assert restrictions.denial(Category.METADATA, headers) == refusal


def test_grpc_s_keys_have_a_prefix() -> None:
    restrictions = Restrictions.parse("inference:Key=v", GRPC)
    assert restrictions.denial(Category.INFERENCE, [("triton-grpc-protocol-key", "v")]) is None
    assert restrictions.denial(Category.INFERENCE, [("key", "v")]) == (
        "This protocol is restricted, expecting header 'triton-grpc-protocol-Key'"
    )


def test_nothing_is_restricted_by_default() -> None:
    nothing = Restrictions.parse("")
    assert not nothing
    assert all(nothing.denial(category, []) is None for category in Category)
    assert Restrictions.parse("trace:k=v")


@pytest.mark.parametrize("flavour", [HTTP, GRPC])
@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("health", "takes <category>"),
        ("health:=x", "takes <category>"),
        (":k=v", "takes <category>"),
        ("heath:k=v", "unknown restricted"),
        ("health:k=v\nhealth:k=w", "can not be specified in multiple groups"),
    ],
)
def test_what_cannot_be_understood_is_refused(flavour: Flavour, text: str, part: str) -> None:
    with pytest.raises(InvalidArgument, match=part):
        Restrictions.parse(text, flavour)


def test_the_categories_are_those_of_the_command_line() -> None:
    assert tuple(category.value for category in Category) == RESTRICTED_CATEGORIES
