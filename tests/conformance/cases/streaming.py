"""ModelStreamInfer: models of both kinds on a stream, what they do with their senders, and what may go wrong."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import Message

from ..messages import Parameter, grpc_infer, grpc_output, grpc_tensor, infer, strings, tensor
from ..steps import Case, Grpc, GrpcStream

_EMPTY_FINAL = {"triton_enable_empty_final_response": True}
_AS_STATUS = (("triton_grpc_error", "true"),)


def _request(step: Grpc) -> Message:
    return step.request


def _script(words: str, name: str = "", model: str = "script", version: str = "", **parameters: Parameter) -> Message:
    return _request(
        grpc_infer(
            model,
            [grpc_tensor("SCRIPT", "BYTES", [1])],
            [strings(words.encode())],
            parameters=parameters,
            id=name,
            model_version=version,
        )
    )


def _count(count: int, name: str = "", **parameters: Parameter) -> Message:
    return _request(
        grpc_infer(
            "decoupled",
            [grpc_tensor("COUNT", "INT32", [1])],
            [count.to_bytes(4, "little")],
            parameters=parameters,
            id=name,
        )
    )


def _echo(value: int, name: str = "", model: str = "echo", **parameters: Parameter) -> Message:
    return _request(
        grpc_infer(
            model,
            [grpc_tensor("INPUT0", "INT32", [1])],
            [value.to_bytes(4, "little")],
            [grpc_output("OTHER")] if model == "echo" else (),
            parameters,
            id=name,
        )
    )


def _failing(kind: str, name: str = "") -> Message:
    return _request(
        grpc_infer("errors", [grpc_tensor("KIND", "BYTES", [1])], [strings(kind.encode())], id=name),
    )


def _stream(
    *requests: Message | bytes, metadata: Sequence[tuple[str, str]] = (), one_by_one: bool = True
) -> GrpcStream:
    return GrpcStream(requests, tuple(metadata), one_by_one)


_SCRIPTS = {
    "one-then-final": "send final",
    "final-with-response": "send-final",
    "two-and-final-with-response": "send send-final",
    "final-alone": "final",
    "error-then-final": "error final",
    "error-final": "error-final",
    "response-error-response": "send error send final",
    "errors-with-codes": "not-found error final",
    "error-after-response-final": "send error-final",
    "no-outputs": "no-outputs final",
    "two-elements": "two-elements final",
    "send-after-final": "send-final send",
    "bad-flags": "bad-flags caught final",
    "nothing": "nothing caught final",
    "request-id": "name final",
    "not-cancelled": "cancelled send-final",
    "later": "later send send final",
    "later-final-with-response": "later send-final",
    "later-error": "later error-final",
    "later-nothing": "later final",
    "raise": "raise",
    "return-list": "return send-final",
}
"""What a decoupled model does with its sender."""

_SENDER_SCRIPTS = {
    "with-final": "send-final",
    "then-final": "send final",
    "later": "later send-final",
    "later-then-final": "later send final",
    "error": "error-final",
    "later-error": "later error-final",
    "final-first": "final send-final",
    "send-after-final": "send-final send",
    "later-final-first": "later final send-final",
}
"""What an ordinary model may do with it."""


def _script_cases() -> list[Case]:
    cases = []
    for name, words in _SCRIPTS.items():
        cases += [
            Case(f"stream-decoupled-{name}", (_stream(_script(words, "id")),)),
            Case(f"stream-decoupled-{name}-empty-final", (_stream(_script(words, "id", **_EMPTY_FINAL)),)),
        ]
    return cases


def _sender_cases() -> list[Case]:
    cases = []
    for name, words in _SENDER_SCRIPTS.items():
        unary = grpc_infer("senders", [grpc_tensor("SCRIPT", "BYTES", [1])], [strings(words.encode())], id="id")
        cases += [
            Case(f"senders-{name}-stream", (_stream(_script(words, "id", "senders")),)),
            Case(f"senders-{name}-grpc", (unary,)),
            Case(f"senders-{name}-http", (infer("senders", [tensor("SCRIPT", "BYTES", [1], [words])], id="id"),)),
        ]
    return cases


CASES: tuple[Case, ...] = (
    Case("stream-no-requests", (_stream(),)),
    Case("stream-one", (_stream(_echo(1, "a")),)),
    Case("stream-without-id", (_stream(_echo(1)),)),
    Case("stream-three", (_stream(_echo(1, "a"), _echo(2, "b"), _echo(3, "c")),)),
    Case("stream-all-at-once", (_stream(*(_echo(item, str(item)) for item in range(20)), one_by_one=False),)),
    Case("stream-empty-final-of-ordinary-model", (_stream(_echo(1, "a", **_EMPTY_FINAL)),)),
    Case("stream-parameters", (_stream(_echo(1, "a", key="text", number=5, flag=True)),)),
    Case("stream-two-models", (_stream(_echo(1, "a"), _count(1, "b", **_EMPTY_FINAL), _echo(2, "c")),)),
    Case("stream-unknown-model", (_stream(_echo(1, "a", "nobody"), _echo(2, "b")),)),
    Case("stream-unknown-model-without-id", (_stream(_echo(1, "", "nobody")),)),
    Case("stream-no-model", (_stream(_echo(1, "a", "")),)),
    Case("stream-wrong-version", (_stream(_script("final", "a", version="x"), _echo(2, "b")),)),
    Case("stream-negative-version", (_stream(_script("final", "a", version="-1")),)),
    Case("stream-unknown-version", (_stream(_script("final", "a", version="7")),)),
    Case("stream-version", (_stream(_script("final", "a", version="1", **_EMPTY_FINAL)),)),
    Case("stream-version-in-error", (_stream(_script("error-final", "a", version="1")),)),
    Case(
        "stream-wrong-input",
        (
            _stream(
                _request(grpc_infer("echo", [grpc_tensor("WRONG", "INT32", [1])], [bytes(4)], id="a")),
                _echo(2, "b"),
            ),
        ),
    ),
    Case("stream-missing-input", (_stream(_request(grpc_infer("script", [], id="a"))),)),
    Case("stream-no-data", (_stream(_request(grpc_infer("echo", [grpc_tensor("INPUT0", "INT32", [1])], id="a"))),)),
    Case(
        "stream-wrong-size",
        (_stream(_request(grpc_infer("echo", [grpc_tensor("INPUT0", "INT32", [1])], [bytes(3)], id="a"))),),
    ),
    Case("stream-reserved-parameter", (_stream(_echo(1, "a", triton_other=True), _echo(2, "b")),)),
    Case("stream-wrong-empty-final", (_stream(_count(1, "a", triton_enable_empty_final_response="yes")),)),
    Case("stream-no-empty-final", (_stream(_count(1, "a", triton_enable_empty_final_response=False)),)),
    Case(
        "stream-model-errors", (_stream(_failing("NOT_FOUND", "a"), _failing("value_error", "b"), _failing("ok", "c")),)
    ),
    Case("stream-model-error-empty-text", (_stream(_failing("empty_message", "a")),)),
    Case("stream-model-error-unicode", (_stream(_failing("unicode_message", "a")),)),
    Case("stream-model-error-without-id", (_stream(_failing("NOT_FOUND")),)),
    Case("stream-error-as-status", (_stream(_failing("NOT_FOUND", "a"), metadata=_AS_STATUS),)),
    Case("stream-raised-error-as-status", (_stream(_failing("value_error", "a"), metadata=_AS_STATUS),)),
    Case("stream-decoupled-error-as-status", (_stream(_script("error-final", "a"), metadata=_AS_STATUS),)),
    Case("stream-refusal-not-as-status", (_stream(_echo(1, "a", "nobody"), _echo(2, "b"), metadata=_AS_STATUS),)),
    Case("stream-no-error-as-status", (_stream(_echo(1, "a"), _echo(2, "b"), metadata=_AS_STATUS),)),
    Case(
        "stream-error-metadata-other-word",
        (_stream(_failing("NOT_FOUND", "a"), metadata=(("triton_grpc_error", "1"),)),),
    ),
    Case("stream-decoupled-many", (_stream(_count(500, "a")),)),
    Case("stream-decoupled-no-response", (_stream(_count(0, "a")),)),
    Case(
        "stream-decoupled-one-output",
        (
            _stream(
                _request(
                    grpc_infer(
                        "script",
                        [grpc_tensor("SCRIPT", "BYTES", [1])],
                        [strings(b"send final")],
                        [grpc_output("TEXT")],
                        id="a",
                    )
                )
            ),
        ),
    ),
    Case("stream-not-a-request", (_stream(b"\xff\xff\xff\xff"),)),
    *_script_cases(),
    *_sender_cases(),
)
