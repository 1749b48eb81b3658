"""ModelInfer, through both engines, with a fake gateway behind."""

import array
from typing import Any

import grpc
import pytest

from tensorhub.errors import Code
from tensorhub.frontend.port import INLINE_LIMIT
from tensorhub.grpc import requests
from tensorhub.grpc.engine import Endpoint, Engine
from tensorhub.grpc.routes import INFERENCE, methods
from tensorhub.protocol import messages
from tests.waiting import wait_until

from .conftest import Serve, running
from .fake_gateway import FakeGateway
from .raw_http2 import DATA, RawClient

METHOD = f"/{INFERENCE}/ModelInfer"


def request(model: str, *data: bytes, version: str = "", **parameters: int) -> Any:
    """A request with raw inputs."""
    made = messages.ModelInferRequest(model_name=model, model_version=version, id="7")
    for index, content in enumerate(data):
        made.inputs.add(name=f"INPUT{index}", datatype="INT32", shape=[1, len(content) // 4])
        made.raw_input_contents.append(content)
    for name, value in parameters.items():
        made.parameters[name].int64_param = value
    return made


def numbers(*values: int) -> bytes:
    return array.array("i", values).tobytes()


SMALL = (numbers(*range(16)), numbers(*[1] * 16))


@pytest.fixture
def channel(serve: Serve, gateway: FakeGateway) -> grpc.Channel:
    return serve(methods(gateway))[1]


def infer(channel: grpc.Channel, made: Any, **options: Any) -> Any:
    body = made if isinstance(made, bytes) else made.SerializeToString()
    return messages.ModelInferResponse.FromString(channel.unary_unary(METHOD)(body, **options))


def failure(channel: grpc.Channel, made: Any, **options: Any) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        infer(channel, made, **options)
    return caught.value.code().name, caught.value.details()


@pytest.mark.parametrize("apart", [0, 1])
def test_small(channel: grpc.Channel, gateway: FakeGateway, apart: int) -> None:
    response = infer(channel, request("add_sub", *SMALL, apart=apart))
    assert (response.model_name, response.model_version, response.id) == ("add_sub", "1", "7")
    assert [item.name for item in response.outputs] == ["OUTPUT0", "OUTPUT1"]
    assert list(response.raw_output_contents) == [
        numbers(*[value + 1 for value in range(16)]),
        numbers(*[value - 1 for value in range(16)]),
    ]
    wait_until(lambda: gateway.unreleased == 0)
    assert gateway.in_flight == 0


def test_requests_that_come_again(channel: grpc.Channel, gateway: FakeGateway) -> None:
    """Those that are alike but for their numbers are not parsed; each is answered with its own all the same."""

    def of(model: str, *data: bytes) -> Any:
        made = request(model, *data)
        made.ClearField("id")
        return made

    for number in range(5):
        pair = (numbers(*[number] * 16), numbers(*range(16)))
        assert infer(channel, of("identity", *pair)).raw_output_contents == list(pair)
        added = infer(channel, of("add_sub", *pair)).raw_output_contents
        assert added[0] == numbers(*[number + value for value in range(16)])
        assert infer(channel, of("identity", *pair, b"")).raw_output_contents == [*pair, b""]
    assert {failure(channel, of("stream", *SMALL))[0] for _ in range(3)} == {"UNIMPLEMENTED"}


def test_a_model_that_has_gone_is_not_recognised(channel: grpc.Channel, gateway: FakeGateway) -> None:
    made = request("identity", *SMALL)
    made.ClearField("id")
    for _ in range(3):
        assert infer(channel, made).raw_output_contents == list(SMALL)
    for model in gateway.state.models:
        if model.name == "identity":
            model.versions[0].state = "UNAVAILABLE"
    gateway.publish()
    assert failure(channel, made) == failure(channel, request("identity", *SMALL))


# Sizes around the limit, alone and together: what is large goes through the arena, whatever stands beside it.
@pytest.mark.parametrize(
    "sizes",
    [
        (INLINE_LIMIT - 4,),
        (INLINE_LIMIT,),
        (INLINE_LIMIT + 4,),
        (INLINE_LIMIT + 4, 4),
        (4, INLINE_LIMIT + 4),
        (0, INLINE_LIMIT + 4, 4, 3 * INLINE_LIMIT, 0),
        (INLINE_LIMIT, INLINE_LIMIT),
        (40_000, 40_000),
        (20 * 1024 * 1024, 8),
    ],
)
@pytest.mark.parametrize("apart", [0, 1])
def test_sizes(channel: grpc.Channel, gateway: FakeGateway, sizes: tuple[int, ...], apart: int) -> None:
    data = [bytes((index + 1,)) * size for index, size in enumerate(sizes)]
    response = infer(channel, request("identity", *data, apart=apart))
    assert list(response.raw_output_contents) == data
    assert gateway.placed == sum(size > INLINE_LIMIT for size in sizes)
    wait_until(lambda: (gateway.reserved, gateway.unreleased) == (0, 0))


def test_inputs_in_regions_have_no_raw_contents(channel: grpc.Channel, gateway: FakeGateway) -> None:
    """The index of a placed input counts all inputs; its entry of raw_input_contents only those in no region."""
    made = messages.ModelInferRequest(model_name="identity")
    for index, (region, content) in enumerate(
        [("r", b""), ("", b"a" * 80_000), ("r", b""), ("", b"b" * 8), ("", b"c" * 90_000)]
    ):
        tensor = made.inputs.add(name=f"I{index}")
        if region:
            tensor.parameters["shared_memory_region"].string_param = region
        else:
            made.raw_input_contents.append(content)
    response = infer(channel, made)
    assert list(response.raw_output_contents) == [b"region", b"a" * 80_000, b"region", b"b" * 8, b"c" * 90_000]
    assert gateway.placed == 2


def test_the_order_of_fields_does_not_matter(channel: grpc.Channel) -> None:
    """raw_input_contents may come before everything else, and between the inputs."""
    made = request("identity", b"a" * 80_000, b"b" * 8)
    first, second = (b"a" * 80_000, b"b" * 8)
    made.ClearField("raw_input_contents")
    raw = [messages.ModelInferRequest(raw_input_contents=[content]).SerializeToString() for content in (first, second)]
    assert list(infer(channel, raw[0] + made.SerializeToString() + raw[1]).raw_output_contents) == [first, second]


def test_surplus_raw_contents_are_ignored(channel: grpc.Channel, gateway: FakeGateway) -> None:
    made = request("identity", b"a" * 80_000, surplus=1)
    made.raw_input_contents.append(b"b" * 90_000)
    assert list(infer(channel, made).raw_output_contents) == [b"a" * 80_000]
    wait_until(lambda: gateway.reserved == 0)


def test_the_version_is_looked_up(channel: grpc.Channel) -> None:
    assert infer(channel, request("add_sub", *SMALL, version="1")).model_version == "1"
    assert failure(channel, request("add_sub", *SMALL, version="x"))[0] == "INVALID_ARGUMENT"
    assert failure(channel, request("nobody", *SMALL, version="x"))[0] == "INVALID_ARGUMENT"
    assert failure(channel, request("nobody", *SMALL)) == (
        "NOT_FOUND",
        "Request for unknown model: 'nobody' is not found",
    )
    assert failure(channel, request("nobody", bytes(100_000)))[0] == "NOT_FOUND"
    assert failure(channel, request("old", *SMALL, version="2"))[0] == "UNAVAILABLE"
    assert infer(channel, request("old", *SMALL)).model_version == "1"


def test_a_decoupled_model_is_refused(channel: grpc.Channel) -> None:
    for data in (SMALL, (bytes(100_000),)):
        assert failure(channel, request("stream", *data)) == (
            "UNIMPLEMENTED",
            "ModelInfer RPC doesn't support models with decoupled transaction policy",
        )


@pytest.mark.parametrize("code", list(Code))
def test_errors_of_workers(channel: grpc.Channel, code: Code) -> None:
    made = request("add_sub", *SMALL, fail=int(code))
    made.parameters["text"].string_param = "[request id: 7] nein, «so» nicht"
    name, details = failure(channel, made)
    expected = {"UNSUPPORTED": "UNIMPLEMENTED", "INVALID_ARG": "INVALID_ARGUMENT"}
    assert name == expected.get(code.name, code.name)
    assert details == "[request id: 7] nein, «so» nicht"


def test_bytes_that_are_no_request(channel: grpc.Channel, gateway: FakeGateway) -> None:
    large = request("add_sub", bytes(100_000)).SerializeToString()
    damaged = [large[:-1], b"\x0a\x02\xff\xfe" + large, large + b"\x3b", b"\x00" + large]
    for body in (b"\xff\xff\xff", b"\x0a\x05ab", *damaged):
        assert failure(channel, body) == ("INTERNAL", "Unable to parse request")
    assert gateway.reserved == 0


def test_a_full_queue_and_a_full_arena(channel: grpc.Channel, gateway: FakeGateway) -> None:
    for data in (SMALL, (bytes(100_000),)):
        assert failure(channel, request("identity", *data, refuse=1)) == (
            "UNAVAILABLE",
            "Exceeds maximum queue size",
        )
    assert gateway.reserved == 0
    gateway.arena_full = True
    assert failure(channel, request("identity", bytes(100_000))) == ("UNAVAILABLE", "the arena is full")
    assert gateway.in_flight == 0


def test_a_request_without_raw_contents_has_a_limit(channel: grpc.Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "MAX_BODY_SIZE", 200_000)
    made = messages.ModelInferRequest(model_name="identity")
    made.inputs.add(name="A").contents.bytes_contents.append(bytes(200_000))
    code, details = failure(channel, made)
    assert code == "INVALID_ARGUMENT"
    assert "raw_input_contents" in details
    assert list(infer(channel, request("identity", bytes(300_000))).raw_output_contents) == [bytes(300_000)]


@pytest.mark.parametrize(("parameters", "count"), [({"empty": 1}, 0), ({"extra": 1}, 2)])
def test_other_than_one_response(channel: grpc.Channel, parameters: dict[str, int], count: int) -> None:
    assert failure(channel, request("add_sub", *SMALL, **parameters)) == (
        "INTERNAL",
        f"expected a single response, got {count}",
    )


def test_the_deadline_goes_along(channel: grpc.Channel, gateway: FakeGateway) -> None:
    infer(channel, request("add_sub", *SMALL))
    assert gateway.last_deadline_ns == 0
    infer(channel, request("add_sub", *SMALL), timeout=60)
    assert gateway.last_deadline_ns > 0


@pytest.mark.parametrize("hours", [99_999, 2_562_047, 9_999_999, 27_000_000, 99_999_999])
def test_a_deadline_after_centuries_is_none(engine_class: type[Engine], gateway: FakeGateway, hours: int) -> None:
    """As of clients whose longest time is their "no limit": later than a number of nanoseconds can tell."""
    engine = engine_class(methods(gateway), Endpoint("127.0.0.1:0"))  # type: ignore[call-arg]
    gateway.last_deadline_ns = -1
    with running(engine) as port, RawClient(port) as client:
        client.open(1, METHOD, [("grpc-timeout", f"{hours}H")])
        client.message(1, request("add_sub", *SMALL).SerializeToString(), end=True)
        assert any(kind == DATA for kind, *_ in client.frames())
    assert (gateway.last_deadline_ns == 0) == (hours > 300_000)


def test_a_request_that_is_refused_late_keeps_no_memory(channel: grpc.Channel, gateway: FakeGateway) -> None:
    """Its metadata are not allowed, or its owner is none, and its tensors have been put into the arena."""
    large = request("identity", bytes(100_000))
    gateway.state.settings["grpc-header-forward-pattern"] = "triton_.*"
    gateway.publish()
    code, _ = failure(channel, large, metadata=(("triton_x", "1"),))
    assert code == "INVALID_ARGUMENT"
    assert gateway.reserved == 0
    gateway.state.settings["grpc-header-forward-pattern"] = ""
    gateway.state.settings["shm-scope"] = "header:who"
    gateway.publish()
    code, _ = failure(channel, large, metadata=(("who", "x" * 1_000),))
    assert code == "INVALID_ARGUMENT"
    assert gateway.reserved == 0


def test_cancellation_cancels_the_request(channel: grpc.Channel, gateway: FakeGateway) -> None:
    future = channel.unary_unary(METHOD).future(request("identity", bytes(100_000), never=1).SerializeToString())
    wait_until(lambda: gateway.in_flight == 1)
    future.cancel()
    wait_until(lambda: len(gateway.cancelled) == 1)
    assert gateway.in_flight == 0
    assert infer(channel, request("add_sub", *SMALL)).id == "7"


def test_a_deadline_cancels_the_request(channel: grpc.Channel, gateway: FakeGateway) -> None:
    def is_cancelled() -> bool:
        """Whether the gateway has had it before its time was up: a machine that stands still uses it up as well."""
        assert failure(channel, request("add_sub", *SMALL, never=1), timeout=2)[0] == "DEADLINE_EXCEEDED"
        return bool(gateway.cancelled)

    wait_until(is_cancelled)


def test_many_at_a_time_get_their_own_answers(channel: grpc.Channel, gateway: FakeGateway) -> None:
    futures = []
    for index in range(200):
        size = 100_000 if index % 20 == 0 else 64
        data = index.to_bytes(4, "little") * (size // 4)
        made = request("identity", data, delay_ms=index % 7 * 10, apart=index % 2)
        futures.append((data, channel.unary_unary(METHOD).future(made.SerializeToString())))
    for data, future in futures:
        assert messages.ModelInferResponse.FromString(future.result()).raw_output_contents[0] == data
    wait_until(lambda: (gateway.reserved, gateway.unreleased, gateway.in_flight) == (0, 0, 0))


def test_responses_are_compressed_when_asked(serve: Serve, gateway: FakeGateway) -> None:
    _, channel = serve(methods(gateway), compression_level=3)
    data = bytes(500_000)
    assert list(infer(channel, request("identity", data)).raw_output_contents) == [data]
    made = request("identity", data).SerializeToString()
    answer = channel.unary_unary(METHOD)(made, compression=grpc.Compression.Gzip)
    assert messages.ModelInferResponse.FromString(answer).raw_output_contents[0] == data
