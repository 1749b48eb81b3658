"""The bench's pure parts, and its load generators against a tiny server of the standard library."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tensorhub.ipc.watch import is_running
from tests.waiting import wait_until
from tools.bench import (
    closed_loop,
    h2load,
    history,
    http_client,
    payloads,
    phases,
    plot,
    processes,
    report,
    servers,
    table,
    wrk,
)
from tools.bench.errors import BenchError
from tools.bench.measurements import Comparison, Load, Sample
from tools.bench.table import WORKLOADS
from tools.bench.workloads import IDLE_PERCENT, MEDIAN_US, REQUESTS_PER_S, Goal, Transport, Workload

ROOT = Path(__file__).resolve().parents[2]
BY_NAME = {workload.name: workload for workload in WORKLOADS}

H2LOAD_OUTPUT = """\
starting benchmark...
spawning thread #0: 8 total client(s). Timing-based test with 0s of warm-up time.
Main benchmark duration is over for thread #0. Stopping all clients.

finished in 1.50s, 5102.00 req/s, 1.36MB/s
requests: 5102 total, 5110 started, 5102 done, 5102 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 5102 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 1.36MB (1423460) total, 54.92KB (56234) headers (space savings 96.71%), 1.00MB (1051012) data
                     min         max         mean         sd        +/- sd
