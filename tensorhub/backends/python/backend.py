"""Loads and runs Triton's Python models.

There is no process between the worker and the model: requests are handed over as they are, inputs are views. The rules
of what a model may return, and the texts of what it does wrong, are those of Triton's Python backend. Whatever its code
raises is an error of what it was asked, SystemExit and its kin too: the process belongs to other models as well.
"""

import inspect
import json
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tensorhub.backends import calling
from tensorhub.backends.port import ComputeTimes, InstanceSpec, ModelSource
from tensorhub.backends.python import autocomplete, failures, model_calls
from tensorhub.backends.python.inference import InferenceRequest
from tensorhub.backends.python.loading import ModelModules
from tensorhub.backends.python.logger import log_of
from tensorhub.backends.python.responses import InferenceResponse
from tensorhub.backends.python.traits import Traits, read_traits
from tensorhub.devices import DeviceMemory
from tensorhub.errors import InternalError, InvalidArgument, TensorhubError
from tensorhub.protocol import config_json
from tensorhub.protocol.model_spec import ModelSpec
from tensorhub.requests import InferRequest

if TYPE_CHECKING:
    from tensorhub.backends.python.loop_thread import LoopThread

DEFAULT_FILE = "model.py"

_CALLS = frozenset(("exec", "async_exec", "is_model_ready", "load_model", "unload_model"))

