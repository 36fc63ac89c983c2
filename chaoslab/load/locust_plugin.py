"""Locust with one row per request: `python -m chaoslab.load.locust_plugin` takes Locust's own arguments.

Runs inside Locust's processes only (importing it patches the interpreter). `DeadlineUser` is the base of locustfiles:
a total deadline for each request and evenly spread users. Rows are lines of tab-separated fields, written whole to a
file opened O_APPEND after the fork, so that several workers share it, and an abrupt end loses at most the rows of one
turn of the event loop:

    q  start_ns  end_ns  ok  status  name     a request; status 0 without an answer
    u  t_ns  pid  users  missed               heartbeat, four a second: users of this process, periods they missed so far
    r  t_ns  worker  users  requests  failures  latencies    one second of a worker on another machine, see `worker_reports`
    w  t_ns  worker  connected                1: a worker is connected to the master; 0: no longer
    x  t_ns  text                             a task of the locustfile raised
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import gevent
from gevent.socket import wait_read
from locust import events, runners
from locust.contrib.fasthttp import FastHttpUser
from locust.env import Environment
from locust.main import main as locust_main

from chaoslab.clock import NS_PER_S, SYSTEM, utc_now
from chaoslab.files import open_to_append
from chaoslab.load.variables import HOST, ROWS_FILE, RUN, SEED, USERS_FILE
from chaoslab.load.worker_reports import WallClocks, seconds_of

_HEARTBEAT_S = 0.25
_USERS_EVERY_S = 0.1
_GOLDEN = 0.618033988749895  # multiples of it spread evenly over 0..1, however many there are
_NS_PER_MS = NS_PER_S // 1000

# Three by default: of workers on other machines nothing finer is known than the latencies of one report.
runners.WORKER_REPORT_INTERVAL = 1.0


class DeadlineUser(FastHttpUser):
    """A user that starts a task every `period_s`, at an offset of its own, and gives no request longer than `deadline_s`.

    Periods that begin while a task is still running are missed, never made up for in a burst.
    """

    abstract = True
    deadline_s = 2.0
    period_s = 1.0

    _numbers = count()
    _missed = 0  # over all users of this process
    _phase = 0.0  # share of a period; differs from worker to worker

    def __init__(self, environment: Environment) -> None:
        self.network_timeout = self.connection_timeout = self.deadline_s
        super().__init__(environment)
        request, deadline_s = self.client.request, self.deadline_s

        def bounded_request(*args: Any, **kwargs: Any) -> Any:
            """Bounds connect, send, wait and read together; Locust's own timeouts are for each connect and read."""
            with gevent.Timeout(deadline_s):
                return request(*args, **kwargs)

        self.client.request = bounded_request  # type: ignore[method-assign]
        number = next(DeadlineUser._numbers)
        self.writer = f"load-{os.getpid()}-{number}"
        self.random = random.Random(f"{os.environ.get(SEED)}-{number}")  # noqa: S311  choices of a user, not secrets
        self._phase_ns = round((DeadlineUser._phase + number * _GOLDEN) % 1 * self.period_s * NS_PER_S)
        self._period = self._period_at(SYSTEM.now_ns())
        self._sequence = count()

    def _period_at(self, now_ns: int) -> int:
        return int((now_ns - self._phase_ns) // (self.period_s * NS_PER_S))

    def wait_time(self) -> float:
        """Seconds to the begin of this user's next period."""
        now_ns = SYSTEM.now_ns()
        begun = self._period_at(now_ns)
        DeadlineUser._missed += max(0, begun - self._period)
        self._period = begun + 1
        return max(0.0, (self._period * self.period_s) + (self._phase_ns - now_ns) / NS_PER_S)

    def entry(self) -> dict[str, str | int]:
        """A write of this user that no other write equals: its client id, writer, sequence and payload."""
        seq = next(self._sequence)
        return {"id": f"{self.writer}-{seq}", "writer": self.writer, "seq": seq, "payload": f"{self.writer} says {seq}"}


def request_listener(descriptor: int) -> Callable[..., None]:
    """The listener that writes a row for each request, in three microseconds: no JSON, no locks, one write a turn of the loop.

    It names every argument that Locust passes, used or not: collecting them in a dictionary would cost half a microsecond.
    """
    write, now_ns = os.write, SYSTEM.now_ns
    soon = gevent.get_hub().loop.run_callback
    rows: list[str] = []

    def flush() -> None:
        write(descriptor, "".join(rows).encode())
        rows.clear()

    def on_request(
        name: str,
        response_time: float,
        exception: object,
        response: Any = None,
        request_type: object = None,  # noqa: ARG001
        response_length: object = None,  # noqa: ARG001
        context: object = None,  # noqa: ARG001
        start_time: object = None,  # noqa: ARG001
        url: object = None,  # noqa: ARG001
        **_: object,
    ) -> None:
        end_ns = now_ns()
        begin_ns = end_ns - int(response_time * _NS_PER_MS)
        status = response.status_code if response is not None else 0
        if not rows:
            soon(flush)
        rows.append(f"q\t{begin_ns}\t{end_ns}\t{0 if exception else 1}\t{status}\t{name}\n")

    return on_request


def _write_heartbeats(descriptor: int, environment: Environment) -> None:
    """Four times a second, until the parent of this process is gone; then this process is killed, too.

    Without that, workers whose master was killed would go on sending.
    """
    parent = os.getppid()
    while os.getppid() == parent:
        users = environment.runner.user_count if environment.runner else 0
        row = f"u\t{SYSTEM.now_ns()}\t{os.getpid()}\t{users}\t{DeadlineUser._missed}\n"
        os.write(descriptor, row.encode())
        gevent.sleep(_HEARTBEAT_S)
    os.kill(os.getpid(), signal.SIGKILL)


def _follow_users(file: Path, runner: runners.Runner, spawn_rate: float) -> None:
    """Change the number of users to the last line of the file, whenever there is a new one."""
    done = 0
    while True:
        lines = file.read_text().splitlines() if file.exists() else []
        if len(lines) > done and runner.state in (runners.STATE_SPAWNING, runners.STATE_RUNNING):
            done = len(lines)
            runner.start(int(lines[-1]), spawn_rate=spawn_rate)
        gevent.sleep(_USERS_EVERY_S)


def _write_worker_list(descriptor: int, master: runners.MasterRunner) -> None:
    """Four times a second: which workers the master hears of since the last time, and which not any more."""
    before: set[str] = set()
    while True:
        connected = {worker.id for worker in master.clients.all if worker.state != runners.STATE_MISSING}
        for worker_id in sorted(connected ^ before):
            os.write(descriptor, f"w\t{SYSTEM.now_ns()}\t{worker_id}\t{int(worker_id in connected)}\n".encode())
        before = connected
        gevent.sleep(_HEARTBEAT_S)


def _report_listener(descriptor: int) -> Callable[..., None]:
    """In a master: writes rows for workers on other machines, which write none here."""
    clocks = WallClocks()

    def on_report(client_id: str, data: dict[str, Any], **_: object) -> None:
        if data.get(RUN) == os.environ.get(RUN):
            return
        total, users = data["stats_total"], data["user_count"]
        now_ns, now_wall_s = SYSTEM.now_ns(), utc_now().timestamp()
        rows = []
        for second in seconds_of(total):
            age_s = clocks.age_s(client_id, second.wall_s + 0.5, total, now_wall_s)
            latencies = " ".join(f"{ms}*{count}" for ms, count in second.latencies_ms.items())
            counts = f"{second.requests}\t{second.failures}\t{latencies}"
            rows.append(f"r\t{now_ns - round(age_s * NS_PER_S)}\t{client_id}\t{users}\t{counts}\n")
        rows.append(f"r\t{now_ns}\t{client_id}\t{users}\t0\t0\t\n")  # its users as they are now
        os.write(descriptor, "".join(rows).encode())

    return on_report


def _keep_own_host(worker: runners.WorkerRunner) -> None:
    """The master sends its own host with each order; a worker on the machine of the entry needs no published address."""
    start = worker.start_worker

    def start_with_own_host(*args: Any, **kwargs: Any) -> None:
        worker.environment.host = os.environ[HOST]
        start(*args, **kwargs)

    worker.start_worker = start_with_own_host  # type: ignore[method-assign]


def _on_init(environment: Environment, **_: object) -> None:
    """Called in every process, after the fork. Without a file for rows this is plain Locust."""

    def add_run(data: dict[str, Any], **_: object) -> None:
        data[RUN] = os.environ.get(RUN)

    def exit_with_harness() -> None:
        """Standard input is never written to; it closes when the harness is gone. Then end all of Locust's processes."""
        wait_read(0)
        os.killpg(0, signal.SIGKILL)

    events.report_to_master.add_listener(add_run)
    if USERS_FILE in os.environ and isinstance(environment.runner, runners.MasterRunner | runners.LocalRunner):
        spawn_rate = float(getattr(environment.parsed_options, "spawn_rate", None) or 1)
        gevent.spawn(_follow_users, Path(os.environ[USERS_FILE]), environment.runner, spawn_rate)
    if RUN in os.environ:
        gevent.spawn(exit_with_harness)
    if ROWS_FILE not in os.environ:
        return
    descriptor = open_to_append(Path(os.environ[ROWS_FILE]))

    def on_error(exception: object, **_: object) -> None:
        text = " ".join(repr(exception).split())
        os.write(descriptor, f"x\t{SYSTEM.now_ns()}\t{text}\n".encode())

    if isinstance(environment.runner, runners.MasterRunner):
        events.worker_report.add_listener(_report_listener(descriptor))
        gevent.spawn(_write_worker_list, descriptor, environment.runner)
        return
    if isinstance(environment.runner, runners.WorkerRunner) and HOST in os.environ:
        _keep_own_host(environment.runner)
    events.request.add_listener(request_listener(descriptor))
    events.user_error.add_listener(on_error)
    gevent.spawn(_write_heartbeats, descriptor, environment)


def _on_test_start(environment: Environment, **_: object) -> None:
    """Repeat the choice of tasks; workers differ from each other by their index."""
    worker = getattr(environment.runner, "worker_index", 0)
    random.seed(f"{os.environ.get(SEED)}-{worker}")
    DeadlineUser._phase = worker * _GOLDEN**2


def main() -> None:
    """Locust's own command line, with rows."""
    events.init.add_listener(_on_init)
    events.test_start.add_listener(_on_test_start)
    locust_main()


if __name__ == "__main__":
    # The locustfile imports this module by name: register there, or its DeadlineUser would be another class.
    from chaoslab.load.locust_plugin import main as main_by_name

    main_by_name()
