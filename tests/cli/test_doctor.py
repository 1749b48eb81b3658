"""`tensorhub doctor`: what it finds, with and without something wrong."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from tensorhub.cli import doctor, sides
from tensorhub.cli.doctor import BAD, GOOD, WARNING, Report, compare, compare_gpus
from tensorhub.cli.main import main
from tensorhub.cli.sides import Segments, Side
from tensorhub.client.shared_memory import SharedMemorySocket
from tensorhub.ipc.handed_out import TRIAL
from tests.other_users import needs_root, run_as
from tests.safety.processes import FOREIGN_UID
from tests.serving import RunningServer, free_ports, serving

HERE = Side(1, 1000, (1000,), 5, {"ipc": "1", "pid": "2"}, ("GPU-a",))


def _findings(report: Report) -> list[tuple[str, str]]:
    return [(finding.state, finding.text + " -> " + finding.remedy) for finding in report.findings]


def test_a_server_with_which_it_works(server: RunningServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--url", server.http]) == 0
    text = capsys.readouterr().out
    assert "a segment was made here, registered, and let go" in text
    assert "has the same /dev/shm" in text
    assert "runs as the same user: memory is used in place" in text
    assert main(["doctor", "--url", server.http, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["here"]["shm_device"] == Path("/dev/shm").stat().st_dev
    assert document["servers"]
    assert not [item for item in document["findings"] if item["state"] == BAD]


def test_nobody_answers(capsys: pytest.CaptureFixture[str]) -> None:
    [port] = free_ports(1)
    assert main(["doctor", "--url", f"127.0.0.1:{port}"]) == 1
    assert "or name it with --url" in capsys.readouterr().out


def test_what_is_no_address(capsys: pytest.CaptureFixture[str]) -> None:
    for url in ("http://127.0.0.1:port", "http://[::1", "ftp://x"):
        assert main(["doctor", f"--url={url}"]) == 1
        assert f"problem  '{url}' is not an address" in capsys.readouterr().out


def test_a_server_that_takes_no_memory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(tmp_path, ["--allow-client-shm=false"]) as running:
        assert main(["doctor", "--url", running.http]) == 1
    text = capsys.readouterr().out
    assert "-> the server has --allow-client-shm=false" in text


def _folder_of(monkeypatch: pytest.MonkeyPatch, found: Segments) -> tuple[str, str]:
    monkeypatch.setattr(doctor, "look_at_segments", lambda: found)
    report = Report()
    doctor.check_segment_folder(report)
    [(state, text)] = _findings(report)
    return state, text


@pytest.mark.parametrize(
    ("found", "state", "text"),
    [
        (Segments("tmpfs", 1 << 30, 1 << 30, False, True), GOOD, "1024 MiB, 1024 MiB of them free"),
        (Segments("", 1 << 30, 1 << 30, False, True), GOOD, "1024 MiB"),
        (Segments("tmpfs", 64 << 20, 64 << 20, False, True), WARNING, "--shm-size=1g"),
        (Segments("tmpfs", 1 << 30, 1 << 20, False, True), WARNING, "until they are unlinked"),
        (Segments("tmpfs", 1 << 30, 0, False, True), BAD, "it is full"),
        (Segments("tmpfs", 64 << 20, 0, False, True), BAD, "it is full"),
        (Segments("tmpfs", 1 << 30, 1 << 30, True, True), BAD, "is mounted read-only"),
        (Segments("tmpfs", 1 << 30, 1 << 30, False, False), BAD, "may not be written to by this user"),
        (Segments("ext4", 1 << 40, 1 << 40, False, True), BAD, "is a folder of a ext4 and no tmpfs"),
    ],
)
def test_the_folder_of_segments(monkeypatch: pytest.MonkeyPatch, found: Segments, state: str, text: str) -> None:
    account = _folder_of(monkeypatch, found)
    assert account[0] == state
    assert text in account[1]


def test_the_file_system_at_a_place() -> None:
    mounts = "\n".join(
        (
            "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw",
            "23 22 0:5 / /dev rw,nosuid - devtmpfs devtmpfs rw",
            "24 23 0:20 / /dev/shm rw,nosuid shared:4 - tmpfs tmpfs rw",
            "25 22 0:30 / /dev/shmother rw - proc proc rw",
        )
    )
    assert sides._file_system(mounts, "/dev/shm") == "tmpfs"
    assert sides._file_system(mounts, "/dev/shm/x") == "tmpfs"
    assert sides._file_system(mounts, "/dev/x") == "devtmpfs"
    assert sides._file_system(mounts, "/srv") == "ext4"
    assert sides._file_system(mounts + "\n26 24 254:0 /d /dev/shm rw - ext4 /dev/vda rw", "/dev/shm") == "ext4"
    assert sides._file_system("", "/dev/shm") == ""


def _in_a_private_place(script: str, url: str, *options: str) -> str:
    """Run the command with mounts of its own."""
    command = f"{script} && exec {sys.executable} -m tensorhub doctor --url {url} {' '.join(options)}"
    done = subprocess.run(["unshare", "-m", "sh", "-c", command], capture_output=True, text=True, timeout=60)
    if "unshare failed" in done.stderr or "must be superuser" in done.stderr or "permission denied" in done.stderr:
        pytest.skip(f"mounts of one's own are not allowed here: {done.stderr.strip()}")
    assert done.stderr == ""
    assert done.returncode == 1
    return done.stdout


def test_another_dev_shm(server: RunningServer) -> None:
    """As in a container without --ipc=host: the cause is known, so there is one remedy."""
    text = _in_a_private_place("mount -t tmpfs -o size=64m tmpfs /dev/shm", server.http)
    assert "warning  /dev/shm has 64 MiB, 64 MiB of them free" in text
    assert "a segment of this user cannot be registered: Unable to open shared memory region" in text
    assert "-> the server does not see this /dev/shm: share it" in text
    assert "has another /dev/shm" in text
    assert "--shm-allowed-uids" not in text


def test_a_full_dev_shm(server: RunningServer) -> None:
    text = _in_a_private_place(
        "mount -t tmpfs -o size=64k tmpfs /dev/shm && head -c 65536 /dev/zero > /dev/shm/x", server.http
    )
    assert "problem  /dev/shm has 0 MiB, 0 MiB of them free: it is full" in text
    assert "No space left on device" in text


@needs_root
def test_another_user(server: RunningServer, tmp_path: Path) -> None:
    """Hidden as the server's processes are to it, whose they are can be seen."""
    output = tmp_path / "output"
    with output.open("w") as stream:

        def run() -> bool:
            with redirect_stdout(stream):
                status = main(["doctor", "--url", server.http])
            stream.flush()
            return status == 1

        run_as(FOREIGN_UID, run)
    text = output.read_text()
    assert f"runs as root (uid 0), not uid {FOREIGN_UID}" in text
    assert f"--shm-allowed-uids={FOREIGN_UID}" in text
    assert "share it" not in text


