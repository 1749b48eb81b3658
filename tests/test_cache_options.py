"""What `--cache-config` may say."""

from __future__ import annotations

import pytest

from tensorhub.cache_options import local_byte_size
from tensorhub.option_kinds import Scoped


def test_no_option_is_no_cache_and_the_last_size_counts() -> None:
    assert local_byte_size(()) == 0
    assert local_byte_size([Scoped("local", "size", "5"), Scoped("local", "size", "70")]) == 70


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ([Scoped("local", "size", "-1")], "Got '-1'"),
        ([Scoped("local", "size", "9" * 30)], "Got '999"),
        ([Scoped("local", "size", "5"), Scoped("local", "other", "5")], "no setting 'other'"),
        ([Scoped("redis", "host", "x")], "no cache 'redis'"),
        ([Scoped("local", "size", "5"), Scoped("redis", "host", "x")], "found multiple cache configurations"),
    ],
)
def test_what_makes_no_sense_is_refused(given: list[Scoped], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        local_byte_size(given)
