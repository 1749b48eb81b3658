"""ONNX Runtime's options in configs, and configs against networks. Pure: no ONNX Runtime is needed."""

from typing import Any

import pytest
from google.protobuf import text_format

from tensorhub.backends.onnxruntime.options import SessionPlan, providers
from tensorhub.backends.onnxruntime.signature import NodeInfo, Signature, check, complete
from tensorhub.backends.port import InstanceSpec
from tensorhub.errors import InternalError, InvalidArgument, TensorhubError
from tensorhub.protocol import messages
from tensorhub.tensors import DataType

FP32, INT32 = DataType.FP32, DataType.INT32
ALL = ("TensorrtExecutionProvider", "CUDAExecutionProvider", "OpenVINOExecutionProvider", "CPUExecutionProvider")


def config(text: str) -> Any:
    result = messages.ModelConfig(name="m", backend="onnxruntime")
    text_format.Parse(text, result)
    return result


def parameter(name: str, value: str) -> str:
    return f'parameters {{ key: "{name}" value {{ string_value: "{value}" }} }}'


def signature(inputs: dict[str, tuple[DataType | None, tuple[int, ...]]], outputs: dict[str, Any]) -> Signature:
    return Signature(
        {name: NodeInfo(name, *value) for name, value in inputs.items()},
        {name: NodeInfo(name, *value) for name, value in outputs.items()},
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", SessionPlan()),
        ("optimization { graph { level: -1 } }", SessionPlan(level="ORT_ENABLE_BASIC")),
        ("optimization { graph { level: 1 } }", SessionPlan(level="ORT_ENABLE_EXTENDED")),
        ("optimization { graph { level: 2 } }", SessionPlan(level="ORT_DISABLE_ALL")),
        ("optimization { graph { level: 9 } }", SessionPlan()),
        (parameter("execution_mode", "1"), SessionPlan(parallel=True)),
        (parameter("intra_op_thread_count", "3"), SessionPlan(intra_op_threads=3)),
        (parameter("inter_op_thread_count", "2"), SessionPlan(inter_op_threads=2)),
        (parameter("enable_mem_arena", "0"), SessionPlan(memory_arena=False)),
        (parameter("enable_mem_pattern", "true"), SessionPlan(memory_pattern=True)),
        (parameter("share_session_between_instances", "1"), SessionPlan(shared=True)),
        (
            parameter("session.use_device_allocator_for_initializers", "1"),
            SessionPlan(session_entries={"session.use_device_allocator_for_initializers": "1"}),
        ),
        (
            parameter("memory.enable_memory_arena_shrinkage", "cpu:0"),
            SessionPlan(run_entries={"memory.enable_memory_arena_shrinkage": "cpu:0"}),
        ),
        ('model_operations { op_library_filename: "a.so" }', SessionPlan(libraries=("a.so",))),
    ],
)
def test_session_options(text: str, expected: SessionPlan) -> None:
    assert SessionPlan.from_config(config(text)) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (parameter("execution_mode", "2"), "Expected values for  execution_mode are 0 or 1 but got 2 ."),
        (parameter("intra_op_thread_count", "x"), "failed to convert 'x' to integral number"),
        (parameter("enable_mem_arena", "maybe"), "failed to convert 'maybe' to boolean value"),
    ],
)
def test_wrong_session_options(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        SessionPlan.from_config(config(text))


def accelerator(place: str, name: str, **options: str) -> str:
    listed = "".join(f'parameters {{ key: "{key}" value: "{value}" }}' for key, value in options.items())
    return (
        f'optimization {{ execution_accelerators {{ {place}_execution_accelerator {{ name: "{name}" {listed} }} }} }}'
    )


def test_the_cpu_is_the_last_resort() -> None:
    assert providers(config(""), InstanceSpec("m_0_0"), ALL) == [("CPUExecutionProvider", {})]


def test_providers_of_a_gpu() -> None:
    text = accelerator("gpu", "tensorrt", precision_mode="FP16", max_workspace_size_bytes="5", trt_dla_core="1")
    chosen = providers(config(text + parameter("gpu_mem_limit", "7")), InstanceSpec("m_0_0", "GPU", 2), ALL)
    assert chosen == [
        (
            "TensorrtExecutionProvider",
            {"trt_fp16_enable": "1", "trt_max_workspace_size": "5", "trt_dla_core": "1", "device_id": "2"},
        ),
        (
            "CUDAExecutionProvider",
            {
                "cudnn_conv_algo_search": "EXHAUSTIVE",
                "gpu_mem_limit": "7",
                "arena_extend_strategy": "kNextPowerOfTwo",
                "do_copy_in_default_stream": "1",
                "device_id": "2",
            },
        ),
        ("CPUExecutionProvider", {}),
    ]


def test_options_of_cuda_and_openvino() -> None:
    text = accelerator("gpu", "cuda", use_ep_level_unified_stream="1")
    (name, options), _ = providers(config(text), InstanceSpec("m_0_0", "GPU"), ALL)
    assert (name, options["use_ep_level_unified_stream"]) == ("CUDAExecutionProvider", "1")
    chosen = providers(config(accelerator("cpu", "openvino")), InstanceSpec("m_0_0"), ALL)
    assert chosen == [("OpenVINOExecutionProvider", {"device_type": "CPU"}), ("CPUExecutionProvider", {})]


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        (accelerator("cpu", "magic"), "CPU", "unknown Execution Accelerator 'magic' is requested"),
        (accelerator("gpu", "magic"), "GPU", "unknown Execution Accelerator 'magic' is requested"),
        (accelerator("gpu", "tensorrt", precision_mode="FP4"), "GPU", "unsupported precision mode 'FP4' is requested"),
        (accelerator("gpu", "tensorrt", what="1"), "GPU", "unknown parameter 'what' is provided for TensorRT"),
        (parameter("cudnn_conv_algo_search", "5"), "GPU", "unsupported cudnn_conv_algo_search value '5'"),
        (accelerator("cpu", "openvino"), "CPU", "needs the OpenVINOExecutionProvider of ONNX Runtime"),
    ],
)
def test_wrong_providers(text: str, kind: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        providers(config(text), InstanceSpec("m_0_0", kind), ("CUDAExecutionProvider", "TensorrtExecutionProvider"))


def test_a_network_that_batches_completes_a_config() -> None:
    found = complete(config(""), signature({"X": (FP32, (-1, 3, -1))}, {"Y": (INT32, (-1,))}))
    assert (found.max_batch_size, found.HasField("dynamic_batching")) == (4, True)
    assert [(item.name, item.data_type, list(item.dims)) for item in found.input] == [("X", 11, [3, -1])]
    (output,) = found.output
    assert (list(output.dims), output.HasField("reshape"), list(output.reshape.shape)) == ([1], True, [])


def test_a_network_that_does_not_batch_completes_a_config() -> None:
    found = complete(config(""), signature({"X": (FP32, (2, 3))}, {"Y": (FP32, ())}))
    assert (found.max_batch_size, found.HasField("dynamic_batching")) == (0, False)
    assert (list(found.input[0].dims), list(found.output[0].dims)) == ([2, 3], [1])
    assert not found.output[0].HasField("reshape")


def test_what_a_config_says_stays() -> None:
    text = 'max_batch_size: 1 input { name: "A" data_type: TYPE_INT8 dims: 9 }'
    found = complete(config(text), signature({"X": (FP32, (-1, 3))}, {"Y": (FP32, (-1, 3))}))
    assert [item.name for item in found.input] == ["A"]
    assert (found.max_batch_size, found.HasField("dynamic_batching")) == (1, False)
    sequence = complete(config("sequence_batching {}"), signature({"X": (FP32, (-1,))}, {"Y": (FP32, (-1,))}))
    assert not sequence.HasField("dynamic_batching")
    full = config(text + 'output { name: "B" data_type: TYPE_INT8 dims: 9 }')
    assert complete(full, signature({}, {})) == full


def test_batches_that_a_network_does_not_know() -> None:
    with pytest.raises(InvalidArgument, match="autofill failed for model 'm': model does not support batching while"):
        complete(config("max_batch_size: 4"), signature({"X": (FP32, (2, 3))}, {"Y": (FP32, (-1,))}))


def io(name: str, kind: str = "FP32", dims: str = "4", more: str = "") -> str:
    return f'{{ name: "{name}" data_type: TYPE_{kind} dims: {dims} {more} }}'


def both(inputs: str = "", outputs: str = "", batch: int = 8) -> str:
    return f"max_batch_size: {batch} input {inputs or io('X')} output {outputs or io('Y')}"


ROWS = signature({"X": (FP32, (-1, 4))}, {"Y": (FP32, (-1, 4))})


def test_a_config_that_fits() -> None:
    check(config(both()), ROWS)
    check(config(both(io("X", dims="2", more="reshape { shape: 4 }"))), ROWS)
    check(config(both(batch=0)), signature({"X": (FP32, (-1,))}, {"Y": (FP32, (4,))}))


@pytest.mark.parametrize(
    ("text", "network", "message"),
    [
        (
            both() + " input " + io("Z"),
            ROWS,
            "unable to load model 'm', configuration expects 2 inputs, model provides 1",
        ),
        (both(io("Z")), ROWS, "unexpected inference input 'Z', allowed inputs are: X"),
        (both(outputs=io("Z")), ROWS, "unexpected inference output 'Z', allowed outputs are: Y"),
        (
            both(io("X", "INT32")),
            ROWS,
            "unable to load model 'm', configuration expects datatype TYPE_INT32 for input 'X', model provides "
            "TYPE_FP32",
        ),
        (
            both(io("X", dims="5")),
            ROWS,
            "model 'm', tensor 'X': the model expects 2 dimensions (shape [-1,4]) but the model configuration "
            "specifies 2 dimensions (an initial batch dimension because max_batch_size > 0 followed by the explicit "
            "tensor shape, making complete shape [-1,5])",
        ),
        (
            both(outputs=io("Y", dims="-1")),
            ROWS,
            "model 'm', tensor 'Y': the model expects 2 dimensions (shape [-1,4]) but the model configuration "
            "specifies 2 dimensions (an initial batch dimension because max_batch_size > 0 followed by the explicit "
            "tensor shape, making complete shape [-1,-1])",
        ),
        (
            both(batch=0),
            ROWS,
            "model 'm', tensor 'X': the model expects 2 dimensions (shape [-1,4]) but the model configuration "
            "specifies 1 dimensions (shape [4])",
        ),
        (
            both(),
            signature({"X": (FP32, (2, 4))}, {"Y": (FP32, (-1, 4))}),
            "model 'm', tensor 'X': for the model to support batching the shape should have at least 1 dimension and "
            "the first dimension must be -1; but shape expected by the model is [2,4]",
        ),
        (
            both(io("X", more="optional: true")),
            Signature({"X": NodeInfo("X", FP32, (-1, 4), (), True)}, ROWS.outputs),
            "unable to load model 'm', optional input 'X' is not supported for models that support batching",
        ),
        (
            both(io("X", dims="2"), batch=0),
            signature({"X": (FP32, ())}, {"Y": (FP32, (4,))}),
            "unable to load model 'm', scalar tensor 'X', should only provide 1 in the model configuration when the "
            "model doesn't support batching. Model configuration provided: [2].",
        ),
        (
            both(io("X", more="allow_ragged_batch: true")),
            ROWS,
            "unable to load model 'm', configuration expects model provides input with shape [-1]  for ragged input "
            "'X', model provides [-1,4]",
        ),
    ],
)
def test_a_config_that_does_not_fit(text: str, network: Signature, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check(config(text), network)
    assert caught.value.message == message


CONTROL = 'sequence_batching { control_input { name: "START" control { kind: CONTROL_SEQUENCE_START %s } } }'


def test_sequence_controls() -> None:
    floats, numbers = CONTROL % "fp32_false_true: [0, 1]", CONTROL % "int32_false_true: [0, 1]"
    network = signature({"X": (FP32, (-1, 4)), "START": (INT32, (-1, 1))}, {"Y": (FP32, (-1, 4))})
    check(config(both() + numbers), network)
    cases: list[tuple[Any, Signature, type[TensorhubError], str]] = [
        (floats, network, InvalidArgument, "the model expects data-type INT32 but the model configuration specifies"),
        (
            numbers,
            signature({"X": (FP32, (-1, 4)), "OTHER": (INT32, (-1, 1))}, {"Y": (FP32, (-1, 4))}),
            InternalError,
            "configuration specified sequence control 'START', but model does not provide that input",
        ),
        (
            numbers,
            signature({"X": (FP32, (-1, 4)), "START": (INT32, (-1, 2))}, {"Y": (FP32, (-1, 4))}),
            InvalidArgument,
            r"sequence control 'START' in model has dims \[2\] but dims \[1\] is expected",
        ),
    ]
    for text, found, error, message in cases:
        with pytest.raises(error, match=message):
            check(config(both() + text), found)


def test_states_are_inputs_and_outputs() -> None:
    text = both() + (
        'sequence_batching { state { input_name: "IN_STATE" output_name: "OUT_STATE" data_type: TYPE_FP32 dims: 2 } }'
    )
    inputs: dict[str, Any] = {"X": (FP32, (-1, 4)), "IN_STATE": (FP32, (-1, 2))}
    check(config(text), signature(inputs, {"Y": (FP32, (-1, 4)), "OUT_STATE": (FP32, (-1, 2))}))
    with pytest.raises(InvalidArgument, match="unexpected inference output 'OUT_STATE'"):
        check(config(text), signature(inputs, {"Y": (FP32, (-1, 4))}))
    with pytest.raises(InvalidArgument, match="for output state 'OUT_STATE', model provides TYPE_INT32"):
        check(config(text), signature(inputs, {"Y": (FP32, (-1, 4)), "OUT_STATE": (INT32, (-1, 2))}))
