"""Loads ONNX files and runs them with ONNX Runtime.

On the CPU a batch is one call of `run`, which reads the inputs where they are and returns its outputs without a copy.
Where something has to be bound - an output to a client's memory, so that the network writes it there, or BF16, which
NumPy lacks - it goes through an IO binding, which costs more than `run` does for a small network.
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
from tensorhub.backends.onnxruntime.options import CPU_PROVIDER, Provider, SessionPlan, providers
from tensorhub.backends.onnxruntime.signature import NodeInfo, Signature
from tensorhub.backends.port import ComputeTimes, InstanceSpec, ModelSource
from tensorhub.backends.python import dlpack
from tensorhub.errors import InternalError, InvalidArgument, Unavailable
from tensorhub.requests import InferRequest, InferResponse
from tensorhub.tensors import DataType, element_count

DEFAULT_FILE = "model.onnx"

_FAULT = re.compile(r"^\[ONNXRuntimeError\] : (\d+) : [A-Z_]+ : (.*)$", re.DOTALL)
_BFLOAT16 = 16
"""ONNX's number of the element type."""


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
        return OnnxInstance(self._source.config, session, signature, self._batch_plan, self._plan)

    def unload(self) -> None:
        """Let the shared sessions go."""
        self._sessions.clear()


class OnnxInstance:
    """See backends.port.ModelInstance: one session."""

    def __init__(self, config: Any, session: Any, signature: Signature, batches: BatchPlan, plan: SessionPlan) -> None:
        self._session = session
        self._signature = signature
        self._batches = batches
        self._dims = {item.name: tuple(item.dims) for item in config.output}
        states = [state.output_name for state in config.sequence_batching.state]
        self._states = frozenset(states)
        self._all_outputs = list(dict.fromkeys([*self._dims, *states]))
        nodes = [*signature.inputs.values(), *signature.outputs.values()]
        self._must_bind = session.get_providers()[0] != CPU_PROVIDER or any(
            node.datatype is DataType.BF16 for node in nodes
        )
        self._places = True
        self._run_options = onnxruntime.RunOptions()
        for name, value in plan.run_entries.items():
            self._run_options.add_run_config_entry(name, value)

    def execute(self, requests: Sequence[InferRequest]) -> ComputeTimes | None:
        """Run the batch as one, or its requests one by one if the network does not batch."""
        times = None
        for together in self._batches.runs(requests):
            times = self._run(together)
        return times

    def finalize(self) -> None:
        """Let the session go."""
        self._session = None

    def _run(self, requests: Sequence[InferRequest]) -> ComputeTimes:
        feeds = {name: self._feed(name, array) for name, array in self._batches.collect(requests).items()}
        names = self._wanted(requests)
        places = self._destinations(requests, names) if self._places else {}
        started_ns = time.monotonic_ns()
        try:
            if places or self._must_bind:
                arrays = self._bound(feeds, names, places)
            else:
                arrays = self._session.run(names, feeds, self._run_options)
        except Exception as exc:
            if not places:
                raise _failure(exc) from exc
            # The network's declared shapes are not those of its outputs: let ONNX Runtime find the place from now on.
            self._places = False
            return self._run(requests)
        ended_ns = time.monotonic_ns()
        shared = [
            self._batches.share(name, self._output(name, array), requests)
            for name, array in zip(names, arrays, strict=True)
        ]
        for index, request in enumerate(requests):
            wanted = {item.name for item in request.requested} | self._states if request.requested else None
            request.respond(
                InferResponse(
                    [
                        tensor_of(name, self._type(name), parts[index])
                        for name, parts in zip(names, shared, strict=True)
                        if wanted is None or name in wanted
                    ]
                )
            )
        return ComputeTimes(started_ns, ended_ns)

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
        """Return an output with the config's shape, if the network's is a scalar."""
        found = np.asarray(array)
        return found if found.ndim else found.reshape(self._dims.get(name, (1,)))

    def _destinations(self, requests: Sequence[InferRequest], names: Sequence[str]) -> dict[str, Array]:
        """Return the client's memory, as arrays, for outputs whose shape is certain before they are computed."""
        if len(requests) != 1 or not any(isinstance(item, PlacedOutput) for item in requests[0].requested):
            return {}
        found = {}
        for name in names:
            place = maybe_place(requests[0], name)
            shape = self._shape(self._signature.outputs[name], requests[0])
            datatype = self._type(name)
            if place is None or place.classification or shape is None or not datatype.item_size:
                continue
            view: Any = place.lease.view
            dtype = NUMPY_TYPES[datatype]
            if 0 < element_count(shape) * dtype.itemsize <= len(view):
                found[name] = np.ndarray(shape, dtype, buffer=view)
        return found

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

    def _bound(self, feeds: dict[str, Array], names: Sequence[str], places: dict[str, Array]) -> list[Any]:
        binding = self._session.io_binding()
        for name, array in feeds.items():
            if self._signature.inputs[name].datatype is DataType.BF16:
                value = onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(array, _BFLOAT16)
                binding.bind_ortvalue_input(name, value)
            else:
                binding.bind_cpu_input(name, array)
        for name in names:
            if name in places:
                place = places[name]
                binding.bind_output(name, "cpu", 0, place.dtype, place.shape, place.ctypes.data)
            else:
                binding.bind_output(name)
        self._session.run_with_iobinding(binding, self._run_options)
        values = binding.get_outputs()
        return [
            places[name] if name in places else _array_of(value, self._type(name))
            for name, value in zip(names, values, strict=True)
        ]


def _array_of(value: Any, datatype: DataType) -> Array:
    """Return an OrtValue as an array that keeps it; BF16 as its bits."""
    return dlpack.read(value)[0] if datatype is DataType.BF16 else np.asarray(value.numpy())


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
