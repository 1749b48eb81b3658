"""Keys and names: each can be had from the other."""

import pytest

from tensorhub.protocol.model_names import bare_name, model_key, namespace_of


@pytest.mark.parametrize(
    ("namespace", "name"), [("", "m"), ("", "a::b"), ("/models", "m"), ("/a b/c", "m.n"), ("relative", "m")]
)
def test_a_key_says_both(namespace: str, name: str) -> None:
    key = model_key(namespace, name)
    assert (namespace_of(key), bare_name(key)) == (namespace, name)
    assert ("/" in key) == bool(namespace)
