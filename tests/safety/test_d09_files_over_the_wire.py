"""D9: no request says which file the server writes, and what clients say cannot forge a line of the log."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.safety.client import Http
from tests.serving import RunningServer


@pytest.mark.parametrize(
    ("path", "document"),
    [
        ("/v2/logging", {"log_file": "{file}"}),
        ("/v2/trace/setting", {"trace_file": "{file}"}),
        ("/v2/trace/setting", {"trace_file": ["{file}"]}),
        ("/v2/models/identity/trace/setting", {"trace_file": "{file}"}),
    ],
)
def test_no_request_chooses_a_file(http: Http, tmp_path: Path, path: str, document: dict[str, Any]) -> None:
    target = tmp_path / "chosen"
    sent = json.loads(json.dumps(document).replace("{file}", str(target)))
    status, body = http.ask("POST", path, sent)
    assert status != 200, body
    assert http.ask("POST", "/v2/models/nothing/infer", {"inputs": []})[0] >= 400
    assert not target.exists()
    _, settings = http.ask("GET", path)
    assert str(target).encode() not in settings


def test_log_lines_cannot_be_forged(guarded: RunningServer, http: Http, safety_log: Path) -> None:
    forged = "forged-line"
    controls = ("\n", "\r\n", "\x1b[2J", "\0", "\u2028", "\x85", "\x9b")
    texts = [f"x{control}{forged}" for control in controls]
    for text in texts:
        http.register("d09", text, 0, 64)
        document = {"id": text, "inputs": [{"name": text, "shape": [1], "datatype": text, "data": [1]}]}
        http.ask("POST", "/v2/models/identity/infer", document)
        http.ask("POST", "/v2/models/text/infer", document)
        http.ask("POST", "/v2/repository/models/d09/load", {"parameters": {"config": text}})
    content = safety_log.read_bytes().decode("utf-8", "replace")
    assert not any(line.startswith(forged) for line in content.splitlines())
    assert not [char for char in content if ord(char) < 32 and char not in "\n\t"]
    assert "\x9b" not in content


def test_credentials_are_not_logged(guarded: RunningServer, http: Http, safety_log: Path) -> None:
    secret = "d09-secret-d09"
    headers = {"Authorization": f"Bearer {secret}", "Cookie": secret, "X-Api-Key": secret}
    for method, path in (("GET", "/v2"), ("POST", "/v2/models/identity/infer"), ("GET", f"/v2/x?token={secret}")):
        http.ask(method, path, b"{", headers)
    assert secret not in safety_log.read_text("utf-8", "replace")
