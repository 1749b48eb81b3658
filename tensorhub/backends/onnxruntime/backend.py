"""Loads ONNX files and runs them with ONNX Runtime.

On the CPU a batch is one call of `run`, which reads the inputs where they are and returns its outputs without a copy.
Where something has to be bound - an output to a client's memory, so that the network writes it there, inputs and
outputs in the memory of the session's GPU, or BF16, which NumPy lacks - it goes through an IO binding, which costs more
than `run` does for a small network.
"""

import os
import re
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime

from tensorhub.backends.arrays import NUMPY_TYPES, Array, tensor_of
from tensorhub.backends.batches import BatchPlan
from tensorhub.backends.destinations import PlacedOutput, maybe_place
from tensorhub.backends.onnxruntime import signature as signatures
from tensorhub.backends.onnxruntime.binding import Bound, Place, SessionDevice, gather, run_bound
from tensorhub.backends.onnxruntime.options import (
    CPU_PROVIDER,
    CUDA_PROVIDER,
    TENSORRT_PROVIDER,
    Provider,
    SessionPlan,
    providers,
)
from tensorhub.backends.onnxruntime.signature import NodeInfo, Signature
from tensorhub.backends.port import ComputeTimes, InstanceSpec, ModelSource
from tensorhub.backends.python import dlpack
from tensorhub.devices import DeviceMemory
from tensorhub.errors import InternalError, InvalidArgument, Unavailable
from tensorhub.requests import InferRequest, InferResponse, Tensor
from tensorhub.tensors import DataType, element_count

DEFAULT_FILE = "model.onnx"

_FAULT = re.compile(r"^\[ONNXRuntimeError\] : (\d+) : [A-Z_]+ : (.*)$", re.DOTALL)


class OnnxBackend:
    """See backends.port.Backend."""

    def auto_complete(self, source: ModelSource) -> Any:
        """Fill in inputs, outputs and batching as the network has them."""
        if not signatures.needs_completion(source.config):
            return source.config
        # Nothing is optimised: the session is only asked for its inputs and outputs.
        session = _open(source, SessionPlan(level="ORT_DISABLE_ALL"), [(CPU_PROVIDER, {})])
        default = source.backend_config.get("default-max-batch-size", str(signatures.DEFAULT_MAX_BATCH_SIZE))
        try:
            largest = int(default)
        except ValueError:
            raise InvalidArgument(
                f"--backend-config=onnxruntime,default-max-batch-size={default}: not a whole number"
            ) from None
        return signatures.complete(source.config, _signature(session), largest)

    def load(self, source: ModelSource) -> "OnnxModel":
        """Check the options; the network itself is read by each instance."""
        return OnnxModel(source, SessionPlan.from_config(source.config))


class OnnxModel:
    """See backends.port.LoadedModel."""

    def __init__(self, source: ModelSource, plan: SessionPlan) -> None:
        self._source = source
        self._plan = plan
        self._batch_plan = BatchPlan.from_config(source.config)
        self._sessions: dict[str, Any] = {}
        self._lock = threading.Lock()

    def new_instance(self, spec: InstanceSpec) -> "OnnxInstance":
        """Make a session, or take that of the instance's group if the config says so, and check the config by it."""
        chosen = providers(self._source.config, spec, onnxruntime.get_available_providers())
        if self._plan.shared:
            with self._lock:
                group = spec.name.rpartition("_")[0]
                if group not in self._sessions:
                    self._sessions[group] = _open(self._source, self._plan, chosen)
                session = self._sessions[group]
        else:
            session = _open(self._source, self._plan, chosen)
        signature = _signature(session)
        signatures.check(self._source.config, signature)
        on_gpu = session.get_providers()[0] in (CUDA_PROVIDER, TENSORRT_PROVIDER)
        device = SessionDevice("cuda", spec.device_id) if on_gpu else None
        return OnnxInstance(self._source.config, session, signature, self._batch_plan, self._plan, device)

    def unload(self) -> None:
        """Let the shared sessions go."""
        self._sessions.clear()


