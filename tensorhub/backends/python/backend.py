"""Loads and runs Triton's Python models.

There is no process between the worker and the model: requests are handed over as they are, inputs are views. The rules
of what a model may return, and the texts of what it does wrong, are those of Triton's Python backend.
"""

import asyncio
import json
import threading
import time
from collections.abc import Coroutine, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from tensorhub.backends import calling
from tensorhub.backends.port import ComputeTimes, InstanceSpec, ModelSource
from tensorhub.backends.python import autocomplete, failures, model_calls
from tensorhub.backends.python.inference import InferenceRequest
from tensorhub.backends.python.loading import ModelModules
from tensorhub.backends.python.responses import InferenceResponse
from tensorhub.errors import InternalError, InvalidArgument
from tensorhub.protocol import config_json
from tensorhub.protocol.model_spec import ModelSpec
from tensorhub.requests import InferRequest

DEFAULT_FILE = "model.py"

_CALLS = frozenset(("exec", "async_exec", "is_model_ready", "load_model", "unload_model"))

_READ_ONLY_REMEDY = (
    "\n\nAn input that lies in a shared memory region of the client, or that other models hold as well, is read-only. "
    "Let the model work on a copy of it, "
    'or have the server make one: parameters { key: "SHM_INPUT" value { string_value: "copy" } } in config.pbtxt.'
)


class PythonBackend:
    """See backends.port.Backend."""

    def auto_complete(self, source: ModelSource) -> Any:
        """Let the model's `auto_complete_config`, if it has one, fill in the config."""
        modules = _modules(source)
        module = _load(modules, source)
        try:
            function = getattr(_model_class(module, source), "auto_complete_config", None)
            if function is None:
                return source.config
            try:
                completed = function(autocomplete.ModelConfig(_config_text(source.config, source.name)))
            except Exception as exc:
                raise InternalError(failures.describe(exc)) from exc
            if not isinstance(completed, autocomplete.ModelConfig):
                raise InternalError(
                    f"auto_complete_config function in model '{source.name}' must return a valid pb.ModelConfig object."
                )
            return autocomplete.merge(source.config, completed)
        finally:
            modules.unload()

    def load(self, source: ModelSource) -> "PythonModel":
        """Import the model's file."""
        modules = _modules(source)
        module = _load(modules, source)
        try:
            return PythonModel(source, modules, _model_class(module, source))
        except BaseException:
            modules.unload()
            raise


class PythonModel:
    """See backends.port.LoadedModel: one imported `model.py`."""

    def __init__(self, source: ModelSource, modules: ModelModules, model_class: Any) -> None:
        self._source = source
        self._modules = modules
        self._model_class = model_class
        self._spec = ModelSpec.from_config(source.config, source.name, source.version)
        self._config_text = _config_text(source.config, source.name)

    def new_instance(self, spec: InstanceSpec) -> "PythonInstance":
        """Make a TritonPythonModel and `initialize` it."""
        source = self._source
        arguments = {
            "model_config": self._config_text,
            "model_instance_kind": spec.kind,
            "model_instance_name": spec.name,
            "model_instance_device_id": str(spec.device_id),
            "model_repository": source.folder,
            "model_version": str(source.version),
            "model_name": source.name,
        }
        try:
            model = self._model_class()
            if hasattr(model, "initialize"):
                with model_calls.not_executing(spec.name):
                    model.initialize(arguments)
        except Exception as exc:
            raise InternalError(failures.describe(exc)) from exc
        file = Path(self._modules.version_folder, _file_name(source))
        return PythonInstance(spec.name, model, self._spec, file, source.config.model_transaction_policy.decoupled)

    @property
    def calls_models(self) -> bool:
        """See LoadedModel: its code has the names of the functions for it."""
        return not _CALLS.isdisjoint(self._modules.names)

    def unload(self) -> None:
        """Forget the model's modules."""
        self._modules.unload()


