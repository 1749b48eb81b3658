"""What the processes of a server do not import: up to some megabytes each, in a process that has no use for it.

Measured in a real server that has loaded a model, answered over both protocols and been scraped, as its processes end.
"""

import urllib.request
from collections.abc import Mapping

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http

from tests.serving import serving

_SITE = """import atexit, os, sys

def note():
    with open(f"{os.environ['MODULES_FOLDER']}/{os.getpid()}", "w") as file:
        file.write("\\n".join([" ".join(sys.orig_argv), *sys.modules]))

atexit.register(note)
"""
_KINDS = {
    " tensorhub serve": "serve",
    "tensorhub.hub.main": "hub",
    "tensorhub.workers.main": "worker",
    "gunicorn": "http",
    "tensorhub.grpc.main": "grpc",
}

_NOWHERE = {
    "difflib",
    "encodings.idna",
    "google.protobuf.descriptor_pb2",
    "google.protobuf.json_format",
    "tensorhub.decorator",
    "tomllib",
}
_NOT_WITHOUT_ASYNCIO = {"asyncio", "ssl", "falcon", "grpc", "gunicorn", "uvloop"}
_NOT_WITHOUT_GUNICORN = {
    "argparse",
    "email",
    "html",
    "http",
    "importlib.metadata",
    "importlib.resources",
    "logging.handlers",
}
_ABSENT: Mapping[str, set[str]] = {
    "serve": _NOWHERE | _NOT_WITHOUT_ASYNCIO | _NOT_WITHOUT_GUNICORN | {"hashlib", "numpy", "orjson", "tempfile"},
    "hub": _NOWHERE
    | _NOT_WITHOUT_ASYNCIO
    | _NOT_WITHOUT_GUNICORN
    | {"numpy", "orjson", "subprocess", "tempfile", "zmq"},
    "worker": _NOWHERE
    | _NOT_WITHOUT_ASYNCIO
    | _NOT_WITHOUT_GUNICORN
    | {"hashlib", "orjson", "subprocess", "tempfile", "tensorhub.workers.caching"},
    "http": _NOWHERE | {"grpc", "numpy", "tensorhub.settings"},
    "grpc": _NOWHERE | _NOT_WITHOUT_GUNICORN | {"falcon", "numpy", "orjson", "tempfile"},
}


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, set[str]]:
    """The modules of each kind of process; those of all of its processes together."""
    folder = tmp_path_factory.mktemp("modules")
    site = tmp_path_factory.mktemp("site")
    (site / "sitecustomize.py").write_text(_SITE)
    environ = {"PYTHONPATH": str(site), "MODULES_FOLDER": str(folder)}
    with serving(
        tmp_path_factory.mktemp("work"), ["--model-control-mode=explicit", "--load-model=add_sub"], environ=environ
    ) as server:
        for library, address in ((tritonclient.http, server.http), (tritonclient.grpc, server.grpc)):
            inputs = [library.InferInput(name, [1, 16], "INT32") for name in ("INPUT0", "INPUT1")]
            for item in inputs:
                item.set_data_from_numpy(np.ones((1, 16), np.int32))
            with library.InferenceServerClient(address) as client:
                client.infer("add_sub", inputs)
        with urllib.request.urlopen(f"http://{server.metrics}/metrics") as page:
            assert b"nv_inference_count" in page.read()
    found: dict[str, set[str]] = {}
    for file in folder.iterdir():
        argv, *modules = file.read_text().split("\n")
        kind = next((kind for word, kind in _KINDS.items() if word in argv), "")
        found.setdefault(kind, set()).update(modules)
    return found


@pytest.mark.parametrize("kind", _ABSENT)
def test_what_is_not_imported(imported: Mapping[str, set[str]], kind: str) -> None:
    assert len(imported[kind]) > 100
    assert sorted(imported[kind] & _ABSENT[kind]) == []
