"""Loads TorchScript and exported PyTorch programs, and runs them on batches of requests.

Inputs are views of the requests' memory, unless that must not be written to; outputs are passed on where they are.
"""

import logging
import os
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch

from tensorhub.backends.arrays import Array, tensor_of
from tensorhub.backends.batches import BatchPlan
from tensorhub.backends.port import ComputeTimes, InstanceSpec, ModelSource
from tensorhub.backends.pytorch.naming import Arguments, Calling, arrange
from tensorhub.backends.pytorch.options import TorchOptions
from tensorhub.errors import InternalError, InvalidArgument, Unavailable
from tensorhub.requests import InferRequest, InferResponse
from tensorhub.tensors import DataType

log = logging.getLogger(__name__)

DEFAULT_FILE = "model.pt"
EXPORTED_SUFFIX = ".pt2"

_TYPES = {
    torch.bool: DataType.BOOL,
    torch.uint8: DataType.UINT8,
    torch.uint16: DataType.UINT16,
    torch.uint32: DataType.UINT32,
    torch.uint64: DataType.UINT64,
    torch.int8: DataType.INT8,
    torch.int16: DataType.INT16,
    torch.int32: DataType.INT32,
    torch.int64: DataType.INT64,
    torch.float16: DataType.FP16,
    torch.float32: DataType.FP32,
    torch.float64: DataType.FP64,
    torch.bfloat16: DataType.BF16,
}

_threads_lock = threading.Lock()


class TorchBackend:
    """See backends.port.Backend."""

    def auto_complete(self, source: ModelSource) -> Any:
        """Return the config as it is: a program does not say the shapes of its tensors."""
        return source.config

    def load(self, source: ModelSource) -> "TorchModel":
        """Check the options; the program itself is read for each instance."""
        options = TorchOptions.from_config(source.config)
        _set_up(options)
        return TorchModel(source, options)


class TorchModel:
    """See backends.port.LoadedModel."""

    def __init__(self, source: ModelSource, options: TorchOptions) -> None:
        self._source = source
        self._options = options
        self._batches = BatchPlan.from_config(source.config)
        self._shared: dict[str, tuple[Any, Arguments]] = {}
        self._lock = threading.Lock()

    def new_instance(self, spec: InstanceSpec) -> "TorchInstance":
        """Read the program onto the instance's device, or take the one that is there if weights are shared."""
        device = f"cuda:{spec.device_id}" if spec.kind == "GPU" else "cpu"
        if device != "cpu" and not torch.cuda.is_available():
            raise InvalidArgument(
                f"instance '{spec.name}' of model '{self._source.name}' is for a GPU, and this PyTorch has none; use "
                "instance_group { kind: KIND_CPU }"
            )
        if self._options.shares_weights:
            with self._lock:
                if device not in self._shared:
                    self._shared[device] = _open(self._source, device)
                program, arguments = self._shared[device]
        else:
            program, arguments = _open(self._source, device)
        calling = arrange(self._source.config, arguments)
        return TorchInstance(self._source.config, program, calling, self._batches, self._options, device)

    def unload(self) -> None:
        """Let the shared programs go."""
        self._shared.clear()


