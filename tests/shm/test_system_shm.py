"""Opening what a client names: keys, sizes, owners, and that nothing stays open."""

import os
import socket
import stat
from pathlib import Path

import pytest

from tensorhub.errors import InternalError, InvalidArgument, TensorhubError
from tensorhub.ipc.arena_memory import Arena
from tensorhub.ipc.system_shm import RESERVED_PREFIX, SystemSegment, check_key

from .segments import mappings, open_fds, opened_since, segment

PAGE = 4096
SIZE = 3 * PAGE
EDGES = sorted(
    {0, 1, 16, PAGE - 1, PAGE, PAGE + 1, SIZE - 1, SIZE, SIZE + 1, -1, -PAGE}
    | {2**31 - 1, 2**31, 2**31 + 1, 2**32, 2**53 - 1, 2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - PAGE, 2**64 - 1}
)

INVALID_ARGS = "failed to register shared memory region 'r': invalid args"
NOT_MAPPABLE = "failed to register shared memory region 'r': unable to process address spaceInvalid argument"


@pytest.mark.parametrize("key", ["a", "/a", "A.b_c-9", "/" + "x" * 200, "..", "/...a"])
def test_good_keys_get_one_slash(key: str) -> None:
    assert check_key("r", key) == "/" + key.removeprefix("/")


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "//",
        "//x",
        "../x",
        "/../x",
        "a/b",
        "/a/",
        "a\0",
        "\0",
        "%2f",
        "a b",
        "a\n",
        "é",
        "\udc80",
        "x" * 201,
        "/" + "x" * 201,
        "/proc/self/mem",
        "memfd:tensorhub-arena",
    ],
)
def test_bad_keys(key: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_key("r", key)
    assert caught.value.message == f"cannot register shared memory region 'r' - invalid shm key '{key}'"


@pytest.mark.parametrize("slashes", ["", "/", "//", "///"])
def test_the_reserved_prefix(slashes: str) -> None:
    key = f"{slashes}{RESERVED_PREFIX}1"
    with pytest.raises(InvalidArgument) as caught:
        check_key("r", key)
    assert caught.value.message == (
        f"cannot register shared memory region 'r' with key '{key}' as the key contains the reserved prefix "
        "'triton_python_backend_shm_region_'"
    )


def expected_error(offset: int, byte_size: int) -> str | None:
    if offset < 0 or byte_size < 0 or offset + byte_size > SIZE:
        return INVALID_ARGS
    if byte_size == 0 or offset % PAGE:
        return NOT_MAPPABLE
    return None


def test_every_offset_with_every_size() -> None:
    with segment(os.urandom(SIZE)) as made:
        content = made.content
        before = open_fds()
        for offset in EDGES:
            for byte_size in EDGES:
                wanted = expected_error(offset, byte_size)
                if wanted is None:
                    opened = SystemSegment.open("r", made.key, offset, byte_size, ())
                    assert opened.in_place
                    assert opened.view(0, byte_size) == content[offset : offset + byte_size]
                    opened.close()
                else:
                    with pytest.raises(InvalidArgument) as caught:
                        SystemSegment.open("r", made.key, offset, byte_size, ())
                    assert caught.value.message == wanted, (offset, byte_size)
        assert not opened_since(before)
        assert mappings(made.key) == 0


@pytest.mark.parametrize("key", ["/tensorhub-test-nothing", "/.", "/..", "nothing"])
def test_what_is_not_there(key: str) -> None:
    with pytest.raises(InternalError) as caught:
        SystemSegment.open("r", key, 0, 1, ())
    assert caught.value.message == f"Unable to open shared memory region: '{key}'"


@pytest.mark.parametrize("kind", ["link", "pipe", "socket", "directory"])
def test_only_files_are_opened(kind: str, tmp_path: Path) -> None:
    with segment(b"") as made:
        made.path.unlink()
        (tmp_path / "file").write_bytes(bytes(PAGE))
        before = open_fds()
        if kind == "link":
            made.path.symlink_to(tmp_path / "file")
        elif kind == "pipe":
            os.mkfifo(made.path)
        elif kind == "socket":
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(made.path))
        else:
            made.path.mkdir()
        try:
            with pytest.raises(InternalError, match=r"^(Unable to open|Invalid) shared memory region: '"):
                SystemSegment.open("r", made.key, 0, 1, ())
        finally:
            if kind == "directory":
                made.path.rmdir()
        assert not opened_since(before)


def test_no_arena_can_be_opened_by_any_key() -> None:
    arena = Arena(1 << 20)
    try:
        target = os.readlink(f"/proc/self/fd/{arena.fd}")
        assert target.startswith("/memfd:")
        names = [target, target[1:], target.split()[0], "tensorhub-arena", "memfd:tensorhub-arena"]
        names += [f"/proc/{os.getpid()}/fd/{arena.fd}", f"/proc/self/fd/{arena.fd}", f"/dev/fd/{arena.fd}"]
        names += [f"../proc/self/fd/{arena.fd}", str(arena.fd), f"fd/{arena.fd}"]
        for name in names:
            with pytest.raises(TensorhubError):
                SystemSegment.open("r", name, 0, 64, ())
        assert not [path for path in Path("/dev/shm").iterdir() if "arena" in path.name]
    finally:
        arena.close()


def test_descriptors_and_mappings_stay_flat() -> None:
    with segment(bytes(SIZE)) as made:
        before = open_fds()
        for _ in range(2_000):
            SystemSegment.open("r", made.key, PAGE, PAGE, ()).close()
        assert not opened_since(before)
        assert mappings(made.key) == 0
        for turn in range(2_000):
            offset, byte_size = ((0, SIZE + 1), (0, 0), (16, 16), (2**63, 2**63))[turn % 4]
            with pytest.raises(InvalidArgument):
                SystemSegment.open("r", made.key, offset, byte_size, ())
        assert not opened_since(before)
        assert mappings(made.key) == 0


def test_descriptors_are_not_inherited() -> None:
    with segment(bytes(PAGE)) as made:
        opened = SystemSegment.open("r", made.key, 0, PAGE, ())
        for fd in os.listdir("/proc/self/fd"):
            try:
                found = os.fstat(int(fd))
            except OSError:
                continue  # the one that listed them
            if stat.S_ISREG(found.st_mode) and found.st_ino == made.path.stat().st_ino:
                assert not os.get_inheritable(int(fd))
        opened.close()
