"""Triton's Python models: what they may return, what they hear, and what is said when they fail.

The texts are those that Triton 2.51 gave for the same models.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tensorhub.backends.destinations import PlacedOutput
from tensorhub.backends.port import InstanceSpec
from tensorhub.backends.python.backend import PythonBackend
from tensorhub.errors import Code, InternalError, InvalidArgument, TensorhubError
from tensorhub.requests import RequestedOutput, Tensor
from tensorhub.tensors import DataType
from tests.backends.python_models import CONFIG, Answers, config, error_of, infer_request, instance, run, source
from tests.workers.fake_memory import FakeMemory

HEAD = """
import numpy as np
import triton_python_backend_utils as pb_utils

def one(value=7, name="OUT"):
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, np.array([value], dtype=np.int32))])

class Sub(Exception):
    pass

class TritonPythonModel:
    def execute(self, requests):
"""
FIRST_LINE = HEAD.count("\n") + 1


def body(*lines: str) -> str:
    return HEAD + "".join(f"        {line}\n" for line in lines)


def failure(folder: Path, text: str) -> str:
    return f"Failed to process the request(s) for model 'm_0_0', message: {text}".replace("{file}", "m/1/model.py")


FRAME = f"\n\nAt:\n  {{file}}({FIRST_LINE}): execute\n"
LIST_TEXT = "Expected a list in the execute return, found type '<class '{}'>'."
COUNT_TEXT = (
    "Number of InferenceResponse objects do not match the number of InferenceRequest objects. InferenceRequest(s) size "
    "is:1, and InferenceResponse(s) size is:{}\n"
)
CONSTRUCTOR_TEXT = (
    "TypeError: __init__(): incompatible constructor arguments. The following argument types are supported:\n    1. "
    "c_python_backend_utils.{}\n\nInvoked with: {}"
)
TENSOR_TEXT = CONSTRUCTOR_TEXT.format("Tensor(arg0: str, arg1: numpy.ndarray)", "{}")
RESPONSE_TEXT = CONSTRUCTOR_TEXT.format(
    "InferenceResponse(output_tensors: List[c_python_backend_utils.Tensor] = [], error: "
    "c_python_backend_utils.TritonError = None)",
    "{}",
)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("raise ValueError('bad value')", "ValueError: bad value" + FRAME),
        ("return {}['missing']", "KeyError: 'missing'" + FRAME),
        ("raise RuntimeError('first line\\nsecond line')", "RuntimeError: first line\nsecond line" + FRAME),
        ("raise SystemExit(3)", "SystemExit: 3" + FRAME),
        ("raise KeyboardInterrupt", "KeyboardInterrupt: <EMPTY MESSAGE>" + FRAME),
        ("raise GeneratorExit('x')", "GeneratorExit: x" + FRAME),
        ("raise Sub()", "Sub: <EMPTY MESSAGE>" + FRAME),
        ("raise pb_utils.TritonModelException('no')", "TritonModelException: no" + FRAME),
        ("return 5", LIST_TEXT.format("int")),
        ("return tuple([one()])", LIST_TEXT.format("tuple")),
        ("return one()", LIST_TEXT.format("c_python_backend_utils.InferenceResponse")),
        ("return None", LIST_TEXT.format("NoneType")),
        ("return []", COUNT_TEXT.format(0)),
        ("return [one()] * 2", COUNT_TEXT.format(2)),
        (
            "return ['x']",
            "Expected an 'InferenceResponse' object in the execute function return list, found type '<class 'str'>'.",
        ),
        (
            "return [None]",
            "Expected an 'InferenceResponse' object in the execute function return list, found type "
            "'<class 'NoneType'>'.",
        ),
        ("return [one(name='')]", None),
        (
            "return [pb_utils.InferenceResponse([pb_utils.Tensor('OUT', [7])])]",
            TENSOR_TEXT.format("'OUT', [7]") + FRAME,
        ),
        (
            "return [pb_utils.InferenceResponse([pb_utils.Tensor('OUT', np.array([7j]))])]",
            "TritonModelException: NumPy dtype is not supported." + FRAME,
        ),
        (
            "return [pb_utils.InferenceResponse(error='a text')]",
            RESPONSE_TEXT.format("kwargs: error='a text'") + FRAME,
        ),
        (
            "return [pb_utils.InferenceResponse([np.array([7], np.int32)])]",
            RESPONSE_TEXT.format("[array([7], dtype=int32)]") + FRAME,
        ),
    ],
)
def test_what_a_model_does_wrong(tmp_path: Path, line: str, text: str | None) -> None:
    error = error_of(run(instance(tmp_path, body(line))))
    assert error.code is Code.INTERNAL
    if text is None:
        text = (
            "TritonModelException: Tensor name cannot be an empty string.\n\nAt:\n"
            f"  m/1/model.py(6): one\n  m/1/model.py({FIRST_LINE}): execute\n"
        )
    assert error.message == failure(tmp_path, text)


def test_a_model_without_execute(tmp_path: Path) -> None:
    error = error_of(run(instance(tmp_path, "class TritonPythonModel:\n    pass\n")))
    assert error.message == failure(tmp_path, "Python model {file} does not implement `execute` method.")


def test_the_trace_of_a_coroutine_ends_with_it(tmp_path: Path) -> None:
    code = """
    import asyncio
    class TritonPythonModel:
        async def execute(self, requests):
            await asyncio.sleep(0)
            return await self.deeper()
        async def deeper(self):
            raise ValueError("from a coroutine")
    """
    model = instance(tmp_path, code)
    text = "ValueError: from a coroutine\n\nAt:\n  {file}(8): deeper\n"
    assert error_of(run(model)).message == failure(tmp_path, text)
    model.finalize()


@pytest.mark.parametrize(("name", "code"), [(code.name, code) for code in Code])
def test_errors_of_single_requests(tmp_path: Path, name: str, code: Code) -> None:
    line = f"return [pb_utils.InferenceResponse([], pb_utils.TritonError('told', pb_utils.TritonError.{name})), one()]"
    failed, fine = run(instance(tmp_path, body(line)), infer_request(), infer_request())
    assert failed is not None
    assert failed.error is not None
    assert (failed.error.code, failed.error.message) == (code, "told")
    assert fine is not None
    assert fine.error is None


def outputs(model: Any, *requests: Any) -> list[list[tuple[str, str, tuple[int, ...], bytes]]]:
    responses = run(model, *requests)
    result = []
    for response in responses:
        assert response is not None
        if response.error is not None:
            raise response.error
        result.append([(t.name, t.datatype.value, t.shape, bytes(memoryview(t.data))) for t in response.outputs])
    return result


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        ("np.array([7], np.int32)", ("INT32", (1,), b"\7\0\0\0")),
        ("np.array([7.5], np.float32)", ("FP32", (1,), b"\0\0\xf0@")),
        ("np.array([[1, 2], [3, 4]], np.int8)", ("INT8", (2, 2), b"\1\2\3\4")),
        ("np.array([[1, 2], [3, 4]], np.int8).T", ("INT8", (2, 2), b"\1\3\2\4")),
        ("np.arange(10, dtype=np.uint8)[3:9:2]", ("UINT8", (3,), b"\3\5\7")),
        ("np.array([], np.int32)", ("INT32", (0,), b"")),
        ("np.array(1.5, np.float16)", ("FP16", (), b"\0\x3e")),
        ("np.array([True, False])", ("BOOL", (2,), b"\1\0")),
        ("np.array(['a', b'bc', 1], object)", ("BYTES", (3,), b"\1\0\0\0a\2\0\0\0bc\1\0\0\x001")),
        ("np.array(['\u00e4'])", ("BYTES", (1,), b"\2\0\0\0\xc3\xa4")),
        ("np.array([b'a', b'bc'])", ("BYTES", (2,), b"\1\0\0\0a\2\0\0\0bc")),
    ],
)
def test_outputs_are_what_the_model_gives(tmp_path: Path, array: str, expected: tuple[str, Any, bytes]) -> None:
    """Neither type nor shape is compared with the config, as in Triton."""
    line = f"return [pb_utils.InferenceResponse([pb_utils.Tensor('OUT', {array})])]"
    assert outputs(instance(tmp_path, body(line))) == [[("OUT", *expected)]]


TWO = CONFIG + 'output { name: "OUT2" data_type: TYPE_INT32 dims: -1 }'


@pytest.mark.parametrize(
    ("requested", "expected"), [([], ["OUT", "OUT2"]), (["OUT2"], ["OUT2"]), (["OUT2", "OUT"], ["OUT", "OUT2"])]
)
def test_only_wanted_outputs_come_back(tmp_path: Path, requested: list[str], expected: list[str]) -> None:
    line = (
        "return [pb_utils.InferenceResponse([pb_utils.Tensor(n, np.zeros(1, np.int32)) for n in "
        "sorted(requests[0].requested_output_names()) + ['OTHER', 'OUT', 'OUT2']][:5][-3:])]"
    )
    request = infer_request(requested=[RequestedOutput(name) for name in requested])
    assert [item[0] for item in outputs(instance(tmp_path, body(line), TWO), request)[0]] == expected


def test_what_a_model_can_learn_of_its_request(tmp_path: Path) -> None:
    code = body(
        "r = requests[0]",
        "t = r.inputs()[0]",
        "report = [r.request_id(), r.correlation_id(), r.flags(), r.timeout(), r.parameters(),",
        "    sorted(r.requested_output_names()), r.is_cancelled(), r.trace().get_context(),",
        "    t.name(), t.shape(), t.is_cpu(), t.triton_dtype(), pb_utils.get_input_tensor_by_name(r, 'NO'),",
        "    t.as_numpy().tolist(), t.as_numpy().flags.writeable, pb_utils.get_model_dir(), __file__]",
        "import json",
        "return [pb_utils.InferenceResponse([pb_utils.Tensor('OUT', np.array([json.dumps(report)], object))],",
        "    parameters={'a': 1, 'b': 'x', 'c': True})]",
    )
    request = infer_request(correlation_id="c", flags=1, timeout_us=9, parameters={"p": 1, "q": "x"})
    (response,) = run(instance(tmp_path, code), request)
    assert response is not None
    assert response.parameters == {"a": 1, "b": "x", "c": True}
    version = str(tmp_path / "m" / "1")
    assert json.loads(bytes(memoryview(response.outputs[0].data))[4:]) == [
        *["id", "c", 1, 9, '{"p": 1, "q": "x"}', ["OUT"], False, None, "IN", [2], True, 8, None, [1, 2], True],
        version,
        f"{version}/model.py",
    ]


def test_initialize_is_told_what_triton_tells(tmp_path: Path) -> None:
    code = """
    class TritonPythonModel:
        def initialize(self, args):
            global told
            told = args
            raise ValueError(repr(args))
        def execute(self, requests):
            return []
    """
    model = PythonBackend().load(source(tmp_path, code, CONFIG + 'parameters { key: "p" value { string_value: "v" } }'))
    with pytest.raises(InternalError) as caught:
        model.new_instance(InstanceSpec("m_0_0", "GPU", 2))
    text = caught.value.message
    assert text.endswith("\n\nAt:\n  m/1/model.py(6): initialize\n")
    told = eval(text.partition("\n\n")[0].removeprefix("ValueError: "), {"__builtins__": {}})
    document = json.loads(told.pop("model_config"))
    assert told == {
        "model_instance_kind": "GPU",
        "model_instance_name": "m_0_0",
        "model_instance_device_id": "2",
        "model_repository": str(tmp_path / "m"),
        "model_version": "1",
        "model_name": "m",
    }
    assert document["name"] == "m"
    assert document["input"][0]["dims"] == [-1]
    assert document["parameters"] == {"p": {"string_value": "v"}}


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (
            "import no_such_module",
            "ModuleNotFoundError: No module named 'no_such_module'\n\nAt:\n  {file}(1): <module>\n",
        ),
        (
            "1 = 2",
            "SyntaxError: cannot assign to literal here. Maybe you meant '==' instead of '='? (model.py, line 1)",
        ),
        ("x = 1", "AttributeError: module '1.model' has no attribute 'TritonPythonModel'"),
        ("raise ValueError('no')", "ValueError: no\n\nAt:\n  {file}(1): <module>\n"),
    ],
)
def test_files_that_cannot_be_loaded(tmp_path: Path, code: str, text: str) -> None:
    with pytest.raises(InternalError) as caught:
        PythonBackend().load(source(tmp_path, code))
    assert caught.value.message == text.replace("{file}", "m/1/model.py")


def test_a_missing_file_and_a_wrong_name(tmp_path: Path) -> None:
    written = source(tmp_path, "")
    Path(written.folder, "1", "model.py").unlink()
    with pytest.raises(InternalError, match=r"^Python model file not found in 'm/1/model.py'$"):
        PythonBackend().load(written)
    with pytest.raises(InvalidArgument) as caught:
        PythonBackend().load(source(tmp_path, "", CONFIG + 'default_model_filename: "model.txt"'))
    assert caught.value.message == "Model name must end with '.py'. Model name is \"model.txt\"."


def test_finalize(tmp_path: Path) -> None:
    code = body("return []") + "    def finalize(self):\n        raise ValueError('too late')\n"
    with pytest.raises(InternalError, match=r"^ValueError: too late"):
        instance(tmp_path, code).finalize()
    instance(tmp_path, body("return []")).finalize()


ECHO = body(
    "return [pb_utils.InferenceResponse([pb_utils.Tensor('OUT', "
    "pb_utils.get_input_tensor_by_name(r, 'IN').as_numpy())]) for r in requests]"
)


def test_inputs_are_views(tmp_path: Path) -> None:
    data = bytearray(8)
    code = body("requests[0].inputs()[0].as_numpy()[:] = 5", "return [one()]")
    assert outputs(instance(tmp_path, code), infer_request(data=data))
    assert data == b"\5\0\0\0\5\0\0\0"
    (response,) = run(instance(tmp_path, ECHO), infer_request(data=data))
    assert response is not None
    assert np.shares_memory(np.asarray(response.outputs[0].data), np.frombuffer(data, np.uint8))


def test_a_write_to_a_clients_region_names_the_remedy(tmp_path: Path) -> None:
    code = body("requests[0].inputs()[0].as_numpy()[:] = 5", "return [one()]")
    error = error_of(run(instance(tmp_path, code), infer_request(data=memoryview(bytes(8)))))
    assert "ValueError: assignment destination is read-only" in error.message
    assert 'key: "SHM_INPUT" value { string_value: "copy" }' in error.message
    other = body("np.frombuffer(b'1234', np.int8)[:] = 5", "return [one()]")
    assert "SHM_INPUT" not in error_of(run(instance(tmp_path, other), infer_request())).message


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0)])
def test_empty_inputs(tmp_path: Path, shape: tuple[int, ...]) -> None:
    inputs = {"IN": Tensor("IN", DataType.FP32, shape, b"")}
    assert outputs(instance(tmp_path, ECHO), infer_request(inputs=inputs)) == [[("OUT", "FP32", shape, b"")]]


def test_bytes_inputs(tmp_path: Path) -> None:
    inputs = {"IN": Tensor("IN", DataType.BYTES, (1, 2), b"\1\0\0\0a\0\0\0\0")}
    code = body("assert requests[0].inputs()[0].as_numpy().tolist() == [[b'a', b'']]", ECHO.splitlines()[-1].strip())
    assert outputs(instance(tmp_path, code), infer_request(inputs=inputs)) == [
        [("OUT", "BYTES", (1, 2), b"\1\0\0\0a\0\0\0\0")]
    ]


def test_bf16_has_no_array_but_can_be_passed_on(tmp_path: Path) -> None:
    inputs = {"IN": Tensor("OUT", DataType.BF16, (1,), b"\x80\x3f")}
    passing = body("return [pb_utils.InferenceResponse(requests[0].inputs())]")
    assert outputs(instance(tmp_path, passing), infer_request(inputs=inputs)) == [[("OUT", "BF16", (1,), b"\x80\x3f")]]
    error = error_of(run(instance(tmp_path, ECHO), infer_request(inputs=inputs)))
    assert "TritonModelException: Tensor dtype is BF16 and cannot be converted to NumPy." in error.message


def _placed(memory: FakeMemory, byte_size: int) -> PlacedOutput:
    memory.regions["r"] = bytearray(64)
    lease = memory.region("r", 0, byte_size, writable=True)
    return PlacedOutput(name="OUT", region="r", offset=0, byte_size=byte_size, lease=lease)


IN_PLACE = body(
    "view = requests[0].output_view('OUT')",
    "if view is None: return [one(0)]",
    "view[:] = 9",
    "return [pb_utils.InferenceResponse([pb_utils.Tensor('OUT', view)])]",
)
FIXED = CONFIG.replace('name: "OUT" data_type: TYPE_INT32 dims: -1', 'name: "OUT" data_type: TYPE_INT32 dims: 4')


@pytest.mark.parametrize(
    ("text", "byte_size", "in_place"), [(FIXED, 16, True), (FIXED, 64, True), (FIXED, 15, False), (CONFIG, 64, False)]
)
def test_outputs_in_place(tmp_path: Path, text: str, byte_size: int, in_place: bool) -> None:
    memory = FakeMemory()
    request = infer_request(requested=[_placed(memory, byte_size)])
    ((output,),) = outputs(instance(tmp_path, IN_PLACE, text), request)
    assert (output[2] == (4,)) is in_place
    assert (memory.regions["r"][:16] == b"\t\0\0\0" * 4) is in_place


def test_there_is_no_place_for_an_output_in_the_response(tmp_path: Path) -> None:
    request = infer_request(requested=[RequestedOutput("OUT")])
    assert outputs(instance(tmp_path, IN_PLACE, FIXED), request)[0][0][2] == (1,)


def test_a_place_for_a_batch_and_a_shape_of_the_models_choice(tmp_path: Path) -> None:
    code = body(
        "assert requests[0].output_view('OUT').shape == (2, 4)",
        "assert requests[0].output_view('OUT', [3, 5]).shape == (3, 5)",
        "assert requests[0].output_view('OUT', [3, 6]) is None",
        "return [one()]",
    )
    model = instance(tmp_path, code, FIXED + "max_batch_size: 4")
    assert outputs(model, infer_request(requested=[_placed(FakeMemory(), 60)], batch_size=2))


DECOUPLED = CONFIG + "model_transaction_policy { decoupled: true }"


def test_decoupled_models_answer_as_often_as_they_like(tmp_path: Path) -> None:
    code = body(
        "for r in requests:",
        "    sender = r.get_response_sender()",
        "    for i in range(3): sender.send(one(i))",
        "    sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)",
    )
    answers = Answers()
    instance(tmp_path, code, DECOUPLED).execute([infer_request(answers)])
    assert answers.final == [False, False, False, True]
    assert answers.responses[-1] is None


def test_decoupled_models_return_nothing(tmp_path: Path) -> None:
    error = error_of(run(instance(tmp_path, body("return []"), DECOUPLED)))
    assert error.message == (
        "Python model 'm_0_0' is using the decoupled mode and the execute function must return None."
    )


def test_decoupled_requests_that_the_model_forgets_are_ended(tmp_path: Path) -> None:
    assert run(instance(tmp_path, body("return None"), DECOUPLED)) == [None]
    assert run(instance(tmp_path, body("requests[0].get_response_sender()"), DECOUPLED)) == [None]


@pytest.mark.parametrize(
    "lines",
    [
        ["s.send(one(), flags=1)"],
        ["s.send(one())", "s.send(flags=1)"],
        ["import threading", "t = threading.Thread(target=lambda: s.send(one(), flags=1))", "t.start()", "t.join()"],
    ],
)
@pytest.mark.parametrize("result", ["None", "[None]"])
def test_a_sender_for_one_response(tmp_path: Path, lines: list[str], result: str) -> None:
    code = body("s = requests[0].get_response_sender()", *lines, f"return {result}")
    first, *rest = run(instance(tmp_path, code))
    assert first is not None
    assert [bytes(memoryview(tensor.data)) for tensor in first.outputs] == [b"\7\0\0\0"]
    assert rest == ([None] if len(lines) == 2 else [])  # the end came by itself


def test_a_sender_that_has_sent_and_is_dropped_ends_its_request(tmp_path: Path) -> None:
    model = instance(tmp_path, body("requests[0].get_response_sender().send(one())", "return [None]"))
    first, last = run(model)
    assert first is not None
    assert last is None


def test_a_request_with_a_sender_is_answered_by_it(tmp_path: Path) -> None:
    request = infer_request()
    run(instance(tmp_path, body("global s", "s = requests[0].get_response_sender()", "return [None]")), request)
    assert request.deferred


def test_a_sender_may_answer_later(tmp_path: Path) -> None:
    code = body("global s", "s = requests[0].get_response_sender()", "return [None]") + (
        "    def finalize(self):\n        s.send(one(), flags=1)\n"
    )
    answers = Answers()
    model = instance(tmp_path, code)
    model.execute([infer_request(answers)])
    assert answers.final == []
    model.finalize()
    assert answers.final == [True]


def test_a_sender_that_is_dropped_fails_its_request(tmp_path: Path) -> None:
    error = error_of(run(instance(tmp_path, body("requests[0].get_response_sender()", "return [None]"))))
    assert "dropped the request" in error.message


SEND = "Unable to send response. "


@pytest.mark.parametrize(
    ("lines", "text", "policy"),
    [
        (["s.send(one(), 2)"], f"{SEND}Unsupported flag provided.", CONFIG),
        (
            ["s.send()"],
            "Inference Response object must be provided when the response flags is set to zero.",
            CONFIG,
        ),
        (["s.send(one(), 1)", "s.send(flags=1)"], f"{SEND}Response sender has been closed.", CONFIG),
        (
            ["s.send(one(), 1)", "s.send(one(), 1)"],
            f"{SEND}Non-decoupled model cannot send more than one response.",
            CONFIG,
        ),
        (["s.send(flags=1)", "s.send(one())"], f"{SEND}Response sender has been closed.", DECOUPLED),
        (
            ["s.send(one())", "s.send(one())"],
            f"{SEND}Non-decoupled model cannot send more than one response.",
            CONFIG,
        ),
        (
            ["s.send(flags=1)"],
            f"{SEND}Non-decoupled model cannot send complete final before sending a response.",
            CONFIG,
        ),
    ],
)
def test_what_a_sender_refuses(tmp_path: Path, lines: list[str], text: str, policy: str) -> None:
    code = body(
        "s = requests[0].get_response_sender()",
        *lines[:-1],
        "global seen",
        f"try: {lines[-1]}",
        "except pb_utils.TritonModelException as e: seen = str(e)",
    )
    model = PythonBackend().load(source(tmp_path, code, policy))
    run(model.new_instance(InstanceSpec("m_0_0")))
    assert model._model_class.execute.__globals__["seen"] == text


def test_coroutines_run_together_on_the_instances_loop(tmp_path: Path) -> None:
    code = """
    import asyncio
    import numpy as np
    import triton_python_backend_utils as pb_utils
    class TritonPythonModel:
        async def execute(self, requests):
            self.open = len(requests)
            self.all_here = asyncio.Event()
            return await asyncio.gather(*(self.one(r) for r in requests))
        async def one(self, request):
            self.open -= 1
            if self.open == 0:
                self.all_here.set()
            await self.all_here.wait()
            return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", request.inputs()[0].as_numpy() + 1)])
    """
    model = instance(tmp_path, code)
    for _ in range(2):
        assert len(outputs(model, infer_request(), infer_request())) == 2
    model.finalize()


def test_models_call_models_in_a_worker_only(tmp_path: Path) -> None:
    error = error_of(run(instance(tmp_path, body("pb_utils.InferenceRequest(model_name='m').exec()"))))
    assert "models can be called only in a worker process" in error.message


def test_no_model_is_called_while_one_is_initialized(tmp_path: Path) -> None:
    code = """
    import triton_python_backend_utils as pb_utils
    class TritonPythonModel:
        def initialize(self, args):
            pb_utils.InferenceRequest(model_name="m").exec()
    """
    with pytest.raises(InternalError, match="BLS is only supported during the 'execute' function"):
        instance(tmp_path, code)


def test_several_instances_are_several_objects(tmp_path: Path) -> None:
    code = """
    import numpy as np
    import triton_python_backend_utils as pb_utils
    class TritonPythonModel:
        def initialize(self, args):
            self.name = args["model_instance_name"]
        def execute(self, requests):
            return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", np.array([self.name]))])]
    """
    model = PythonBackend().load(source(tmp_path, code))
    for name in ("m_0_0", "m_0_1"):
        ((output,),) = outputs(model.new_instance(InstanceSpec(name)))
        assert output[3][4:].decode() == name
    model.unload()


AUTO = """
class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        {}
"""
AT = "\n\nAt:\n  {{file}}({}): auto_complete_config\n"


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("raise ValueError('cannot tell')", "ValueError: cannot tell" + AT.format(5)),
        ("pass", "auto_complete_config function in model 'm' must return a valid pb.ModelConfig object."),
        (
            "config.add_input({'name': 'IN', 'data_type': 'TYPE_INT32', 'dims': [2]})",
            "ValueError: model 'm', tensor 'IN': the model expects dims [2] but the model configuration specifies dims "
            "[-1]" + AT.format(5),
        ),
        (
            "config.add_input({'name': 'IN', 'data_type': 'TYPE_FP32', 'dims': [-1]})",
            "ValueError: unable to load model 'm', configuration expects datatype TYPE_INT32 for input 'IN', model "
            "provides TYPE_FP32" + AT.format(5),
        ),
    ],
)
def test_auto_complete_that_fails(tmp_path: Path, line: str, text: str) -> None:
    with pytest.raises(TensorhubError) as caught:
        PythonBackend().auto_complete(source(tmp_path, AUTO.format(line)))
    assert caught.value.message == text.replace("{file}", "m/1/model.py")


def test_auto_complete(tmp_path: Path) -> None:
    code = AUTO.format(
        "config.add_input({'name': 'X', 'data_type': 'TYPE_FP32', 'dims': [2], 'optional': True}); "
        "config.add_output({'name': 'Y', 'data_type': 'TYPE_STRING', 'dims': [-1]}); "
        "config.set_max_batch_size(4); config.set_dynamic_batching(); "
        "config.set_model_transaction_policy({'decoupled': True}); return config"
    )
    written = source(tmp_path, code, CONFIG + 'parameters { key: "p" value { string_value: "v" } }')
    expected = config(
        CONFIG
        + """
        parameters { key: "p" value { string_value: "v" } } max_batch_size: 4 dynamic_batching {}
        input { name: "X" data_type: TYPE_FP32 dims: 2 optional: true }
        output { name: "Y" data_type: TYPE_STRING dims: -1 } model_transaction_policy { decoupled: true }
        """
    )
    assert PythonBackend().auto_complete(written) == expected


def test_models_that_complete_nothing_keep_their_config(tmp_path: Path) -> None:
    written = source(tmp_path, "class TritonPythonModel: pass")
    assert PythonBackend().auto_complete(written) == written.config