class OnnxInstance:
    """See backends.port.ModelInstance: one session."""

    def __init__(
        self,
        config: Any,
        session: Any,
        signature: Signature,
        batches: BatchPlan,
        plan: SessionPlan,
        device: SessionDevice | None = None,
    ) -> None:
        """Run a session.

        Args:
            device: the GPU that it runs on; tensors in its memory are read and written there.
        """
        self._device = device
        self._session = session
        self._signature = signature
        self._batches = batches
        self._dims = {item.name: tuple(item.dims) for item in config.output}
        states = [state.output_name for state in config.sequence_batching.state]
        self._states = frozenset(states)
        self._all_outputs = list(dict.fromkeys([*self._dims, *states]))
        nodes = [*signature.inputs.values(), *signature.outputs.values()]
        self._bfloat16 = frozenset(name for name, node in signature.inputs.items() if node.datatype is DataType.BF16)
        self._must_bind = session.get_providers()[0] != CPU_PROVIDER or any(
            node.datatype is DataType.BF16 for node in nodes
        )
        self._places = True
        self._run_options = onnxruntime.RunOptions()
        for name, value in plan.run_entries.items():
            self._run_options.add_run_config_entry(name, value)

    def execute(self, requests: Sequence[InferRequest]) -> ComputeTimes | None:
        """Run the batch as one, or its requests one by one if the network does not batch."""
        return self._batches.execute(requests, self._run)

    def finalize(self) -> None:
        """Let the session go."""
        self._session = None

    def _run(self, requests: Sequence[InferRequest]) -> ComputeTimes:
        inputs = self._inputs_on_device(requests)
        collected = self._batches.collect(requests, leave_out=inputs.keys())
        feeds = {name: self._feed(name, array) for name, array in collected.items()}
        names = self._wanted(requests)
        arrays, outputs = self._destinations(requests, names)
        started_ns = time.monotonic_ns()
        try:
            if inputs or arrays or outputs or self._must_bind:
                bound = Bound(feeds, inputs, arrays, outputs, self._bfloat16)
                found = run_bound(self._session, self._device, bound, names, self._run_options)
            else:
                found = self._session.run(names, feeds, self._run_options)
        except Exception as exc:
            if not self._places or not (arrays or outputs):
                raise _failure(exc) from exc
            # The network's declared shapes are not those of its outputs: let ONNX Runtime find the place from now on.
            self._places = False
            return self._run(requests)
        ended_ns = time.monotonic_ns()
        collected.clear()  # nothing here refers to the inputs when they are answered
        feeds.clear()
        shared = [
            self._on_device(name, value, outputs[name])
            if name in outputs
            else self._shared(name, self._output(name, value), requests)
            for name, value in zip(names, found, strict=True)
        ]
        for index, request in enumerate(requests):
            wanted = {item.name for item in request.requested} | self._states if request.requested else None
            request.respond(
                InferResponse(
                    [
                        parts[index]
                        for name, parts in zip(names, shared, strict=True)
                        if wanted is None or name in wanted
                    ]
                )
            )
        return ComputeTimes(started_ns, ended_ns)

    def _shared(self, name: str, array: Array, requests: Sequence[InferRequest]) -> list[Tensor]:
        return [tensor_of(name, self._type(name), part) for part in self._batches.share(name, array, requests)]

    def _on_device(self, name: str, found: Any, place: Place) -> list[Tensor]:
        """Return an output that is on the GPU: where the client wants it, or where ONNX Runtime has put it."""
        if isinstance(found, DeviceMemory):
            return [Tensor(name, place.datatype, self._shown(name, place.shape), found)]
        shape = tuple(found.shape())
        assert self._device is not None
        byte_size = element_count(shape) * place.datatype.item_size
        memory = DeviceMemory(place.port, self._device.ordinal, found.data_ptr(), byte_size, found)
        return [Tensor(name, place.datatype, self._shown(name, shape), memory)]

    def _inputs_on_device(self, requests: Sequence[InferRequest]) -> dict[str, Place]:
        """Return the inputs that the session reads where they are; others in the memory of a GPU become copies."""
        found: dict[str, Place] = {}
        for request in requests:
            for name, tensor in request.inputs.items():
                if not isinstance(tensor.data, DeviceMemory) or name in found:
                    continue
                if self._device is None or tensor.data.ordinal != self._device.ordinal:
                    request.inputs[name] = Tensor(name, tensor.datatype, tensor.shape, tensor.data.to_host())
                    continue
                tensors = [other.inputs[name] for other in requests if name in other.inputs]
                place = gather(tensors, self._device, flat=name in self._batches.ragged)
                found[name] = place if self._signature.inputs[name].dims else place._replace(shape=())
        return found

    def _wanted(self, requests: Sequence[InferRequest]) -> list[str]:
        """Return the outputs that somebody wants: nothing else is computed."""
        if any(not request.requested for request in requests):
            return self._all_outputs
        listed = {item.name for request in requests for item in request.requested} | self._states
        return [name for name in self._all_outputs if name in listed]

    def _type(self, name: str) -> DataType:
        datatype = self._signature.outputs[name].datatype
        assert datatype is not None
        return datatype

    def _feed(self, name: str, array: Array) -> Array:
        node = self._signature.inputs[name]
        if node.datatype is DataType.BYTES:
            array = _text_array(name, array)
        return array if node.dims or array.ndim == 0 else array.reshape(())

    def _output(self, name: str, array: Any) -> Array:
        """Return an output as an array of the shape that clients see; BF16 as its bits."""
        if isinstance(array, onnxruntime.OrtValue):
            array = dlpack.read(array)[0] if self._type(name) is DataType.BF16 else array.numpy()
        found = np.asarray(array)
        return found.reshape(self._shown(name, found.shape))

    def _shown(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the config's shape, if the network's is a scalar."""
        return shape or self._dims.get(name, (1,))

    def _destinations(
        self, requests: Sequence[InferRequest], names: Sequence[str]
    ) -> tuple[dict[str, Array], dict[str, Place]]:
        """Return where outputs are to be: arrays in the client's memory, and places in that of the session's GPU.

        In the host's memory only those whose shape is certain before they are computed.
        """
        arrays: dict[str, Array] = {}
        outputs: dict[str, Place] = {}
        if len(requests) != 1 or not any(isinstance(item, PlacedOutput) for item in requests[0].requested):
            return arrays, outputs
        for name in names:
            place = maybe_place(requests[0], name)
            datatype = self._type(name)
            # SAFETY: a state outlives the request, and with it the lease of the place.
            if place is None or place.classification or not datatype.item_size or name in self._states:
                continue
            shape = self._shape(self._signature.outputs[name], requests[0]) if self._places else None
            byte_size = element_count(shape) * datatype.item_size if shape is not None else 0
            memory = place.lease.device
            if memory is None:
                view: Any = place.lease.view
                if shape is not None and 0 < byte_size <= len(view):
                    arrays[name] = np.ndarray(shape, NUMPY_TYPES[datatype], buffer=view)
            elif self._device is not None and memory.ordinal == self._device.ordinal:
                if shape is not None and 0 < byte_size <= memory.nbytes:
                    part = DeviceMemory(memory.port, memory.ordinal, memory.pointer, byte_size, memory)
                    outputs[name] = Place(datatype, shape, memory.port, part)
                else:
                    outputs[name] = Place(datatype, (), memory.port, None)
        return arrays, outputs

    def _shape(self, node: NodeInfo, request: InferRequest) -> tuple[int, ...] | None:
        """Work out an output's shape from the names of the free dimensions that it shares with inputs."""
        sizes: dict[str, int] = {}
        for item in self._signature.inputs.values():
            given = request.inputs.get(item.name)
            if given is not None and len(given.shape) == len(item.symbols):
                pairs = zip(item.symbols, given.shape, strict=True)
                sizes.update({symbol: size for symbol, size in pairs if symbol is not None})
        shape = []
        for dimension, symbol in zip(node.dims, node.symbols, strict=True):
            known = dimension if dimension >= 0 else sizes.get(symbol or "")
            if known is None:
                return None
            shape.append(known)
        return tuple(shape)


def _text_array(name: str, array: Array) -> Array:
    """Return BYTES as ONNX Runtime takes them: text.

    Raises:
        InvalidArgument: an element is not UTF-8, which the strings of ONNX are.
    """
    items: list[bytes] = array.ravel().tolist()
    result = np.empty(len(items), np.object_)
    try:
        result[:] = [item.decode() for item in items]
    except UnicodeDecodeError as exc:
        raise InvalidArgument(
            f"input '{name}' has an element that is not UTF-8 ({exc.reason} at byte {exc.start}); the strings of ONNX "
            "are text"
        ) from exc
    return result.reshape(array.shape)


def _open(source: ModelSource, plan: SessionPlan, chosen: Sequence[Provider]) -> Any:
    """Read the network's file into a session.

    Raises:
        Unavailable: there is no file.
        InternalError: ONNX Runtime does not take it.
    """
    file_name = str(source.config.default_model_filename) or DEFAULT_FILE
    path = os.path.join(source.folder, str(source.version), file_name)
    if os.path.isdir(path):
        path = os.path.join(path, DEFAULT_FILE)
    if not os.path.exists(path):
        raise Unavailable(f"unable to find '{path}' for model instance '{source.name}'")
    try:
        options = _session_options(source, plan)
        # Without its own fallback: a GPU that is asked for and fails is an error and not a slow CPU.
        listed = [(name, dict(values)) for name, values in chosen]
        return onnxruntime.InferenceSession(path, options, providers=listed, enable_fallback=0)
    except Exception as exc:
        raise _failure(exc) from exc


def _session_options(source: ModelSource, plan: SessionPlan) -> Any:
    options = onnxruntime.SessionOptions()
    options.logid = source.name
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, plan.level)
    mode = onnxruntime.ExecutionMode
    options.execution_mode = mode.ORT_PARALLEL if plan.parallel else mode.ORT_SEQUENTIAL
    if _global_threads(source.backend_config):
        options.use_per_session_threads = False
    else:
        options.intra_op_num_threads = plan.intra_op_threads
        options.inter_op_num_threads = plan.inter_op_threads
    if plan.memory_arena is not None:
        options.enable_cpu_mem_arena = plan.memory_arena
    if plan.memory_pattern is not None:
        options.enable_mem_pattern = plan.memory_pattern
    for name, value in plan.session_entries.items():
        options.add_session_config_entry(name, value)
    for library in plan.libraries:
        options.register_custom_ops_library(library)
    return options


def _global_threads(backend_config: Mapping[str, str]) -> bool:
    """Set up the threads that all sessions of this process share, if --backend-config wants that."""
    if backend_config.get("enable-global-threadpool", "0") != "1":
        return False
    counts = [int(backend_config.get(name, "0")) for name in ("intra_op_thread_count", "inter_op_thread_count")]
    onnxruntime.set_global_thread_pool_sizes(*counts)
    return True


def _signature(session: Any) -> Signature:
    inputs = [NodeInfo.of(node) for node in session.get_inputs()]
    inputs += [NodeInfo.of(node, optional=True) for node in session.get_overridable_initializers()]
    outputs = [NodeInfo.of(node) for node in session.get_outputs()]
    return Signature({node.name: node for node in inputs}, {node.name: node for node in outputs})


def _failure(exc: Exception) -> InternalError:
    """Return an error of ONNX Runtime in Triton's form."""
    match = _FAULT.match(str(exc))
    return InternalError(f"onnx runtime error {match[1]}: {match[2]}" if match else f"onnx runtime error: {exc}")
