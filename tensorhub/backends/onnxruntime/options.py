"""What a config says about how ONNX Runtime runs a network: session options and execution providers. Pure.

Names, defaults and texts are those of Triton's ONNX Runtime backend.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from tensorhub.backends.port import InstanceSpec
from tensorhub.errors import InvalidArgument

LEVELS = {-1: "ORT_ENABLE_BASIC", 1: "ORT_ENABLE_EXTENDED", 2: "ORT_DISABLE_ALL"}
"""optimization.graph.level to ONNX Runtime's GraphOptimizationLevel."""

DEFAULT_LEVEL = "ORT_ENABLE_ALL"

CPU_PROVIDER = "CPUExecutionProvider"
CUDA_PROVIDER = "CUDAExecutionProvider"
TENSORRT_PROVIDER = "TensorrtExecutionProvider"
OPENVINO_PROVIDER = "OpenVINOExecutionProvider"

_SESSION_ENTRIES = ("session.use_device_allocator_for_initializers",)
_RUN_ENTRIES = ("memory.enable_memory_arena_shrinkage",)

_ALGORITHMS = {0: "EXHAUSTIVE", 1: "HEURISTIC", 2: "DEFAULT"}
_STRATEGIES = {0: "kNextPowerOfTwo", 1: "kSameAsRequested"}

# Names that the TensorRT provider has otherwise than Triton; all that begin with trt_ are its own.
_TENSORRT_NAMES = {
    "max_workspace_size_bytes": "trt_max_workspace_size",
    "int8_calibration_table_name": "trt_int8_calibration_table_name",
    "int8_use_native_calibration_table": "trt_int8_use_native_calibration_table",
}
_PRECISIONS = {"FP16": "trt_fp16_enable", "BF16": "trt_bf16_enable", "INT8": "trt_int8_enable", "FP32": ""}

