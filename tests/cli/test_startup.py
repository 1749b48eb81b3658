"""The start-up table: complete, within the width, safe for a terminal."""

import pytest

from tensorhub.cli.startup import Endpoint, ModelRow, loading_line, startup_table

ROWS = [
    ModelRow("add_sub", "1", "READY"),
    ModelRow("broken", "", "UNAVAILABLE", "config.pbtxt:3:1: there is no field 'max_batch'; " + "more " * 60),
]
ENDPOINTS = [Endpoint("HTTP", "127.0.0.1:8000"), Endpoint("Metrics", "127.0.0.1:8002")]


def test_plain() -> None:
    assert startup_table(ROWS[:1], ENDPOINTS, next_command="tensorhub infer add_sub --random").splitlines() == [
        "Model    Version  State  Reason",
        "add_sub  1        READY",
        "",
        "HTTP     127.0.0.1:8000",
        "Metrics  127.0.0.1:8002",
        "",
        "Try:  tensorhub infer add_sub --random",
    ]


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_long_reasons_are_broken_within_the_width(columns: int) -> None:
    text = startup_table(ROWS, [], columns=columns)
    assert max(map(len, text.splitlines())) <= columns
    assert "config.pbtxt:3:1:" in text
    assert "..." in text or columns == 200


def test_colour_changes_nothing_but_colour() -> None:
    coloured = startup_table(ROWS, ENDPOINTS, next_command="x", colour=True)
    assert "\x1b[32mREADY" in coloured
    for code in ("\x1b[32m", "\x1b[31m", "\x1b[1m", "\x1b[2m", "\x1b[0m"):
        coloured = coloured.replace(code, "")
    assert coloured.split() == startup_table(ROWS, ENDPOINTS, next_command="x").split()


def test_control_characters_do_not_reach_the_terminal() -> None:
    text = startup_table([ModelRow("a\x1b[2J", "1", "UNAVAILABLE", "one\ntwo\x07\x9b3m")], [])
    assert all(char.isprintable() or char == "\n" for char in text)
    assert "one two" in text


def test_no_models() -> None:
    assert startup_table([], []) == "No models.\n"


def test_loading_line_fills_the_width() -> None:
    assert loading_line(1, 3, ["a", "b"], columns=40) == "Loading models 1/3: a, b".ljust(39)
    assert len(loading_line(1, 300, ["name"] * 100, columns=40)) == 39
    assert loading_line(0, 0, [], columns=0) != ""
