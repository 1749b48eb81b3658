"""The hub as a program, where it cannot start."""

import socket
from pathlib import Path

from tests.end_to_end.daemons import run_to_end


def test_a_metrics_port_that_is_taken(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    repository = tmp_path / "models"
    repository.mkdir()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        options = [f"--run-dir={run_dir}", f"--model-repository={repository}", f"--metrics-port={port}"]
        status, said = run_to_end("tensorhub.hub.main", *options, "--metrics-address=127.0.0.1")
    assert status == 1
    assert said == (
        f"tensorhub-hub: cannot serve metrics at 127.0.0.1:{port} (--metrics-address, --metrics-port): Address already "
        "in use\n"
    )
    assert list(run_dir.iterdir()) == []