Provider = tuple[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class SessionPlan:
    """How sessions of a network are made.

    Attributes:
        level: name of the GraphOptimizationLevel.
        parallel: branches of the graph run beside each other.
        intra_op_threads, inter_op_threads: 0: as many as there are cores.
        memory_arena, memory_pattern: None leaves ONNX Runtime's default.
        session_entries, run_entries: passed on as they are.
        shared: the instances of a group share one session.
        libraries: files with custom operators.
    """

    level: str = DEFAULT_LEVEL
    parallel: bool = False
    intra_op_threads: int = 0
    inter_op_threads: int = 0
    memory_arena: bool | None = None
    memory_pattern: bool | None = None
    session_entries: Mapping[str, str] = field(default_factory=dict)
    run_entries: Mapping[str, str] = field(default_factory=dict)
    shared: bool = False
    libraries: tuple[str, ...] = ()

    @staticmethod
    def from_config(config: Any) -> "SessionPlan":
        """Read an `inference.ModelConfig`.

        Raises:
            InvalidArgument: a parameter has a value that it cannot have.
        """
        texts = _texts(config)
        mode = _integer(texts, "execution_mode", 0)
        if mode not in (0, 1):
            raise InvalidArgument(
                f"Invalid configuration value provided. Expected values for  execution_mode are 0 or 1 but got {mode} ."
            )
        return SessionPlan(
            level=LEVELS.get(config.optimization.graph.level, DEFAULT_LEVEL),
            parallel=mode == 1,
            intra_op_threads=max(0, _integer(texts, "intra_op_thread_count", 0)),
            inter_op_threads=max(0, _integer(texts, "inter_op_thread_count", 0)),
            memory_arena=_boolean(texts, "enable_mem_arena"),
            memory_pattern=_boolean(texts, "enable_mem_pattern"),
            session_entries={name: texts[name] for name in _SESSION_ENTRIES if name in texts},
            run_entries={name: texts[name] for name in _RUN_ENTRIES if name in texts},
            shared=_boolean(texts, "share_session_between_instances") or False,
            libraries=tuple(config.model_operations.op_library_filename),
        )


def providers(config: Any, spec: InstanceSpec, available: Collection[str]) -> list[Provider]:
    """Return the execution providers of an instance, the preferred one first; the CPU's is the last.

    Args:
        available: what the installed ONNX Runtime has.

    Raises:
        InvalidArgument: one is asked for that is unknown or not installed, or has a wrong option.
    """
    accelerators = config.optimization.execution_accelerators
    chosen: list[Provider] = []
    if spec.kind == "GPU":
        cuda: dict[str, str] = {}
        for item in accelerators.gpu_execution_accelerator:
            if item.name == "tensorrt":
                chosen.append((TENSORRT_PROVIDER, _tensorrt(item.parameters, spec.device_id)))
            elif item.name == "cuda":
                cuda.update(item.parameters)
            else:
                raise InvalidArgument(f"unknown Execution Accelerator '{item.name}' is requested")
        chosen.append((CUDA_PROVIDER, cuda | _cuda(_texts(config)) | {"device_id": str(spec.device_id)}))
    for item in accelerators.cpu_execution_accelerator:
        if item.name != "openvino":
            raise InvalidArgument(f"unknown Execution Accelerator '{item.name}' is requested")
        chosen.append((OPENVINO_PROVIDER, {"device_type": "CPU"}))
    for name, _ in chosen:
        if name not in available:
            raise InvalidArgument(
                f"model '{config.name}' needs the {name} of ONNX Runtime, and the one that is installed has "
                f"{', '.join(available)}; install the package of ONNX Runtime that brings it, or remove the instance "
                "group or execution accelerator that asks for it"
            )
    return [*chosen, (CPU_PROVIDER, {})]


def _cuda(texts: Mapping[str, str]) -> dict[str, str]:
    """Return the options of the CUDA provider that stand among the model's parameters, with Triton's defaults."""
    return {
        "cudnn_conv_algo_search": _named(texts, "cudnn_conv_algo_search", _ALGORITHMS),
        "gpu_mem_limit": texts.get("gpu_mem_limit", str(2**64 - 1)),
        "arena_extend_strategy": _named(texts, "arena_extend_strategy", _STRATEGIES),
        "do_copy_in_default_stream": texts.get("do_copy_in_default_stream", "1"),
    }


def _named(texts: Mapping[str, str], name: str, values: Mapping[int, str]) -> str:
    number = _integer(texts, name, 0)
    if number not in values:
        raise InvalidArgument(f"unsupported {name} value '{number}' is requested")
    return values[number]


def _tensorrt(parameters: Mapping[str, str], device_id: int) -> dict[str, str]:
    options = {}
    for name, value in parameters.items():
        if name == "precision_mode":
            if value not in _PRECISIONS:
                raise InvalidArgument(f"unsupported precision mode '{value}' is requested")
            if _PRECISIONS[value]:
                options[_PRECISIONS[value]] = "1"
        elif name in _TENSORRT_NAMES or name.startswith("trt_"):
            options[_TENSORRT_NAMES.get(name, name)] = value
        else:
            raise InvalidArgument(f"unknown parameter '{name}' is provided for TensorRT Execution Accelerator")
    return {**options, "device_id": str(device_id)}


def _texts(config: Any) -> dict[str, str]:
    return {name: str(value.string_value) for name, value in config.parameters.items()}


def _integer(texts: Mapping[str, str], name: str, default: int) -> int:
    if name not in texts:
        return default
    try:
        return int(texts[name])
    except ValueError:
        raise InvalidArgument(f"failed to convert '{texts[name]}' to integral number for parameter '{name}'") from None


def _boolean(texts: Mapping[str, str], name: str) -> bool | None:
    if name not in texts:
        return None
    value = texts[name].lower()
    if value not in ("1", "true", "0", "false"):
        raise InvalidArgument(f"failed to convert '{texts[name]}' to boolean value for parameter '{name}'")
    return value in ("1", "true")
