"""The private descriptor pool: fresh, the same on the wire as Triton's client, and no hindrance to it."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FileDescriptorProto
from tritonclient.grpc import model_config_pb2, service_pb2

from tensorhub.protocol import messages
from tools import check

CLIENT_FILES = (service_pb2.DESCRIPTOR, model_config_pb2.DESCRIPTOR)


def _proto(file: object) -> FileDescriptorProto:
    proto = FileDescriptorProto()
    file.CopyToProto(proto)  # type: ignore[attr-defined]
    return proto


def _all_messages(prefix: str, message: DescriptorProto) -> Iterator[tuple[str, DescriptorProto]]:
    name = f"{prefix}.{message.name}"
    yield name, message
    for nested in message.nested_type:
        yield from _all_messages(name, nested)


def _client_messages() -> dict[str, DescriptorProto]:
    return {
        name: found
        for file in map(_proto, CLIENT_FILES)
        for message in file.message_type
        for name, found in _all_messages(file.package, message)
    }


def _client_enums() -> dict[str, EnumDescriptorProto]:
    enums = {f"{file.package}.{enum.name}": enum for file in map(_proto, CLIENT_FILES) for enum in file.enum_type}
    for name, message in _client_messages().items():
        enums |= {f"{name}.{enum.name}": enum for enum in message.enum_type}
    return enums


CLIENT_MESSAGES = _client_messages()
CLIENT_ENUMS = _client_enums()


def _fields(message: DescriptorProto) -> dict[int, tuple[object, ...]]:
    """By number: all of a field that shows on the wire or in text format."""
    oneofs = [oneof.name for oneof in message.oneof_decl]
    return {
        field.number: (
            field.name,
            field.type,
            field.label,
            field.type_name,
            oneofs[field.oneof_index] if field.HasField("oneof_index") else None,
            field.proto3_optional,
            field.options.packed if field.options.HasField("packed") else None,
        )
        for field in message.field
    }


def test_descriptor_set_is_what_the_sources_give() -> None:
    assert check.descriptor_set() == ""


def test_client_has_messages_to_compare() -> None:
    assert {"inference.ModelInferRequest", "inference.ModelConfig"} <= set(CLIENT_MESSAGES)
    assert "inference.DataType" in CLIENT_ENUMS


@pytest.mark.parametrize("name", sorted(CLIENT_MESSAGES))
def test_message_is_the_same_as_the_clients(name: str) -> None:
    ours = DescriptorProto()
    messages.message_class(name).DESCRIPTOR.CopyToProto(ours)
    theirs = CLIENT_MESSAGES[name]
    assert ours.options.map_entry == theirs.options.map_entry
    assert _fields(ours) == _fields(theirs)


@pytest.mark.parametrize("name", sorted(CLIENT_MESSAGES))
def test_json_names_are_the_same_as_the_clients(name: str) -> None:
    ours = messages.message_class(name).DESCRIPTOR.fields
    theirs = service_pb2.DESCRIPTOR.pool.FindMessageTypeByName(name).fields
    assert {field.number: field.json_name for field in ours} == {field.number: field.json_name for field in theirs}


@pytest.mark.parametrize("name", sorted(CLIENT_ENUMS))
def test_enum_is_the_same_as_the_clients(name: str) -> None:
    theirs = {(value.name, value.number) for value in CLIENT_ENUMS[name].value}
    ours = {(value.name, value.number) for value in messages.POOL.FindEnumTypeByName(name).values}
    assert ours == theirs


@pytest.mark.parametrize("name", sorted(service_pb2.DESCRIPTOR.services_by_name))
def test_service_is_the_same_as_the_clients(name: str) -> None:
    theirs = service_pb2.DESCRIPTOR.services_by_name[name]
    ours = messages.service(theirs.full_name)

    def methods(service: object) -> set[tuple[str, str, str, bool, bool]]:
        return {
            (
                method.name,
                method.input_type.full_name,
                method.output_type.full_name,
                method.client_streaming,
                method.server_streaming,
            )
            for method in service.methods  # type: ignore[attr-defined]
        }

    assert methods(ours) == methods(theirs)


@pytest.mark.parametrize(
    "order",
    [
        ("tensorhub.protocol.messages", "tritonclient.grpc"),
        ("tritonclient.grpc", "tensorhub.protocol.messages"),
    ],
)
def test_loads_beside_the_client_in_one_process(order: tuple[str, str]) -> None:
    program = (
        f"import {order[0]}, {order[1]}\n"
        "from tensorhub.protocol import messages\n"
        "from tritonclient.grpc import service_pb2\n"
        "theirs = service_pb2.ModelInferRequest(model_name='m', id='1')\n"
        "theirs.parameters['p'].int64_param = 3\n"
        "ours = messages.ModelInferRequest.FromString(theirs.SerializeToString())\n"
        "assert (ours.model_name, ours.id, ours.parameters['p'].int64_param) == ('m', '1', 3)\n"
        "assert type(ours) is not type(theirs)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_unknown_name_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        messages.message_class("inference.NoSuchMessage")
    with pytest.raises(KeyError):
        messages.service("inference.NoSuchService")
