"""Where a run directory is if nobody says."""

from pathlib import Path

from tensorhub.run_directory import default_run_dir


def test_default_run_dir() -> None:
    assert default_run_dir({"TENSORHUB_RUN_DIR": "/a"}, 0) == Path("/a")
    assert default_run_dir({}, 0) == Path("/run/tensorhub")
    assert default_run_dir({"XDG_RUNTIME_DIR": "/run/user/7"}, 7) == Path("/run/user/7/tensorhub")
    assert default_run_dir({}, 7) == Path("/tmp/tensorhub-7")
