"""Record the answers of a real Triton: `python -m tests.conformance.record [--only TEXT] [--check]`.

Starts one Triton for each server configuration in turn, runs every case against it, and writes
`recorded/<group>.json`. With `--check` nothing is written: a second Triton is compared with the recordings, which
shows answers that differ from run to run.

A case that Triton does not answer, or that ends it, is named and left out; Triton is started again for the cases
after it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import recordings, servers
from .cases import GROUPS
from .compare import differences
from .runner import run_case
from .steps import Case

Answers = list[dict[str, Any]]

_ABORT_S = 5.0
"""How long a server that aborts may take to write its core; its connections are reset before."""


def main() -> int:
    """Record, or check, the chosen cases; the exit status is 1 after a difference or a case without answer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="cases whose id contains this text; the other recordings stay")
    parser.add_argument("--check", action="store_true", help="compare with the recordings, write nothing")
    options = parser.parse_args()
    recorded = {group: recordings.read(group) for group in GROUPS}
    failed = 0
    for name in servers.CONFIGURATIONS:
        chosen = [
            (group, case)
            for group, cases in GROUPS.items()
            for case in cases
            if case.server == name and options.only in case.id
        ]
        print(f"{name}: {len(chosen)} cases", flush=True)
        for group, case, got in _answers(name, chosen):
            lines = [got] if isinstance(got, str) else []
            if options.check and not isinstance(got, str):
                lines = differences(recorded[group].get(case.id, []), got)
            elif not isinstance(got, str):
                recorded[group][case.id] = got
            if lines:
                failed += 1
                print("\n".join([f"{case.id}:", *lines]), flush=True)
    if not options.check:
        for group, cases in GROUPS.items():
            recordings.write(group, {case.id: recorded[group][case.id] for case in cases if case.id in recorded[group]})
    return 1 if failed else 0


def _answers(name: str, chosen: list[tuple[str, Case]]) -> Iterator[tuple[str, Case, Answers | str]]:
    """The answers of each case by the configuration `name`, or a text that says why there are none."""
    waiting = list(reversed(chosen))
    while waiting:
        with (
            tempfile.TemporaryDirectory(prefix="conformance-") as work,
            servers.running(servers.triton(), servers.CONFIGURATIONS[name], Path(work)) as server,
        ):
            while waiting and not server.ended():
                group, case = waiting.pop()
                got: Answers | str
                try:
                    got = run_case(case, server.target)
                except OSError as error:
                    got = f"no answer: {error!r}"
                    if server.ended_within(_ABORT_S):
                        got = "the server ended"
                yield group, case, got


if __name__ == "__main__":
    sys.exit(main())
