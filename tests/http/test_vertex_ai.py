"""The endpoint for Vertex AI: the default model, redirections, metrics, and what is refused. See also conformance."""

import json
import urllib.request
from pathlib import Path

import pytest

from tensorhub.hosting import VertexEnvironment
from tensorhub.http.app import App
from tensorhub.http.vertex_ai import VertexAiApp
from tests.http.asgi_client import Answer, ask
from tests.http.fake_gateway import FakeGateway, snapshot
from tests.serving import free_ports, is_ready, serving

_ENVIRONMENT = VertexEnvironment("/v1/endpoints/1:predict", "/v1/health")
_PREDICT = _ENVIRONMENT.predict_route
_BODY = json.dumps({"inputs": [{"name": "A", "datatype": "INT32", "shape": [1], "data": [1]}]}).encode()


def _app(**options: str) -> VertexAiApp:
    gateway = FakeGateway(snapshot(**options))

    async def join() -> FakeGateway:
        return gateway

    return VertexAiApp(App(join), _ENVIRONMENT)


def _redirect(app: VertexAiApp, place: str, method: str = "POST") -> Answer:
    return ask(app, method, _PREDICT, headers=[("X-Vertex-Ai-Triton-Redirect", place)])


def test_the_default_model() -> None:
    answer = ask(_app(vertex_ai_default_model="echo"), "POST", _PREDICT, _BODY)
    assert (answer.status, answer.json()["model_name"]) == (200, "echo")
    answer = ask(_app(), "POST", _PREDICT, _BODY)
    assert (answer.status, "only a single model" in answer.json()["error"]) == (400, True)
    answer = ask(_app(vertex_ai_default_model="nobody"), "POST", _PREDICT, _BODY)
    assert (answer.status, answer.json()["error"]) == (400, "Expect the default model 'nobody' is loaded")


@pytest.mark.parametrize(
    "place",
    [
        "v2/repository/models/echo/load",
        "v2/repository/r/models/echo/unload",
        "v2/systemsharedmemory/region/r/register",
        "v2/systemsharedmemory/unregister",
        "v2/cudasharedmemory/region/r/register",
        "v2/cudasharedmemory/unregister",
    ],
)
def test_a_redirection_changes_nothing(place: str) -> None:
    answer = _redirect(_app(), place)
    assert (answer.status, answer.body) == (403, b"")


@pytest.mark.parametrize("place", ["v2/models/echo/generate", "v2/logging", "v2/docs", "../v2", "v2?", "", "metrics/x"])
def test_a_redirection_leads_to_known_places_only(place: str) -> None:
    assert _redirect(_app(), place).status == 400


def test_restricted_operations_are_restricted_behind_a_redirection_too() -> None:
    app = _app(http_restricted_api="metadata,inference:key=secret", vertex_ai_default_model="echo")
    for place in ("v2", "v2/models/echo", "v2/models/echo/infer"):
        assert _redirect(app, place).status == 403
    assert ask(app, "POST", _PREDICT, _BODY).status == 403
    assert ask(app, "POST", _PREDICT, _BODY, headers=[("key", "secret")]).status == 200


def test_no_metrics_if_they_are_off_or_not_to_be_had() -> None:
    assert _redirect(_app(allow_metrics="false"), "metrics").status == 400
    [port] = free_ports(1)
    assert _redirect(_app(metrics_port=str(port), metrics_address="127.0.0.1"), "metrics").status == 400


def test_a_server_as_vertex_ai_starts_it(tmp_path: Path) -> None:
    [port] = free_ports(1)
    environ = {
        "AIP_MODE": "PREDICTION",
        "AIP_HTTP_PORT": str(port),
        "AIP_PREDICT_ROUTE": "/predict",
        "AIP_HEALTH_ROUTE": "/health",
    }

    def healthy(http_port: int) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=60) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    with serving(tmp_path, ["--vertex-ai-default-model=add_sub"], ready=healthy, environ=environ) as server:
        assert not is_ready(int(server.http.rpartition(":")[2])), "HTTP is off"
        row = list(range(16))
        inputs = [{"name": name, "datatype": "INT32", "shape": [1, 16], "data": row} for name in ("INPUT0", "INPUT1")]
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/predict", json.dumps({"inputs": inputs}).encode(), method="POST"
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            outputs = {item["name"]: item["data"] for item in json.loads(answer.read())["outputs"]}
        assert outputs["OUTPUT0"] == [2 * value for value in row]
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/predict", b"", {"X-Vertex-Ai-Triton-Redirect": "metrics"}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert b'nv_inference_request_success{model="add_sub"' in answer.read()
