"""A client of both protocols that says exactly what it is told to, also what no stock client would."""

import http.client
import json
from collections.abc import Mapping, Sequence
from typing import Any

import grpc
import tritonclient.grpc.service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

TIMEOUT_S = 60.0


class Http:
    """One connection. `ask` returns (status, body); status 0: the server closed the connection."""

    def __init__(self, address: str) -> None:
        self._connection = http.client.HTTPConnection(address, timeout=TIMEOUT_S)

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        try:
            self._connection.request(method, path, sent, dict(headers or {}))
            response = self._connection.getresponse()
            return response.status, response.read()
        except TimeoutError:
            raise
        except (OSError, http.client.HTTPException) as exc:
            self._connection.close()
            return 0, repr(exc).encode()

    def register(self, name: str, key: Any, offset: Any, byte_size: Any) -> tuple[int, bytes]:
        document = {"key": key, "offset": offset, "byte_size": byte_size}
        return self.ask("POST", f"/v2/systemsharedmemory/region/{name}/register", document)

    def unregister(self, name: str) -> int:
        return self.ask("POST", f"/v2/systemsharedmemory/region/{name}/unregister")[0]

    def regions(self) -> list[str]:
        return [item["name"] for item in json.loads(self.ask("GET", "/v2/systemsharedmemory/status")[1])]

    def infer(
        self,
        region: str,
        offset: Any,
        byte_size: Any,
        *,
        model: str = "identity",
        shape: Sequence[int] | None = None,
        datatype: str = "UINT8",
        parameters: Mapping[str, Any] | None = None,
        output: Mapping[str, Any] | None = None,
    ) -> tuple[int, bytes]:
        """Infer with the input in a region; a good answer's body is the output's bytes, or b"" if it has a region."""
        document = {
            "inputs": [
                {
                    "name": "INPUT0",
                    "datatype": datatype,
                    "shape": [byte_size] if shape is None else list(shape),
                    "parameters": {
                        "shared_memory_region": region,
                        "shared_memory_offset": offset,
                        "shared_memory_byte_size": byte_size,
                    },
                }
            ],
            "outputs": [{"name": "OUTPUT0", "parameters": dict(output or {"binary_data": True})}],
            "parameters": dict(parameters or {}),
        }
        status, body = self.ask("POST", f"/v2/models/{model}/infer", document)
        if status != 200:
            return status, body
        header, end = json.JSONDecoder().raw_decode(body.decode("latin-1"))
        size = header["outputs"][0].get("parameters", {}).get("binary_data_size", 0)
        assert len(body) == end + size
        return status, body[end:]

    def infer_inline(self, content: bytes, model: str = "identity") -> tuple[int, bytes]:
        """Infer with the input in the body, and the output in the answer's; a good answer's body is all of it."""
        size = len(content)
        tensor = {"name": "INPUT0", "datatype": "UINT8", "shape": [size], "parameters": {"binary_data_size": size}}
        header = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
        headers = {"Inference-Header-Content-Length": str(len(header))}
        return self.ask("POST", f"/v2/models/{model}/infer", header + content, headers)

    def close(self) -> None:
        self._connection.close()


class Grpc:
    """Raw messages; `ask` returns (status name, text or response)."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address)
        self.stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    def ask(self, method: str, request: Any) -> tuple[str, Any]:
        try:
            return "OK", getattr(self.stub, method)(request, timeout=TIMEOUT_S)
        except grpc.RpcError as exc:
            return exc.code().name, exc.details() or ""

    def register(self, name: str, key: str, offset: int, byte_size: int) -> tuple[str, Any]:
        request = pb.SystemSharedMemoryRegisterRequest(name=name, key=key, offset=offset, byte_size=byte_size)
        return self.ask("SystemSharedMemoryRegister", request)

    def unregister(self, name: str) -> tuple[str, Any]:
        return self.ask("SystemSharedMemoryUnregister", pb.SystemSharedMemoryUnregisterRequest(name=name))

    def infer(self, region: str, offset: int, byte_size: int, shape: int | None = None) -> tuple[str, Any]:
        """The same as Http.infer; offset and byte size are an int64's bits."""
        return self.ask("ModelInfer", infer_request(region, offset, byte_size, shape))

    def close(self) -> None:
        self._channel.close()


def inline_request(size: int, model: str = "identity") -> Any:
    """Return a ModelInferRequest with its one input in it."""
    request = pb.ModelInferRequest(model_name=model, raw_input_contents=[bytes(size)])
    request.inputs.add(name="INPUT0", datatype="UINT8", shape=[size])
    return request


def infer_request(region: str, offset: int, byte_size: int, shape: int | None = None, model: str = "identity") -> Any:
    """Return a ModelInferRequest with its one input in a region."""
    request = pb.ModelInferRequest(model_name=model)
    tensor = request.inputs.add(name="INPUT0", datatype="UINT8", shape=[byte_size if shape is None else shape])
    tensor.parameters["shared_memory_region"].string_param = region
    tensor.parameters["shared_memory_offset"].int64_param = offset
    tensor.parameters["shared_memory_byte_size"].int64_param = byte_size
    request.outputs.add(name="OUTPUT0")
    return request
