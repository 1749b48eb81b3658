"""The book of regions: owners, limits, and regions that are of no use any more."""

from typing import Any

import pytest

from tensorhub.errors import AlreadyExists, InvalidArgument, TensorhubError, Unavailable
from tensorhub.hub.actions import Action, Answer, Asker, Send
from tensorhub.hub.regions import MAX_NAME_SIZE, RegionBook
from tensorhub.option_groups import SharedMemory
from tensorhub.protocol import messages

ASKER = Asker("HTTP", 500, 1, 1)
OTHER = Asker("GRPC", 600, 2, 1)
THIRD = Asker("GRPC", 600, 3, 1)


def _message(name: str, owner: str = "", byte_size: int = 64, pid: int = 0) -> Any:
    return messages.SystemRegion(
        name=name, key="/k", byte_size=byte_size, owner=owner, client_pid=pid, client_ticks=pid and 7
    )


def _book(*workers: int, **limits: int) -> RegionBook:
    return RegionBook(SharedMemory(**limits), lambda: workers)  # type: ignore[arg-type]


def _carried_out(book: RegionBook, actions: list[Action]) -> list[TensorhubError | None]:
    """Have the workers do all they are told, and return what the askers hear."""
    answers = [action.error for action in actions if isinstance(action, Answer)]
    for action in actions:
        if isinstance(action, Send):
            answers += _carried_out(book, book.reported(messages.Report(), action.request_id))
    return answers


def _done(book: RegionBook, action: Action) -> list[Action]:
    """Have a worker do what it was told."""
    assert isinstance(action, Send)
    return book.reported(messages.Report(), action.request_id)


def _names(book: RegionBook) -> list[tuple[str, str]]:
    return sorted(region.key for region in book.shown())


def test_owners_do_not_meet() -> None:
    book = _book(10, 11)
    for owner in ("", "a", "b"):
        for name in ("r", "s"):
            assert _carried_out(book, book.register("system", _message(name, owner), ASKER)) == [None]
    with pytest.raises(AlreadyExists, match=r"^shared memory region 'r' already in manager$"):
        book.register("cuda", _message("r", "a"), ASKER)
    assert _carried_out(book, book.unregister("system", "a", "r", ASKER)) == [None]
    assert _names(book) == [("", "r"), ("", "s"), ("a", "s"), ("b", "r"), ("b", "s")]
    assert _carried_out(book, book.unregister("system", "b", "", ASKER)) == [None]
    assert _names(book) == [("", "r"), ("", "s"), ("a", "s")]
    assert _carried_out(book, book.unregister("cuda", "", "", ASKER)) == [None]
    assert _carried_out(book, book.unregister("system", "b", "", ASKER)) == [None]
    assert _names(book) == [("", "r"), ("", "s"), ("a", "s")]


def test_limits() -> None:
    book = _book(10, shm_max_regions=2, shm_max_byte_size=200)
    assert _carried_out(book, book.register("system", _message("a", byte_size=100), ASKER)) == [None]
    with pytest.raises(Unavailable, match="it has 101 bytes, 100 are registered, and --shm-max-byte-size allows 200"):
        book.register("system", _message("b", byte_size=101), ASKER)
    assert _carried_out(book, book.register("system", _message("b", byte_size=100), ASKER)) == [None]
    with pytest.raises(Unavailable, match="2 regions are registered, and --shm-max-regions allows no more"):
        book.register("system", _message("c", byte_size=0), ASKER)
    assert _carried_out(book, book.unregister("system", "", "a", ASKER)) == [None]
    assert _carried_out(book, book.register("system", _message("c", byte_size=100), ASKER)) == [None]
    with pytest.raises(InvalidArgument, match=f"more than {MAX_NAME_SIZE} bytes"):
        book.register("system", _message("n" * (MAX_NAME_SIZE + 1)), ASKER)


def test_what_outputs_have_made_larger_counts() -> None:
    grown = 30
    limits = SharedMemory(shm_max_byte_size=200)
    book = RegionBook(limits, lambda: [10], account=lambda count, byte_size: (1, 20), grown=lambda: grown)
    growable = _message("a", byte_size=100)
    growable.handle, growable.growable = 7, True
    assert _carried_out(book, book.register("system", growable, ASKER)) == [None]
    with pytest.raises(
        Unavailable,
        match="51 bytes, 100 are registered and have become 30 larger and 20 handed out, and --shm-max-byte",
    ):
        book.register("system", _message("b", byte_size=51), ASKER)
    assert _carried_out(book, book.register("system", _message("b", byte_size=50), ASKER)) == [None]
    assert book.growing() == [growable]
    assert _carried_out(book, book.unregister("system", "", "a", ASKER)) == [None]
    assert book.growing() == []


def test_what_was_made_for_outputs_counts() -> None:
    handed_out = (0, 0)
    told: list[tuple[int, int]] = []

    def account(count: int, byte_size: int) -> tuple[int, int]:
        told.append((count, byte_size))
        return handed_out

    book = RegionBook(SharedMemory(shm_max_regions=3, shm_max_byte_size=200), lambda: [10], account=account)
    assert _carried_out(book, book.register("system", _message("a", byte_size=100), ASKER)) == [None]
    assert told == [(1, 100)]
    handed_out = (2, 20)
    with pytest.raises(Unavailable, match="1 regions are registered and 2 handed out, and --shm-max-regions allows no"):
        book.register("system", _message("b", byte_size=1), ASKER)
    assert told[1:] == [(2, 101), (1, 100)], "it is told before it is looked, and what is refused does not count"
    handed_out = (1, 50)
    with pytest.raises(Unavailable, match="it has 51 bytes, 100 are registered and 50 handed out, and --shm-max-byte"):
        book.register("system", _message("b", byte_size=51), ASKER)
    assert _carried_out(book, book.register("system", _message("b", byte_size=50), ASKER)) == [None]
    with pytest.raises(Unavailable):
        book.register("system", _message("c", byte_size=2**64 - 1), ASKER)
    assert told[-1] == (2, 150)
    for name, rest in (("a", (1, 50)), ("b", (0, 0))):
        assert _carried_out(book, book.unregister("system", "", name, ASKER)) == [None]
        assert told[-1] == rest
    hello = messages.Hello(system_regions=[_message("e", byte_size=7)])
    assert book.joined(10, hello) == []
    assert told[-1] == (1, 7), "a hub that is new hears of them from the workers"


