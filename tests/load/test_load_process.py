"""Real Locust against a real server: it makes load, every request is counted, and no process is left."""

from __future__ import annotations

import json
import os
import signal
import statistics
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from chaoslab.errors import EnvironmentFault
from chaoslab.load.process import LoadProcess, command
from chaoslab.process import end_group, spawn
from chaoslab.spec.model import LoadSpec

EVERYDAY = Path(__file__).parents[2] / "experiments" / "load" / "everyday.py"


def eventually(what, holds, within_s=15.0):
    """Wait for something that a real process does."""
    until = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < until, f"waited {within_s} s for {what}"
        time.sleep(0.05)


def spec(**fields) -> LoadSpec:
    return LoadSpec(**{"locustfile": EVERYDAY, "users": 10, "spawn_rate": 100} | fields)


@pytest.fixture
def started(tmp_path):
    """Start loads that end with the test."""
    running = []

    def start(asked: LoadSpec, url: str, **more) -> LoadProcess:
        running.append(LoadProcess(asked, url, tmp_path / f"load{len(running)}", **more).start())
        return running[-1]

    yield start
    for load in running:
        load.stop()


def locustfile(folder: Path, body: str) -> Path:
    path = folder / "own.py"
    head = "from locust import task\nfrom chaoslab.locust_rows import DeadlineUser\n"
    path.write_text(head + textwrap.dedent(body))
    return path


def test_what_the_server_saw_is_what_the_rows_say(server, started, session_members):
    """Every request that was sent is a row, also those in flight at the end; afterwards no process is left."""
    load = started(spec(), server.url)
    eventually("60 requests", lambda: len(server.seen) >= 60)
    rows = load.rows()
    assert load.poll() is None
    rows += load.stop()
    assert sum(row.requests for row in rows) == len(server.seen)
    assert sum(row.failures for row in rows) == 0
    assert max(row.users for row in rows) == 10
    assert all(0 < row.p50_ms <= row.p99_ms for row in rows if row.requests)
    assert session_members(load.pid) == []


def test_everyday_walks_every_journey_with_ids_of_its_own(server, started):
    """Reads and writes of all four services; no write has the id of another."""
    load = started(spec(users=20), server.url)
    eventually("300 requests", lambda: len(server.seen) >= 300)
    load.stop()
    assert {path.split("?")[0] for _, path, _ in server.seen} == {
        *("/auth/sessions", "/auth/sessions/demo", "/talk/messages", "/pay/entries", "/pay/balance"),
        *("/partner/signins", "/partner/page"),
    }
    writes = [json.loads(body) for method, _, body in server.seen if method == "POST"]
    assert len({write["id"] for write in writes}) == len(writes) > 50
    assert all(write["id"] == f"{write['writer']}-{write['seq']}" and write["payload"] for write in writes)


def test_users_are_spread_evenly(server, started, tmp_path):
    """Ten users at 10/s together: no burst and no hole as long as their common period, as users in phase would make."""
    body = """
    class Steady(DeadlineUser):
        period_s = 1.0
        @task
        def get(self): self.client.get("/")
    """
    load = started(spec(locustfile=locustfile(tmp_path, body)), server.url)
    eventually("40 requests", lambda: len(server.seen) >= 40)
    load.stop()
    gaps = [b - a for a, b in zip(server.at[10:], server.at[11:], strict=False)]
    assert max(gaps) < 0.35
    assert statistics.median(gaps) > 0.05


def test_a_hanging_server_is_failures_within_the_deadline(server, started, tmp_path):
    """Locust alone would wait a minute and call it green; here each user fails at its deadline and asks again."""
    body = """
    class Hasty(DeadlineUser):
        deadline_s = 0.4
        period_s = 0.1
        @task
        def get(self): self.client.get("/")
        @task
        def post(self): self.client.post("/", json=self.entry())
    """
    server.mode = "hang"
    load = started(spec(locustfile=locustfile(tmp_path, body), users=5), server.url)
    eventually("30 requests", lambda: len(server.seen) >= 30)
    rows = load.stop()
    fields = [line.split("\t") for line in (tmp_path / "load0" / "load-rows.tsv").read_text().splitlines()]
    took_s = [(int(f[2]) - int(f[1])) / 1e9 for f in fields if f[0] == "q"]
    assert sum(row.failures for row in rows) == sum(row.requests for row in rows) >= 25
    assert 0.39 < min(took_s) < max(took_s) < 0.8
    missed = [int(f[4]) for f in fields if f[0] == "u"][-1]
    assert missed > max(30, len(took_s))


