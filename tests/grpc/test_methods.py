"""Every method but inference, through both engines, with a fake gateway behind."""

from typing import Any

import grpc
import pytest

from tensorhub.errors import Code, Unavailable
from tensorhub.frontend.catalog import NO_HUB
from tensorhub.grpc import health, reflection
from tensorhub.grpc.answering import MAX_DETAILS_SIZE
from tensorhub.grpc.routes import INFERENCE, methods
from tensorhub.protocol import messages
from tensorhub.version import VERSION

from .conftest import Serve
from .fake_gateway import FakeGateway, control_error

Answer = tuple[str, Any]


class Client:
    """Calls methods with messages; an error is ("CODE", "details")."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel

    def raw(self, path: str, body: bytes) -> Answer:
        try:
            return "OK", self._channel.unary_unary(path)(body, timeout=60)
        except grpc.RpcError as exc:
            return exc.code().name, exc.details()

    def __call__(self, name: str, request: Any = None, /, **fields: Any) -> Answer:
        """Call the method with `request`, or with one made of `fields`."""
        service = health.SERVICE if name == "Check" else INFERENCE
        method = messages.service(service).methods_by_name[name]
        if request is None:
            request = messages.message_class(method.input_type.full_name)(**fields)
        code, answer = self.raw(f"/{service}/{name}", request.SerializeToString())
        if code == "OK":
            answer = messages.message_class(method.output_type.full_name).FromString(answer)
        return code, answer


@pytest.fixture
def client(serve: Serve, gateway: FakeGateway) -> Client:
    _, channel = serve(methods(gateway))
    return Client(channel)


def test_live_and_ready(client: Client, gateway: FakeGateway) -> None:
    assert client("ServerLive")[1].live
    assert client("ServerReady")[1].ready
    assert client("Check")[1].status == 1
    assert client("Check", service="anything")[1].status == 1
    gateway.state.started = False
    gateway.publish()
    assert not client("ServerLive")[1].live
    code, answer = client("ServerReady")
    assert (code, answer.ready) == ("OK", False)
    assert client("Check")[1].status == 2


def test_a_server_that_stops(client: Client, gateway: FakeGateway) -> None:
    gateway.state.stopping = True
    gateway.publish()
    for name in ("ServerLive", "ServerReady", "Check", "RepositoryIndex"):
        assert client(name) == ("UNAVAILABLE", "Server exiting")


@pytest.mark.parametrize(
    "name",
    [
        "ServerLive",
        "ServerReady",
        "Check",
        "ServerMetadata",
        "ModelReady",
        "ModelMetadata",
        "ModelConfig",
        "ModelInfer",
        "RepositoryIndex",
        "RepositoryModelLoad",
        "SystemSharedMemoryStatus",
        "CudaSharedMemoryRegister",
    ],
)
def test_without_a_hub(client: Client, gateway: FakeGateway, name: str) -> None:
    gateway.disconnect()
    assert client(name) == ("UNAVAILABLE", NO_HUB)


def test_model_ready(client: Client) -> None:
    assert client("ModelReady", name="add_sub")[1].ready
    assert client("ModelReady", name="add_sub", version="1")[1].ready
    for name, version in (("nobody", ""), ("", ""), ("add_sub", "9"), ("old", "2")):
        code, answer = client("ModelReady", name=name, version=version)
        assert (code, answer.ready) == ("OK", False)


@pytest.mark.parametrize("name", ["ModelReady", "ModelMetadata", "ModelConfig"])
@pytest.mark.parametrize(
    ("version", "details"),
    [
        (
            "x",
            "failed to get model version from specified version string 'x' (details: stol), version should be an "
            "integral value > 0",
        ),
        ("-3", "invalid model version specified '-3' , version should be an integral value > 0"),
    ],
)
def test_a_version_that_is_none(client: Client, name: str, version: str, details: str) -> None:
    assert client(name, name="add_sub", version=version) == ("INVALID_ARGUMENT", details)


def test_server_metadata(client: Client, gateway: FakeGateway) -> None:
    _, answer = client("ServerMetadata")
    assert (answer.name, answer.version) == ("triton", VERSION)
    assert "binary_tensor_data" in answer.extensions
    gateway.state.settings["id"] = "mine"
    gateway.publish()
    assert client("ServerMetadata")[1].name == "mine"


def test_model_metadata_and_config(client: Client) -> None:
    _, answer = client("ModelMetadata", name="add_sub")
    assert (answer.name, list(answer.versions), answer.platform) == ("add_sub", ["1"], "python")
    assert [(item.name, item.datatype, list(item.shape)) for item in answer.inputs] == [
        ("INPUT0", "INT32", [-1, 16]),
        ("INPUT1", "INT32", [-1, 16]),
    ]
    assert list(client("ModelMetadata", name="old", version="1")[1].versions) == ["1"]
    _, answer = client("ModelConfig", name="add_sub")
    assert (answer.config.name, answer.config.max_batch_size) == ("add_sub", 8)


@pytest.mark.parametrize("name", ["ModelMetadata", "ModelConfig"])
def test_a_model_that_is_unknown(client: Client, name: str) -> None:
    assert client(name, name="x") == ("NOT_FOUND", "Request for unknown model: 'x' is not found")
    assert client(name, name="add_sub", version="9") == (
        "NOT_FOUND",
        "Request for unknown model: 'add_sub' version 9 is not found",
    )
    assert client(name, name="old", version="2") == (
        "UNAVAILABLE",
        "Request for unknown model: 'old' version 2 is not at ready state",
    )


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("ServerLive", b"\xff\xff\xff"),
        ("ServerLive", b"\x0a"),
        ("ModelReady", b"\x0a\x02\xff\xfe"),  # no UTF-8
        ("RepositoryIndex", b"\x0a\x05ab"),
        ("CudaSharedMemoryRegister", b"\x12\x05ab"),
    ],
)
def test_bytes_that_are_no_request(client: Client, name: str, body: bytes) -> None:
    assert client.raw(f"/{INFERENCE}/{name}", body) == ("INTERNAL", "Unable to parse request")


def test_index(client: Client, gateway: FakeGateway) -> None:
    result = messages.ControlResult()
    result.index.add(model="a", version=1, state="READY")
    result.index.add(model="b", version=2, state="UNAVAILABLE", reason="unloaded")
    result.index.add(model="c")
    gateway.on_control = lambda operation: result
    _, answer = client("RepositoryIndex")
    assert [(item.name, item.version, item.state, item.reason) for item in answer.models] == [
        ("a", "1", "READY", ""),
        ("b", "2", "UNAVAILABLE", "unloaded"),
        ("c", "", "", ""),
    ]
    assert [item.name for item in client("RepositoryIndex", ready=True)[1].models] == ["a"]
    assert gateway.operations[-1].WhichOneof("operation") == "repository_index"


@pytest.mark.parametrize("name", ["RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload"])
def test_a_repository_cannot_be_named(client: Client, gateway: FakeGateway, name: str) -> None:
    assert client(name, repository_name="r") == (
        "UNIMPLEMENTED",
        "'repository_name' specification is not supported",
    )
    assert gateway.operations == []


def _load(**parameters: dict[str, Any]) -> Any:
    request = messages.message_class("inference.RepositoryModelLoadRequest")(model_name="m")
    for key, value in parameters.items():
        for field, content in value.items():
            setattr(request.parameters[key], field, content)
    return request


def test_load(client: Client, gateway: FakeGateway) -> None:
    assert client("RepositoryModelLoad", model_name="m")[0] == "OK"
    order = gateway.operations[-1].load_model
    assert (order.name, order.has_config, dict(order.files)) == ("m", False, {})
    request = _load(**{"config": {"string_param": "{}"}, "file:1/model.py": {"bytes_param": b"\x00x"}})
    assert client("RepositoryModelLoad", request)[0] == "OK"
    order = gateway.operations[-1].load_model
    assert (order.has_config, order.config, dict(order.files)) == (True, "{}", {"1/model.py": b"\x00x"})


@pytest.mark.parametrize(
    ("parameters", "details"),
    [
        (
            {"config": {"bool_param": True}},
            "invalid value type for load parameter 'config', expected string_param.",
        ),
        (
            {"file:x": {"string_param": "a"}},
            "invalid value type for load parameter 'file:x', expected bytes_param.",
        ),
        ({"other": {"string_param": "a"}}, "unrecognized load parameter 'other'."),
    ],
)
def test_load_parameters_that_are_wrong(
    client: Client, gateway: FakeGateway, parameters: dict[str, Any], details: str
) -> None:
    assert client("RepositoryModelLoad", _load(**parameters)) == ("INVALID_ARGUMENT", details)
    assert gateway.operations == []


def test_unload(client: Client, gateway: FakeGateway) -> None:
    request = messages.message_class("inference.RepositoryModelUnloadRequest")(model_name="m")
    assert client("RepositoryModelUnload", request)[0] == "OK"
    assert gateway.operations[-1].unload_model.name == "m"
    assert not gateway.operations[-1].unload_model.unload_dependents
    request.parameters["other"].string_param = "ignored"
    request.parameters["unload_dependents"].bool_param = True
    assert client("RepositoryModelUnload", request)[0] == "OK"
    assert gateway.operations[-1].unload_model.unload_dependents
    request.parameters["unload_dependents"].string_param = "true"
    assert client("RepositoryModelUnload", request) == (
        "INVALID_ARGUMENT",
        "invalid value type for 'unload_dependents' parameter, expected bool_param.",
    )
    assert len(gateway.operations) == 2


def test_errors_of_the_hub(client: Client, gateway: FakeGateway) -> None:
    gateway.on_control = lambda operation: control_error(Code.UNAVAILABLE, "not now")
    assert client("RepositoryModelLoad", model_name="m") == ("UNAVAILABLE", "not now")
    gateway.on_control = lambda operation: Unavailable("the hub has died")
    assert client("RepositoryModelLoad", model_name="m") == ("UNAVAILABLE", "the hub has died")
    gateway.on_control = lambda operation: control_error(Code.UNKNOWN, "?")
    assert client("RepositoryModelUnload", model_name="m") == ("UNKNOWN", "?")


def test_a_long_error_is_shortened(client: Client, gateway: FakeGateway) -> None:
    for char in ("x", "\n", "ä", "☃"):
        gateway.on_control = lambda operation, char=char: control_error(Code.INVALID_ARG, char * 20_000)
        code, details = client("RepositoryModelLoad", model_name="m")
        assert code == "INVALID_ARGUMENT"
        assert details.endswith("...")
        assert MAX_DETAILS_SIZE / 12 < len(details) <= MAX_DETAILS_SIZE + 3


def test_regions(client: Client, gateway: FakeGateway) -> None:
    gateway.state.system_regions.add(name="s", key="/key", offset=4, byte_size=2**40)
    gateway.state.cuda_regions.add(name="c", device_id=1, byte_size=8)
    gateway.publish()
    _, answer = client("SystemSharedMemoryStatus")
    assert {name: (item.name, item.key, item.offset, item.byte_size) for name, item in answer.regions.items()} == {
        "s": ("s", "/key", 4, 2**40)
    }
    assert list(client("SystemSharedMemoryStatus", name="s")[1].regions) == ["s"]
    _, answer = client("CudaSharedMemoryStatus")
    assert {name: (item.name, item.device_id, item.byte_size) for name, item in answer.regions.items()} == {
        "c": ("c", 1, 8)
    }
    assert client("SystemSharedMemoryStatus", name="x") == (
        "NOT_FOUND",
        "Unable to find system shared memory region: 'x'",
    )
    assert client("CudaSharedMemoryStatus", name="x") == (
        "NOT_FOUND",
        "Unable to find cuda shared memory region: 'x'",
    )
    assert client("SystemSharedMemoryStatus", name="c") == (
        "NOT_FOUND",
        "The region named 'c' is registered as CUDA shared memory, not system shared memory",
    )
    assert client("CudaSharedMemoryStatus", name="s") == (
        "NOT_FOUND",
        "The region named 's' is registered as system shared memory, not CUDA shared memory",
    )


@pytest.mark.parametrize("allowed", ["true", "auto"])
def test_register_and_unregister(client: Client, gateway: FakeGateway, allowed: str) -> None:
    gateway.state.settings["allow-client-shm"] = allowed
    gateway.publish()
    assert client("SystemSharedMemoryRegister", name="r", key="/k", offset=8, byte_size=2**63)[0] == "OK"
    region = gateway.operations[-1].register_system
    assert (region.name, region.key, region.offset, region.byte_size) == ("r", "/k", 8, 2**63)
    assert client("CudaSharedMemoryRegister", name="r", raw_handle=b"\xff" * 64, device_id=-1, byte_size=8)[0] == "OK"
    cuda = gateway.operations[-1].register_cuda
    assert (cuda.name, cuda.raw_handle, cuda.device_id, cuda.byte_size) == ("r", b"\xff" * 64, -1, 8)
    assert client("SystemSharedMemoryUnregister", name="r")[0] == "OK"
    assert gateway.operations[-1].unregister_system.name == "r"
    assert client("CudaSharedMemoryUnregister")[0] == "OK"
    assert gateway.operations[-1].WhichOneof("operation") == "unregister_cuda"


@pytest.mark.parametrize("kind", ["System", "Cuda"])
@pytest.mark.parametrize("verb", ["Register", "Unregister"])
def test_client_shared_memory_may_be_off(client: Client, gateway: FakeGateway, kind: str, verb: str) -> None:
    gateway.state.settings["allow-client-shm"] = "false"
    gateway.publish()
    assert client(f"{kind}SharedMemory{verb}", name="r") == (
        "UNIMPLEMENTED",
        "Client shared memory is disabled. Start the server with '--allow-client-shm=true' to enable.",
    )
    assert gateway.operations == []
    assert client(f"{kind}SharedMemoryStatus")[0] == "OK"


def test_a_word_that_is_no_setting_allows_nothing(client: Client, gateway: FakeGateway) -> None:
    gateway.state.settings["allow-client-shm"] = "yes"
    gateway.publish()
    assert client("SystemSharedMemoryUnregister")[0] == "UNIMPLEMENTED"


def test_every_method_of_the_services_is_in_the_table(gateway: FakeGateway) -> None:
    table = methods(gateway)
    assert len(table) == 24
    services = (INFERENCE, health.SERVICE, reflection.SERVICE, reflection.OLD_SERVICE)
    assert all(name.startswith(tuple(f"/{service}/" for service in services)) for name in table)
