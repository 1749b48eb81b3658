"""Protocol buffer message classes, from a descriptor set in a pool of our own.

There is no generated code, so nothing has to match a protobuf runtime, and because the pool is private a process can
also import `tritonclient.grpc`, which registers the same names in the default pool.

The classes keep Triton's package and names: `messages.ModelInferRequest` is `inference.ModelInferRequest`.
"""

import pkgutil
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message

__all__ = ["DecodeError", "Message", "message_class", "service"]

_DESCRIPTOR_SET = "descriptors/tensorhub.binpb"


def _load_pool() -> descriptor_pool.DescriptorPool:
    data = pkgutil.get_data("tensorhub", _DESCRIPTOR_SET)  # importlib.resources would bring 1 MB into every process
    if data is None:
        raise ImportError(f"{_DESCRIPTOR_SET} cannot be read where the package is")
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(data).file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


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
Unlinked = message_class("tensorhub.wire.Unlinked")
