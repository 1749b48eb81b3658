"""The server against its own OpenAPI documents: whatever is asked, it answers what the document says.

TENSORHUB_OPENAPI_EXAMPLES is how many requests of each kind are made up.
"""

import os
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import requests
import schemathesis
from schemathesis.specs.openapi import checks

from tensorhub.protocol.openapi import OPERATIONS
from tests.serving import RunningServer, serving

_EXAMPLES = int(os.environ.get("TENSORHUB_OPENAPI_EXAMPLES", "5"))
_CHECKS = [checks.status_code_conformance, checks.content_type_conformance, checks.response_schema_conformance]
_SERVER = [(operation.method, path) for operation in OPERATIONS for path in operation.paths]
_POSITIVE, _NEGATIVE = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE
# What the document does not allow: only where it says anything about the request.
_CASES = [(*item, _POSITIVE) for item in _SERVER] + [
    (operation.method, path, _NEGATIVE)
    for operation in OPERATIONS
    for path in operation.paths
    if operation.body or "{" in path
]
_MODEL = [(f"/v2/models/add_sub/{action}", mode) for action in ("infer", "generate") for mode in (_POSITIVE, _NEGATIVE)]


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server of its own: what is logged and traced is changed at random."""
    with serving(tmp_path_factory.mktemp("openapi"), ["--allow-grpc=false"]) as running:
        yield running


@pytest.fixture(scope="module")
def whole_server(described: RunningServer) -> Any:
    return schemathesis.openapi.from_url(f"http://{described.http}/v2/openapi.json")


@pytest.fixture(scope="module")
def one_model(described: RunningServer) -> Any:
    return schemathesis.openapi.from_url(f"http://{described.http}/v2/models/add_sub/openapi.json")


def _ask(operation: Any, mode: schemathesis.GenerationMode, session: requests.Session) -> set[int]:
    """Ask what the document allows, or what it does not, and return the statuses of the answers."""
    statuses = set()

    @hypothesis.settings(max_examples=_EXAMPLES, database=None, suppress_health_check=list(hypothesis.HealthCheck))
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        answer = case.call(session=session, timeout=60)
        statuses.add(answer.status_code)
        case.validate_response(answer, checks=_CHECKS)

    ask()
    return statuses


@pytest.mark.parametrize(("method", "path", "mode"), _CASES)
def test_the_whole_server(whole_server: Any, method: str, path: str, mode: schemathesis.GenerationMode) -> None:
    with requests.Session() as session:
        _ask(whole_server[path][method], mode, session)


@pytest.mark.parametrize(("path", "mode"), _MODEL)
def test_one_model(one_model: Any, path: str, mode: schemathesis.GenerationMode) -> None:
    with requests.Session() as session:
        _ask(one_model[path]["POST"], mode, session)


def test_each_model_takes_the_request_that_its_document_shows(described: RunningServer) -> None:
    models = requests.get(f"http://{described.http}/v2/openapi.json", timeout=60).json()["x-models"]
    tried = 0
    for model in models:
        document = requests.get(f"http://{described.http}/v2/models/{model}/openapi.json", timeout=60).json()
        operation = document["paths"][f"/v2/models/{model}/infer"]["post"]
        example = operation["requestBody"]["content"]["application/json"].get("example")
        if example is None:
            continue
        tried += 1
        answer = requests.post(f"http://{described.http}/v2/models/{model}/infer", json=example, timeout=60)
        config = requests.get(f"http://{described.http}/v2/models/{model}/config", timeout=60).json()
        decoupled = config.get("model_transaction_policy", {}).get("decoupled")
        assert answer.status_code == (501 if decoupled else 200), answer.text
    assert tried >= 2