_READ_ONLY_REMEDY = (
    "\n\nAn input that lies in a shared memory region of the client is read-only. "
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
            except BaseException as exc:
                raise _raised_by(source, "auto_complete_config", exc) from exc
            if not isinstance(completed, autocomplete.ModelConfig):
                raise InternalError(
                    f"auto_complete_config function in model '{source.name}' must return a valid pb.ModelConfig object."
                )
            return autocomplete.merge(source.config, completed)
        finally:
            modules.unload()

    def load(self, source: ModelSource) -> "PythonModel":
        """Import the model's file."""
        read_traits(source.config)
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
        self._traits = read_traits(source.config)
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
        except BaseException as exc:
            raise _raised_by(source, "initialize", exc) from exc
        return PythonInstance(spec.name, model, self._spec, source, self._traits)

    @property
    def calls_models(self) -> bool:
        """See LoadedModel: its code has the names of the functions for it."""
        return not _CALLS.isdisjoint(self._modules.names)

    def unload(self) -> None:
        """Forget the model's modules."""
        self._modules.unload()


class PythonInstance:
    """See backends.port.ModelInstance: one TritonPythonModel.

    An `execute` that is a coroutine runs on the event loop of the instance. For a decoupled model, and one with the
    parameter ASYNC_OVERLAP, nobody waits for it: the next call may begin before it has ended.
    """

    def __init__(self, name: str, model: Any, spec: ModelSpec, source: ModelSource, traits: Traits) -> None:
        self._name = name
        self._model = model
        self._spec = spec
        self._source = source
        self._decoupled = traits.decoupled
        self._traits = traits
        self._outputs = frozenset(spec.outputs) | spec.state_outputs
        self._loop: LoopThread | None = None
        self._loop_lock = threading.Lock()

    def execute(self, requests: Sequence[InferRequest]) -> ComputeTimes:
        """Run the model's `execute` and answer the requests."""
        spec, outputs, decoupled = self._spec, self._outputs, self._decoupled
        wrapped = [InferenceRequest._from_server(request, spec, outputs, decoupled) for request in requests]
        input_end_ns = time.monotonic_ns()
        try:
            result = self._model.execute(wrapped)
            if inspect.iscoroutine(result):
                if self._traits.overlaps:
                    for request in requests:
                        request.deferred = True
                    self._event_loop().start(result, partial(self._end_overlapping, wrapped))
                    return ComputeTimes(input_end_ns, time.monotonic_ns())
                calling.may_block()
                result = self._event_loop().run(result)
        except BaseException as exc:
            raise self._raised(exc, wrapped) from exc
        times = ComputeTimes(input_end_ns, time.monotonic_ns())
        self._finish(result, wrapped)
        return times

    @property
    def readiness_check(self) -> Callable[[], bool] | None:
        """See ModelInstance: there is one if the model has `is_ready`."""
        return self._is_ready if hasattr(self._model, "is_ready") else None

    def _is_ready(self) -> bool:
        """Ask the model; what is no answer is no, and is in the log."""
        model = self._model
        if model is None:
            return False
        try:
            ready = model.is_ready()
            if inspect.iscoroutine(ready):
                ready = self._event_loop().run(ready)
            if type(ready) is not bool:
                raise TypeError("is_ready() must return a boolean value")
        except BaseException as exc:
            log_of(self._spec.name).error("is_ready of '%s' failed", self._name, exc_info=exc)
            return False
        return ready

    def finalize(self) -> None:
        """Run the model's `finalize`, if it has one."""
        try:
            if hasattr(self._model, "finalize"):
                with model_calls.not_executing(self._name):
                    self._model.finalize()
        except BaseException as exc:
            raise _raised_by(self._source, "finalize", exc) from exc
        finally:
            if self._loop is not None:
                self._loop.stop()
            self._model = None

    def _event_loop(self) -> "LoopThread":
        with self._loop_lock:
            if self._loop is None:
                # Not at the top: asyncio takes memory, and most models do without it.
                from tensorhub.backends.python.loop_thread import LoopThread

                self._loop = LoopThread(self._name)
            return self._loop

    def _end_overlapping(self, wrapped: list[InferenceRequest], future: Future[Any]) -> None:
        """Finish a call that nobody waited for; on the thread of the event loop."""
        try:
            self._finish(future.result(), wrapped)
        except BaseException as exc:
            error = exc if isinstance(exc, TensorhubError) else self._raised(exc, wrapped)
            for item in wrapped:
                if item._server is not None:
                    item._server.fail(error)

    def _finish(self, result: Any, wrapped: list[InferenceRequest]) -> None:
        """Answer what the model has returned."""
        if self._decoupled:
            self._end_decoupled(result, wrapped)
            return
        for item, response in zip(wrapped, self._checked(result, wrapped), strict=True):
            request = item._server
            assert request is not None
            if response is None:
                if item._rescheduled:
                    self._reschedule(request)
            elif item._sender is None or item._sender._give_way():
                answer = response._to_server(item._requested)
                if request.leases:
                    item._part_with_inputs()
                request.respond(answer)

    def _checked(self, result: Any, wrapped: list[InferenceRequest]) -> list[InferenceResponse | None]:
        """Check what a model that is not decoupled has returned.

        None stands for a request that has a response sender or is to be run again; None in place of the list, that all
        are such requests.
        """
        if result is None and all(item._sender is not None or item._rescheduled for item in wrapped):
            return [None] * len(wrapped)
        if type(result) is not list:
            raise self._failure(f"Expected a list in the execute return, found type '{_type_text(result)}'.")
        if len(result) != len(wrapped):
            raise self._failure(
                "Number of InferenceResponse objects do not match the number of InferenceRequest objects. "
                f"InferenceRequest(s) size is:{len(wrapped)}, and InferenceResponse(s) size is:{len(result)}\n"
            )
        for response, item in zip(result, wrapped, strict=True):
            if item._rescheduled and response is not None:
                raise self._failure(
                    "Expected a None object in the execute function return list for reschduled request, found type "
                    f"'{_type_text(response)}'."
                )
            if type(response) is InferenceResponse or (
                response is None and (item._sender is not None or item._rescheduled)
            ):
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
            if item._server is None:
                continue
            if item._rescheduled:
                self._reschedule(item._server)
            elif item._sender is None:
                item._server.respond(None)  # nobody can answer it any more

    def _reschedule(self, request: InferRequest) -> None:
        """Have the scheduler run a request again; a model that does not iterate would wait for it for ever."""
        if request.answered:
            return
        if not self._traits.iterative:
            raise self._failure(
                "Unable to reschedule the request: the model does not use iterative sequence batching. Set "
                "sequence_batching { iterative_sequence: true } in config.pbtxt."
            )
        request.deferred = request.rescheduled = True

    def _raised(self, exc: BaseException, wrapped: list[InferenceRequest]) -> InternalError:
        """Log what the model has raised, and return the error of its requests."""
        if isinstance(exc, AttributeError) and not hasattr(self._model, "execute"):
            file = failures.shown(_path(self._source), self._source.folder)
            return self._failure(f"Python model {file} does not implement `execute` method.")
        log_of(self._spec.name).error("execute of '%s' raised", self._name, exc_info=exc)
        return self._failure(failures.describe(exc, self._source.folder) + self._remedy(exc, wrapped))

    def _failure(self, text: str) -> InternalError:
        return InternalError(f"Failed to process the request(s) for model '{self._name}', message: {text}")

    def _remedy(self, exc: BaseException, wrapped: list[InferenceRequest]) -> str:
        """Say what to do if a model has written to a client's region, which NumPy refuses."""
        if not isinstance(exc, ValueError) or "read-only" not in str(exc):
            return ""
        inputs = [tensor for item in wrapped if item._server is not None for tensor in item._server.inputs.values()]
        hosted = [tensor.data for tensor in inputs if type(tensor.data) is not DeviceMemory]
        return _READ_ONLY_REMEDY if any(memoryview(data).readonly for data in hosted) else ""


def _file_name(source: ModelSource) -> str:
    return str(source.config.default_model_filename) or DEFAULT_FILE


def _path(source: ModelSource) -> str:
    return str(Path(source.folder, str(source.version), _file_name(source)))


def _modules(source: ModelSource) -> ModelModules:
    file_name = _file_name(source)
    if not file_name.endswith(".py"):
        raise InvalidArgument(f"Model name must end with '.py'. Model name is \"{file_name}\".")
    path = _path(source)
    if not Path(path).is_file():
        raise InternalError(f"Python model file not found in '{failures.shown(path, source.folder)}'")
    return ModelModules(source.name, source.folder, source.version)


def _load(modules: ModelModules, source: ModelSource) -> ModuleType:
    try:
        return modules.load(_file_name(source))
    except BaseException as exc:
        raise _raised_by(source, "import", exc) from exc


def _model_class(module: ModuleType, source: ModelSource) -> Any:
    try:
        return module.TritonPythonModel
    except AttributeError:
        shown = f"{source.version}.{_file_name(source).removesuffix('.py')}"
        raise InternalError(f"AttributeError: module '{shown}' has no attribute 'TritonPythonModel'") from None


def _raised_by(source: ModelSource, what: str, exc: BaseException) -> InternalError:
    """Log what a model has raised outside of `execute`, and return the error that says so."""
    log_of(source.name).error("%s raised", what, exc_info=exc)
    return InternalError(failures.describe(exc, source.folder))


def _config_text(config: Any, name: str) -> str:
    document = config_json.to_json(config)
    document["name"] = document["name"] or name
    return json.dumps(document, separators=(",", ":"))


def _type_text(value: object) -> str:
    kind = type(value)
    return f"<class 'c_python_backend_utils.{kind.__name__}'>" if kind is InferenceResponse else str(kind)
