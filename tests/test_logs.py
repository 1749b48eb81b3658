"""The lines of the log: their form, which levels are in it, and that nobody can forge one."""

import logging
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tensorhub import logs, settings
from tensorhub.ipc import lifeline

DEFAULT = re.compile(r"([IWE])(\d{4}) \d\d:\d\d:\d\d\.\d{6} (\d+) (\S+)\] (.*)")
ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ([IWE]) (\d+) (\S+)\] (.*)")


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root, package = logging.getLogger(), logging.getLogger(logs.PACKAGE)
    handlers, levels = list(root.handlers), (root.level, package.level)
    # set_up closes what it replaces; these are not ours to close.
    for handler in handlers:
        root.removeHandler(handler)
    yield
    for handler in list(root.handlers):
        root.removeHandler(handler)
        handler.close()
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(levels[0])
    package.setLevel(levels[1])
    logging.captureWarnings(False)


class Errors:
    """All that was written to standard error since the test began."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._text = ""

    def getvalue(self) -> str:
        self._text += self._capsys.readouterr().err
        return self._text


@pytest.fixture
def errors(capsys: pytest.CaptureFixture[str]) -> Errors:
    return Errors(capsys)


def test_a_line_has_level_time_process_module_and_text(errors: Errors) -> None:
    logs.set_up({}, "cpu0")
    logging.getLogger("tensorhub.workers.loop").info("loaded %s", "a model")
    match = DEFAULT.fullmatch(errors.getvalue().rstrip("\n"))
    assert match is not None
    assert match[1] == "I"
    assert match[4] == "cpu0:workers.loop"
    assert match[5] == "loaded a model"


def test_the_time_is_utc() -> None:
    record = logging.makeLogRecord({"name": "x", "msg": "m", "levelno": logging.INFO, "process": 7})
    record.created = 1_700_540_880.123456
    assert logs.TritonFormatter("").format(record) == "I1121 04:28:00.123456 7 x] m"
    assert logs.TritonFormatter("", iso=True).format(record) == "2023-11-21T04:28:00Z I 7 x] m"


def test_iso_format(errors: Errors) -> None:
    logs.set_up({"log-format": "ISO8601"})
    logging.getLogger("tensorhub.hub").warning("careful")
    match = ISO.fullmatch(errors.getvalue().rstrip("\n"))
    assert match is not None
    assert match.groups()[::2] == ("W", "hub")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "IWE"),
        ({"log-verbose": "1"}, "IIWE"),
        ({"log-info": "false"}, "WE"),
        ({"log-warning": "false"}, "IE"),
        ({"log-error": "false"}, "IW"),
        ({"log-info": "false", "log-warning": "false", "log-error": "false"}, ""),
        ({"log-info": "false", "log-verbose": "2"}, "IWE"),
    ],
)
def test_each_level_has_a_switch(errors: Errors, options: Mapping[str, str], expected: str) -> None:
    logs.set_up(options)
    log = logging.getLogger("tensorhub.some")
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        log.log(level, "text")
    assert "".join(line[0] for line in errors.getvalue().splitlines()) == expected


def test_levels_that_are_off_cost_nothing(errors: Errors) -> None:
    logs.set_up({"log-info": "false"})
    assert not logging.getLogger("tensorhub.some").isEnabledFor(logging.INFO)


def test_libraries_are_heard_from_warnings_on(errors: Errors) -> None:
    logs.set_up({"log-verbose": "1"})
    logging.getLogger("library").info("chatter")
    logging.getLogger("library").warning("trouble")
    assert [line.rpartition("] ")[2] for line in errors.getvalue().splitlines()] == ["trouble"]


def test_control_characters_are_escaped(errors: Errors) -> None:
    logs.set_up({})
    logging.getLogger("tensorhub.some").error("a\nE1121 forged\x1b[31m\x00\x9b\u2028\u202eé")
    assert errors.getvalue().endswith("] a\\nE1121 forged\\x1b[31m\\x00\\x9b\\u2028\\u202eé\n")
    assert errors.getvalue().count("\n") == 1


def test_lines_of_a_traceback_are_indented(errors: Errors) -> None:
    logs.set_up({})
    try:
        raise ValueError("one\nE1121 04:28:00.123456 1 hub] forged\x1b[2J")
    except ValueError:
        logging.getLogger("tensorhub.some").exception("failed")
    first, *rest = errors.getvalue().splitlines()
    assert first.endswith("] failed")
    assert rest
    assert all(line.startswith("    ") for line in rest)
    assert "\x1b" not in errors.getvalue()


def test_settings_and_their_texts_are_the_same(errors: Errors) -> None:
    chosen = settings.parse(["--log-info=false", "--log-format=ISO8601"])
    logs.set_up(chosen.as_strings(), "hub")
    logging.getLogger("tensorhub.some").info("no")
    logging.getLogger("tensorhub.some").error("yes")
    assert ISO.fullmatch(errors.getvalue().rstrip("\n"))
    assert logs.from_environ(logs.to_environ(chosen.as_strings()))["log-info"] == "false"


def test_a_second_call_replaces_the_first(errors: Errors, tmp_path: Path) -> None:
    logs.set_up({})
    logs.set_up({"log-file": str(tmp_path / "log")})
    logging.getLogger("tensorhub.some").error("\udcff once")
    assert errors.getvalue() == ""
    assert (tmp_path / "log").read_text("utf-8").count("once") == 1


def test_a_log_file_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        logs.set_up({"log-file": str(tmp_path / "none" / "log")})


def test_an_adopted_logger_writes_as_the_others(errors: Errors) -> None:
    logs.set_up({})
    library = logging.getLogger("library.own")
    library.propagate = False
    library.addHandler(logging.NullHandler())
    logs.adopt("library.own")
    library.error("heard")
    assert errors.getvalue().endswith("library.own] heard\n")


def test_nobody_follows_a_parent_without_a_supervisor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(lifeline.VARIABLE, raising=False)
    assert not lifeline.follow_parent()


def test_a_supervised_process_ends_with_its_parent() -> None:
    child = (
        "import signal; from tensorhub.ipc.lifeline import follow_parent as f; "
        "f(); print('up', flush=True); signal.pause()"
    )
    parent = (
        "import os, signal, subprocess, sys; os.environ['TENSORHUB_SUPERVISED'] = str(os.getpid()); "
        "subprocess.Popen([sys.executable, '-c', sys.argv[1]]); signal.pause()"
    )
    process = subprocess.Popen([sys.executable, "-c", parent, child], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout as output:
        assert output.readline() == b"up\n"
        process.kill()
        process.wait()
        assert output.read() == b"", "the pipe closes when the child has ended"


def test_a_process_whose_supervisor_has_gone_already_ends_at_once() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from tensorhub.ipc.lifeline import follow_parent as f; f(); print('alive')"],
        env={lifeline.VARIABLE: "1"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == -15
    assert done.stdout == b""


def test_a_change_at_run_time_keeps_what_was_not_changed(errors: Errors) -> None:
    logs.set_up({"log-warning": "false"}, "cpu0")
    log = logging.getLogger("tensorhub.x")
    logs.change({"log-info": "false", "log-verbose": "1", "log-format": "ISO8601"})
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        log.log(level, "level %d", level)
    found = [ISO.fullmatch(line) for line in errors.getvalue().splitlines()]
    assert [match and (match[3], match[4]) for match in found] == [("cpu0:x", "level 10"), ("cpu0:x", "level 40")]
    logs.change({})
    log.info("as before")
    log.warning("still off")
    assert DEFAULT.fullmatch(errors.getvalue().splitlines()[-1])
    assert errors.getvalue().splitlines()[-1].endswith("as before")


def test_a_change_is_nothing_to_a_process_whose_log_is_its_own() -> None:
    level = logging.getLogger(logs.PACKAGE).level
    logs.change({"log-info": "false"})
    assert logging.getLogger(logs.PACKAGE).level == level
