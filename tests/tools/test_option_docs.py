"""The pages on the options: complete, fresh, and sound in their formats."""

import re
import shutil
import subprocess

import pytest

from tensorhub.option_groups import DEPRECATED
from tensorhub.settings import OPTIONS, SECTIONS
from tools import option_docs
from tools.triton_options import TRITON_OPTIONS


def test_the_files_are_fresh() -> None:
    assert option_docs.stale() == []


def test_the_page_has_every_option_once() -> None:
    rows = re.findall(r"^\| `--([a-z0-9-]+)`", option_docs.markdown(), re.MULTILINE)
    assert sorted(rows) == sorted([*OPTIONS, *(old.name for old in DEPRECATED)])


def test_the_page_tells_which_options_are_not_triton_s() -> None:
    rows = [line for line in option_docs.markdown().splitlines() if "*Of tensorhub.*" in line]
    assert {re.findall("`--([a-z0-9-]+)`", row)[0] for row in rows} == set(OPTIONS) - TRITON_OPTIONS


def test_tables_have_the_columns_of_their_heads() -> None:
    columns = 0
    for line in option_docs.markdown().splitlines():
        if not line.startswith("|"):
            columns = 0
            continue
        cells = len(re.findall(r"(?<!\\)\|", line))
        columns = columns or cells
        assert cells == columns, line


def test_the_man_page_has_every_group_and_option() -> None:
    page = option_docs.man_page()
    for title, _ in SECTIONS.values():
        assert f".SS {title}" in page
    for name in OPTIONS:
        assert "\\-\\-" + name.replace("-", "\\-") in page


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_the_man_page_is_roff() -> None:
    done = subprocess.run(
        ["groff", "-man", "-ww", "-Tascii", "-z", str(option_docs.MAN_PAGE)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("text", "escaped"), [("a-b", "a\\-b"), (".x", "\\&.x"), ("'x", "\\&'x"), ("a\\b", "a\\eb"), ("x.y", "x.y")]
)
def test_roff(text: str, escaped: str) -> None:
    assert option_docs._roff(text) == escaped
