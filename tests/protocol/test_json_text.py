"""Numbers and strings as RapidJSON writes them."""

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tensorhub.protocol import json_text


@given(st.floats(), st.floats(width=32))
def test_floats_read_back(first: float, second: float) -> None:
    values = [first, second]
    read = json.loads(json_text.floats(values))
    np.testing.assert_array_equal(np.array(read, np.float64), np.array(values))


@given(st.lists(st.binary(max_size=12), max_size=5))
def test_strings_read_back(elements: list[bytes]) -> None:
    text = json_text.strings(elements)
    read = json.loads(text.decode("utf-8", "surrogateescape"))
    assert [element.encode("utf-8", "surrogateescape") for element in read] == elements
