"""What Python models can do: names of `triton_python_backend_utils`, senders, coroutines, config completion."""

from __future__ import annotations

from ..messages import Parameter, compact, grpc_infer, grpc_tensor, infer, output, strings, tensor
from ..steps import Case, GrpcStream, Http

_TENSOR = 'pb.Tensor("X", np.array([1, 2], dtype=np.int16))'
_REQUEST = 'pb.InferenceRequest(model_name="m", requested_output_names=["O"], inputs=[]'
_CONFIG = 'pb.ModelConfig(json.dumps({"name": "m", "max_batch_size": 2, "input": [], "output": []}))'

_EXPRESSIONS: dict[str, str] = {
    "arguments": 'sorted(args.items() - {("model_config", args["model_config"])})',
    "config-of-arguments": 'sorted(json.loads(args["model_config"]))',
    "config-input": 'pb.get_input_config_by_name(json.loads(args["model_config"]), "CODE")',
    "config-output": 'pb.get_output_config_by_name(json.loads(args["model_config"]), "RESULT")',
    "config-input-unknown": 'pb.get_input_config_by_name(json.loads(args["model_config"]), "NONE")',
    "config-without-inputs": 'pb.get_input_config_by_name({}, "X"), pb.get_output_config_by_name({}, "X")',
    "config-decoupled": "pb.using_decoupled_model_transaction_policy({}), "
    'pb.using_decoupled_model_transaction_policy({"model_transaction_policy": {"decoupled": True}})',
    "model-folder": "pb.get_model_dir()",
    "constants": "pb.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START, pb.TRITONSERVER_REQUEST_FLAG_SEQUENCE_END, "
    "pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL, pb.TRITONSERVER_REQUEST_RELEASE_ALL, "
    "pb.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE",
    "memory-types": "int(pb.TRITONSERVER_MEMORY_CPU), int(pb.TRITONSERVER_MEMORY_GPU)",
    "numpy-types": "[np.dtype(pb.triton_to_numpy_type(n)).name for n in range(1, 14)]",
    "triton-types": "[pb.numpy_to_triton_type(t) for t in (np.bool_, np.uint8, np.uint16, np.uint32, np.uint64, "
    "np.int8, np.int16, np.int32, np.int64, np.float16, np.float32, np.float64, np.object_, np.bytes_)]",
    "triton-type-unknown": "pb.numpy_to_triton_type(np.complex64), pb.numpy_to_triton_type(np.str_)",
    "type-strings": "{name: getattr(t, '__name__', None) for name, t in pb.TRITON_STRING_TO_NUMPY.items()}",
    "type-string-unknown": 'pb.triton_string_to_numpy("TYPE_BF16")',
    "serialize": 'pb.serialize_byte_tensor(np.array([b"ab", "c", "\\u00e9", 5], dtype=object))',
    "serialize-fixed": 'pb.serialize_byte_tensor(np.array([b"ab", b"c"]))',
    "serialize-empty": "pb.serialize_byte_tensor(np.zeros(0, dtype=object))",
    "serialize-numbers": "pb.serialize_byte_tensor(np.zeros(2))",
    "serialize-matrix": 'pb.serialize_byte_tensor(np.array([[b"a", b"b"], [b"c", b"d"]], dtype=object).T)',
    "deserialize": 'pb.deserialize_bytes_tensor(b"\\1\\0\\0\\0a\\0\\0\\0\\0\\2\\0\\0\\0bc").tolist()',
    "deserialize-nothing": 'pb.deserialize_bytes_tensor(b"").shape',
    "tensor": f"(lambda t: (t.name(), t.shape(), t.is_cpu(), t.as_numpy().tolist(), t.__dlpack_device__()))({_TENSOR})",
    "tensor-scalar": 'pb.Tensor("X", np.array(3.0)).shape()',
    "tensor-empty": 'pb.Tensor("X", np.zeros((0, 3))).shape()',
    "tensor-transposed": 'pb.Tensor("X", np.arange(6).reshape(2, 3).T).as_numpy().tolist()',
    "tensor-transposed-is-copied": 'pb.Tensor("X", np.arange(6).reshape(2, 3).T).as_numpy().flags.c_contiguous',
    "tensor-keeps-array": "(lambda a: np.shares_memory(pb.Tensor('X', a).as_numpy(), a))(np.arange(3))",
    "tensor-objects": 'pb.Tensor("X", np.array([b"a\\0", "b", None, 7], dtype=object)).as_numpy().tolist()',
    "tensor-bytes": 'pb.Tensor("X", np.array([b"abc", b"d"])).as_numpy().tolist()',
    "tensor-big-endian": 'pb.Tensor("X", np.zeros(3, dtype=">i4"))',
    "tensor-dates": 'pb.Tensor("X", np.zeros(3, dtype="datetime64[s]"))',
    "tensor-complex": 'pb.Tensor("X", np.zeros(3, dtype=np.complex128))',
    "tensor-of-list": 'pb.Tensor("X", [1])',
    "tensor-of-number": 'pb.Tensor("X", np.float32(3))',
    "tensor-without-name": 'pb.Tensor("", np.zeros(1))',
    "dlpack-out": f"np.from_dlpack({_TENSOR}).tolist()",
    "dlpack-capsule": f"type({_TENSOR}.to_dlpack()).__name__",
    "dlpack-of-input": 'np.from_dlpack(pb.Tensor("X", np.arange(4.0).reshape(2, 2))).tolist()',
    "dlpack-of-bool": 'type(pb.Tensor("X", np.array([True])).to_dlpack()).__name__',
    "dlpack-of-strings": 'pb.Tensor("X", np.array([b"a"], dtype=object)).to_dlpack()',
    "dlpack-in-capsule": f'(lambda t: (t.name(), t.as_numpy().tolist()))(pb.Tensor.from_dlpack("Y", '
    f"{_TENSOR}.to_dlpack()))",
    "dlpack-in-tensor": f'(lambda t: (t.name(), t.as_numpy().dtype.str))(pb.Tensor.from_dlpack("Y", {_TENSOR}))',
    "dlpack-in-not-contiguous": 'pb.Tensor.from_dlpack("Y", np.arange(6).reshape(2, 3).T)',
    "dlpack-in-without-name": f'pb.Tensor.from_dlpack("", {_TENSOR})',
    "error": 'pb.TritonError("text").message(), int(pb.TritonError("text").code())',
    "error-codes": "[int(getattr(pb.TritonError, name)) for name in ('UNKNOWN', 'INTERNAL', 'NOT_FOUND', "
    "'INVALID_ARG', 'UNAVAILABLE', 'UNSUPPORTED', 'ALREADY_EXISTS', 'CANCELLED')]",
    "error-with-code": 'int(pb.TritonError("text", code=pb.TritonError.UNAVAILABLE).code())',
    "error-of-number": "pb.TritonError(5)",
    "exception-is-exception": "pb.TritonModelException.__bases__",
    "response-empty": "(lambda r: (r.output_tensors(), r.has_error(), r.error()))(pb.InferenceResponse())",
    "response": f"(lambda r: ([t.name() for t in r.output_tensors()], "
    f"r.has_error()))(pb.InferenceResponse([{_TENSOR}]))",
    "response-of-tuple": f"len(pb.InferenceResponse(({_TENSOR},)).output_tensors())",
    "response-of-none": "pb.InferenceResponse(None)",
    "response-of-array": "pb.InferenceResponse([np.zeros(1)])",
    "response-error": "(lambda r: (r.has_error(), "
    'r.error().message()))(pb.InferenceResponse(error=pb.TritonError("e")))',
    "response-error-of-text": 'pb.InferenceResponse(error="e")',
    "response-output-by-name": f'pb.get_output_tensor_by_name(pb.InferenceResponse([{_TENSOR}]), "X").shape()',
    "response-output-unknown": f'pb.get_output_tensor_by_name(pb.InferenceResponse([{_TENSOR}]), "Y")',
    "request-inputs": "[(t.name(), t.shape()) for t in request.inputs()]",
    "request-input-unknown": 'pb.get_input_tensor_by_name(request, "NONE")',
    "request-defaults": "request.request_id(), request.correlation_id(), request.flags(), request.timeout(), "
    "request.parameters(), sorted(request.requested_output_names()), request.is_cancelled()",
    "request-trace": "request.trace().get_context()",
    "request-set-flags": "(request.set_flags(3), request.flags())",
    "request-release-all": "request.set_release_flags(pb.TRITONSERVER_REQUEST_RELEASE_ALL)",
    "request-input-writeable": "request.inputs()[0].as_numpy().flags.writeable",
    "own-request": f"(lambda q: (q.request_id(), q.correlation_id(), q.flags(), q.timeout(), "
    f"json.loads(q.parameters()), sorted(q.requested_output_names()), "
    f'[t.name() for t in q.inputs()]))(pb.InferenceRequest("i", 5, [{_TENSOR}], '
    '["B", "A"], "m", 1, 3, 7, parameters={"a": 1, "b": True, "c": "x"}))',
    "own-request-text-correlation": f'{_REQUEST}, correlation_id="abc").correlation_id()',
    "own-request-flags": f"(lambda q: (q.set_flags(2), q.flags()))({_REQUEST}))",
    "own-request-float-correlation": f"{_REQUEST}, correlation_id=1.5)",
    "own-request-no-input": 'pb.InferenceRequest(model_name="m", requested_output_names=["O"], inputs=[None])',
    "own-request-no-output-name": 'pb.InferenceRequest(model_name="m", requested_output_names=[""], inputs=[])',
    "own-request-parameter-float": f'{_REQUEST}, parameters={{"a": 1.5}})',
    "own-request-parameter-key": f"{_REQUEST}, parameters={{1: 1}})",
    "own-request-preferred-memory": f"type({_REQUEST}, preferred_memory=pb.PreferredMemory("
    "pb.TRITONSERVER_MEMORY_CPU, 0))).__name__",
    "own-request-trace": f"type({_REQUEST}, trace=request.trace())).__name__",
    "own-request-parameters-empty": f"json.loads({_REQUEST}).parameters())",
    "logger": '[pb.Logger.log("t"), pb.Logger.log_info("t"), pb.Logger.log_warn("t"), pb.Logger.log_error("t"), '
    'pb.Logger.log_verbose("t"), pb.Logger.log("t", pb.Logger.WARNING)]',
    "logger-levels": "[int(level) for level in (pb.Logger.INFO, pb.Logger.WARNING, pb.Logger.ERROR, "
    "pb.Logger.VERBOSE)]",
    "complete-dict": f"{_CONFIG}.as_dict()",
    "complete-batch": f"(lambda c: (c.set_max_batch_size(4), c.as_dict()['max_batch_size']))({_CONFIG})",
    "complete-batch-smaller": f"{_CONFIG}.set_max_batch_size(1)",
    "complete-dynamic": f"(lambda c: (c.set_dynamic_batching(), c.as_dict()['dynamic_batching']))({_CONFIG})",
    "complete-input": f"(lambda c: (c.add_input({{'name': 'I', 'data_type': 'TYPE_INT8', 'dims': [1]}}), "
    f"c.as_dict()['input']))({_CONFIG})",
    "complete-input-unknown-key": f"{_CONFIG}.add_input({{'name': 'I', 'data_type': 'TYPE_INT8', 'dims': [1], 'x': "
    f"1}})",
    "complete-input-conflict": f"(lambda c: [c.add_input({{'name': 'I', 'data_type': t, 'dims': [1]}}) "
    f"for t in ('TYPE_INT8', 'TYPE_FP32')])({_CONFIG})",
    "complete-output-dims-conflict": f"(lambda c: [c.add_output({{'name': 'O', 'data_type': 'TYPE_INT8', "
    f"'dims': [n]}}) for n in (1, 2)])({_CONFIG})",
    "complete-policy": f"(lambda c: (c.set_model_transaction_policy({{'decoupled': True}}), "
    f"c.as_dict()['model_transaction_policy']))({_CONFIG})",
    "complete-policy-unknown": f"{_CONFIG}.set_model_transaction_policy({{'coupled': True}})",
}
_SENDERS = (
    "together",
    "keywords",
    "apart",
    "none_for_the_list",
    "sender_unused",
    "sent_and_returned",
    "error",
    "final_without_response",
    "nothing",
    "unknown_flag",
    "not_cancelled",
    "same_sender",
    "other_output",
)
_COROUTINES = (
    "ok",
    "gather",
    "task",
    "same_loop",
    "to_thread",
    "value_error",
    "after_await",
    "returns_int",
    "too_many",
    "error_response",
    "sender",
    "timeout",
)
_EMPTY_FINAL = {"triton_enable_empty_final_response": True}
_STREAMS = (
    "one",
    "three",
    "none",
    "error",
    "error_between",
    "empty",
    "raises_after",
    "returns_value",
    "other_task",
)
_COMPLETED = (
    "complete_larger_batch",
    "complete_no_batch",
    "complete_twice",
    "complete_optional",
    "complete_dynamic",
    "complete_decoupled",
    "complete_not_decoupled",
    "complete_type_only",
    "complete_dims_only",
    "complete_by_dict",
)
_VALUES: dict[str, list[object]] = {
    "BOOL": [True, False],
    "UINT8": [0, 127],
    "UINT16": [0, 30000],
    "UINT32": [0, 2**31 - 1],
    "UINT64": [0, 2**63 - 1],
    "INT8": [-64, 63],
    "INT16": [-16384, 16383],
    "INT32": [-(2**30), 2**30 - 1],
    "INT64": [-(2**62), 2**62 - 1],
    "FP16": [0.5, -2.25],
    "FP32": [0.1, -1e30],
    "FP64": [0.1, -1e300],
    "STRING": ["", "caf\u00e9"],
}
_SCORES = [tensor("SCORES", "FP32", [1, 4], [0.1, 0.7, 0.15, 0.05])]


