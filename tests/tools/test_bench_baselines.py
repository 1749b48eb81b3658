"""Other servers beside tensorhub: one that works is measured, one that does not is told and left out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tritonclient.grpc import service_pb2

from tools.bench import h2load, table
from tools.bench.baselines import BASELINES, grpc_server
from tools.bench.payloads import check_grpc, grpc_request, tensors

ROOT = Path(__file__).resolve().parents[2]
BY_NAME = {workload.name: workload for workload in table.WORKLOADS}
PLAIN = BASELINES["grpc_server"]


def _bench(folder: Path, *options: str, **environ: str) -> subprocess.CompletedProcess[str]:
    common = ["--no-peer", "--alternations=1", "--seconds=0.2", f"--output={folder}", f"--json={folder / 'json'}"]
    return subprocess.run(
        [sys.executable, "-m", "tools.bench", *common, *options],
        cwd=ROOT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("name", sorted(BASELINES))
def test_what_a_baseline_is_measured_with_is_in_the_table_and_in_its_repository(name: str) -> None:
    baseline = BASELINES[name]
    assert baseline.workloads <= set(BY_NAME)
    for model in {BY_NAME[workload].model for workload in baseline.workloads}:
        assert model in grpc_server.FUNCTIONS
        assert baseline.models is None or (baseline.models / model / "model.py").is_file()


@pytest.mark.parametrize("name", sorted(PLAIN.workloads))
def test_the_plain_server_answers_right(name: str) -> None:
    workload = BY_NAME[name]
    data = tensors(workload)
    request = service_pb2.ModelInferRequest.FromString(grpc_request(workload, data))
    answer = grpc_server.model_infer(request, None)  # type: ignore[arg-type]
    check_grpc(workload, data, answer.SerializeToString())


@pytest.mark.skipif(not h2load.installed(), reason=f"needs h2load: apt install {h2load.PACKAGE}")
def test_the_plain_server_is_measured(tmp_path: Path) -> None:
    done = _bench(tmp_path, "--baseline=grpc_server", "--workloads=grpc_1,startup")
    assert done.returncode == 0, done.stderr
    assert "| grpc_1   |" in done.stdout
    kept = json.loads((tmp_path / "json").read_text())
    assert (kept["peer"], kept["results"]) == (None, {})
    result = kept["baselines"]["grpc_server"]["grpc_1"]
    assert result["ratio"]["median"] > 0
    assert result["met"] is None, "goals are for the peer"


def test_a_baseline_that_cannot_be_installed_is_left_out(tmp_path: Path) -> None:
    done = _bench(
        tmp_path, "--baseline=mlserver", "--workloads=startup", TENSORHUB_PEERS=str(tmp_path), PYTHON="/nonexistent"
    )
    assert done.returncode == 0, done.stderr
    assert "mlserver: left out: it could not be installed: " in done.stderr
    assert "/nonexistent" in done.stderr


def test_a_baseline_that_can_do_nothing_of_what_was_chosen(tmp_path: Path) -> None:
    done = _bench(tmp_path, "--baseline=grpc_server", "--workloads=memory,startup")
    assert done.returncode == 0, done.stderr
    assert "grpc_server: left out, it can do none of the chosen workloads" in done.stderr