class PythonInstance:
    """See backends.port.ModelInstance: one TritonPythonModel."""

    def __init__(self, name: str, model: Any, spec: ModelSpec, file: Path, decoupled: bool) -> None:
        self._name = name
        self._model = model
        self._spec = spec
        self._file = file
        self._decoupled = decoupled
        self._outputs = frozenset(spec.outputs)
        self._loop = _LoopThread(name)

    def execute(self, requests: Sequence[InferRequest]) -> ComputeTimes:
        """Run the model's `execute` and answer the requests."""
        spec, outputs, decoupled = self._spec, self._outputs, self._decoupled
        wrapped = [InferenceRequest._from_server(request, spec, outputs, decoupled) for request in requests]
        input_end_ns = time.monotonic_ns()
        result = self._call(wrapped)
        times = ComputeTimes(input_end_ns, time.monotonic_ns())
        if decoupled:
            self._end_decoupled(result, wrapped)
            return times
        for request, item, response in zip(requests, wrapped, self._checked(result, wrapped), strict=True):
            if response is None:
                continue
            if item._sender is not None:
                raise self._failure("A request must be answered by its response sender or by execute, not by both.")
            request.respond(response._to_server(item._requested))
        return times

    def finalize(self) -> None:
        """Run the model's `finalize`, if it has one."""
        try:
            if hasattr(self._model, "finalize"):
                with model_calls.not_executing(self._name):
                    self._model.finalize()
        except Exception as exc:
            raise InternalError(failures.describe(exc)) from exc
        finally:
            self._loop.stop()
            self._model = None

    def _call(self, wrapped: list[InferenceRequest]) -> Any:
        try:
            execute = self._model.execute
        except AttributeError:
            raise self._failure(f"Python model {self._file} does not implement `execute` method.") from None
        try:
            result = execute(wrapped)
            if not asyncio.iscoroutine(result):
                return result
            calling.may_block()
            return self._loop.run(result)
        except Exception as exc:
            raise self._failure(failures.describe(exc) + self._remedy(exc, wrapped)) from exc

    def _checked(self, result: Any, wrapped: list[InferenceRequest]) -> list[InferenceResponse | None]:
        """Check what a model that is not decoupled has returned.

        None stands for a request that has a response sender; None in place of the list, that all have one.
        """
        if result is None and all(item._sender is not None for item in wrapped):
            return [None] * len(wrapped)
        if type(result) is not list:
            raise self._failure(f"Expected a list in the execute return, found type '{_type_text(result)}'.")
        if len(result) != len(wrapped):
            raise self._failure(
                "Number of InferenceResponse objects do not match the number of InferenceRequest objects. "
                f"InferenceRequest(s) size is:{len(wrapped)}, and InferenceResponse(s) size is:{len(result)}\n"
            )
        for response, item in zip(result, wrapped, strict=True):
            if type(response) is InferenceResponse or (response is None and item._sender is not None):
                continue
            raise self._failure(
                "Expected an 'InferenceResponse' object in the execute function return list, found type "
                f"'{_type_text(response)}'."
            )
        return result

    def _end_decoupled(self, result: Any, wrapped: list[InferenceRequest]) -> None:
        if result is not None:
            raise InternalError(
                f"Python model '{self._name}' is using the decoupled mode and the execute function must return None."
            )
        for item in wrapped:
            # Nobody can answer it any more.
            if item._sender is None and item._server is not None:
                item._server.respond(None)

    def _failure(self, text: str) -> InternalError:
        return InternalError(f"Failed to process the request(s) for model '{self._name}', message: {text}")

    def _remedy(self, exc: Exception, wrapped: list[InferenceRequest]) -> str:
        """Say what to do if a model has written to a client's region, which NumPy refuses."""
        if not isinstance(exc, ValueError) or "read-only" not in str(exc):
            return ""
        inputs = (tensor for item in wrapped if item._server is not None for tensor in item._server.inputs.values())
        return _READ_ONLY_REMEDY if any(memoryview(tensor.data).readonly for tensor in inputs) else ""


class _LoopThread:
    """The event loop of an instance, on a thread of its own, which starts with the first coroutine."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine to its end, and return what it returns or raise what it raises."""
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=loop.run_forever, name=f"{self._name} asyncio", daemon=True)
            self._thread.start()
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result()

    def stop(self) -> None:
        """End the thread; tasks that are left are cancelled."""
        if self._loop is None or self._thread is None:
            return
        asyncio.run_coroutine_threadsafe(_cancel_tasks(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._loop = self._thread = None


async def _cancel_tasks() -> None:
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _file_name(source: ModelSource) -> str:
    return str(source.config.default_model_filename) or DEFAULT_FILE


def _modules(source: ModelSource) -> ModelModules:
    file_name = _file_name(source)
    if not file_name.endswith(".py"):
        raise InvalidArgument(f"Model name must end with '.py'. Model name is \"{file_name}\".")
    path = Path(source.folder, str(source.version), file_name)
    if not path.is_file():
        raise InternalError(f"Python model file not found in '{path}'")
    return ModelModules(source.name, source.folder, source.version)


def _load(modules: ModelModules, source: ModelSource) -> ModuleType:
    try:
        return modules.load(_file_name(source))
    except Exception as exc:
        raise InternalError(failures.describe(exc)) from exc


def _model_class(module: ModuleType, source: ModelSource) -> Any:
    try:
        return module.TritonPythonModel
    except AttributeError:
        shown = f"{source.version}.{_file_name(source).removesuffix('.py')}"
        raise InternalError(f"AttributeError: module '{shown}' has no attribute 'TritonPythonModel'") from None


def _config_text(config: Any, name: str) -> str:
    document = config_json.to_json(config)
    document["name"] = document["name"] or name
    return json.dumps(document, separators=(",", ":"))


def _type_text(value: object) -> str:
    kind = type(value)
    return f"<class 'c_python_backend_utils.{kind.__name__}'>" if kind is InferenceResponse else str(kind)
