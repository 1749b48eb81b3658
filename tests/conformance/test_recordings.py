"""What was recorded is an answer of Triton's, and not that something never came."""

from .recordings import FOLDER


def test_nothing_was_waited_for_in_vain() -> None:
    assert [path.name for path in FOLDER.glob("*.json") if '"after_deadline"' in path.read_text("utf-8")] == []
