"""What the processes of a server share with clients, added up: while they all want more, and when they are gone."""

import os
import subprocess
import sys
from pathlib import Path

from tensorhub.ipc.holdings import Holding, Holdings
from tensorhub.ipc.rundir import RunDir

LIMIT = 10
PROCESSES = 4

# Takes and gives back at random, as HandedOut does: what is wanted is written first, and then looked at. What it has
# been granted is written to a log, where each line is one write.
_TAKER = """
import os, random, sys
from pathlib import Path
from tensorhub.ipc.holdings import Holding, Holdings
from tensorhub.ipc.rundir import RunDir
held, limit = Holdings(RunDir(Path(sys.argv[1])), os.getpid()), int(sys.argv[2])
log = os.open(sys.argv[3], os.O_WRONLY | os.O_APPEND)
count = 0
for _ in range(3000):
    if count and random.random() < 0.4:
        os.write(log, b"-\\n")
        count -= 1
        held.write(Holding(handed_out=count))
        continue
    held.write(Holding(handed_out=count + 1))
    if count + 1 + held.others().handed_out <= limit:
        count += 1
        os.write(log, b"+\\n")
    else:
        held.write(Holding(handed_out=count))
os.write(log, b"-\\n" * count)
held.close()
"""


def test_all_are_added_up(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    first, second, third = (Holdings(run_dir, pid) for pid in (11, 12, 13))
    assert first.others() == Holding()
    first.write(Holding(3, 300))
    second.write(Holding(0, 0, 2, 20))
    third.write(Holding(handed_out=1, handed_out_byte_size=2**64 - 1))
    assert first.others() == Holding(0, 0, 3, 2**64 + 19)
    assert second.others() == Holding(3, 300, 1, 2**64 - 1)
    second.write(second.own._replace(handed_out=1))
    assert first.others().handed_out == 2
    third.close()
    assert first.others() == Holding(0, 0, 1, 20)
    run_dir.forget(12)
    assert first.others() == Holding(), "nobody answers for what the dead had"
    run_dir.held(14).touch()
    assert first.others() == Holding(), "one that has just begun"
    first.close()
    second.close()


def test_the_dead_are_forgotten(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    Holdings(run_dir, dead.pid).write(Holding(1, 2, 3, 4))
    own = Holdings(run_dir, os.getpid())
    assert own.others() == Holding(1, 2, 3, 4), "until somebody says so"
    dead.wait()
    run_dir.forget_the_dead()
    assert own.others() == Holding()
    assert run_dir.all_held() == [run_dir.held(os.getpid())]
    own.close()


def test_together_they_never_have_more_than_the_limit(tmp_path: Path) -> None:
    """However they come in between each other: at no time more have been granted than the limit."""
    log = tmp_path / "log"
    log.touch()
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    command = [sys.executable, "-c", _TAKER, str(run_dir), str(LIMIT), str(log)]
    takers = [subprocess.Popen(command) for _ in range(PROCESSES)]
    assert [taker.wait(60) for taker in takers] == [0] * PROCESSES
    count = most = 0
    for line in log.read_text(encoding="ascii").split():
        count += 1 if line == "+" else -1
        most = max(most, count)
    assert count == 0
    assert LIMIT // 2 < most <= LIMIT