time for request:      351us     13.15ms      1.56ms       707us    83.87%
"""


def _numbers(values: str) -> list[Sample]:
    return [Sample(float(value), cpu_us=10.0) for value in values.split()]


class TestTable:
    def test_names_are_unique(self) -> None:
        assert len(BY_NAME) == len(WORKLOADS)

    def test_every_model_is_in_the_repository(self) -> None:
        for workload in WORKLOADS:
            on_gpu = workload.transport is Transport.GRPC_CUDA
            models = Path(table.__file__).parent / ("gpu_models" if on_gpu else "models")
            assert (models / workload.model / "config.pbtxt").is_file(), workload
            is_ensemble = "ensemble_scheduling" in (models / workload.model / "config.pbtxt").read_text()
            assert is_ensemble or (models / workload.model / "1" / "model.py").is_file(), workload
            assert (models / workload.model / "1").is_dir(), workload

    def test_select_keeps_the_order_of_the_table(self) -> None:
        assert [workload.name for workload in table.select(["shm_1m", "startup"])] == ["startup", "shm_1m"]

    def test_select_by_beginning(self) -> None:
        assert {workload.name for workload in table.select(["shm_*"])} == {
            "shm_64k",
            "shm_1m",
            "shm_1m_8",
            "shm_16m",
            "shm_16m_8",
            "shm_64m",
        }

    def test_select_nothing_is_all(self) -> None:
        assert table.select([]) == list(WORKLOADS)

    def test_select_says_what_there_is(self) -> None:
        with pytest.raises(BenchError, match=r"no workload 'shm'; there are: startup, .*shm_1m"):
            table.select(["startup", "shm"])


class TestReport:
    @pytest.mark.parametrize(
        ("mine", "theirs", "more_is_better", "expected"),
        [
            (20, 10, True, 2.0),
            (20, 10, False, 0.5),
            (5, 10, False, 2.0),
            (0, 0, True, 1.0),
            (0, 10, False, math.inf),
            (10, 0, False, 0.0),
            (10, 0, True, math.inf),
        ],
    )
    def test_gain(self, mine: float, theirs: float, more_is_better: bool, expected: float) -> None:
        assert report.gain(mine, theirs, more_is_better) == expected

    def test_the_ratio_is_the_median_of_pairs_and_not_of_medians(self) -> None:
        ratio = report.pair_ratio([10, 20, 90], [10, 10, 100], more_is_better=True)
        assert (ratio.low, ratio.median, ratio.high) == (0.9, 1.0, 2.0)

    @pytest.mark.parametrize(("mine", "theirs"), [([], []), ([1.0], [1.0, 2.0])])
    def test_incomplete_pairs_are_refused(self, mine: list[float], theirs: list[float]) -> None:
        with pytest.raises(ValueError, match=r"no pair|shorter|longer"):
            report.pair_ratio(mine, theirs, more_is_better=True)

    @pytest.mark.parametrize(
        ("goal", "mine", "ratio", "cpu_ratio", "expected"),
        [
            (Goal(), 1.0, 0.1, 0.1, None),
            (Goal(ratio=2.0), 1.0, 2.0, 2.0, True),
            (Goal(ratio=2.0), 1.0, 1.99, 3.0, False),
            (Goal(ratio=2.0), 1.0, 3.0, 1.99, False),
            (Goal(ratio=2.0), 1.0, 3.0, None, True),
            (Goal(ceiling=1.0), 1.0, 0.1, None, True),
            (Goal(ceiling=1.0), 1.01, 9.0, None, False),
        ],
    )
    def test_judge_throughput(
        self, goal: Goal, mine: float, ratio: float, cpu_ratio: float | None, expected: bool | None
    ) -> None:
        cpu = None if cpu_ratio is None else report.Ratio(cpu_ratio, cpu_ratio, cpu_ratio)
        side = report.Side(mine, None, None, None, None)
        assert report.judge(goal, REQUESTS_PER_S, side, report.Ratio(ratio, ratio, ratio), cpu) is expected

    def test_a_goal_beside_nothing_is_not_met(self) -> None:
        assert (
            report.judge(Goal(ratio=1.0), REQUESTS_PER_S, report.Side(1.0, None, None, None, None), None, None) is False
        )

    def test_judge_latency_leaves_cpu_time_out(self) -> None:
        side, even, bad = (
            report.Side(1.0, None, None, None, None),
            report.Ratio(1.0, 1.0, 1.0),
            report.Ratio(0.1, 0.1, 0.1),
        )
        assert report.judge(Goal(ratio=1.0), MEDIAN_US, side, even, bad) is True

    @pytest.mark.parametrize(("fraction", "expected"), [(None, False), (0.79, False), (0.8, True)])
    def test_judge_copy_fraction(self, fraction: float | None, expected: bool) -> None:
        side = report.Side(1.0, None, None, None, fraction)
        ratio = report.Ratio(4.0, 4.0, 4.0)
        assert report.judge(Goal(3.5, copy_fraction=0.8), REQUESTS_PER_S, side, ratio, None) is expected

    @pytest.mark.parametrize(
        ("p50_us", "p99_us", "expected"), [(100.0, 300.0, True), (100.0, 301.0, False), (None, None, False)]
    )
    def test_judge_tail(self, p50_us: float | None, p99_us: float | None, expected: bool) -> None:
        side = report.Side(1.0, None, p50_us, p99_us, None)
        assert report.judge(Goal(tail=3.0), REQUESTS_PER_S, side, None, None) is expected

    def test_row_and_table(self) -> None:
        row = report.row(Comparison(BY_NAME["grpc_8"], _numbers("100 210 330"), _numbers("50 100 150")))
        assert "p99 <= 3 x p50" in report.markdown([row], "triton")
        assert row.tensorhub.value == 210
        assert row.ratio is not None
        assert row.ratio.median == 2.1
        assert row.met is False, "CPU time is even, and the goal must hold in it too"
        assert report.sentence(row, "triton") == (
            "210.0 requests/s, triton 100.0, ratio 2.10 (2.00-2.20), CPU 1.00 (1.00-1.00): NOT MET"
        )
        lines = report.markdown([row], "triton").splitlines()
        assert len({len(line) for line in lines[:3]}) == 1, "padded"
        assert [cell.strip() for cell in lines[2].strip("|").split("|")][:5] == [
            "grpc_8", "requests/s", "210.0", "100.0", "2.10 (2.00-2.20)",
        ]  # fmt: skip
        assert "NOT MET" in lines[2]

    def test_a_row_of_tensorhub_alone(self) -> None:
        samples = [Sample(100.0, 30.0, by_kind={"http": cpu, "worker": 20.0, "hub": 0.1}) for cpu in (8.0, 10.0, 12.0)]
        row = report.row(Comparison(BY_NAME["scale_http_1"], samples, []))
        assert (row.peer, row.ratio, row.met) == (None, None, None)
        cells = [cell.strip() for cell in report.markdown([row], "triton").splitlines()[2].strip("|").split("|")]
        assert cells[2:6] == ["100.0", "-", "-", "30.0"]
        assert report.sentence(row, "triton") == "100.0 requests/s"
        assert json.loads(json.dumps(report.to_json(row)))["by_kind"] == {"http": 10.0, "hub": 0.1, "worker": 20.0}
        last = report.processes_markdown([row]).splitlines()[-1]
        assert "http 100,000, worker 50,000 |" in last, "what takes next to nothing limits nothing"

    def test_a_lost_row_is_marked(self) -> None:
        row = report.row(Comparison(BY_NAME["grpc_8"], _numbers("100"), _numbers("100")))
        assert "NOT MET, LOSS" in report.markdown([row], "triton", ["grpc_8"])
        assert "LOSS" not in report.markdown([row], "triton")

    def test_latency_ratio_is_turned_round(self) -> None:
        row = report.row(Comparison(BY_NAME["grpc_1"], _numbers("100"), _numbers("150")))
        assert row.ratio is not None
        assert row.ratio.median == 1.5
        assert row.met is True

    def test_json_has_no_infinity(self) -> None:
        idle = Comparison(BY_NAME["idle_cpu"], [Sample(0.0)], [Sample(0.5)])
        text = json.dumps(report.to_json(report.row(idle)), allow_nan=False)
        assert json.loads(text)["ratio"]["median"] is None

    @pytest.mark.parametrize(
        ("goal", "expected"),
        [
            (Goal(), "-"),
            (Goal(2.0), ">= 2 x"),
            (Goal(ceiling=1.0), "<= 1 % of a core"),
            (Goal(3.5, copy_fraction=0.8), ">= 3.5 x, >= 0.8 of a copy"),
        ],
    )
    def test_goal_text(self, goal: Goal, expected: str) -> None:
        assert report.goal_text(goal, IDLE_PERCENT) == expected


class TestHistory:
    FACTS = {
        "date": "2026-01-02T03:04:05+00:00",
        "commit": "abc1234",
        "machine": "m",
        "peer": "triton",
        "server_cmd": None,
    }

    def _entry(self, mine: str, **facts: str) -> dict[str, Any]:
        return history.entry(
            [report.row(Comparison(BY_NAME["grpc_8"], _numbers(mine), _numbers("100")))], {**self.FACTS, **facts}
        )

    def test_append_and_read(self, tmp_path: Path) -> None:
        path = tmp_path / "new" / "history.jsonl"
        assert history.read(path) == []
        history.append(path, self._entry("100"))
        history.append(path, self._entry("200"))
        with path.open("a", encoding="utf-8") as file:
            file.write('{"results": {"cut')
        assert history.read(path) == [self._entry("100"), self._entry("200")]

    def test_a_loss_shows(self) -> None:
        older = [self._entry(mine) for mine in ("300", "200", "204", "196", "200")]
        assert history.losses(older, self._entry("170")) == {
            "grpc_8": ["grpc_8: the ratio is 1.7, and 2 (+-0.12) in the 5 runs before"]
        }

    @pytest.mark.parametrize("mine", ["181", "250"])
    def test_noise_and_gains_do_not_show(self, mine: str) -> None:
        assert history.losses([self._entry("200")], self._entry(mine)) == {}

    def test_what_differs_much_by_itself_must_differ_more(self) -> None:
        older = [self._entry(mine) for mine in ("160", "180", "200", "220", "240")]
        assert history.losses(older, self._entry("150")) == {}
        assert list(history.losses(older, self._entry("130"))) == ["grpc_8"]

    def test_what_was_long_ago_does_not_count(self) -> None:
        older = [self._entry("400")] * 20 + [self._entry("200")] * history.LAST_RUNS
        assert history.losses(older, self._entry("200")) == {}

    @pytest.mark.parametrize(("name", "now", "lost"), [("scale_grpc_1", "170", True), ("scale_grpc_1", "230", False)])
    def test_rows_without_a_peer_are_compared_with_themselves(self, name: str, now: str, lost: bool) -> None:
        def entry(mine: str) -> dict[str, Any]:
            return history.entry([report.row(Comparison(BY_NAME[name], _numbers(mine), []))], self.FACTS)

        assert (name in history.losses([entry("200"), entry("202")], entry(now))) is lost

    def test_only_like_is_compared(self) -> None:
        other = self._entry("200", machine="another")
        assert history.comparable([other, self._entry("150")], self._entry("100")) == [self._entry("150")]


class TestPlot:
    @pytest.mark.skipif(not plot.installed(), reason="needs matplotlib: pip install 'tensorhub[bench]'")
    def test_rows_without_a_peer_and_new_rows_do_not_end_it(self, tmp_path: Path) -> None:
        rows = [
            report.row(Comparison(BY_NAME["grpc_8"], _numbers("100 110"), _numbers("50 50"))),
            report.row(Comparison(BY_NAME["idle_cpu"], [Sample(0.0)], [Sample(0.5)])),
            report.row(Comparison(BY_NAME["scale_http_1"], _numbers("100"), [])),
        ]
        older = history.entry(rows[:1], TestHistory.FACTS)
        plot.draw(tmp_path / "new" / "ratios.png", rows, [older, history.entry(rows, TestHistory.FACTS)])
        assert (tmp_path / "new" / "ratios.png").read_bytes().startswith(b"\x89PNG")
        plot.draw(tmp_path / "nothing.png", [], [])


class TestWrk:
    def test_lua_string_of_any_byte(self) -> None:
        assert wrk.lua_string(b'a0"\\\n\x00\xff') == '"a0\\034\\092\\010\\000\\255"'

    def test_parse(self) -> None:
        errors = "connect=0 read=0 write=0 status=0 timeout=0"
        text = f"Running 1s test\nsummary requests=1500 duration_us=1500000 p50_us=200 p99_us=900 {errors}\n"
        assert wrk.parse(text) == Load(1500, 1.5, 200.0, 900.0)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("unable to connect", "no summary"),
            (
                "summary requests=9 duration_us=1 p50_us=1 p99_us=1 connect=0 read=0 write=0 status=3 timeout=0",
                "'status': 3",
            ),
            (
                "summary requests=0 duration_us=1 p50_us=1 p99_us=1 connect=0 read=0 write=0 status=0 timeout=0",
                "no answer",
            ),
        ],
    )
    def test_parse_failure(self, text: str, message: str) -> None:
        with pytest.raises(BenchError, match=message):
            wrk.parse(text)

    @pytest.mark.skipif(not wrk.installed(), reason=f"needs wrk: apt install {wrk.PACKAGE}")
    def test_sends_exactly_this_request(self, echo: Echo) -> None:
        body = bytes(range(256))
        load = wrk.run(echo.url, {"Content-Type": "application/x-any", "X-Length": "7"}, body, in_flight=2, seconds=1)
        assert load.requests > 0
        assert load.elapsed_s > 0
        assert load.p50_us is not None
        assert load.p99_us is not None
        assert load.p50_us <= load.p99_us
        method, headers, got = echo.last
        assert (method, headers["content-type"], headers["x-length"], got) == ("POST", "application/x-any", "7", body)

    @pytest.mark.skipif(not wrk.installed(), reason=f"needs wrk: apt install {wrk.PACKAGE}")
    def test_a_failing_server_is_not_fast(self, echo: Echo) -> None:
        with pytest.raises(BenchError, match="'status'"):
            wrk.run(echo.url, {"X-Status": "500"}, b"", in_flight=1, seconds=1)


class TestH2load:
    def test_frame(self) -> None:
        assert h2load.frame(b"abc") == b"\x00\x00\x00\x00\x03abc"

    def test_parse(self) -> None:
        assert h2load.parse(H2LOAD_OUTPUT) == h2load.Summary(1.5, 5102, 0, 1051012)

    @pytest.mark.parametrize(("text", "seconds"), [("2.00s", 2.0), ("950.25ms", 0.95025), ("17us", 17e-6)])
    def test_units(self, text: str, seconds: float) -> None:
        summary = h2load.parse(H2LOAD_OUTPUT.replace("finished in 1.50s", f"finished in {text}"))
        assert summary.elapsed_s == pytest.approx(seconds)

    def test_errors_count_as_failed(self) -> None:
        assert h2load.parse(H2LOAD_OUTPUT.replace("0 failed, 0 errored", "4 failed, 3 errored")).failed == 4

    def test_no_summary(self) -> None:
        with pytest.raises(BenchError, match="no summary"):
            h2load.parse("could not connect")

    @pytest.mark.parametrize("body_bytes", [100 * 206, 101 * 206])
    def test_verify_takes_whole_answers(self, body_bytes: int) -> None:
        h2load.verify(h2load.Summary(1.0, 100, 0, body_bytes), answer_bytes=201)

    @pytest.mark.parametrize(
        ("summary", "message"),
        [
            (h2load.Summary(1.0, 0, 0, 0), "0 requests succeeded"),
            (h2load.Summary(1.0, 100, 1, 100 * 206), "1 failed"),
            (h2load.Summary(1.0, 100, 0, 0), "errors"),
            (h2load.Summary(1.0, 100, 0, 97 * 206), "errors"),
            (h2load.Summary(1.0, 100, 0, 100 * 300), "errors"),
        ],
    )
    def test_verify_refuses(self, summary: h2load.Summary, message: str) -> None:
        with pytest.raises(BenchError, match=message):
            h2load.verify(summary, answer_bytes=201)

    def test_log(self) -> None:
        assert h2load.parse_log(
            "1700000000000000\t200\t345\n1700000000000500\t503\t1\n1700000000000900\t200\t400\nx"
        ) == [345, 400]

    @pytest.mark.parametrize(("share", "expected"), [(0.0, 1), (0.5, 5), (0.99, 10), (1.0, 10)])
    def test_percentile(self, share: float, expected: int) -> None:
        assert h2load.percentile(list(range(1, 11)), share) == expected

    STREAMS = h2load.Streams([[b"a", b"b"]] * 2, responses=2, answer_bytes=100)

    def test_a_slow_server_that_answers_no_stream_in_full_is_measured_too(self) -> None:
        assert h2load.verify_streams([h2load.Summary(1.0, 0, 0, 50)] * 2, self.STREAMS) == 2

    @pytest.mark.parametrize(("body_bytes", "responses"), [(1000, 20), (1150, 23), (1200, 24)])
    def test_streams_count_responses(self, body_bytes: int, responses: int) -> None:
        halves = [h2load.Summary(1.0, 5, 0, body_bytes // 2)] * 2
        assert h2load.verify_streams(halves, self.STREAMS) == responses

    @pytest.mark.parametrize(
        ("succeeded", "failed", "body_bytes", "message"),
        [(0, 0, 0, "0 bytes of answers"), (5, 1, 500, "2 failed"), (5, 0, 499, "errors"), (5, 0, 601, "errors")],
    )
    def test_streams_refused(self, succeeded: int, failed: int, body_bytes: int, message: str) -> None:
        with pytest.raises(BenchError, match=message):
            h2load.verify_streams([h2load.Summary(1.0, succeeded, failed, body_bytes)] * 2, self.STREAMS)


class TestClosedLoop:
    def test_runs_at_least_a_few_times(self) -> None:
        load = closed_loop.run(lambda: 10, seconds=0.0)
        assert load.requests == 10 * closed_loop.LEAST_CALLS
        assert load.p50_us is not None
        assert load.p50_us >= 0

    def test_an_error_ends_it(self) -> None:
        def fail() -> int:
            raise BenchError("no")

        with pytest.raises(BenchError, match="no"):
            closed_loop.run(fail, seconds=1.0)


class TestHttpClient:
    def test_build(self) -> None:
        assert (
            http_client.build("h", "/p", {"A": "b"}, b"xy")
            == b"POST /p HTTP/1.1\r\nHost: h\r\nA: b\r\nContent-Length: 2\r\n\r\nxy"
        )

    def test_parse_head(self) -> None:
        assert http_client.parse_head(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX: a:b") == (
            200,
            {"content-length": "3", "x": "a:b"},
        )

    @pytest.mark.parametrize("head", [b"", b"SSH-2.0", b"HTTP/1.1 OK"])
    def test_parse_head_refuses(self, head: bytes) -> None:
        with pytest.raises(BenchError, match="not an HTTP response"):
            http_client.parse_head(head)

    def test_bodies_of_any_size_over_one_connection(self, echo: Echo) -> None:
        with http_client.HttpClient("127.0.0.1", echo.port) as client:
            for size in (0, 1, http_client.HEAD_LIMIT_BYTES, 3_000_000, 5):
                sent = os.urandom(size)
                _, got = client.post(http_client.build("h", "/", {}, sent))
                assert bytes(got) == sent

    def test_a_status_that_is_not_200_is_an_error(self, echo: Echo) -> None:
        with (
            http_client.HttpClient("127.0.0.1", echo.port) as client,
            pytest.raises(BenchError, match="HTTP status 500: b'why'"),
        ):
            client.post(http_client.build("h", "/", {"X-Status": "500"}, b"why"))


class TestProcesses:
    def test_parse_stat_with_an_odd_name(self) -> None:
        text = "7 (a) b (c) S 3 7 5 0 -1 4194560 1 2 3 4 10 20 100 50 20 0 1 0 777 0 0\n"
        found = processes.parse_stat(text)
        ticks = os.sysconf("SC_CLK_TCK")
        assert found == processes.Process(7, "S", 3, 5, 150 / ticks, 777, 1)

    def test_tree_has_descendants_and_the_session(self) -> None:
        def process(pid: int, parent: int, session: int) -> processes.Process:
            return processes.Process(pid, "S", parent, session, 0.0, 0)

        table = {
            p.pid: p
            for p in (
                process(1, 0, 1),
                process(10, 1, 10),
                process(11, 10, 10),
                process(12, 11, 12),
                process(13, 1, 10),
                process(20, 1, 20),
            )
        }
        assert [p.pid for p in processes.tree(10, table)] == [10, 11, 12, 13]

    def test_cpu_time_of_ended_children_is_kept(self) -> None:
        burn = "import time\nwhile time.process_time() < 0.2: pass"
        before = processes.cpu_s([processes.read_table()[os.getpid()]])
        subprocess.run([sys.executable, "-c", burn], check=True)
        assert processes.cpu_s([processes.read_table()[os.getpid()]]) - before >= 0.15

    @pytest.mark.parametrize(
        ("words", "expected"),
        [
            (["/v/bin/python", "-m", "tensorhub.hub.main", "--x", ""], "hub"),
            (["python", "-m", "gunicorn", "-c", "y"], "http"),
            (["python", "-m", "tensorhub", "serve"], "serve"),
            (["python", "-m", "other"], "other"),
            (["/opt/tritonserver", "-m"], "tritonserver"),
            ([""], "unknown"),
            ([], "unknown"),
        ],
    )
    def test_kind(self, words: list[str], expected: str) -> None:
        assert processes.kind(words) == expected

    def test_processes_by_kind(self) -> None:
        with subprocess.Popen(
            [sys.executable, "-m", "timeit", "-n1", "-r1", "input()"], stdin=subprocess.PIPE
        ) as other:
            try:
                wait_until(lambda: "timeit" in processes.kinds([processes.read_table()[other.pid]]))
            finally:
                other.kill()

    def test_pss_of_this_process(self) -> None:
        assert processes.pss_bytes([processes.read_table()[os.getpid()]]) > 1 << 20


class TestPhases:
    def _body(self, count: int, each_ns: int) -> bytes:
        phases_ = {key: {"count": count, "ns": count * each_ns} for key in phases.PARTS.values()}
        entry = {"name": "m", "version": "1", "inference_stats": {"success": {"count": count, "ns": 1}, **phases_}}
        return json.dumps({"model_stats": [entry]}).encode()

    def test_the_rest_is_what_the_server_does_not_see(self) -> None:
        before, after = phases.parse(self._body(100, 1000)), phases.parse(self._body(300, 2000))
        found = phases.between(before, after, 100.0)
        assert found == {"queue": 2.5, "input": 2.5, "model": 2.5, "output": 2.5, "rest": 90.0}

    @pytest.mark.parametrize(
        "body", [b"", b"{}", b'{"model_stats": []}', b'{"model_stats": [{"inference_stats": {}}]}']
    )
    def test_a_server_without_statistics(self, body: bytes) -> None:
        assert phases.parse(body) is None
        assert phases.between(None, phases.parse(self._body(1, 1)), 1.0) == {}

    def test_no_request_no_time(self) -> None:
        account = phases.parse(self._body(1, 1))
        assert phases.between(account, account, 1.0) == {}

    def test_table(self) -> None:
        spent = {"queue": 1.0, "input": 2.0, "model": 3.0, "output": 400.0, "rest": 50.0, "copy": 380.0, "faults": 0.0}
        row = report.row(Comparison(BY_NAME["shm_16m"], [Sample(9.0, phases=spent)], [Sample(3.0)]))
        lines = report.phases_markdown([row], "triton").splitlines()
        assert [cell.strip() for cell in lines[-1].strip("|").split("|")] == [
            "shm_16m", "tensorhub", "1.0", "2.0", "3.0", "400", "50.0", "380", "0.0",
        ]  # fmt: skip
        assert report.to_json(row)["tensorhub"]["phases"] == spent  # type: ignore[index,call-overload]


class TestServers:
    def test_placeholders(self) -> None:
        command = ["run", "--p={http_port},{grpc_port}", "{repository}", '{"a": {}}']
        launch = servers.Launch("s", command, Path("/a b"), Path("log")).with_options(["--more={metrics_port}"])
        words = launch.words(servers.Ports(1, 2, 3), Path("/run"))
        assert words == ["run", "--p=1,2", "/a b", '{"a": {}}', "--more=3"]

    @pytest.mark.parametrize(
        ("text", "message"),
        [("x {repository}", "lacks {http_port}"), ("", "lacks {repository}"), ("x 'y", "cannot read")],
    )
    def test_split_command_refuses(self, text: str, message: str) -> None:
        with pytest.raises(BenchError, match=message):
            servers.split_command(text)

    def test_ports_that_are_taken_are_passed_over(self, echo: Echo) -> None:
        taken = servers.FreePorts(echo.port, 1)
        with pytest.raises(BenchError, match="--first-port"):
            taken.take()

    def test_a_program_that_ends_is_told_with_its_last_words(self, tmp_path: Path) -> None:
        launch = servers.Launch(
            "dies", [sys.executable, "-c", "print('the reason'); raise SystemExit(3)"], tmp_path, tmp_path / "log"
        )
        with (
            pytest.raises(BenchError, match=r"(?s)dies: ended with status 3 at start; .*the reason"),
            servers.Server(launch, servers.FreePorts(21190, 9).take()),
        ):
            pass

    def test_a_program_that_is_not_there(self, tmp_path: Path) -> None:
        launch = servers.Launch("none", ["/nonexistent/server"], tmp_path, tmp_path / "log")
        with (
            pytest.raises(BenchError, match="none: cannot start /nonexistent/server"),
            servers.Server(launch, servers.FreePorts(21190, 9).take()),
        ):
            pass


class TestPayloads:
    @pytest.mark.parametrize("name", ["http_binary_8", "http_json_8", "http_bytes_100k"])
    def test_http_answer_is_checked(self, name: str) -> None:
        workload = BY_NAME[name]
        data = payloads.tensors(workload)
        swapped = payloads.Tensors(data.datatype, data.outputs, data.outputs)
        request = payloads.http_request(workload, swapped)
        # A request that carries the outputs has the same layout as an answer, but for the name of the list.
        body, headers = _as_answer(request)
        payloads.check_http(workload, data, headers, body)
        wrong = payloads.Tensors(
            data.datatype, data.inputs, {k: v[::-1, ::-1] if v.ndim == 2 else v[::-1] for k, v in data.outputs.items()}
        )
        with pytest.raises(BenchError, match=f"wrong answer to {name}: OUTPUT0 has .* at element 0"):
            payloads.check_http(workload, wrong, headers, body)

    @pytest.mark.parametrize(
        ("got", "message"),
        [
            (None, "OUTPUT0 is missing"),
            (np.zeros(2, dtype=np.int32), r"int32 \[2\] and not float32 \[2\]"),
            (np.zeros(3, dtype=np.float32), r"float32 \[3\]"),
            (np.array([1.0, 3.0], dtype=np.float32), "at element 1"),
        ],
    )
    def test_check_array(self, got: np.ndarray[Any, Any] | None, message: str) -> None:
        with pytest.raises(BenchError, match=message):
            payloads.check_array(BY_NAME["shm_1m"], "OUTPUT0", got, np.array([1.0, 2.0], dtype=np.float32))

    @pytest.mark.parametrize("workload", [w for w in WORKLOADS if w.transport is Transport.GRPC])
    def test_grpc_request_is_what_the_stock_client_reads(self, workload: Workload) -> None:
        from tritonclient.grpc import service_pb2

        data = payloads.tensors(workload)
        request = service_pb2.ModelInferRequest.FromString(payloads.grpc_request(workload, data))
        assert request.model_name == workload.model
        assert [(i.name, i.datatype, tuple(i.shape)) for i in request.inputs] == [
            (name, data.datatype, value.shape) for name, value in data.inputs.items()
        ]
        assert len(request.raw_input_contents) == len(data.inputs)

    @pytest.mark.parametrize(
        ("name", "requests", "answers"),
        [("grpc_decoupled", 1, 1000), ("grpc_stream_4", 64, 64), ("grpc_sequence_streams", 128, 128)],
    )
    def test_answers_of_a_stream_are_checked(self, name: str, requests: int, answers: int) -> None:
        workload = BY_NAME[name]
        sent = payloads.stream(workload, payloads.tensors(workload), 0)
        assert len(sent.messages) == requests
        right = _stream_answers(sent)
        assert len(right) == answers
        payloads.check_stream(workload, sent, right)
        payloads.check_stream(workload, sent, sorted(right, key=lambda answer: b"-001" in answer))
        with pytest.raises(BenchError, match="missing"):
            payloads.check_stream(workload, sent, right[:-1])
        with pytest.raises(BenchError, match="one more than is due"):
            payloads.check_stream(workload, sent, [*right, right[0]])
        if name == "grpc_decoupled":
            with pytest.raises(BenchError, match="wrong answer to grpc_decoupled: OUTPUT0 has 0 and not 999"):
                payloads.check_stream(workload, sent, right[::-1])

    def test_sequences_are_interleaved_and_streams_do_not_share_them(self) -> None:
        from tritonclient.grpc import service_pb2

        workload = BY_NAME["grpc_sequence_streams"]
        data = payloads.tensors(workload)
        seen: list[set[int]] = []
        for number in range(workload.in_flight):
            steps: dict[int, list[tuple[bool, bool]]] = {}
            for message in payloads.stream(workload, data, number).messages:
                parameters = service_pb2.ModelInferRequest.FromString(message).parameters
                flags = (parameters["sequence_start"].bool_param, parameters["sequence_end"].bool_param)
                steps.setdefault(parameters["sequence_id"].int64_param, []).append(flags)
            assert all(flags == [(True, False), *[(False, False)] * 14, (False, True)] for flags in steps.values()), (
                "16 steps with one start and one end"
            )
            seen.append(set(steps))
        assert len(set().union(*seen)) == 32

    def test_tensors_lie_end_to_end_in_a_region(self) -> None:
        from tritonclient.grpc import service_pb2

        workload = BY_NAME["grpc_8"]
        message = payloads.grpc_request(workload, payloads.tensors(workload), payloads.Regions("in", "out"))
        request = service_pb2.ModelInferRequest.FromString(message)
        for tensors in (request.inputs, request.outputs):
            offsets = [tensor.parameters["shared_memory_offset"].int64_param for tensor in tensors]
            sizes = [tensor.parameters["shared_memory_byte_size"].int64_param for tensor in tensors]
            assert (offsets, sizes) == ([0, 64], [64, 64])

    def test_shared_memory_request_carries_no_bytes(self) -> None:
        workload = BY_NAME["shm_64m"]
        message = payloads.grpc_request(workload, payloads.tensors(workload), payloads.Regions("in", "out"))
        assert len(message) < 500


class TestCommandLine:
    def _bench(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tools.bench", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
        )

    def test_list(self) -> None:
        done = self._bench("--list")
        assert done.returncode == 0, done.stderr
        assert [line.split()[0] for line in done.stdout.splitlines()] == [workload.name for workload in WORKLOADS]

    @pytest.mark.parametrize(
        ("arguments", "status", "message"),
        [
            (["--workloads", "nothing"], 1, "bench: no workload 'nothing'"),
            (["--alternations", "0"], 2, "must be at least 1"),
            (["--json", "/nonexistent/x.json"], 1, "there is no folder for /nonexistent/x.json"),
            (["--seconds", "nan"], 2, "must be a number above 0"),
            (["--peer-cmd", "sleep 1"], 1, "lacks {repository}"),
        ],
    )
    def test_refusals(self, arguments: list[str], status: int, message: str, tmp_path: Path) -> None:
        done = self._bench(*arguments, "--output", str(tmp_path))
        assert (done.returncode, message in done.stderr) == (status, True), done.stderr

    def test_interrupt_stops_what_was_started(self, tmp_path: Path) -> None:
        """A server that never gets ready, and a bench that is told to stop while it waits."""
        pid_file = tmp_path / "pid"
        code = f"import os, signal; open({str(pid_file)!r} + '.new', 'w').write(str(os.getpid())); " \
            f"os.rename({str(pid_file)!r} + '.new', {str(pid_file)!r}); signal.pause()"  # fmt: skip
        command = f'{sys.executable} -c "{code}" {{repository}} {{http_port}}'
        bench = subprocess.Popen(
            [
                *(sys.executable, "-m", "tools.bench", "--workloads", "startup", "--output", str(tmp_path)),
                *("--server-cmd", command, "--peer-cmd", command),
            ],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        with bench:
            try:
                wait_until(pid_file.exists)
            finally:
                bench.send_signal(signal.SIGTERM)
            _, errors = bench.communicate(timeout=60)
        assert bench.returncode == 130
        assert "interrupted; the servers are stopped" in errors
        assert not is_running(int(pid_file.read_text()))


class TestTritonScript:
    SCRIPT = Path(table.__file__).parents[1] / "peers" / "triton.sh"

    def test_usage(self) -> None:
        done = subprocess.run(["bash", str(self.SCRIPT)], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert "usage: triton.sh install" in done.stderr

    def test_an_installation_is_used_again(self, tmp_path: Path) -> None:
        stub = tmp_path / "triton" / "backends" / "python" / "triton_python_backend_stub"
        stub.parent.mkdir(parents=True)
        shutil.copy("/bin/true", stub)
        environment = {**os.environ, "TENSORHUB_PEERS": str(tmp_path), "PYTHON": "/nonexistent"}
        done = subprocess.run(["bash", str(self.SCRIPT), "install"], env=environment, capture_output=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


class Echo:
    """An HTTP/1.1 server on a free port that sends bodies back; `X-Status` chooses the status."""

    def __init__(self) -> None:
        self.last: tuple[str, dict[str, str], bytes] = ("", {}, b"")
        echo = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                echo.last = ("POST", {key.lower(): value for key, value in self.headers.items()}, body)
                self.send_response(int(self.headers.get("X-Status", "200")))
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def handle_one_request(self) -> None:
                # wrk cuts its connections off when time is up.
                try:
                    super().handle_one_request()
                except ConnectionError:
                    self.close_connection = True

            def log_message(self, format: str, *args: object) -> None:
                """Keep the output of the tests clean."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    server.start()
    yield server
    server.stop()


def _stream_answers(sent: payloads.Stream) -> list[bytes]:
    """The right answers to a stream, request by request, as a server would serialise them."""
    from tritonclient.grpc import service_pb2

    answers = []
    for key, expected in sent.expected.items():
        for each in expected:
            answer = service_pb2.ModelStreamInferResponse()
            answer.infer_response.id = key
            for name, value in each.outputs.items():
                answer.infer_response.outputs.add(name=name, datatype=each.datatype, shape=value.shape)
                answer.infer_response.raw_output_contents.append(value.tobytes())
            answers.append(answer.SerializeToString())
    return answers


def _as_answer(request: payloads.HttpRequest) -> tuple[bytes, dict[str, str]]:
    length = int(request.headers.get("Inference-Header-Content-Length", len(request.body)))
    head = json.loads(request.body[:length])
    answer = json.dumps({"model_name": "m", "outputs": head["inputs"]}).encode()
    headers = {payloads.HEADER_LENGTH: str(len(answer))} if length < len(request.body) else {}
    return answer + request.body[length:], headers
