"""Server reflection, through both engines."""

from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool

from tensorhub.grpc import reflection
from tensorhub.grpc.engine import UNSENT_LIMIT, Endpoint, Engine, StreamMethod, UnaryMethod
from tensorhub.grpc.routes import SERVICES, methods
from tensorhub.protocol import messages
from tests.waiting import wait_until

from .conftest import Serve, running
from .fake_gateway import FakeGateway
from .raw_http2 import DATA, END_STREAM, HEADERS, RawClient, messages_in

Request = messages.message_class("grpc.reflection.v1.ServerReflectionRequest")
Response = messages.message_class("grpc.reflection.v1.ServerReflectionResponse")


@pytest.fixture
def channel(serve: Serve, gateway: FakeGateway) -> grpc.Channel:
    return serve(methods(gateway))[1]


def ask(channel: grpc.Channel, *requests: Any, service: str = reflection.SERVICE) -> list[Any]:
    call = channel.stream_stream(f"/{service}/{reflection.METHOD}")
    return [Response.FromString(item) for item in call(iter([made.SerializeToString() for made in requests]))]


@pytest.mark.parametrize("service", [reflection.SERVICE, reflection.OLD_SERVICE])
def test_the_services(channel: grpc.Channel, service: str) -> None:
    made = Request(host="h", list_services="*")
    (answer,) = ask(channel, made, service=service)
    assert [item.name for item in answer.list_services_response.service] == sorted(SERVICES)
    assert (answer.valid_host, answer.original_request) == ("h", made)


@pytest.mark.parametrize(
    "made",
    [
        Request(file_by_filename="grpc_service.proto"),
        Request(file_containing_symbol="inference.GRPCInferenceService"),
        Request(file_containing_symbol="inference.GRPCInferenceService.ModelInfer"),
        Request(file_containing_symbol="inference.ModelInferRequest.InferInputTensor"),
    ],
)
def test_a_client_can_build_the_messages(channel: grpc.Channel, made: Any) -> None:
    (answer,) = ask(channel, made)
    files = map(descriptor_pb2.FileDescriptorProto.FromString, answer.file_descriptor_response.file_descriptor_proto)
    by_name = {file.name: file for file in files}
    assert set(by_name) == {"grpc_service.proto", "model_config.proto"}
    pool = descriptor_pool.DescriptorPool()
    for name in ("model_config.proto", "grpc_service.proto"):
        pool.Add(by_name[name])
    service = pool.FindServiceByName("inference.GRPCInferenceService")
    assert service.FindMethodByName("ModelInfer").input_type.full_name == "inference.ModelInferRequest"


@pytest.mark.parametrize(
    "made",
    [
        Request(file_by_filename="nothing.proto"),
        Request(file_by_filename="wire.proto"),
        Request(file_containing_symbol="tensorhub.wire.Snapshot"),
        Request(file_containing_symbol="inference.Nothing"),
        Request(all_extension_numbers_of_type="inference.Nothing"),
        Request(file_containing_extension={"containing_type": "inference.ModelInferRequest", "extension_number": 1}),
    ],
)
def test_what_is_not_shown(channel: grpc.Channel, made: Any) -> None:
    (answer,) = ask(channel, made)
    assert answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


def test_no_extensions(channel: grpc.Channel) -> None:
    (answer,) = ask(channel, Request(all_extension_numbers_of_type="inference.ModelInferRequest"))
    assert answer.all_extension_numbers_response.base_type_name == "inference.ModelInferRequest"


def test_several_questions_on_one_call(channel: grpc.Channel) -> None:
    answers = ask(channel, Request(list_services=""), Request(), Request(file_by_filename="health.proto"))
    assert [item.WhichOneof("message_response") for item in answers] == [
        "list_services_response",
        "error_response",
        "file_descriptor_response",
    ]


def test_bytes_that_are_no_request(channel: grpc.Channel) -> None:
    call = channel.stream_stream(f"/{reflection.SERVICE}/{reflection.METHOD}")(iter([b"\xff"]))
    with pytest.raises(grpc.RpcError):
        list(call)
    assert call.code() is grpc.StatusCode.INTERNAL


def test_a_client_that_does_not_read_is_asked_for_no_more(engine_class: type[Engine]) -> None:
    """An answer is a thousand times as large as its question, so that no number of them may wait here."""

    class Counting(reflection.ServerReflection):
        answered = 0

        def answer(self, request: Any) -> Any:
            self.answered += 1
            return super().answer(request)

    service, count = Counting(SERVICES), 1_000
    path, other = f"/{reflection.SERVICE}/{reflection.METHOD}", "/test.Service/Echo"
    table = {path: StreamMethod(service), other: UnaryMethod(lambda call, message: call.reply(message))}
    question = Request(file_by_filename="health.proto").SerializeToString()
    with running(engine_class(table, Endpoint("127.0.0.1:0"))) as port, RawClient(port, window=0) as client:  # type: ignore[call-arg]
        client.open(1, path)
        for _ in range(count):
            client.message(1, question)
        wait_until(lambda: service.answered > UNSENT_LIMIT)
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            for _ in range(50):
                channel.unary_unary(other)(b"")
        assert service.answered < 2 * UNSENT_LIMIT
        client.allow(0, 2**30)
        client.allow(1, 2**30)
        got = bytearray()
        client.frame(DATA, END_STREAM, 1)
        for kind, flags, _, payload in client.frames():
            got += payload if kind == DATA else b""
            if kind == HEADERS and flags & END_STREAM:
                break
    assert service.answered == sum(1 for _ in messages_in(bytes(got))) == count
