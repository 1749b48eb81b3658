"""The fields of a configuration's text and their places, whatever the text is."""

from hypothesis import given
from hypothesis import strategies as st

from tensorhub.protocol.config_outline import Outline, Spot, outline

_TEXT = """# name: "no"
name: "m{" backend : 'python'
input [ { name: "A"
          dims: [ -1, 3 ] }, { name: "B" } ]
parameters < key: "k" value { string_value: "v" } >
"""


def test_fields_have_their_places_and_their_surroundings() -> None:
    found = [(".".join(entry.path), entry.value, entry.at) for entry in outline(_TEXT).entries]
    assert found == [
        ("name", "m{", Spot(2, 1)),
        ("backend", "python", Spot(2, 12)),
        ("input", "", Spot(3, 1)),
        ("input.name", "A", Spot(3, 11)),
        ("input.dims", "-1", Spot(4, 11)),
        ("input.name", "B", Spot(4, 32)),
        ("parameters", "", Spot(5, 1)),
        ("parameters.key", "k", Spot(5, 14)),
        ("parameters.value", "", Spot(5, 23)),
        ("parameters.value.string_value", "v", Spot(5, 31)),
    ]
    assert [entry.blocks for entry in outline(_TEXT).entries] == [
        (0,),
        (0,),
        (0,),
        (0, 1),
        (0, 1),
        (0, 2),
        (0,),
        (0, 3),
        (0, 3),
        (0, 3, 4),
    ]
    assert outline(_TEXT).open == ()


def test_what_is_not_closed() -> None:
    assert outline('input [\n  { name: "]"').open == (("[", Spot(1, 7)), ("{", Spot(2, 3)))
    assert outline("a { b [ 1 } c").open == (("{", Spot(1, 3)), ("[", Spot(1, 7))), "what does not fit closes nothing"


@given(st.text(alphabet="ab{}[]<>:,;\"'#\\\n 1-"))
def test_any_text(text: str) -> None:
    found = outline(text)
    assert isinstance(found, Outline)
    lines = text.split("\n")
    for entry in found.entries:
        assert lines[entry.at.line - 1][entry.at.column - 1 :].startswith(entry.name)