class TorchInstance:
    """See backends.port.ModelInstance: one program."""

    def __init__(
        self, config: Any, program: Any, calling: Calling, batches: BatchPlan, options: TorchOptions, device: str
    ) -> None:
        self._program = program
        self._calling = calling
        self._batches = batches
        self._options = options
        self._device = torch.device(device)
        self._types = {item.name: DataType.from_config(item.data_type) for item in [*config.input, *config.output]}
        states = config.sequence_batching.state
        self._types |= {state.output_name: DataType.from_config(state.data_type) for state in states}
        self._states = frozenset(state.output_name for state in states)
        self._outputs = list(dict.fromkeys([*(item.name for item in config.output), *sorted(self._states)]))

    def execute(self, requests: Sequence[InferRequest]) -> ComputeTimes | None:
        """Run the batch as one, or its requests one by one if the model does not batch."""
        return self._batches.execute(requests, self._run)

    def finalize(self) -> None:
        """Let the program go."""
        self._program = None

    def _run(self, requests: Sequence[InferRequest]) -> ComputeTimes:
        inputs = {name: self._input(name, array) for name, array in self._batches.collect(requests).items()}
        started_ns = time.monotonic_ns()
        try:
            with self._mode(), self._optimization():
                results = self._call(inputs)
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
        except Exception as exc:
            raise InternalError(f"PyTorch execute failure: {exc}") from exc
        ended_ns = time.monotonic_ns()
        inputs.clear()  # nothing here refers to the inputs when they are answered
        arrays = self._arrays(results)
        shared = {name: self._batches.share(name, array, requests) for name, array in arrays.items()}
        for index, request in enumerate(requests):
            wanted = {item.name for item in request.requested} | self._states or self._outputs
            outputs = [
                tensor_of(name, self._types[name], parts[index]) for name, parts in shared.items() if name in wanted
            ]
            request.respond(InferResponse(outputs))
        if self._options.cleans_cache and self._device.type == "cuda":
            torch.cuda.empty_cache()
        return ComputeTimes(started_ns, ended_ns)

    def _mode(self) -> AbstractContextManager[Any]:
        found: AbstractContextManager[Any] = torch.inference_mode() if self._options.inference_mode else torch.no_grad()
        return found

    def _optimization(self) -> AbstractContextManager[Any]:
        return nullcontext() if self._options.optimized else torch.jit.optimized_execution(False)

    def _call(self, inputs: Mapping[str, Any]) -> Any:
        calling = self._calling
        if calling.as_dict:
            return self._program({name: inputs[name] for name in calling.positional})
        keywords = {name: inputs[source] for name, source in calling.keywords.items()}
        return self._program(*(inputs[name] for name in calling.positional), **keywords)

    def _input(self, name: str, array: Array) -> Any:
        if array.dtype == np.object_:
            try:
                return [item.decode() for item in array.ravel().tolist()]
            except UnicodeDecodeError as exc:
                raise InvalidArgument(f"input '{name}' has an element that is not UTF-8: {exc.reason}") from exc
        # PyTorch knows no read-only tensors: what a client may see the program write to is copied.
        tensor = torch.from_numpy(array if array.flags.writeable else array.copy())
        if self._types.get(name) is DataType.BF16:
            tensor = tensor.view(torch.bfloat16)
        return tensor.to(self._device)

    def _arrays(self, results: Any) -> dict[str, Array]:
        """Return the outputs of the config by name."""
        if isinstance(results, Mapping):
            found = {name: results[name] for name in self._outputs if name in results}
            if len(found) < len(self._outputs):
                raise InternalError(
                    f"the model returns {', '.join(map(str, results))}, and the model configuration wants "
                    f"{', '.join(self._outputs)}"
                )
        else:
            listed = self._listed(results)
            found = {}
            for position, name in enumerate(self._outputs):
                place = self._calling.outputs.get(name, position)
                if place >= len(listed):
                    raise InternalError(
                        f"The output {name} in the model configuration refers to an output index which doesn't exist. "
                        f"This model has {len(listed)} outputs"
                    )
                found[name] = listed[place]
        return {name: self._array(name, value) for name, value in found.items()}

    def _listed(self, results: Any) -> Sequence[Any]:
        if isinstance(results, torch.Tensor):
            return [results]
        if isinstance(results, (list, tuple)):
            # A list of text is one output.
            return [results] if results and all(isinstance(item, str) for item in results) else results
        raise InternalError(
            "output must be of type Tensor, List[str], a tuple or a dict of them; the model has returned "
            f"{type(results).__name__}"
        )

    def _array(self, name: str, value: Any) -> Array:
        expected = self._types[name]
        if expected is DataType.BYTES:
            if isinstance(value, torch.Tensor):
                raise InternalError(f"output '{name}' must be of type List[str], recieved Tensor")
            return np.array([item.encode() for item in value], np.object_)
        if not isinstance(value, torch.Tensor):
            raise InternalError(f"output '{name}' must be of type Tensor, recieved {type(value).__name__}")
        datatype = _TYPES.get(value.dtype)
        if datatype is not expected:
            provided = datatype.value if datatype else str(value.dtype)
            raise InternalError(
                f"configuration expects datatype TYPE_{expected.value} for output '{name}', model provides "
                f"TYPE_{provided}"
            )
        found = value.detach().cpu().contiguous()
        array: Array = found.view(torch.uint16).numpy() if datatype is DataType.BF16 else found.numpy()
        return array if array.ndim else array.reshape(1)


def _set_up(options: TorchOptions) -> None:
    """Set what PyTorch has once for the process; the last model that is loaded decides."""
    with _threads_lock:
        if options.intra_op_threads:
            torch.set_num_threads(options.intra_op_threads)
        if options.inter_op_threads and options.inter_op_threads != torch.get_num_interop_threads():
            try:
                torch.set_num_interop_threads(options.inter_op_threads)
            except RuntimeError as exc:
                log.warning("INTER_OP_THREAD_COUNT has no effect any more: %s", exc)
        if not options.cudnn:
            torch.backends.cudnn.enabled = False
        for value, switch in (
            (options.jit_profiling, "_jit_set_profiling_mode"),
            (options.jit_executor, "_jit_set_profiling_executor"),
            (options.tensor_fuser, "_jit_set_texpr_fuser_enabled"),
        ):
            if value is not None:
                getattr(torch._C, switch)(value)


def _open(source: ModelSource, device: str) -> tuple[Any, Arguments]:
    """Read the program's file.

    Raises:
        Unavailable: there is none.
        InternalError: PyTorch does not take it.
    """
    file_name = str(source.config.default_model_filename) or DEFAULT_FILE
    path = os.path.join(source.folder, str(source.version), file_name)
    if not os.path.exists(path):
        raise Unavailable(f"unable to find '{path}' for model instance '{source.name}'")
    try:
        return _exported(path, device) if path.endswith(EXPORTED_SUFFIX) else _scripted(path, device)
    except Exception as exc:
        raise InternalError(f"failed to load model '{source.name}': {exc}") from exc


def _scripted(path: str, device: str) -> tuple[Any, Arguments]:
    program = torch.jit.load(path, map_location=device)
    program.eval()
    arguments = [item for item in program.forward.schema.arguments if item.name != "self"]
    takes_dict = len(arguments) == 1 and str(arguments[0].type) == "Dict[str, Tensor]"
    return program, Arguments(tuple(item.name for item in arguments), (), takes_dict)


def _exported(path: str, device: str) -> tuple[Any, Arguments]:
    exported = torch.export.load(path)
    program = exported.module()
    if device != "cpu":
        program = program.to(device)
    inputs = tuple(str(name) for name in exported.graph_signature.user_inputs)
    examples = exported.example_inputs
    keywords = tuple(examples[1]) if examples is not None else ()
    takes_dict = examples is not None and len(examples[0]) == 1 and isinstance(examples[0][0], dict)
    positional = inputs[: len(inputs) - len(keywords)]
    return program, Arguments(positional, keywords, takes_dict)
