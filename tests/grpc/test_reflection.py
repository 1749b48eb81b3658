"""Server reflection, through both engines."""

from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool

from tensorhub.grpc import reflection
from tensorhub.grpc.routes import SERVICES, methods
from tensorhub.protocol import messages

from .conftest import Serve
from .fake_gateway import FakeGateway

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
