"""The page on the protocol: its blocks are what the tables in the code give, and complete."""

import pytest

from tensorhub.protocol import messages
from tensorhub.protocol.openapi import OPERATIONS
from tensorhub.settings import OPTIONS
from tests.conformance.differences import DELIBERATE_DIFFERENCES
from tools import protocol_docs


def test_the_page_is_fresh() -> None:
    assert protocol_docs.is_fresh()


def test_every_operation_and_method_has_a_row() -> None:
    rows = list(protocol_docs.operations())[2:]
    assert len(rows) == len(OPERATIONS)
    methods = "\n".join(protocol_docs.methods())
    for method in messages.service("inference.GRPCInferenceService").methods:
        assert f"`inference.GRPCInferenceService/{method.name}`" in methods


def test_options_without_effect_have_their_reason() -> None:
    text = "\n".join(protocol_docs.options())
    for option in OPTIONS.values():
        assert (f"`--{option.name}`" in text) == bool(option.ignored)


def test_every_reason_is_told_once() -> None:
    text = "\n".join(protocol_docs.differences())
    for difference in DELIBERATE_DIFFERENCES.values():
        assert text.count(f"- {difference.reason} (") == 1


def test_a_page_without_a_block_is_refused() -> None:
    page = protocol_docs.PAGE.read_text()
    assert protocol_docs.written(page) == page
    with pytest.raises(ValueError, match="operations"):
        protocol_docs.written(page.replace("<!-- operations -->", ""))
    stale = page.replace("| `GET /v2` |", "| `GET /v3` |")
    assert protocol_docs.written(stale) == page
