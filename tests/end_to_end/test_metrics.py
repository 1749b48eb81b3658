"""The metrics page of a running server: Triton's families and our own, in step with what clients do."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http
from prometheus_client.parser import text_string_to_metric_families

from tensorhub.hub.metrics_page import CLOSED_REASONS
from tests.end_to_end.daemons import run_to_end
from tests.serving import PROJECT, RunningServer, free_ports, serving
from tests.waiting import wait_until

MODEL = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        family = pb_utils.MetricFamily("seen_rows", "Rows seen", pb_utils.MetricFamily.COUNTER)
        self.seen = family.Metric(labels={"model": args["model_name"]})

    def execute(self, requests):
        answers = []
        for request in requests:
            value = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
            self.seen.increment(len(value))
            if value[0, 0] < 0:
                raise ValueError("negative")
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", value)]))
        return answers
"""

CONFIG = """
backend: "python" max_batch_size: 8
input [ { name: "INPUT0" data_type: TYPE_INT32 dims: [ 1 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_INT32 dims: [ 1 ] } ]
instance_group [ { count: 2, kind: KIND_CPU } ]
"""

EXTRA = {
    "plain": "",
    "gathering": "dynamic_batching { preferred_batch_size: [ 4 ] max_queue_delay_microseconds: 1000 }",
    "cached": """
        response_cache { enable: true }
        metric_tags [ { key: "team" value: "a \\"b\\"" } ]
        model_metrics { metric_control [ {
          metric_identifier { family: "nv_inference_first_response_histogram_ms" }
          histogram_options { buckets: [ 0.5, 60000 ] }
        } ] }
    """,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    work = tmp_path_factory.mktemp("metrics")
    for model, extra in EXTRA.items():
        (work / "models" / model / "1").mkdir(parents=True)
        (work / "models" / model / "1" / "model.py").write_text(MODEL)
        (work / "models" / model / "config.pbtxt").write_text(CONFIG + extra)
    options = (
        "--workers=2",
        "--model-control-mode=explicit",
        "--load-model=*",
        "--metrics-config=summary_latencies=true",
        "--metrics-config=histogram_latencies=true",
        "--cache-config=local,size=1048576",
    )
    with serving(work, options, repository=work / "models") as running:
        yield running


def page(server: RunningServer) -> str:
    with urllib.request.urlopen(f"http://{server.metrics}/metrics", timeout=60) as answer:
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
        return str(answer.read().decode())


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return (name, labels) to value; the parser calls every counter `..._total`, whatever it is called."""
    return {
        (family.name if family.type == "counter" else item.name, tuple(sorted(item.labels.items()))): item.value
        for family in text_string_to_metric_families(text)
        for item in family.samples
    }


def value(server: RunningServer, name: str, **labels: str) -> float:
    return samples(page(server))[name, tuple(sorted(labels.items()))]


def infer(server: RunningServer, model: str, number: int = 1, batch: int = 1) -> None:
    tensor = tritonclient.http.InferInput("INPUT0", [batch, 1], "INT32")
    tensor.set_data_from_numpy(np.full((batch, 1), number, np.int32))
    with tritonclient.http.InferenceServerClient(server.http) as client:
        client.infer(model, [tensor])


def shape(text: str) -> tuple[dict[str, str], set[str]]:
    """Return name to help and type of each family, and each metric's name with the names of its labels."""
    families: dict[str, str] = {}
    metrics = set()
    for line in text.splitlines():
        match = re.fullmatch(r"# (?:HELP|TYPE) (\S+) (.*)", line)
        if match is not None:
            families[match[1]] = f"{families.get(match[1], '')}|{match[2]}"
        else:
            name = line[: line.rindex("}") + 1] if "}" in line else line.partition(" ")[0]
            metrics.add(re.sub(r'="(?:[^"\\]|\\.)*"', "", name))
    return families, metrics


def test_the_page_has_every_family_of_triton_with_its_help_type_and_labels(server: RunningServer) -> None:
    for model in EXTRA:
        infer(server, model)
    recorded = (Path(__file__).parent / "metrics_of_triton.txt").read_text()
    families, metrics = shape(recorded)
    found_families, found_metrics = shape(page(server))
    assert {name: found_families.get(name) for name in families} == families
    assert metrics - found_metrics == set()
    assert all(name.startswith(("nv_", "tensorhub_", "seen_rows")) for name in found_families)


def test_each_batch_is_counted_by_why_it_was_closed(server: RunningServer) -> None:
    def closed() -> dict[str, float]:
        found = samples(page(server))
        names = {"model": "gathering", "version": "1"}
        return {
            reason: found["tensorhub_batches_closed", tuple(sorted({**names, "reason": reason}.items()))]
            for reason in CLOSED_REASONS
        }

    before = closed()
    for batch in (8, 4, 1, 4, 4):
        infer(server, "gathering", batch=batch)
    grown = {"full": 1, "preferred": 3, "delay": 1}
    expected = {reason: count + grown.get(reason, 0) for reason, count in before.items()}
    wait_until(lambda: closed() == expected, "batches are counted", account=expected)
    assert 'tensorhub_batches_closed_total{model="gathering",reason="full",version="1"}' in page(server)
    assert 'tensorhub_batches_closed_total{model="plain"' not in page(server)


def test_counters_follow_the_requests(server: RunningServer) -> None:
    labels = {"model": "plain", "version": "1"}
    text = samples(page(server))

    def before(name: str, **more: str) -> float:
        return text[name, tuple(sorted({**labels, **more}.items()))]

    for batch in (1, 3):
        infer(server, "plain", batch=batch)
    with pytest.raises(tritonclient.http.InferenceServerException):
        infer(server, "plain", -1)
    count = before("nv_inference_exec_count") + 3
    wait_until(lambda: value(server, "nv_inference_exec_count", **labels) == count, "three executions are counted")
    assert value(server, "nv_inference_count", **labels) == before("nv_inference_count") + 4
    assert value(server, "nv_inference_request_success", **labels) == before("nv_inference_request_success") + 2
    for reason, more in (("BACKEND", 1), ("REJECTED", 0), ("CANCELED", 0), ("OTHER", 0)):
        name = "nv_inference_request_failure"
        assert value(server, name, reason=reason, **labels) == before(name, reason=reason) + more
    assert value(server, "nv_inference_request_duration_us", **labels) > before("nv_inference_request_duration_us")
    assert value(server, "nv_inference_pending_request_count", **labels) == 0
    assert value(server, "nv_model_load_duration_secs", **labels) > 0
    assert value(server, "nv_inference_request_summary_us_count", **labels) == value(
        server, "nv_inference_request_success", **labels
    )
    assert value(server, "nv_inference_request_summary_us", quantile="0.5", **labels) > 0
    assert value(server, "seen_rows", model="plain") == text["seen_rows", (("model", "plain"),)] + 5


def test_a_model_chooses_the_buckets_of_its_histogram_and_its_tags(server: RunningServer) -> None:
    infer(server, "cached", 7)
    labels = {"model": "cached", "version": "1", "_team": 'a "b"'}
    name = "nv_inference_first_response_histogram_ms"
    total = lambda: value(server, f"{name}_count", **labels)  # noqa: E731
    wait_until(lambda: total() >= 1, "it is counted")
    assert value(server, f"{name}_bucket", le="60000", **labels) == total()
    assert value(server, f"{name}_bucket", le="+Inf", **labels) == total()
    assert f'{name}_bucket{{model="plain",version="1",le="100"}}' in page(server)


def test_the_servers_own_families(server: RunningServer) -> None:
    assert value(server, "tensorhub_processes", role="worker") == 2
    assert value(server, "tensorhub_processes", role="http") == 1
    assert value(server, "tensorhub_processes", role="grpc") == 1
    assert value(server, "tensorhub_process_restarts", role="worker") == 0
    assert value(server, "tensorhub_shared_memory_regions", kind="system") == 0
    for process in ("cpu0", "cpu1", "http", "grpc"):
        for name in ("tensorhub_open_requests", "tensorhub_arena_used_bytes"):
            wait_until(lambda name=name, process=process: value(server, name, process=process) == 0, f"no {name}")  # type: ignore[misc]
        assert value(server, "tensorhub_arena_total_bytes", process=process) > 0


def test_a_model_that_is_unloaded_has_no_metrics_and_a_reload_begins_at_zero(server: RunningServer) -> None:
    infer(server, "cached", 8)
    with tritonclient.http.InferenceServerClient(server.http) as client:
        client.unload_model("cached")
        wait_until(lambda: 'model="cached"' not in page(server), "its metrics are gone")
        client.load_model("cached")
    assert value(server, "nv_inference_count", model="cached", version="1", _team='a "b"') == 0


_OF_GPUS = re.compile(r"nv_gpu_|nv_energy_")


def test_every_query_of_the_dashboard_names_a_metric_and_labels_that_are_there(server: RunningServer) -> None:
    infer(server, "plain", 9)
    infer(server, "cached", 9)
    dashboard = json.loads((PROJECT / "etc" / "grafana" / "tensorhub.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    queries += [item["query"] for item in dashboard["templating"]["list"]]
    labels: dict[str, set[str]] = {}
    for line in page(server).splitlines():
        match = re.match(r"(\w+)(?:\{(.*)\})? ", line)
        if match is not None:
            labels.setdefault(match[1], set()).update(re.findall(r'(\w+)="', match[2] or ""))
    named = {name for query in queries for name in re.findall(r"\b(?:nv|tensorhub)_\w+", query)}
    assert len(named) > 25
    assert {name for name in named if name not in labels and not _OF_GPUS.match(name)} == set()
    for query in queries:
        for name, matchers in re.findall(r"\b((?:nv|tensorhub)_\w+)\{([^}]*)\}", query):
            if name in labels:
                wanted = set(re.findall(r"(\w+)=", matchers)) - {"job", "instance"}
                assert wanted <= labels[name], query
    known = set.union(*labels.values()) | {"job", "instance", "gpu_uuid"}
    assert {
        name for query in queries for by in re.findall(r"by \(([^)]*)\)", query) for name in by.split(", ")
    } <= known


def test_a_wrong_metrics_config_and_a_taken_port_are_told_at_the_start(server: RunningServer, tmp_path: Path) -> None:
    common = ("tensorhub", "serve", f"--model-repository={tmp_path}", "--http-address=127.0.0.1")
    http, grpc, metrics = free_ports(3)
    ports = (f"--http-port={http}", f"--grpc-port={grpc}", "--grpc-address=127.0.0.1", f"--run-dir={tmp_path}/run")
    code, text = run_to_end(*common, *ports, f"--metrics-port={metrics}", "--metrics-config=summary_latencies=maybe")
    assert (code, "summary_latencies: got 'maybe'" in text) == (1, True)
    taken = server.metrics.rpartition(":")[2]
    code, text = run_to_end(*common, *ports, f"--metrics-port={taken}")
    assert (code, f"127.0.0.1:{taken} (--metrics-port)" in text) == (1, True)
