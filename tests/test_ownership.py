"""Whose regions a client sees."""

import pytest

from tensorhub.errors import InvalidArgument
from tensorhub.ownership import LOCAL, MAX_OWNER_SIZE, grpc_address, grpc_host, parse_scope


def test_global_has_one_owner() -> None:
    scope = parse_scope("global")
    assert not scope.divides
    assert scope.owner([("x-owner", "a")], "10.0.0.1") == ""


def test_a_header_is_the_owner() -> None:
    scope = parse_scope("header:X-Owner")
    assert scope.divides
    assert scope.owner([(b"x-owner", b"a"), (b"x-owner", b"b")], "10.0.0.1") == "a"
    assert scope.owner([("other", "z"), ("x-owner", "b")], "") == "b"
    assert scope.owner([], "10.0.0.1") == ""
    with pytest.raises(InvalidArgument, match=f"has {MAX_OWNER_SIZE + 1} characters"):
        scope.owner([("x-owner", "a" * (MAX_OWNER_SIZE + 1))], "")


@pytest.mark.parametrize(
    ("host", "owner"),
    [
        *(("127.0.0.1", LOCAL), ("127.3.2.1", LOCAL), ("::1", LOCAL), ("::ffff:127.0.0.1", LOCAL), ("", LOCAL)),
        *(("10.0.0.1", "10.0.0.1"), ("::ffff:10.0.0.1", "10.0.0.1"), ("FE80::1%eth0", "fe80::1"), ("odd", "odd")),
    ],
)
def test_an_address_is_the_owner(host: str, owner: str) -> None:
    assert parse_scope("peer").owner([], host) == owner


@pytest.mark.parametrize("text", ["", "Global", "header", "header:", "peer:x", "global:x", "x"])
def test_other_texts(text: str) -> None:
    with pytest.raises(InvalidArgument, match="--shm-scope takes"):
        parse_scope(text)


@pytest.mark.parametrize(
    ("peer", "host", "address"),
    [
        ("ipv4:127.0.0.1:4711", "127.0.0.1", "127.0.0.1:4711"),
        ("ipv6:%5B::1%5D:4711", "::1", "[::1]:4711"),
        ("unix:/path", "", ""),
        ("", "", ""),
    ],
)
def test_grpcs_addresses(peer: str, host: str, address: str) -> None:
    assert (grpc_host(peer), grpc_address(peer)) == (host, address)
