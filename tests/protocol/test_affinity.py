"""Where a sequence is looked for: the same order everywhere, all workers shared, and one that has the last word."""

from collections import Counter

import pytest

from tensorhub.protocol.affinity import homes_of, next_home

_NAMES = ("cpu0", "cpu1", "cpu2")


def test_the_order_follows_from_the_id_alone() -> None:
    for sequence in (1, 2**64 - 1, "1", "a name"):
        assert homes_of(sequence, _NAMES) == homes_of(sequence, _NAMES[::-1])
        assert sorted(homes_of(sequence, _NAMES)) == list(_NAMES)
    firsts = Counter(homes_of(sequence, _NAMES)[0] for sequence in range(300))
    assert min(firsts.values()) > 50
    assert any(homes_of(number, _NAMES) != homes_of(str(number), _NAMES) for number in range(20))


def test_a_worker_that_is_gone_moves_no_sequence_of_another() -> None:
    for sequence in range(50):
        first = homes_of(sequence, _NAMES)[0]
        assert homes_of(sequence, [name for name in _NAMES if name in (first, "cpu1")])[0] == first


@pytest.mark.parametrize(
    ("alive", "visits"),
    [
        ((11, 12, 13), [(11, False), (12, False), (13, False), (11, True)]),
        ((11, 13), [(11, False), (13, False), (11, True)]),
        ((12,), [(12, False), (11, True)]),
        ((11,), [(11, False), (11, True)]),
        ((), [(11, True)]),
    ],
)
def test_all_are_asked_once_and_the_first_has_the_last_word(
    alive: tuple[int, ...], visits: list[tuple[int, bool]]
) -> None:
    found, pid = [], 0
    while not found or not found[-1][1]:
        pid, last = next_home((11, 12, 13), alive, pid)
        found.append((pid, last))
    assert found == visits


def test_one_that_shares_it_no_longer_is_followed_by_the_last_word() -> None:
    assert next_home((11, 12), (11, 12), after=99) == (11, True)
    assert next_home((0, 12), (12,)) == (12, False)