def test_the_socket_for_files(server: RunningServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--url", server.http, "--shm-socket", str(tmp_path / "none")]) == 1
    text = capsys.readouterr().out
    assert f"a file cannot be registered over {tmp_path}/none: no server at {tmp_path}/none" in text
    assert "-> the server needs --shm-socket, and its socket has to be mounted here" in text
    path = f"/tmp/tensorhub-test-doctor-{os.getpid()}.sock"
    with serving(tmp_path, [f"--shm-socket={path}", "--shm-max-regions=2"]) as running:
        assert main(["doctor", "--url", running.http]) == 0
        assert "try it with --shm-socket PATH" in capsys.readouterr().out
        for _ in range(2 + 1):  # nothing stays that would count
            assert main(["doctor", "--url", running.http, "--shm-socket", path]) == 0
            text = capsys.readouterr().out
            assert f"a file was registered over {path}, and let go" in text
            assert f"a region that the server made was taken over {path}, read, and let go" in text
        with SharedMemorySocket(path) as sockets:
            kept = [sockets.try_out() for _ in range(2)]
            assert all(region.array("UINT8", [4096]).tobytes() == TRIAL for region in kept)
            assert main(["doctor", "--url", running.http, "--shm-socket", path]) == 1
            text = capsys.readouterr().out
            assert "0 regions are registered and 2 handed out" in text
            assert "-> unregister what is not used, or raise the limit" in text


def test_the_socket_of_a_server_that_takes_no_memory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = f"/tmp/tensorhub-test-doctor-{os.getpid()}.sock"
    with serving(tmp_path, [f"--shm-socket={path}", "--allow-client-shm=false"]) as running:
        assert main(["doctor", "--url", running.http, "--shm-socket", path]) == 1
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    found = next(index for index, line in enumerate(lines) if "a file cannot be registered over" in line)
    assert "Client shared memory is disabled" in lines[found]
    assert lines[found + 1] == "-> the server has --allow-client-shm=false"


@needs_root
def test_the_socket_as_another_user(tmp_path: Path) -> None:
    path = f"/tmp/tensorhub-test-doctor-{os.getpid()}.sock"
    with serving(tmp_path, [f"--shm-socket={path}"]):
        report = Report()

        def ask() -> bool:
            doctor.probe_socket(report, path)
            [finding] = report.findings
            return (
                finding.state == BAD
                and f"user {FOREIGN_UID} may not use this socket" in finding.text
                and f"--shm-allowed-uids={FOREIGN_UID}" in finding.remedy
            )

        run_as(FOREIGN_UID, ask)


class _OtherServer:
    """Listens where --shm-socket would: registers everything, and answers `try` and `take` as it is told."""

    def __init__(self, path: Path, answers: list[dict[str, object]]) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(path))
        self._listener.listen()
        self._answers = [json.dumps(answer).encode() for answer in answers]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        for answers in ([b'{"ok": true}'] * 2, self._answers):
            client, _ = self._listener.accept()
            with client:
                for answer in answers:
                    packet, fds, _, _ = socket.recv_fds(client, 16_384, 4)
                    for fd in fds:
                        os.close(fd)
                    if packet:
                        client.send(answer)
        self._listener.close()

    def close(self) -> None:
        self._thread.join(10)


