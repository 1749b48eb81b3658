"""The log's settings change in every process while the server runs, and also in one that is started later."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import tritonclient.grpc
import tritonclient.http

from tests.serving import processes_of, serving
from tests.waiting import wait_until


def test_every_process_follows(tmp_path: Path) -> None:
    log = tmp_path / "tensorhub.log"
    options = (f"--log-file={log}", "--model-control-mode=explicit", "--load-model=add_sub")
    with serving(tmp_path, options) as server:
        assert server.run_dir is not None
        # What `tensorhub serve` says of the start it says by itself, when it has heard of it.
        wait_until(lambda: log.read_text().count("Started ") == 3, "all is said of the start", account=log.read_text)
        with tritonclient.http.InferenceServerClient(server.http) as http:
            http.update_log_settings({"log_format": "ISO8601", "log_info": False})
            assert http.get_log_settings()["log_file"] == str(log)
        before = log.read_text()
        with tritonclient.http.InferenceServerClient(server.http) as http:
            http.unload_model("add_sub")
            http.load_model("add_sub")
        assert log.read_text() == before
        with tritonclient.grpc.InferenceServerClient(server.grpc) as grpc:
            grpc.update_log_settings({"log_info": True})
        with tritonclient.http.InferenceServerClient(server.http) as http:
            http.load_model("reverse_text")
        wait_until(lambda: "loaded model 'reverse_text'" in log.read_text(), "the worker says so")
        [line] = [line for line in log.read_text().splitlines() if "loaded model 'reverse_text'" in line]
        assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ I \d+ cpu0:", line)

        [worker] = [pid for pid, text in processes_of(server.run_dir).items() if "tensorhub.workers" in text]
        mark = len(log.read_text())
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: "loaded model 'reverse_text'" in log.read_text()[mark:], "the next worker loads it")
        [line] = [line for line in log.read_text()[mark:].splitlines() if "loaded model 'reverse_text'" in line]
        assert re.match(r"\d{4}-\d\d-\d\dT", line)
