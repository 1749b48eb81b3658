"""Protocol buffer message classes, from a descriptor set in a pool of our own.

There is no generated code, so nothing has to match a protobuf runtime, and because the pool is private a process can
also import `tritonclient.grpc`, which registers the same names in the default pool.

The classes keep Triton's package and names: `messages.ModelInferRequest` is `inference.ModelInferRequest`.
"""

import pkgutil
from collections.abc import Iterator
from typing import Any

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message

__all__ = ["DecodeError", "Message", "message_class", "service"]

_DESCRIPTOR_SET = "descriptors/tensorhub.binpb"
_FILE_TAG = 1 << 3 | 2
"""Field 1, `file`, as bytes with their length."""


def _load_pool() -> descriptor_pool.DescriptorPool:
    data = pkgutil.get_data("tensorhub", _DESCRIPTOR_SET)  # importlib.resources would bring 1 MB into every process
    if data is None:
        raise ImportError(f"{_DESCRIPTOR_SET} cannot be read where the package is")
    pool = descriptor_pool.DescriptorPool()
    for file in _files(data):
        pool.AddSerializedFile(file)
    return pool


def _files(descriptor_set: bytes) -> Iterator[bytes]:
    """Yield the serialised files of a `google.protobuf.FileDescriptorSet`: it is nothing but a list of them.

    Each is a tag, a length in groups of seven bits, the lowest first, and the file. Protobuf's own class for it is in
    `descriptor_pb2`, which would bring 0.6 MB into every process.
    """
    position = 0
    while position < len(descriptor_set):
        if descriptor_set[position] != _FILE_TAG:
            raise ImportError(f"{_DESCRIPTOR_SET} is no set of files: byte {position} is no tag of one")
        size = shift = 0
        while True:
            position += 1
            size |= (descriptor_set[position] & 0x7F) << shift
            shift += 7
            if descriptor_set[position] < 0x80:
                break
        yield descriptor_set[position + 1 : position + 1 + size]
        position += 1 + size


POOL = _load_pool()


def message_class(full_name: str) -> Any:
    """Return the message class of `full_name`, e.g. `inference.ModelInferRequest`.

    Typed as Any: the classes are made at run time, and their fields are not known to a type checker.

    Raises:
        KeyError: the descriptor set has no such message.
    """
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(full_name))


def service(full_name: str) -> Any:
    """Return the service descriptor of `full_name`, e.g. `inference.GRPCInferenceService`.

    Raises:
        KeyError: the descriptor set has no such service.
    """
    return POOL.FindServiceByName(full_name)


ModelConfig = message_class("inference.ModelConfig")
ModelInferRequest = message_class("inference.ModelInferRequest")
ModelInferResponse = message_class("inference.ModelInferResponse")
TraceSettingResponse = message_class("inference.TraceSettingResponse")
ModelStreamInferResponse = message_class("inference.ModelStreamInferResponse")

RequestExtras = message_class("tensorhub.wire.RequestExtras")
ResponseExtras = message_class("tensorhub.wire.ResponseExtras")
Process = message_class("tensorhub.wire.Process")
SystemRegion = message_class("tensorhub.wire.SystemRegion")
CudaRegion = message_class("tensorhub.wire.CudaRegion")
ModelVersion = message_class("tensorhub.wire.ModelVersion")
Model = message_class("tensorhub.wire.Model")
Hello = message_class("tensorhub.wire.Hello")
Bequest = message_class("tensorhub.wire.Bequest")
Snapshot = message_class("tensorhub.wire.Snapshot")
Acknowledge = message_class("tensorhub.wire.Acknowledge")
ChangeTrace = message_class("tensorhub.wire.Control.ChangeTrace")
Control = message_class("tensorhub.wire.Control")
ControlResult = message_class("tensorhub.wire.ControlResult")
LoadStatistics = message_class("tensorhub.wire.LoadStatistics")
CustomFamily = message_class("tensorhub.wire.CustomFamily")
ProcessStatistics = message_class("tensorhub.wire.ProcessStatistics")
Order = message_class("tensorhub.wire.Order")
TraceOrigin = message_class("tensorhub.wire.TraceOrigin")
TraceFragment = message_class("tensorhub.wire.TraceFragment")
Report = message_class("tensorhub.wire.Report")
Readiness = message_class("tensorhub.wire.Readiness")
MadeRegion = message_class("tensorhub.wire.MadeRegion")
Unlinked = message_class("tensorhub.wire.Unlinked")
