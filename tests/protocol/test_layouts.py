"""Messages recognised without being parsed: never another meaning than a parser would find."""

from hypothesis import given
from hypothesis import strategies as st

from tensorhub.protocol import messages
from tensorhub.protocol.grpc_frames import RAW_INPUT_CONTENTS, varint
from tensorhub.protocol.layouts import LIMIT, MAX_PREFIX_SIZE, MAX_SIZE, LayoutTable

names = st.sampled_from(["", "a", "b", "INPUT0"])
contents = st.lists(st.binary(max_size=300), max_size=3)


def request(model: str, tensors: list[str], raw: list[bytes]) -> bytes:
    message = messages.ModelInferRequest(model_name=model, raw_input_contents=raw)
    for name in tensors:
        message.inputs.add(name=name, datatype="UINT8", shape=[1])
    return message.SerializeToString()


def learned(message: bytes) -> LayoutTable[str]:
    table: LayoutTable[str] = LayoutTable(RAW_INPUT_CONTENTS)
    parsed = messages.ModelInferRequest.FromString(message)
    table.learn(message, [len(item) for item in parsed.raw_input_contents], "known")
    return table


@given(names, st.lists(names, max_size=3), contents, st.data())
def test_what_is_found_has_the_same_prefix_and_sizes(
    model: str, tensors: list[str], raw: list[bytes], data: st.DataObject
) -> None:
    message = request(model, tensors, raw)
    table = learned(message)
    if not message or message.startswith(b"\x3a"):
        assert table.find(message) is None
        return
    other_raw = [data.draw(st.binary(min_size=len(item), max_size=len(item))) for item in raw]
    other = request(model, tensors, other_raw)
    layout = table.find(other)
    assert layout is not None
    assert [other[start:end] for start, end in layout.spans] == other_raw


@given(st.lists(st.tuples(names, st.lists(names, max_size=2), contents), min_size=2, max_size=6))
def test_another_message_is_never_taken_for_a_known_one(items: list[tuple[str, list[str], list[bytes]]]) -> None:
    known = request(*items[0])
    table = learned(known)
    expected = messages.ModelInferRequest.FromString(known)
    for item in items[1:]:
        message = request(*item)
        layout = table.find(message)
        if layout is None:
            continue
        got = messages.ModelInferRequest.FromString(message)
        assert [message[start:end] for start, end in layout.spans] == list(got.raw_input_contents)
        del got.raw_input_contents[:]
        del expected.raw_input_contents[:]
        assert got == expected


@given(st.binary(max_size=200))
def test_any_bytes_can_be_asked_for(message: bytes) -> None:
    table = learned(request("a", ["b"], [b"12", b"345"]))
    layout = table.find(message)
    if layout is not None:
        messages.ModelInferRequest.FromString(message)


def test_a_field_behind_the_contents_is_not_learned() -> None:
    message = request("a", ["b"], [b"12"]) + messages.ModelInferRequest(id="late").SerializeToString()
    assert learned(message).find(message) is None


def test_contents_in_two_places_are_not_learned() -> None:
    message = messages.ModelInferRequest(raw_input_contents=[b"12"]).SerializeToString() + request("a", [], [b"12"])
    assert learned(message).find(message) is None


def test_a_length_written_in_an_unusual_way_is_not_learned() -> None:
    message = request("a", [], []) + b"\x3a\x82\x00" + b"12"  # 2, in two bytes
    assert messages.ModelInferRequest.FromString(message).raw_input_contents[0] == b"12"
    assert learned(message).find(message) is None


def test_one_byte_short_and_one_too_many() -> None:
    message = request("a", ["b"], [b"12", b"345"])
    table = learned(message)
    assert table.find(message) is not None
    assert table.find(message[:-1]) is None
    assert table.find(message + b"\0") is None


def test_what_is_remembered_is_bounded() -> None:
    table: LayoutTable[int] = LayoutTable(RAW_INPUT_CONTENTS)
    for number in range(3 * LIMIT):
        table.learn(request(f"model{number}", [], [bytes(number)]), [number], number)
    assert len(table._layouts) <= LIMIT
    assert len(table._prefix_sizes) <= LIMIT
    long_prefix = request("m" * MAX_PREFIX_SIZE, [], [b"1"])
    large = request("m", [], [bytes(MAX_SIZE)])
    table.learn(long_prefix, [1], 0)
    table.learn(large, [MAX_SIZE], 0)
    assert table.find(long_prefix) is None
    assert table.find(large) is None
    assert varint(300) == b"\xac\x02"
