"""Traces of a running server: Triton's file, and spans at a collector."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http

from tests.end_to_end.daemons import run_to_end
from tests.end_to_end.trace_files import trace_objects
from tests.serving import RunningServer, free_ports, serving
from tests.waiting import wait_until

CONFIG = """
backend: "python" max_batch_size: 0
input [ { name: "INPUT0" data_type: TYPE_INT32 dims: [ 2 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_STRING dims: [ 1 ] } ]
"""

MODEL = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            if pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()[0] < 0:
                raise ValueError("negative")
            text = str(request.trace().get_context())
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", np.array([text], dtype=object))]))
        return answers
"""

WORK = ["REQUEST_START", "QUEUE_START", "INFER_RESPONSE_COMPLETE", "COMPUTE_START"]
WORK += ["COMPUTE_INPUT_END", "COMPUTE_OUTPUT_START", "COMPUTE_END", "REQUEST_END"]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "models" / "told"
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.py").write_text(MODEL)
    (folder / "config.pbtxt").write_text(CONFIG)
    return tmp_path / "models"


def http_infer(
    server: RunningServer, value: int = 1, headers: dict[str, str] | None = None, request_id: str = ""
) -> str:
    tensor = tritonclient.http.InferInput("INPUT0", [2], "INT32")
    tensor.set_data_from_numpy(np.array([value, 8], np.int32))
    with tritonclient.http.InferenceServerClient(server.http) as client:
        result = client.infer("told", [tensor], headers=headers, request_id=request_id)
        return str(result.as_numpy("OUTPUT0")[0].decode())


def grpc_infer(server: RunningServer, headers: dict[str, str] | None = None) -> str:
    tensor = tritonclient.grpc.InferInput("INPUT0", [2], "INT32")
    tensor.set_data_from_numpy(np.array([1, 8], np.int32))
    with tritonclient.grpc.InferenceServerClient(server.grpc) as client:
        return str(client.infer("told", [tensor], headers=headers).as_numpy("OUTPUT0")[0].decode())


def test_tritons_file(tmp_path: Path, repository: Path) -> None:
    path = tmp_path / "trace.json"
    with serving(tmp_path, (f"--trace-config=triton,file={path}",), repository=repository) as server:
        assert http_infer(server) == "None"
        with tritonclient.http.InferenceServerClient(server.http) as client:
            client.update_trace_settings(settings={"trace_level": ["TIMESTAMPS", "TENSORS"], "trace_rate": "1"})
        assert http_infer(server, request_id="mine") == "None"
        # Processes tell the hub of their traces each in its own time: the numbers are in the order of the requests only
        # if each waits for the one before it.
        wait_until(lambda: {item["id"] for item in trace_objects(path)} == {1}, "the first trace is written")
        grpc_infer(server)
        wait_until(lambda: {item["id"] for item in trace_objects(path)} == {1, 2}, "the second trace is written")
        with pytest.raises(tritonclient.http.InferenceServerException, match="negative"):
            http_infer(server, -1)

        wait_until(lambda: {item["id"] for item in trace_objects(path)} == {1, 2, 3}, "three traces are written")
        found = trace_objects(path)
        names: dict[int, list[str]] = {1: [], 2: [], 3: []}
        for item in found:
            names[item["id"]] += [stamp["name"] for stamp in item.get("timestamps", ())]
        http_names = ["HTTP_RECV_START", "HTTP_RECV_END", *WORK, "HTTP_SEND_START", "HTTP_SEND_END"]
        assert names[1] == names[3] == http_names
        assert sorted(names[2]) == sorted(
            ["GRPC_WAITREAD_START", "GRPC_WAITREAD_END", *WORK, "GRPC_SEND_START", "GRPC_SEND_END"]
        )
        assert {"id": 1, "model_name": "told", "model_version": 1, "request_id": "mine"} in found
        tensors = [(item["activity"], item["tensor"]) for item in found if "tensor" in item and item["id"] == 1]
        assert tensors == [
            ("TENSOR_QUEUE_INPUT", {"name": "INPUT0", "data": "1,8", "shape": "2", "dtype": "INT32"}),
            ("TENSOR_BACKEND_OUTPUT", {"name": "OUTPUT0", "data": '"None"', "shape": "1", "dtype": "BYTES"}),
        ]
        times = {
            stamp["name"]: stamp["ns"] for item in found if item["id"] == 1 for stamp in item.get("timestamps", ())
        }
        order = ["HTTP_RECV_START", "HTTP_RECV_END", "REQUEST_START", "QUEUE_START", "COMPUTE_START"]
        order += ["COMPUTE_INPUT_END", "COMPUTE_OUTPUT_START", "COMPUTE_END", "REQUEST_END"]
        assert [times[name] for name in order] == sorted(times[name] for name in order)

        with tritonclient.http.InferenceServerClient(server.http) as client:
            client.update_trace_settings(settings={"trace_level": ["OFF"]})
        http_infer(server)
    assert {item["id"] for item in json.loads(path.read_text())} == {1, 2, 3}


WAITING_MODEL = """
import time
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        while not all(request.is_cancelled() for request in requests):
            time.sleep(0.01)
        error = pb_utils.TritonError("cancelled", pb_utils.TritonError.CANCELLED)
        return [pb_utils.InferenceResponse(error=error) for _ in requests]
"""


def test_a_request_whose_client_has_gone_has_a_trace_too(tmp_path: Path, repository: Path) -> None:
    (repository / "told" / "1" / "model.py").write_text(WAITING_MODEL)
    path = tmp_path / "trace.json"
    options = (f"--trace-config=triton,file={path}", "--trace-config=level=TIMESTAMPS", "--trace-config=rate=1")
    tensor = {"name": "INPUT0", "datatype": "INT32", "shape": [2], "data": [1, 2]}
    with serving(tmp_path, options, repository=repository) as server:
        host, _, port = server.http.partition(":")
        connection = http.client.HTTPConnection(host, int(port))
        connection.request("POST", "/v2/models/told/infer", json.dumps({"inputs": [tensor]}))
        connection.close()
        wait_until(lambda: {item["id"] for item in trace_objects(path)} == {1}, "the trace is written")
        stamps = [stamp["name"] for item in trace_objects(path) for stamp in item.get("timestamps", ())]
        assert stamps[-1] == "HTTP_SEND_END"


@contextmanager
def collector() -> Iterator[tuple[str, list[Any]]]:
    """A collector that keeps the spans that it gets."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    spans: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            for group in ExportTraceServiceRequest.FromString(body).resource_spans:
                attributes = {item.key: item.value.string_value for item in group.resource.attributes}
                spans.extend((attributes, span) for scope in group.scope_spans for span in scope.spans)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1/traces", spans
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_spans_at_a_collector(tmp_path: Path, repository: Path) -> None:
    pytest.importorskip("opentelemetry.sdk", reason="the extra otel is not installed")
    trace, caller = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    with collector() as (url, spans):
        options = (
            "--trace-config=mode=opentelemetry",
            "--trace-config=level=TIMESTAMPS",
            "--trace-config=rate=1000",
            f"--trace-config=opentelemetry,url={url}",
            "--trace-config=opentelemetry,resource=service.name=here",
            "--trace-config=opentelemetry,bsp_schedule_delay=50",
        )
        with serving(tmp_path, options, repository=repository) as server:
            with tritonclient.http.InferenceServerClient(server.http) as client:
                assert client.get_trace_settings()["trace_mode"] == "opentelemetry"
                assert client.get_trace_settings()["url"] == url
            assert http_infer(server) == "None"  # one of a thousand, and nobody traces it
            told = [
                http_infer(server, headers={"traceparent": f"00-{trace}-{caller}-01"}),
                grpc_infer(server, headers={"traceparent": f"00-{trace}-{caller}-01"}),
            ]
            wait_until(lambda: len(spans) == 6, "six spans arrive")
        for attributes, _ in spans:
            assert attributes["service.name"] == "here"
        found = [span for _, span in spans]
        assert {span.trace_id.hex() for span in found} == {trace}
        roots = [span for span in found if span.name == "InferRequest"]
        models = {span.parent_span_id: span for span in found if span.name == "told"}
        computes = {span.parent_span_id: span for span in found if span.name == "compute"}
        assert [span.parent_span_id.hex() for span in roots] == [caller, caller]
        contexts = []
        for root in roots:
            model = models[root.span_id]
            compute = computes[model.span_id]
            contexts.append(json.dumps({"traceparent": f"00-{trace}-{model.span_id.hex()}-01"}))
            assert root.start_time_unix_nano <= model.start_time_unix_nano <= compute.start_time_unix_nano
            assert compute.end_time_unix_nano <= model.end_time_unix_nano
            assert [event.name for event in compute.events] == [name for name in WORK if name.startswith("COMPUTE")]
            assert {item.key for item in model.attributes} >= {"triton.model_name", "triton.model_version"}
        assert sorted(contexts) == sorted(told)


def test_a_start_that_cannot_trace_says_why(tmp_path: Path) -> None:
    http, grpc, metrics = free_ports(3)
    common = ("tensorhub", "serve", f"--model-repository={tmp_path}", f"--run-dir={tmp_path}/run")
    ports = ("--http-address=127.0.0.1", f"--http-port={http}", f"--grpc-port={grpc}", f"--metrics-port={metrics}")
    code, text = run_to_end(*common, *ports, "--trace-config=level=TIMESTAMPS")
    assert (code, "a file is needed" in text) == (1, True)
