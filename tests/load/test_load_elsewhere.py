"""`load.listen`: a worker on another machine reaches the entry, and its requests count in the seconds in which they ended."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from bisect import bisect
from itertools import accumulate
from pathlib import Path

import psutil
import pytest
from namespaces import elsewhere

from chaoslab.errors import EnvironmentFault
from chaoslab.load.process import LoadProcess
from chaoslab.process import end_group, spawn
from chaoslab.spec.model import LoadSpec

EVERYDAY = Path(__file__).parents[2] / "experiments" / "load" / "everyday.py"
PLAIN = """
from locust import FastHttpUser, constant_throughput, task

class Plain(FastHttpUser):
    wait_time = constant_throughput(5)
    @task
    def get(self): self.client.get("/")
"""
EDGE_S = 1.5  # a second of the worker lies half a second off ours at most, and an answer takes its time
only_root = pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="only root may make a network")


def eventually(what, holds, within_s=60.0):
    until = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < until, f"waited {within_s} s for {what}"
        time.sleep(0.05)


def free_port(host: str = "127.0.0.1") -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


@pytest.fixture
def far():
    with elsewhere() as place:
        yield place


@pytest.fixture
def joined(far, server, tmp_path):
    """A load that listens on the cable, and workers that join it from the far end; all end with the test."""
    running, port = [], free_port(far.here)

    def join(locustfile: Path, far_workers: int = 1, **fields):
        spec = LoadSpec(
            locustfile=locustfile, listen=f"{far.here}:{port}", spawn_rate=100, expect_workers=far_workers, **fields
        )
        load = LoadProcess(spec, server.url, tmp_path / "load", entry_port=free_port(far.here)).start()
        running.append(load.stop)
        for number in range(far_workers):
            argv = [*far.run, sys.executable, "-m", "locust", "-f", str(locustfile), "--worker"]
            argv += ["--master-host", far.here, "--master-port", str(port)]
            worker = spawn(argv, log=tmp_path / f"worker{number}.log")
            running.append(lambda worker=worker: end_group(worker, grace_s=0))
            far.workers.append(worker)
        return load

    yield join
    for end in running:
        end()


@pytest.fixture
def plain(tmp_path):
    path = tmp_path / "plain.py"
    path.write_text(PLAIN)
    return path


@only_root
@pytest.mark.parametrize("kind", ["plain", "everyday"])
def test_what_a_worker_elsewhere_sent_arrived_and_is_counted(joined, server, plain, kind):
    """Known bad: it got this machine's 127.0.0.1 and called its own, and its seconds came in lumps of three."""
    load, rows = joined(plain if kind == "plain" else EVERYDAY, users=10), []
    eventually("150 requests", lambda: rows.extend(load.rows()) or sum(row.requests for row in rows) >= 150)
    rows += load.stop()
    sums = list(accumulate(row.requests for row in rows))
    assert sums[-1] == pytest.approx(len(server.seen), rel=0.01)
    assert sum(row.failures for row in rows) == 0
    for row, so_far in zip(rows[:-1], sums[:-1], strict=True):  # in lumps, a second would lag by three
        at_s = row.t_ns / 1e9
        assert bisect(server.at, at_s - EDGE_S) <= so_far <= bisect(server.at, at_s + EDGE_S)
    full = [row for row in rows[:-1] if row.requests > 10]
    assert len(full) >= 3
    assert all(0 <= row.p50_ms <= row.p95_ms <= row.p99_ms < 2000 for row in full)
    assert max(row.users for row in full) == 10


@only_root
def test_the_entry_is_published_on_the_address_of_the_spec_alone(joined, far, server, plain, tmp_path):
    """And only while the load goes on."""
    load = joined(plain, users=1)
    eventually("a request", lambda: len(server.seen) > 0)
    family = [psutil.Process().pid, *(child.pid for child in psutil.Process().children(recursive=True))]
    listening = {one.laddr for one in psutil.net_connections("inet") if one.pid in family and one.status == "LISTEN"}
    host, _, port = load.published_url.removeprefix("http://").partition(":")
    assert (host, int(port)) in listening
    assert {ip for ip, _ in listening} == {"127.0.0.1", far.here}
    load.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=1)


@only_root
def test_a_worker_that_goes_missing_is_news_and_has_no_users(joined, far, plain):
    """Its machine dies: its users count no more, and the run notes it."""
    load, news = joined(plain, users=6, far_workers=2), []
    eventually("both workers", lambda: any(row.users == 6 for row in load.rows()))
    assert load.news() == []
    os.killpg(far.workers[0].pid, signal.SIGKILL)
    eventually("news of the loss", lambda: (load.rows() is not None and news.extend(load.news())) or news)
    ((level, text),) = news
    assert level == "warning"
    assert "is missing" in text


@only_root
def test_a_worker_here_asks_the_entry_itself(joined, server):
    """With `workers` beside `listen`, those of this machine go no way round, and their rows stay one for each request."""
    load = joined(EVERYDAY, far_workers=0, workers=1, users=4)
    eventually("40 requests", lambda: len(server.seen) >= 40)
    rows = load.rows() + load.stop()
    assert set(server.hosts) == {server.url.removeprefix("http://")}
    assert sum(row.requests for row in rows) == len(server.seen)


@only_root
def test_failures_of_a_worker_elsewhere_have_no_latency(joined, server, plain):
    """Locust puts failed requests among the latencies; a report with failures says nothing of those that succeeded."""
    server.mode = "fail"
    load, rows = joined(plain, users=4), []
    eventually("failures", lambda: rows.extend(load.rows()) or any(row.failures for row in rows))
    assert load.poll() is None
    assert {(row.failures == row.requests, row.p50_ms) for row in rows} == {(True, None)}


def test_an_address_that_is_not_of_this_machine_is_an_error_before_anything_listens(tmp_path):
    """192.0.2.1 is in use nowhere (RFC 5737)."""
    spec = LoadSpec(locustfile=EVERYDAY, listen="192.0.2.1:5557")
    with pytest.raises(EnvironmentFault, match=r"cannot be published at 192\.0\.2\.1:8080[\s\S]*cure: name in load\.listen"):
        LoadProcess(spec, "http://127.0.0.1:1", tmp_path / "load", entry_port=8080).start()
