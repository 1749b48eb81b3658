"""Loads files of decorated functions, and calls the functions with arrays.

A function is called once for all requests of a run whose arrays go together, a generator once for each request. A
coroutine runs on the event loop of its instance while the instance takes further requests: calls overlap.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

from tensorhub.backends.arrays import Array, array_for, tensor_of
from tensorhub.backends.batches import BatchPlan
from tensorhub.backends.function.files import SourceFile
from tensorhub.backends.function.results import outputs_of
from tensorhub.backends.port import InstanceSpec, ModelSource
from tensorhub.backends.python.loop_thread import LoopThread
from tensorhub.decorator import FunctionModel, ModelDefinitionError
from tensorhub.errors import Cancelled, InternalError, InvalidArgument, TensorhubError
from tensorhub.protocol import messages
from tensorhub.protocol.config_function import function_config
from tensorhub.requests import InferRequest, InferResponse
from tensorhub.tensors import BY_NAME

log = logging.getLogger(__name__)

DEFAULT_FILE = "model.py"

_FROM_FUNCTION = ("input", "output", "max_batch_size", "model_transaction_policy")
"""Fields that are the decorator's to say; a config.pbtxt may leave them out, but not say otherwise."""


class FunctionBackend:
    """See backends.port.Backend."""

    def auto_complete(self, source: ModelSource) -> Any:
        """Fill in what the decorator says."""
        file, model = _open(source)
        file.close()
        try:
            declared = function_config(model)
        except ModelDefinitionError as exc:
            raise InvalidArgument(str(exc)) from exc
        config = messages.ModelConfig()
        config.CopyFrom(source.config)
        given = {field.name for field, _ in config.ListFields()}
        for name in _FROM_FUNCTION:
            if name in given and getattr(config, name) != getattr(declared, name):
                raise InvalidArgument(
                    f"model '{source.name}': '{name}' of the configuration is not what the function is decorated with; "
                    "leave it out"
                )
            config.ClearField(name)
        merged = messages.ModelConfig()
        merged.CopyFrom(declared)
        for name in given & {"instance_group", "dynamic_batching"}:
            merged.ClearField(name)
        merged.MergeFrom(config)
        return merged

    def load(self, source: ModelSource) -> "LoadedFunction":
        """Import the file."""
        return LoadedFunction(*_open(source), source)


def _open(source: ModelSource) -> tuple[SourceFile, FunctionModel]:
    name = source.config.default_model_filename or DEFAULT_FILE
    file = SourceFile(os.path.join(source.folder, str(source.version), name))
    model = file.models.get(source.name)
    if model is None and len(file.models) == 1:
        (model,) = file.models.values()
    if model is None:
        file.close()
        raise InvalidArgument(f"{name} has no model '{source.name}'; it has {', '.join(file.models)}")
    return file, model


class LoadedFunction:
    """See backends.port.LoadedModel."""

    def __init__(self, file: SourceFile, model: FunctionModel, source: ModelSource) -> None:
        self._file = file
        self._model = model
        self._plan = BatchPlan.from_config(source.config)

    def new_instance(self, spec: InstanceSpec) -> "FunctionInstance":
        """Make an instance; all share the function."""
        return FunctionInstance(self._model, self._plan, spec.name)

    def unload(self) -> None:
        """Forget the module."""
        self._file.close()


class FunctionInstance:
    """See backends.port.ModelInstance."""

    def __init__(self, model: FunctionModel, plan: BatchPlan, name: str) -> None:
        self._model = model
        self._plan = plan
        self._loop = LoopThread(name)

    def execute(self, requests: Sequence[InferRequest]) -> None:
        """Call the function, for all requests that go together at once."""
        for group in self._groups(requests):
            if self._model.asynchronous:
                for request in group:
                    request.deferred = True
                self._start(group)
            else:
                self._call(group)

    def finalize(self) -> None:
        """End the event loop, if there is one."""
        self._loop.stop()

    def _groups(self, requests: Sequence[InferRequest]) -> list[list[InferRequest]]:
        """Return the requests in the calls that they make."""
        if not self._plan.batches or self._model.decoupled:
            return [[request] for request in requests]
        groups: dict[Any, list[InferRequest]] = {}
        for request in requests:
            key = tuple((name, tensor.shape[1:]) for name, tensor in request.inputs.items())
            groups.setdefault(key, []).append(request)
        return list(groups.values())

    def _call(self, group: list[InferRequest]) -> None:
        try:
            returned = self._model.function(**self._arguments(group))
            if self._model.decoupled:
                self._stream(group[0], returned)
            else:
                self._answer(group, returned)
        except BaseException as exc:
            self._fail(group, exc)

    def _start(self, group: list[InferRequest]) -> None:
        """Begin a coroutine, or an asynchronous generator, on the event loop."""
        work = self._stream_async(group[0]) if self._model.decoupled else self._call_async(group)

        def ended(future: Future[Any]) -> None:
            error = Cancelled("the model is being unloaded") if future.cancelled() else future.exception()
            if error is not None:
                self._fail(group, error)

        self._loop.start(work, ended)

    async def _call_async(self, group: list[InferRequest]) -> None:
        self._answer(group, await self._model.function(**self._arguments(group)))

    async def _stream_async(self, request: InferRequest) -> None:
        values: AsyncIterator[Any] = self._model.function(**self._arguments([request]))
        async with contextlib.aclosing(values) as responses:  # type: ignore[type-var]
            async for value in responses:
                if request.cancelled:
                    break
                # It may have to wait for a client that reads slowly.
                await asyncio.to_thread(request.respond, self._response(request, outputs_of(self._model, value)), False)
        request.respond(None)

    def _stream(self, request: InferRequest, values: Iterator[Any]) -> None:
        with contextlib.closing(values) as responses:  # type: ignore[type-var]
            for value in responses:
                if request.cancelled:
                    break
                request.respond(self._response(request, outputs_of(self._model, value)), False)
        request.respond(None)

    def _arguments(self, group: list[InferRequest]) -> dict[str, Array]:
        if len(group) == 1:
            return {name: array_for(group[0], name) for name in group[0].inputs}
        return self._plan.collect(group)

    def _answer(self, group: list[InferRequest], returned: Any) -> None:
        outputs = outputs_of(self._model, returned)
        parts = {name: self._plan.share(name, array, group) for name, array in outputs.items()}
        for index, request in enumerate(group):
            request.respond(self._response(request, {name: shares[index] for name, shares in parts.items()}))

    def _response(self, request: InferRequest, outputs: dict[str, Array]) -> InferResponse:
        wanted = {item.name for item in request.requested} or outputs.keys()
        return InferResponse(
            [
                tensor_of(name, BY_NAME[self._model.outputs[name].datatype], array)
                for name, array in outputs.items()
                if name in wanted
            ]
        )

    def _fail(self, group: Sequence[InferRequest], error: BaseException) -> None:
        if not isinstance(error, TensorhubError):
            log.error("model '%s' failed", self._model.name, exc_info=error)
            error = InternalError(f"{type(error).__name__}: {error}")
        for request in group:
            request.fail(error)