def _stream(*modes: str, **parameters: Parameter) -> GrpcStream:
    return GrpcStream(
        tuple(
            grpc_infer(
                "decoupled_coroutines",
                [grpc_tensor("MODE", "BYTES", [1])],
                [strings(mode.encode())],
                parameters=parameters,
                id=mode,
            ).request
            for mode in modes
        ),
        one_by_one=False,
    )


def _typed(name: str) -> str:
    return "BYTES" if name == "STRING" else name


def _mode(model: str, mode: str) -> Case:
    return Case(
        f"python-{model}-{mode.replace('_', '-')}",
        (infer(model, [tensor("MODE", "BYTES", [1], [mode])], id="r"),),
        server="python",
    )


CASES = (
    *(
        Case(f"python-{name}", (infer("expressions", [tensor("CODE", "BYTES", [1], [code])]),), server="python")
        for name, code in _EXPRESSIONS.items()
    ),
    *(_mode("senders", mode) for mode in _SENDERS),
    Case(
        "python-senders-closed",
        tuple(infer("senders", [tensor("MODE", "BYTES", [1], [mode])]) for mode in ("closed", "what_closed_said")),
        server="python",
    ),
    *(_mode("coroutines", mode) for mode in _COROUTINES),
    Case(
        "python-coroutines-grpc",
        (grpc_infer("coroutines", [grpc_tensor("MODE", "BYTES", [1])], [strings(b"value_error")], id="r"),),
        server="python",
    ),
    *(
        Case(
            f"python-model-{name.replace('_', '-')}",
            (Http("GET", f"/v2/models/{name}/config"), Http("GET", f"/v2/models/{name}")),
            server="python",
        )
        for name in _COMPLETED
    ),
    *(
        Case(
            f"python-array-of-{name.lower()}",
            (infer("reports", [tensor(name, _typed(name), [2], values)], [output(name), output("REPORT")]),),
            server="python",
        )
        for name, values in _VALUES.items()
    ),
    Case(
        "python-arrays-all",
        (infer("reports", [tensor(name, _typed(name), [2], values) for name, values in _VALUES.items()]),),
        server="python",
    ),
    Case("python-arrays-none", (infer("reports", [], [output("REPORT")]),), server="python"),
    Case(
        "python-array-empty",
        (infer("reports", [tensor("FP32", "FP32", [0], []), tensor("STRING", "BYTES", [0], [])]),),
        server="python",
    ),
    Case(
        "python-unrequested-output",
        (infer("reports", [tensor("INT8", "INT8", [1], [1])], [output("INT8")]),),
        server="python",
    ),
    *(
        Case(f"python-stream-{mode.replace('_', '-')}", (_stream(mode, **_EMPTY_FINAL),), server="python")
        for mode in _STREAMS
    ),
    *(
        Case(f"python-stream-{mode}-without-empty-final", (_stream(mode),), server="python")
        for mode in ("one", "three", "none", "empty")
    ),
    Case("python-stream-overlap", (_stream("waits", "wakes", **_EMPTY_FINAL),), server="python"),
    Case("python-labels", (infer("labels", _SCORES),), server="python"),
    Case("python-labels-classes", (infer("labels", _SCORES, [output("PASSED", classification=3)]),), server="python"),
    Case(
        "python-labels-more-classes-than-labels",
        (infer("labels", _SCORES, [output("PASSED", classification=4)]),),
        server="python",
    ),
    Case("python-labels-config", (Http("GET", "/v2/models/labels/config"),), server="python"),
    Case(
        "python-request-fields",
        (
            Http(
                "POST",
                "/v2/models/expressions/infer",
                compact(
                    {
                        "id": "the id",
                        "parameters": {"sequence_id": 7, "timeout": 5000000, "own": "x", "flag": True, "n": 3},
                        "inputs": [
                            tensor(
                                "CODE",
                                "BYTES",
                                [1],
                                [
                                    "request.request_id(), request.correlation_id(), request.flags(), "
                                    "request.timeout(), sorted(json.loads(request.parameters()).items())"
                                ],
                            )
                        ],
                    }
                ),
            ),
        ),
        server="python",
    ),
)
