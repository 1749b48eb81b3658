"""The package keeps to the table of layers, and the check notices when it does not."""

import pytest

from tools import layers
from tools.layers import Layer


def test_package_keeps_to_the_table() -> None:
    assert layers.check_tree() == []


def test_every_exception_is_needed() -> None:
    found = layers.check(layers.read_tree(), exceptions=())
    for importer, imported in layers.EXCEPTIONS:
        assert any(line.startswith(f"{importer}:") and f" imports {imported}: " in line for line in found)


def test_tables_agree() -> None:
    packages = {name.split(".")[1] for name in layers.LAYERS if "." in name}
    vocabulary = {
        name.split(".")[1] for name, layer in layers.LAYERS.items() if layer is Layer.VOCABULARY and "." in name
    }
    assert packages - vocabulary == set(layers.REACHES)
    for reached in layers.REACHES.values():
        assert reached <= set(layers.REACHES)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        pytest.param("tensorhub.ipc.wire", "from tensorhub.ipc import node", id="up, by from"),
        pytest.param("tensorhub.errors", "import tensorhub.protocol.messages", id="up, by import"),
        pytest.param("tensorhub.errors", "def f():\n    from tensorhub.protocol import messages", id="in a function"),
        pytest.param(
            "tensorhub.frontend.catalog",
            "if TYPE_CHECKING:\n    from tensorhub.frontend.gateway import Gateway",
            id="for types only",
        ),
        pytest.param("tensorhub.errors", "import_module('tensorhub.protocol.messages')", id="by import_module"),
        pytest.param("tensorhub.http.infer", "from tensorhub.workers import loop", id="frontend to worker"),
        pytest.param("tensorhub.grpc.state", "import tensorhub.hub.state", id="frontend to hub"),
        pytest.param("tensorhub.http.infer", "import tensorhub.grpc.engine", id="edge to edge"),
        pytest.param("tensorhub.http.infer", "from tensorhub.backends import port", id="frontend to backends"),
        pytest.param("tensorhub.workers.loop", "from tensorhub.frontend import port", id="worker to frontend"),
        pytest.param("tensorhub.workers.main", "import tensorhub.hub.main", id="worker to hub"),
        pytest.param("tensorhub.ipc.wire", "from . import arena", id="relative"),
        pytest.param("tensorhub.workers.schedulers.port", "import time", id="clock in a pure module"),
        pytest.param("tensorhub.hub.state", "import zmq", id="library in the wrong module"),
        pytest.param("tensorhub.http.app", "from requests import get", id="unknown library"),
        pytest.param("tensorhub.novelty", "", id="module without a layer"),
        pytest.param("tensorhub.errors", "import tensorhub.novelty", id="import of one without a layer"),
    ],
)
def test_violation_is_found(module: str, source: str) -> None:
    others = dict.fromkeys(layers.modules(), "")
    found = layers.check(others | {module: source})
    assert len(found) == 1
    assert found[0].startswith(f"{module}:")


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("tensorhub.http.infer", "from tensorhub.ipc import wire"),
        ("tensorhub.workers.loop", "from tensorhub.backends.registry import find_backend"),
        ("tensorhub.ipc.hub_line", "import zmq, time, threading"),
        ("tensorhub.grpc.threads", "from grpc import aio"),
    ],
)
def test_what_is_allowed(module: str, source: str) -> None:
    others = dict.fromkeys(layers.modules(), "")
    assert layers.check(others | {module: source}) == []


def test_longest_name_decides() -> None:
    assert layers.layer_of("tensorhub.hub.main") is Layer.EDGE
    assert layers.layer_of("tensorhub.hub.anything") is Layer.ASSEMBLY
    assert layers.layer_of("tensorhub.anything") is None
