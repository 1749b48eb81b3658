"""Traces of what a request makes other models do: steps of ensembles, and calls; as Triton has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.end_to_end.test_traces import collector
from tests.end_to_end.trace_files import trace_objects
from tests.model_calls.repository import add_model, ask
from tests.serving import serving
from tests.waiting import wait_until

INT = """
    backend: "python"
    input { name: "IN" data_type: TYPE_INT32 dims: 1 }
    output { name: "OUT" data_type: TYPE_INT32 dims: 1 }
    instance_group { count: 1 kind: KIND_CPU }
"""

ADDS = """
    import triton_python_backend_utils as pb_utils
    class TritonPythonModel:
        def execute(self, requests):
            values = [request.inputs()[0].as_numpy() for request in requests]
            return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", item + 1)]) for item in values]
"""

CALLS = """
    import triton_python_backend_utils as pb_utils
    class TritonPythonModel:
        def execute(self, requests):
            responses = []
            for request in requests:
                traced = {"trace": request.trace()} if request.inputs()[0].as_numpy()[0] else {}
                call = pb_utils.InferenceRequest(
                    model_name="c_pair", inputs=request.inputs(), requested_output_names=["OUT"], request_id="call",
                    **traced,
                )
                responses.append(pb_utils.InferenceResponse(call.exec().output_tensors()))
            return responses
"""

_QUEUED = ["REQUEST_START", "QUEUE_START"]
_COMPUTED = ["COMPUTE_START", "COMPUTE_INPUT_END", "COMPUTE_OUTPUT_START", "COMPUTE_END"]
STEP = [*_QUEUED, *_COMPUTED, "REQUEST_END"]
INNER_ENSEMBLE = [*_QUEUED, "REQUEST_END"]
HTTP = ["HTTP_RECV_START", "HTTP_RECV_END"], ["HTTP_SEND_START", "HTTP_SEND_END"]
ENSEMBLE = [*HTTP[0], *_QUEUED, "INFER_RESPONSE_COMPLETE", "REQUEST_END", *HTTP[1]]
MODEL = [*HTTP[0], *_QUEUED, "INFER_RESPONSE_COMPLETE", *_COMPUTED, "REQUEST_END", *HTTP[1]]

ONE = np.array([1], np.int32)


def ensemble(first: str, second: str) -> str:
    return f"""
        platform: "ensemble"
        input {{ name: "IN" data_type: TYPE_INT32 dims: 1 }}
        output {{ name: "OUT" data_type: TYPE_INT32 dims: 1 }}
        ensemble_scheduling {{
          step {{ model_name: "{first}" model_version: -1
            input_map {{ key: "IN" value: "IN" }} output_map {{ key: "OUT" value: "MID" }} }}
          step {{ model_name: "{second}" model_version: -1
            input_map {{ key: "IN" value: "MID" }} output_map {{ key: "OUT" value: "OUT" }} }}
        }}
    """


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    add_model(folder, "a_adds", INT, ADDS)
    add_model(folder, "b_adds", INT, ADDS)
    add_model(folder, "c_pair", ensemble("a_adds", "b_adds"))
    add_model(folder, "d_calls", INT, CALLS)
    add_model(folder, "e_nested", ensemble("c_pair", "a_adds"))
    return folder


def parts(path: Path) -> list[tuple[int, int, str, str, list[str]]]:
    """Number, parent's number, model, request id and activities, in the order of the file."""
    found: dict[int, Any] = {}
    for item in trace_objects(path):
        about, names = found.setdefault(item["id"], ({}, []))
        about.update(item)
        names += [stamp["name"] for stamp in item.get("timestamps", ())]
    return [
        (number, about.get("parent_id", 0), about["model_name"], about.get("request_id", ""), names)
        for number, (about, names) in found.items()
    ]


@pytest.mark.parametrize("workers", [1, 2])
def test_tritons_file(tmp_path: Path, repository: Path, workers: int) -> None:
    path = tmp_path / "trace.json"
    options = (
        f"--workers={workers}",
        "--trace-config=level=TIMESTAMPS",
        "--trace-config=rate=1",
        f"--trace-config=triton,file={path}",
    )
    expected = [
        (3, 1, "b_adds", "", STEP),
        (2, 1, "a_adds", "", STEP),
        (1, 0, "c_pair", "", ENSEMBLE),
        (8, 4, "a_adds", "", STEP),
        (7, 5, "b_adds", "", STEP),
        (6, 5, "a_adds", "", STEP),
        (5, 4, "c_pair", "", INNER_ENSEMBLE),
        (4, 0, "e_nested", "", ENSEMBLE),
        (12, 10, "b_adds", "call", STEP),
        (11, 10, "a_adds", "call", STEP),
        (10, 9, "c_pair", "call", INNER_ENSEMBLE),
        (9, 0, "d_calls", "", MODEL),
        (13, 0, "d_calls", "", MODEL),
    ]
    with serving(tmp_path, options, repository=repository) as server:
        for model, value, count in (("c_pair", 1, 3), ("e_nested", 1, 8), ("d_calls", 1, 12), ("d_calls", 0, 13)):
            ask(server.http, model, IN=np.array([value], np.int32))
            wait_until(lambda count=count: len(parts(path)) == count, f"{count} parts are written")  # type: ignore[misc]
    assert [(*part[:4], sorted(part[4])) for part in parts(path)] == [(*part[:4], sorted(part[4])) for part in expected]
    assert [part[4] for part in parts(path)] == [part[4] for part in expected]


def test_spans_lie_in_each_other(tmp_path: Path, repository: Path) -> None:
    pytest.importorskip("opentelemetry.sdk", reason="the extra otel is not installed")
    with collector() as (url, spans):
        options = (
            "--trace-config=mode=opentelemetry",
            "--trace-config=level=TIMESTAMPS",
            "--trace-config=rate=1",
            f"--trace-config=opentelemetry,url={url}",
            "--trace-config=opentelemetry,bsp_schedule_delay=50",
        )
        with serving(tmp_path, (*options, "--workers=2"), repository=repository) as server:
            ask(server.http, "d_calls", IN=ONE)
            wait_until(lambda: len(spans) == 8, "eight spans arrive")
    found = {span.span_id: span for _, span in spans}

    def line(span: Any) -> list[str]:
        above = found.get(span.parent_span_id)
        return [*(line(above) if above is not None else []), span.name]

    call = ["InferRequest", "d_calls", "c_pair"]
    lines = [
        call[:1],
        call[:2],
        [*call[:2], "compute"],
        call,
        *([*call, step] for step in ("a_adds", "b_adds")),
        *([*call, step, "compute"] for step in ("a_adds", "b_adds")),
    ]
    assert sorted(line(span) for span in found.values()) == sorted(lines)
    assert len({span.trace_id for span in found.values()}) == 1
    assert {span.kind for span in found.values()} == {2}  # a server's
    events = {span.name: [event.name for event in span.events] for span in found.values()}
    assert events["InferRequest"] == [*HTTP[0], "INFER_RESPONSE_COMPLETE", *HTTP[1]]
    assert events["compute"] == _COMPUTED
    assert all(events[name] == INNER_ENSEMBLE for name in ("a_adds", "b_adds", "c_pair", "d_calls"))
    attributes = {
        span.name: {item.key: item.value.int_value for item in span.attributes}
        for span in found.values()
        if span.name in ("d_calls", "c_pair")
    }
    assert [attributes["d_calls"][f"triton.trace_{name}"] for name in ("id", "parent_id")] == [1, 0]
    assert [attributes["c_pair"][f"triton.trace_{name}"] for name in ("id", "parent_id")] == [2, 1]