def test_what_is_of_no_use_goes() -> None:
    book = _book(10)
    for name, pid in (("a", 5), ("b", 5), ("c", 6), ("d", 0)):
        _carried_out(book, book.register("system", _message(name, pid=pid), ASKER))
    assert book.client_died(5, 8) == [], "another process with the same pid"
    assert _carried_out(book, book.client_died(5, 7)) == []
    assert _names(book) == [("", "c"), ("", "d")]
    assert _carried_out(book, book.reap([("", "d"), ("x", "c"), ("", "never")])) == []
    assert _names(book) == [("", "c")]
    assert book.client_died(0, 0) == [], "a client that nobody knows has not died"


def test_who_unregisters_what_is_being_reaped_finds_the_name_free() -> None:
    book = _book(10, 11)
    for name in ("a", "b"):
        assert _carried_out(book, book.register("system", _message(name), ASKER)) == [None]
    reaping = book.reap([("", "a"), ("", "b")])
    assert book.unregister("system", "", "a", ASKER) == []
    assert book.unregister("system", "", "", OTHER) == []
    assert book.unregister("cuda", "", "", THIRD) == [Answer(THIRD)]
    answers = [action for send in reaping for action in _done(book, send)]
    assert answers == [Answer(ASKER), Answer(OTHER)]
    assert _carried_out(book, book.register("system", _message("a"), ASKER)) == [None]


def test_the_answer_to_an_old_order_is_none_to_a_new_one() -> None:
    """A worker that has come opens what it has not; meanwhile the name is given up and taken again."""
    workers = [10]
    book = RegionBook(SharedMemory(), lambda: workers)
    assert _carried_out(book, book.register("system", _message("a"), ASKER)) == [None]
    workers.append(11)
    (opening,) = book.joined(11, messages.Hello())
    closing = book.unregister("system", "", "a", ASKER)
    assert _done(book, opening) == []
    assert [action for send in closing for action in _done(book, send)] == [Answer(ASKER)]
    again = book.register("system", _message("a"), OTHER)
    assert _done(book, again[0]) == []
    assert _names(book) == []
    assert _done(book, again[1]) == [Answer(OTHER)]


def test_who_dies_before_it_has_closed_a_region_is_not_waited_for() -> None:
    book = _book(10, 11)
    assert _carried_out(book, book.register("system", _message("a"), ASKER)) == [None]
    closing = book.unregister("system", "", "a", OTHER)
    assert _done(book, closing[0]) == []
    assert book.left(11) == [Answer(OTHER)]
    assert _done(book, closing[1]) == []


def _orders(actions: list[Action]) -> list[tuple[str, int]]:
    """Return what workers are told: (which order, pid)."""
    return [(str(item.order.WhichOneof("order")), item.pid) for item in actions if isinstance(item, Send)]


def test_a_worker_that_comes_late_closes_what_is_gone() -> None:
    workers = [10]
    book = RegionBook(SharedMemory(), lambda: workers)
    old = messages.Hello(system_regions=[_message("gone"), _message("other", pid=5), _message("same")])
    assert book.joined(10, old) == []
    for name in ("gone", "other"):
        assert _carried_out(book, book.unregister("system", "", name, ASKER)) == [None]
    assert _carried_out(book, book.register("system", _message("other", pid=6), ASKER)) == [None]
    going = book.unregister("system", "", "same", OTHER)
    workers.append(11)
    late = book.joined(11, old)
    assert _orders(late) == [("close_region", 11)] * 3 + [("open_system_region", 11)]
    assert isinstance(late[-1], Send)
    assert late[-1].order.open_system_region.region.client_pid == 6
    assert [_done(book, item) for item in late] == [[]] * 4, "nobody waits for it"
    assert [answer for item in going for answer in _done(book, item)] == [Answer(OTHER)]
    assert _names(book) == [("", "other")]


def test_a_worker_that_comes_late_keeps_a_cuda_region_whose_gpu_is_known_by_now() -> None:
    book = _book(10)
    known = messages.CudaRegion(name="c", raw_handle=b"h", byte_size=4, uuid="GPU-1")
    assert book.joined(10, messages.Hello(cuda_regions=[known])) == []
    known.uuid = ""
    assert book.joined(11, messages.Hello(cuda_regions=[known])) == []
    known.raw_handle = b"another"
    assert _orders(book.joined(12, messages.Hello(cuda_regions=[known]))) == [
        ("close_region", 12),
        ("open_cuda_region", 12),
    ]


def test_a_worker_that_comes_opens_what_it_has_not() -> None:
    book = _book(10)
    _carried_out(book, book.register("system", _message("r", "a"), ASKER))
    hello = messages.Hello()
    hello.system_regions.append(_message("r", "b"))
    (send,) = book.joined(11, hello)
    assert isinstance(send, Send)
    assert (send.order.open_system_region.region.owner, send.order.open_system_region.region.name) == ("a", "r")
    assert _names(book) == [("a", "r"), ("b", "r")]
    assert book.changed
