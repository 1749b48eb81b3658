"""Model configurations, compared with what Triton 2.51 (CPU, Python backend) shows and refuses.

`recorded_configs.json` holds its answers: `shown`, what GET /v2/models/M/config said; `refused`, its reason, and
whether it found it when it read the model or when it loaded a version. The models had a model.py in each version.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tensorhub.errors import InvalidArgument
from tensorhub.protocol import messages, model_config

RECORDED = json.loads((Path(__file__).parent / "recorded_configs.json").read_text())
SHOWN: dict[str, dict[str, Any]] = RECORDED["shown"]
REFUSED: dict[str, dict[str, str]] = RECORDED["refused"]
NEWER_FIELDS = {"max_inflight_requests"}
"""Fields that Triton has got since."""

TENSORS = 'input { name: "A" data_type: TYPE_FP32 dims: 4 } output { name: "B" data_type: TYPE_FP32 dims: 4 } '


def read(text: str, name: str = "m", files: tuple[str, ...] = ("model.py",), gpus: tuple[str, ...] = ()) -> Any:
    return model_config.complete(model_config.parse_text(text, "config.pbtxt"), name=name, files=files, gpus=gpus)


def without_newer(shown: Any) -> Any:
    if isinstance(shown, dict):
        return {key: without_newer(value) for key, value in shown.items() if key not in NEWER_FIELDS}
    return [without_newer(item) for item in shown] if isinstance(shown, list) else shown


@pytest.mark.parametrize("name", SHOWN)
def test_shows_what_triton_shows(name: str) -> None:
    config = read(SHOWN[name]["text"], name)
    model_config.validate(config)
    model_config.validate_loaded(config)
    # As text: the order of the fields, and 1 against 1.0 or "1", count too.
    assert json.dumps(without_newer(model_config.to_json(config))) == json.dumps(SHOWN[name]["shown"])


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_what_triton_refuses(name: str) -> None:
    case = REFUSED[name]
    config = model_config.parse_text(case["text"], "config.pbtxt")
    config = model_config.complete(config, name=name, files=("model.py",))
    if case["when"] == "load":
        model_config.validate(config)
    with pytest.raises(InvalidArgument) as caught:
        {"read": model_config.validate, "load": model_config.validate_loaded}[case["when"]](config)
    assert caught.value.message == case["message"]


@pytest.mark.parametrize("name", SHOWN)
def test_completion_is_idempotent_and_leaves_its_argument_alone(name: str) -> None:
    config = model_config.parse_text(SHOWN[name]["text"], "config.pbtxt")
    before = config.SerializeToString(deterministic=True)
    once = model_config.complete(config, name=name, files=("model.py",))
    assert config.SerializeToString(deterministic=True) == before
    assert model_config.complete(once, name="other", files=("model.onnx",)) == once


@pytest.mark.parametrize("name", SHOWN)
def test_what_is_shown_can_be_loaded_again(name: str) -> None:
    config = read(SHOWN[name]["text"], name)
    assert model_config.parse_json(json.dumps(model_config.to_json(config))) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "max_batch_size: 3\n  instance_grop { }",
            ':2:3: Message type "inference.ModelConfig" has no field named '
            "\"instance_grop\": did you mean 'instance_group'?",
        ),
        (
            'input [ { name: "A" data_typ: TYPE_FP32 } ]',
            ':1:21: Message type "inference.ModelInput" has no field named "data_typ": did you mean \'data_type\'?',
        ),
        (
            "preferred_batch_size: 3",
            ':1:1: Message type "inference.ModelConfig" has no field named '
            '"preferred_batch_size": it is a field of dynamic_batching, sequence_batching.oldest',
        ),
        (
            "dynamic_batching {\n max_batch_size: 3 }",
            ':2:2: Message type "inference.ModelDynamicBatching" has no field '
            'named "max_batch_size": it is a field of the model configuration',
        ),
        ('max_batch_size: "a"', ":1:17: Couldn't parse integer: \"a\" (field 'max_batch_size')"),
        ("max_batch_size: 99999999999", ":1:17: Value out of range: 99999999999 (field 'max_batch_size')"),
        (
            'input [ { name: "X" dims: [ 1 ] }\noutput [ { name: "Y" } ]',
            ':2:1: Expected "," (the "[" of line 1, column 7 is not closed)',
        ),
        ('input {\n name: "}"\n', ':2:8: Expected "}" (the "{" of line 1, column 7 is not closed)'),
        (
            'input { name: "]" } ]',
            ":1:21: Expected identifier or number, got ] (there is nothing open that it would close)",
        ),
        ("backend: python", ":1:10: Expected string but found: 'python' (field 'backend')"),
        ("input { optional: maybe }", ':1:19: Expected "true" or "false" (field \'optional\')'),
        (
            "input { data_type: FP32 }",
            ':1:20: Enum type "inference.DataType" has no value named "FP32": did you mean '
            "'TYPE_FP32'? (field 'data_type')",
        ),
        (
            'backend: "a"\nbackend: "b"',
            ':2:10: Message type "inference.ModelConfig" should not have multiple "backend" fields (field \'backend\')',
        ),
        (
            'parameters { key: "a" value: "b" }',
            ":1:30: Expected \"{\" (field 'value'): an entry of a map of messages is "
            'written { key: "name" value { ... } }, e.g. value { string_value: "text" }',
        ),
        (
            "dynamic_batching {} sequence_batching {}",
            ':1:21: Field "sequence_batching" is specified along with field '
            '"dynamic_batching", another member of oneof "scheduling_choice" for message type "inference.ModelConfig"',
        ),
        ("input { data_type: 99999999999999999999 }", ": Value out of range: 99999999999999999999"),
        (
            "input { data_type: 99 }",
            ': input.data_type: Enum type "inference.DataType" has no value named "99": values '
            "are TYPE_INVALID, TYPE_BOOL,",
        ),
    ],
)
def test_text_that_does_not_parse(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        model_config.parse_text(text, "m/config.pbtxt")
    assert caught.value.message.startswith("m/config.pbtxt" + message)


@pytest.mark.parametrize(
    "text", ["", "# only a comment\n", 'backend: "python";', "max_batch_size: 0x10", 'name: "a" "b"']
)
def test_text_that_parses(text: str) -> None:
    model_config.parse_text(text, "config.pbtxt")


@settings(max_examples=300)
@given(
    st.lists(
        st.sampled_from(
            [
                *"{}[]:,<>;\"'\\#\n-.",
                " ",
                "name",
                "input",
                "dims",
                "data_type",
                "TYPE_FP32",
                "parameters",
                "key",
                "value",
                "1",
                "-1",
                "1.5",
                "inf",
                "true",
                '"x"',
                "dynamic_batching",
                "version_policy",
                "latest",
                "\x00",
                "\ud800",
                "é",
            ]
        ),
        max_size=20,
    ).map(" ".join)
)
def test_any_text_is_a_config_or_an_invalid_argument(text: str) -> None:
    for parse in (model_config.parse_json, lambda text: model_config.parse_text(text, "config.pbtxt")):
        try:
            config = parse(text)
        except InvalidArgument:
            continue
        model_config.to_json(config)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.sampled_from(["TYPE_FP32", "1"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from([*messages.ModelConfig.DESCRIPTOR.fields_by_name, "dims", "key", "latest"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@settings(max_examples=300)
@given(JSON_VALUES)
def test_any_json_is_a_config_or_an_invalid_argument(document: Any) -> None:
    try:
        config = model_config.parse_json(json.dumps(document))
        config = model_config.complete(config, name="m")
        model_config.validate(config)
        model_config.validate_loaded(config)
    except InvalidArgument:
        return
    model_config.to_json(config)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "Root element must be a message."),
        ('{"foo": 1}', "foo: Cannot find field."),
        ('{"input": [{"foo": 1}]}', "input[0].foo: Cannot find field."),
        ('{"parameters": {"a": {"x": 1}}}', "parameters.a.x: Cannot find field."),
        ('{"max_batch_size": 1, "maxBatchSize": 2}', "max_batch_size: the field appears twice"),
        ('{"max_batch_size": 1, "max_batch_size": 2}', "the JSON does not parse: name 'max_batch_size' appears twice"),
        (
            '{"input": [{"data_type": "TYPE_FP33"}]}',
            '(input[0].data_type): Enum type "inference.DataType" has no value',
        ),
        ('{"input": [{"data_type": 1e400}]}', "(input[0].data_type): expected the name of a value, got Infinity"),
        ('{"dynamic_batching": 3}', "dynamic_batching: expected an object, got 3"),
        ('{"parameters": 3}', "parameters: expected an object of names and values, got 3"),
        ('{"max_batch_size": "x"}', "Failed to parse max_batch_size field: invalid literal for int()"),
        ("{", "the JSON does not parse: Expecting property name"),
        ("", "the JSON does not parse: Expecting value"),
        ("[" * 100_000, "the JSON is nested too deeply"),
    ],
)
def test_json_that_does_not_parse(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        model_config.parse_json(text)
    assert caught.value.message.startswith("Invalid config override: " + message)


def test_json_may_use_either_names_any_case_of_enums_and_strings_for_numbers() -> None:
    config = model_config.parse_json(
        '{"backend": null, "maxBatchSize": "5", "input": [{"name": "A", "dataType": "type_fp32", "dims": ["4", 2]}],'
        '"dynamic_batching": {"priority_queue_policy": {"1": {"timeout_action": "delay"}}}}'
    )
    assert config == model_config.parse_text(
        'max_batch_size: 5 input { name: "A" data_type: TYPE_FP32 dims: [4, 2] } '
        "dynamic_batching { priority_queue_policy { key: 1 value { timeout_action: DELAY } } }",
        "config.pbtxt",
    )


@pytest.mark.parametrize(
    ("text", "files", "backend", "platform", "filename"),
    [
        ("", ["model.onnx"], "onnxruntime", "onnxruntime_onnx", "model.onnx"),
        ("", ["model.pt"], "pytorch", "pytorch_libtorch", "model.pt"),
        ("", ["model.pt2"], "pytorch", "torch_aoti", "model.pt2"),
        ("", ["model.py", "weights.bin"], "python", "", "model.py"),
        ("", ["model.py", "model.onnx"], "onnxruntime", "onnxruntime_onnx", "model.onnx"),
        ("", ["model.plan"], "tensorrt", "tensorrt_plan", "model.plan"),
        ("", ["model.savedmodel"], "tensorflow", "tensorflow_savedmodel", "model.savedmodel"),
        ('platform: "onnxruntime_onnx"', [], "onnxruntime", "onnxruntime_onnx", "model.onnx"),
        ('platform: "pytorch_libtorch"', ["x"], "pytorch", "pytorch_libtorch", "model.pt"),
        ('platform: "torch_aoti"', [], "pytorch", "torch_aoti", "model.pt2"),
        ('backend: "pytorch"', [], "pytorch", "pytorch_libtorch", "model.pt"),
        ('backend: "pytorch"', ["model.pt2"], "pytorch", "torch_aoti", "model.pt2"),
        ('backend: "onnxruntime"', ["model.py"], "onnxruntime", "onnxruntime_onnx", "model.onnx"),
        ('backend: "onnxruntime" default_model_filename: "a.onnx"', [], "onnxruntime", "onnxruntime_onnx", "a.onnx"),
        ('backend: "pytorch" default_model_filename: "a.pt2"', [], "pytorch", "torch_aoti", "a.pt2"),
        ('backend: "tensorflow"', [], "tensorflow", "", ""),
        ('backend: "identity"', [], "identity", "", ""),
        ('backend: "identity" default_model_filename: "x"', [], "identity", "", "x"),
        ('default_model_filename: "model.py"', [], "python", "", "model.py"),
        ('default_model_filename: "other.py"', [], "", "", "other.py"),
        ('platform: "foo"', ["model.py"], "", "foo", ""),
        ('platform: "ensemble"', ["model.py"], "", "ensemble", ""),
    ],
)
def test_the_backend_is_told_by_names(text: str, files: list[str], backend: str, platform: str, filename: str) -> None:
    config = read(text, files=tuple(files))
    assert (config.backend, config.platform, config.default_model_filename) == (backend, platform, filename)


def test_the_backend_is_told_by_the_models_name() -> None:
    config = read("", name="model.identity", files=())
    assert (config.backend, config.default_model_filename) == ("identity", "model.identity")


def test_no_backend_can_be_told() -> None:
    with pytest.raises(InvalidArgument) as caught:
        read("max_batch_size: 1", files=("weights.bin",))
    assert caught.value.message.startswith(
        "Invalid model name: Could not determine backend for model 'm' with no backend in model configuration. "
        "Expected model name of the form 'model.<backend_name>'."
    )
    assert "weights.bin" in caught.value.message
    with pytest.raises(InvalidArgument, match=r'An ensemble needs platform: "ensemble"'):
        read("ensemble_scheduling { }", files=())


@pytest.mark.parametrize(
    ("text", "gpus", "expected"),
    [
        ("", 0, [("m", "KIND_CPU", 1, [])]),
        ("", 2, [("m", "KIND_GPU", 1, [0, 1])]),
        ("instance_group { count: 3 }", 2, [("m_0", "KIND_GPU", 3, [0, 1])]),
        ("instance_group { gpus: 1 }", 2, [("m_0", "KIND_GPU", 1, [1])]),
        ("instance_group { gpus: 5 }", 2, [("m_0", "KIND_CPU", 1, [5])]),
        ("instance_group { kind: KIND_GPU }", 0, [("m_0", "KIND_GPU", 1, [])]),
        (
            'instance_group [ { kind: KIND_CPU }, { name: "x" kind: KIND_MODEL } ]',
            1,
            [("m_0", "KIND_CPU", 1, []), ("x", "KIND_MODEL", 1, [])],
        ),
    ],
)
def test_instance_groups(text: str, gpus: int, expected: list[tuple[str, str, int, list[int]]]) -> None:
    config = read('backend: "python" ' + text, gpus=("GPU-uuid",) * gpus)
    shown = model_config.to_json(config)["instance_group"]
    assert [(group["name"], group["kind"], group["count"], group["gpus"]) for group in shown] == expected


def test_onnx_on_cpu_has_two_instances() -> None:
    assert read('backend: "onnxruntime"').instance_group[0].count == 2
    assert read('backend: "onnxruntime"', gpus=("GPU-uuid",)).instance_group[0].count == 1


@pytest.mark.parametrize(
    ("group", "gpus", "message"),
    [
        (
            "kind: KIND_GPU gpus: [0, 2]",
            2,
            "instance group m_0 of model m specifies invalid or unsupported gpu id 2. GPUs with "
            "at least the minimum required CUDA compute compatibility of 6.000000 are: 0, 1",
        ),
        ("kind: KIND_CPU gpus: 0", 2, "instance group m_0 of model m has kind KIND_CPU but specifies one or more GPUs"),
    ],
)
def test_instance_groups_on_gpus(group: str, gpus: int, message: str) -> None:
    uuids = ("GPU-uuid",) * gpus
    config = read(f'backend: "python" instance_group {{ {group} }}', gpus=uuids)
    with pytest.raises(InvalidArgument) as caught:
        model_config.validate_loaded(config, uuids)
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ("metric_control { }", "metric control must specify 'metric_identifier'"),
        ("metric_control { metric_identifier { } }", "metric identifier must specify non-empty 'family'"),
        ('metric_control { metric_identifier { family: "f" } }', "metric control must specify 'histogram_options'"),
        (
            'metric_control { metric_identifier { family: "f" } histogram_options { } }',
            "histogram options must specify non-empty 'buckets'",
        ),
    ],
)
def test_metrics(metrics: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        model_config.validate(read(f'backend: "python" model_metrics {{ {metrics} }}'))
    assert caught.value.message == message


def test_a_state_may_be_named_once() -> None:
    state = 'state { input_name: "I" output_name: "O" data_type: TYPE_INT32 dims: 1 } '
    config = read('backend: "python" sequence_batching { ' + 2 * state + "}")
    with pytest.raises(InvalidArgument, match=r"^State input name 'I' specified more than once.$"):
        model_config.validate_loaded(config)


def test_a_circle_in_an_ensemble_is_named() -> None:
    def step(source: str, target: str) -> str:
        maps = f'input_map {{ key: "X" value: "{source}" }} output_map {{ key: "Y" value: "{target}" }}'
        return f'step {{ model_name: "m" model_version: -1 {maps} }} '

    def ensemble(steps: str) -> Any:
        return read(f'platform: "ensemble" {TENSORS} ensemble_scheduling {{ {steps} }}', "e")

    circle = step("P", "Q") + step("Q", "P")
    with pytest.raises(InvalidArgument, match=r"^ensemble tensor 'P' is unused in ensemble 'e'$"):
        model_config.validate(ensemble(step("A", "B") + circle))
    with pytest.raises(
        InvalidArgument,
        match=r"^output 'B' for ensemble 'e' is not written: at least one of its depending tensors, 'P', is not",
    ):
        model_config.validate(ensemble(step("A", "Z") + circle + step("Q", "B")))
    chain = "".join(step(f"T{i}", f"T{i + 1}") for i in reversed(range(50)))
    model_config.validate(ensemble(step("A", "T0") + chain + step("T50", "B")))


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("latest { num_versions: 1 }", [10]),
        ("latest { num_versions: 2 }", [3, 10]),
        ("latest { num_versions: 99 }", [1, 3, 10]),
        ("latest { }", []),
        ("all { }", [1, 3, 10]),
        ("", [1, 3, 10]),
        ("specific { versions: [10, 5, 1, 1] }", [1, 10]),
        ("specific { }", []),
    ],
)
def test_version_policies(policy: str, expected: list[int]) -> None:
    config = model_config.parse_text(f"version_policy {{ {policy} }}", "config.pbtxt")
    assert model_config.select_versions(config.version_policy, [10, 1, 3]) == expected
    assert model_config.select_versions(config.version_policy, []) == []


def test_needs_reload() -> None:
    old = read('backend: "python"')
    new = read('backend: "python" instance_group { count: 7 } version_policy { all { } }')
    assert not model_config.needs_reload(old, new)
    new.max_batch_size = 3
    assert model_config.needs_reload(old, new)


LARGEST_SINGLE = float.fromhex("0x1.fffffep127")


@given(st.floats(width=32, allow_nan=False), st.floats(allow_nan=False))
@example(LARGEST_SINGLE, -LARGEST_SINGLE)
@example(-LARGEST_SINGLE, LARGEST_SINGLE)
def test_floats_read_back_as_they_were(single: float, double: float) -> None:
    config = messages.ModelConfig()
    config.sequence_batching.direct.minimum_slot_utilization = single
    config.model_metrics.metric_control.add().histogram_options.buckets.append(double)
    again = model_config.parse_json(json.dumps(model_config.to_json(config)))
    assert again.SerializeToString(deterministic=True) == config.SerializeToString(deterministic=True)


def test_special_floats_are_strings() -> None:
    config = messages.ModelConfig()
    config.model_metrics.metric_control.add().histogram_options.buckets.extend(
        [float("nan"), float("inf"), -float("inf")]
    )
    shown = model_config.to_json(config)["model_metrics"]["metric_control"][0]["histogram_options"]
    assert shown == {"buckets": ["NaN", "Infinity", "-Infinity"]}


def test_integers_that_stay_strings() -> None:
    config = messages.ModelConfig()
    config.instance_group.add().secondary_devices.add(device_id=3)
    shown = model_config.to_json(config)
    assert shown["instance_group"][0]["secondary_devices"] == [{"kind": "KIND_NVDLA", "device_id": "3"}]


def test_no_repository_agent_is_passed_over() -> None:
    config = model_config.parse_text(
        'name: "m" backend: "python" model_repository_agents { agents { name: "checksum" } }', "config.pbtxt"
    )
    with pytest.raises(InvalidArgument, match="model 'm' wants the repository agent 'checksum'"):
        model_config.validate(model_config.complete(config, name="m"))


def test_groups_are_checked_before_tensors() -> None:
    text = 'backend: "python" input { name: "A" data_type: TYPE_FP32 dims: 0 } instance_group { kind: KIND_GPU }'
    config = read(text)
    with pytest.raises(InvalidArgument, match="has kind KIND_GPU but no GPUs are available"):
        model_config.validate_loaded(config)


def test_json_may_have_a_single_value_for_a_list() -> None:
    text = json.dumps(
        {
            "input": {"name": "A", "data_type": "TYPE_INT32", "dims": 1},
            "instance_group": {"count": 2, "kind": "KIND_CPU"},
            "version_policy": {"specific": {"versions": "1"}},
            "dynamic_batching": {"preferred_batch_size": 2},
            "output": None,
        }
    )
    config = model_config.parse_json(text)
    assert [(item.name, list(item.dims)) for item in config.input] == [("A", [1])]
    assert [group.count for group in config.instance_group] == [2]
    assert list(config.version_policy.specific.versions) == [1]
    assert list(config.dynamic_batching.preferred_batch_size) == [2]
    assert not config.output


@pytest.mark.parametrize(
    ("word", "value"), [("true", True), ("False", False), ("yes", True), ("T", True), ("0", False)]
)
def test_json_may_have_a_word_for_a_boolean(word: str, value: bool) -> None:
    config = model_config.parse_json(json.dumps({"optimization": {"eager_batching": word}}))
    assert config.optimization.eager_batching is value


@pytest.mark.parametrize(
    "document",
    [
        {"optimization": {"eager_batching": ""}},
        {"optimization": {"eager_batching": "on"}},
        {"instance_group": "x"},
        {"input": "A"},
        {"metric_tags": "x"},
        {"metric_tags": [{"key": "a", "value": "b"}]},
    ],
)
def test_json_of_other_kinds_is_refused(document: Any) -> None:
    with pytest.raises(InvalidArgument, match="Invalid config override"):
        model_config.parse_json(json.dumps(document))