def test_failures_carry_their_status(server, started, tmp_path):
    """503 is a failure with its status; Locust's own exit is no matter of ours."""
    server.mode = "fail"
    load = started(spec(), server.url)
    eventually("20 requests", lambda: len(server.seen) >= 20)
    rows = load.stop()
    fields = [line.split("\t") for line in (tmp_path / "load0" / "load-rows.tsv").read_text().splitlines()]
    assert Counter(f[4] for f in fields if f[0] == "q").keys() == {"503"}
    assert sum(row.failures for row in rows) == sum(row.requests for row in rows) > 0


def test_two_workers_write_whole_lines(server, started, session_members, tmp_path):
    """Both processes append to one file; the master counts nothing twice."""
    load = started(spec(users=20, workers=2), server.url)
    eventually("200 requests", lambda: len(server.seen) >= 200, within_s=20)
    assert len(session_members(load.pid)) == 3
    rows = load.rows() + load.stop()
    lines = (tmp_path / "load0" / "load-rows.tsv").read_text().splitlines()
    assert len({line.split("\t")[2] for line in lines if line.startswith("u")}) == 2
    assert sum(row.requests for row in rows) == len(server.seen)
    assert max(row.users for row in rows) == 20
    assert session_members(load.pid) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_the_number_of_users_changes_while_they_run(server, started, workers):
    """More, and fewer again; with workers of its own the master shares them out."""
    load, users = started(spec(users=4, workers=workers), server.url), []

    def there_are(count: int) -> bool:
        users.extend(row.users for row in load.rows())
        return users[-1:] == [count]

    eventually("4 users", lambda: there_are(4), within_s=20)
    load.change_users(12)
    eventually("12 users", lambda: there_are(12), within_s=20)
    load.change_users(4)
    eventually("4 users again", lambda: there_are(4), within_s=20)
    assert max(users) == 12


def test_a_killed_master_leaves_no_worker(server, started, session_members):
    """Workers of a killed master would go on sending: the end is reported, and they end, too."""
    load = started(spec(users=10, workers=2), server.url)
    eventually("20 requests", lambda: len(server.seen) >= 20, within_s=20)
    os.kill(load.pid, signal.SIGKILL)
    eventually("the end to be noticed", lambda: load.poll() is not None, within_s=3)
    assert "ended unexpectedly with status -9" in load.poll()
    eventually("the workers to end", lambda: session_members(load.pid) == [], within_s=3)


def test_workers_end_by_themselves_without_a_master(server, started, session_members):
    """The same without a poll."""
    load = started(spec(users=10, workers=2), server.url)
    eventually("20 requests", lambda: len(server.seen) >= 20, within_s=20)
    os.kill(load.pid, signal.SIGKILL)
    eventually("the workers to end", lambda: session_members(load.pid) == [], within_s=4)


@pytest.mark.parametrize("workers", [0, 2])
def test_locust_ends_with_a_harness_that_was_killed(server, session_members, tmp_path, workers):
    """SIGKILL to the process that started the load: within three seconds nothing is sent any more."""
    script = f"""
    import time
    from pathlib import Path
    from chaoslab.load.process import LoadProcess
    from chaoslab.spec.model import LoadSpec
    spec = LoadSpec(locustfile=Path({str(EVERYDAY)!r}), users=5, workers={workers})
    load = LoadProcess(spec, {server.url!r}, Path({str(tmp_path / "load")!r})).start()
    Path({str(tmp_path / "pid")!r}).write_text(str(load.pid))
    time.sleep(60)
    """
    harness = spawn([sys.executable, "-c", textwrap.dedent(script)], log=tmp_path / "harness.log")
    try:
        eventually("10 requests", lambda: len(server.seen) >= 10, within_s=20)
        leader = int((tmp_path / "pid").read_text())
        assert session_members(leader)
    finally:
        end_group(harness, grace_s=0)
    eventually("Locust to end", lambda: session_members(leader) == [], within_s=3)


def test_a_locust_that_dies_is_reported_with_its_last_log_lines(server, started, tmp_path):
    """A locustfile that cannot be imported ends Locust at once; the error shows why."""
    (tmp_path / "broken.py").write_text("raise RuntimeError('no token in the vault')\n")
    load = started(spec(locustfile=tmp_path / "broken.py"), server.url)
    eventually("the end to be noticed", lambda: load.poll() is not None)
    assert "no token in the vault" in load.poll()
    assert sum(row.requests for row in load.stop()) == 0