_NAME = "handed-out-8123456789abcdef-cpu0"


@pytest.mark.parametrize(
    ("answers", "text", "remedy"),
    [
        ([{"error": "'operation' must be one of 'register'"}], "must be one of", "the server is older"),
        ([{"error": "2 handed out, and --shm-max-regions allows"}], "2 handed out", "release it, or raise the limit"),
        ([{"error": "no worker is running; try again"}], "no worker", "look at the server's log"),
        ([], "the server does not answer|has closed the connection", "tensorhub status"),
        ([{"ok": True, "name": _NAME}, {"ok": True}, {"ok": True}], "no descriptor came with", "raise ulimit -n"),
        (
            [{"ok": True, "name": _NAME}, {"error": f"there is no region '{_NAME}'"}],
            "there is no region",
            "server's log",
        ),
    ],
)
def test_a_region_that_cannot_be_taken(
    tmp_path: Path, answers: list[dict[str, object]], text: str, remedy: str
) -> None:
    other = _OtherServer(tmp_path / "s", answers)
    report = Report()
    doctor.probe_socket(report, str(tmp_path / "s"))
    other.close()
    first, second = report.findings
    assert first.state == GOOD
    assert second.state == BAD
    assert "a region that the server made cannot be taken over" in second.text
    assert re.search(text, second.text)
    assert remedy in second.remedy


def test_sides_that_differ() -> None:
    report = Report()
    compare(report, HERE, [Side(2, 0, (), 6, {"ipc": "9", "pid": "2"}), Side(3, 0, (), 6)], "/run/x")
    found = _findings(report)
    assert (found[0][0], found[0][1].partition(" -> ")[0]) == (
        BAD,
        "each of the 2 workers of the server at /run/x has another /dev/shm",
    )
    assert any(state == WARNING and "--shm-allowed-uids=1000" in text for state, text in found)
    assert any(
        state == WARNING and "docker run --ipc=host" in text and "ipc namespace" in text for state, text in found
    )
    report = Report()
    compare(report, HERE, [Side(2, 1000, (), 5, {"ipc": "1", "pid": "2"})], "/run/x")
    assert {finding.state for finding in report.findings} == {GOOD}
    report = Report()
    compare(report, HERE, [Side(2, 1000, (), 0)], "")
    assert [text for _, text in _findings(report)] == [
        "the worker of the server at an unknown place runs as the same user: memory is used in place -> "
    ], "what cannot be seen is not judged"


def test_which_server_is_meant() -> None:
    one, other = Side(1, 0, (), 1, run_dir="/a", http_port=8001), Side(2, 0, (), 1, run_dir="/b")
    servers = {"/a": [one], "/b": [other]}
    assert doctor.meant(servers, "127.0.0.1:8001") == {"/a": [one]}
    assert doctor.meant(servers, "http://127.0.0.1:8000") == {"/b": [other]}
    assert doctor.meant(servers, "localhost") == {"/b": [other]}
    assert doctor.meant(servers, "localhost:9") == {}
    assert doctor.meant({"/a": [one]}, "localhost:9") == {"/a": [one]}
    assert doctor.which_server(servers).endswith("started with --http-port 8000, 8001")
    assert doctor.which_server({}).endswith("no server can be seen from here")


@pytest.mark.parametrize(
    ("there", "state", "text"),
    [
        (None, WARNING, "--metrics-url"),
        ([], BAD, "the server sees no GPU"),
        (["GPU-b"], BAD, "the server's GPUs are others: GPU-b"),
        (["GPU-b", "GPU-a"], GOOD, "GPUs of both sides: GPU-a"),
    ],
)
def test_gpus_of_both_sides(there: list[str] | None, state: str, text: str) -> None:
    report = Report()
    compare_gpus(report, ["GPU-a"], there)
    [(found, account)] = _findings(report)
    assert found == state
    assert text in account
