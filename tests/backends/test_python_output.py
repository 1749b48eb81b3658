"""What models print, and how they fail, in the log under their names."""

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tensorhub.backends.python import output
from tests.backends.python_models import instance, run

PRINTS = """
import sys
import threading
import triton_python_backend_utils as pb_utils

def from_a_thread():
    print("by a thread")

class TritonPythonModel:
    def execute(self, requests):
        print("one", 2)
        print("half", end="")
        print(" a line")
        print("wrong", file=sys.stderr)
        thread = threading.Thread(target=from_a_thread)
        thread.start()
        thread.join()
        pb_utils.Logger.log_warn("by the logger")
        return [pb_utils.InferenceResponse([])]
"""


@contextmanager
def captured() -> Iterator[tuple[io.StringIO, io.StringIO]]:
    """The streams behind those of the models. Inside of a test: pytest sets its own ones between fixture and test."""
    before = sys.stdout, sys.stderr
    out, err = io.StringIO(), io.StringIO()
    sys.stdout, sys.stderr = out, err
    try:
        output.capture()
        yield out, err
    finally:
        sys.stdout, sys.stderr = before


def test_whole_lines_go_to_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "tensorhub.model"), captured() as streams:
        run(instance(tmp_path, PRINTS, name="printer"))
        print("not a model")
    assert [(record.name, record.levelname, record.getMessage()) for record in caplog.records] == [
        ("tensorhub.model.printer", "INFO", "one 2"),
        ("tensorhub.model.printer", "INFO", "half a line"),
        ("tensorhub.model.printer", "WARNING", "wrong"),
        ("tensorhub.model.printer", "INFO", "by a thread"),
        ("tensorhub.model.printer", "WARNING", "by the logger"),
    ]
    assert [stream.getvalue() for stream in streams] == ["not a model\n", ""]


def test_a_line_that_never_ends_is_cut(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    code = PRINTS.replace('print("one", 2)', 'print("x" * 70000, end="")')
    with caplog.at_level(logging.INFO, "tensorhub.model"), captured():
        run(instance(tmp_path, code))
    assert caplog.records[0].getMessage() == "x" * 70000


def test_what_the_log_writes_to_the_same_stream_is_not_the_models(tmp_path: Path) -> None:
    logger = logging.getLogger("tensorhub.model")
    with captured() as streams:
        handler = logging.StreamHandler()
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        try:
            run(instance(tmp_path, PRINTS))
        finally:
            logger.removeHandler(handler)
            logger.setLevel(logging.NOTSET)
    assert streams[1].getvalue().splitlines()[:2] == ["one 2", "half a line"]


def test_a_traceback_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    code = """
    class TritonPythonModel:
        def execute(self, requests):
            raise ValueError("bad value")
    """
    with caplog.at_level(logging.ERROR, "tensorhub.model"):
        run(instance(tmp_path, code, name="raiser"))
    (record,) = caplog.records
    assert record.name == "tensorhub.model.raiser"
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "bad value"


def test_lines_of_two_threads_do_not_mix(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    code = """
    import threading
    import triton_python_backend_utils as pb_utils

    def pieces(name, barrier):
        for _ in range(20):
            print(name, end="")
            barrier.wait()
        print()

    class TritonPythonModel:
        def execute(self, requests):
            barrier = threading.Barrier(2)
            threads = [threading.Thread(target=pieces, args=(name, barrier)) for name in "ab"]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return [pb_utils.InferenceResponse([])]
    """
    with caplog.at_level(logging.INFO, "tensorhub.model"), captured():
        run(instance(tmp_path, code))
    assert sorted(record.getMessage() for record in caplog.records) == ["a" * 20, "b" * 20]