def test_a_task_that_raises_is_news(server, started, tmp_path):
    """Locust logs it and goes on; the run notes it."""
    body = """
    class Broken(DeadlineUser):
        period_s = 0.1
        @task
        def get(self): raise KeyError("token")
    """
    load = started(spec(locustfile=locustfile(tmp_path, body), users=1), server.url)
    news = []
    eventually("a raised task", lambda: (load.rows() is not None and news.extend(load.news())) or news)
    assert (news[0].level, "KeyError('token')" in news[0].text) == ("warning", True)
    assert load.poll() is None


def test_a_stubborn_user_does_not_hold_up_the_end(server, started, session_members, tmp_path):
    """A task that catches everything is killed with its process."""
    body = """
    import signal
    class Stubborn(DeadlineUser):
        @task
        def get(self):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            while True:
                try:
                    self.client.get("/")
                except BaseException:
                    pass
    """
    load = started(spec(locustfile=locustfile(tmp_path, body), users=1), server.url)
    eventually("a request", lambda: len(server.seen) > 0)
    begin = time.monotonic()
    load.stop()
    assert time.monotonic() - begin < 12
    assert session_members(load.pid) == []


def test_an_external_master_decides_the_users(server, started, tmp_path):
    """`master`: we join as workers of a Locust that runs already, and our rows still count."""
    port = free_port()
    argv = [*(sys.executable, "-m", "locust", "-f", str(EVERYDAY), "--host", server.url, "--headless", "--master")]
    argv += ["--master-bind-host", "127.0.0.1", "--master-bind-port", str(port), "--users", "6", "--spawn-rate", "20"]
    master = spawn(argv, log=tmp_path / "master.log")
    try:
        load = started(spec(master=f"127.0.0.1:{port}", users=99), server.url)
        eventually("20 requests", lambda: len(server.seen) >= 20, within_s=20)
        assert load.poll() is None
        rows = load.stop()
        assert max(row.users for row in rows) == 6
        assert sum(row.requests for row in rows) == len(server.seen)
    finally:
        end_group(master, grace_s=2)


def test_external_workers_may_join_and_are_counted(server, started, tmp_path):
    """`listen`: a worker started elsewhere, without our rows file, is summed from what it reports to our master."""
    port = free_port()
    load = started(spec(listen=f"127.0.0.1:{port}", users=4, expect_workers=1), server.url)
    argv = [*(sys.executable, "-m", "locust", "-f", str(EVERYDAY), "--host", server.url, "--worker")]
    worker = spawn([*argv, "--master-host", "127.0.0.1", "--master-port", str(port)], log=tmp_path / "worker.log")
    try:
        rows = []
        eventually("reports", lambda: rows.extend(load.rows()) or sum(row.requests for row in rows) > 20, within_s=30)
        rows += load.stop()
        assert load.published_url is None, "the loopback needs no publishing"
        assert max(row.users for row in rows) == 4
        assert 20 < sum(row.requests for row in rows) <= len(server.seen)
    finally:
        end_group(worker, grace_s=2)


def test_settings_of_the_shell_stay_outside(server, started, monkeypatch):
    """LOCUST_ variables and secrets of the caller do not reach Locust."""
    monkeypatch.setenv("LOCUST_USERS", "77")
    monkeypatch.setenv("DATABASE_PASSWORD", "hunter2")
    load = started(spec(users=3), server.url, env={"CHAOSLAB_RUN": "r1"})
    rows = []
    eventually("all users", lambda: rows.extend(load.rows()) or any(row.users >= 3 for row in rows))
    environ = psutil.Process(load.pid).environ()
    rows += load.stop()
    assert "DATABASE_PASSWORD" not in environ
    assert "LOCUST_USERS" not in environ
    assert environ["CHAOSLAB_RUN"] == "r1"
    assert max(row.users for row in rows) == 3


def test_masters_listen_on_loopback_only():
    """Locust's master would listen on every address."""
    argv = command(spec(workers=2), "http://127.0.0.1:1")
    assert argv[argv.index("--master-bind-host") + 1] == "127.0.0.1"
    assert int(argv[argv.index("--stop-timeout") + 1]) > 2


def test_without_locust_the_cure_is_named(monkeypatch, tmp_path):
    """The load is an extra; the error says what to install."""
    monkeypatch.setattr("chaoslab.load.process.find_spec", lambda name: None)
    with pytest.raises(EnvironmentFault, match=r"chaoslab\[load\]"):
        LoadProcess(spec(), "http://127.0.0.1:1", tmp_path).start()


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
