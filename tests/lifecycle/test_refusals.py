"""A server that cannot start says why and ends at once; one whose hub dies forgets nothing."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tritonclient.http

from tests.serving import EXAMPLE_MODELS, PROJECT, free_ports, processes_of, serving

_DEADLINE_S = 60.0
_SITE = """import sys
if any(argument.endswith("{module}") for argument in sys.orig_argv):
    sys.stderr.write("the {module} refuses\\n")
    raise SystemExit(1)
"""


@pytest.mark.parametrize("module", ["tensorhub.grpc.main", "tensorhub.workers.main", "tensorhub.hub.main"])
def test_a_process_that_refuses_its_options_ends_the_server_at_once(tmp_path: Path, module: str) -> None:
    """A child that ends with an error before it has taken part is not started ten times."""
    (tmp_path / "sitecustomize.py").write_text(_SITE.format(module=module))
    http, grpc, metrics = free_ports(3)
    run_dir = Path(f"/tmp/tensorhub-test-{os.getpid()}-{http}")
    options = [f"--http-port={http}", f"--grpc-port={grpc}", f"--metrics-port={metrics}", f"--run-dir={run_dir}"]
    done = subprocess.run(
        [sys.executable, "-m", "tensorhub", "serve", f"--model-repository={EXAMPLE_MODELS}", *options],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=_DEADLINE_S,
    )
    assert done.returncode == 1
    assert done.stderr.count(f"the {module} refuses") == 1
    assert "cannot start" in done.stderr
    run_dir.rmdir()


def test_a_hub_that_is_restarted_knows_what_was_unloaded(tmp_path: Path) -> None:
    with (
        serving(tmp_path, ["--model-control-mode=explicit", "--load-model=*"]) as server,
        tritonclient.http.InferenceServerClient(server.http, network_timeout=60, connection_timeout=60) as client,
    ):
        assert server.run_dir is not None
        before = {entry["name"] for entry in client.get_model_repository_index()}
        client.unload_model("add_sub")
        (hub,) = (pid for pid, text in processes_of(server.run_dir).items() if "tensorhub.hub.main" in text)
        os.kill(hub, signal.SIGKILL)
        deadline = time.monotonic() + _DEADLINE_S
        entries: list[dict[str, str]] = []
        while not entries or {"LOADING", "UNLOADING"} & {entry.get("state", "") for entry in entries}:
            assert time.monotonic() < deadline
            try:
                entries = client.get_model_repository_index()
            except tritonclient.http.InferenceServerException:
                time.sleep(0.05)  # the next hub is on its way
        assert {entry["name"] for entry in entries} == before
        (add_sub,) = (entry for entry in entries if entry["name"] == "add_sub")
        assert (add_sub["state"], add_sub["reason"]) == ("UNAVAILABLE", "unloaded")
        assert {entry["state"] for entry in entries if entry["name"] != "add_sub"} == {"READY"}
