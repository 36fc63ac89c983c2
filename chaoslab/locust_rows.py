"""Locust with one row per request: `python -m chaoslab.locust_rows` takes Locust's own arguments.

Runs inside Locust's processes only (importing it patches the interpreter). `DeadlineUser` is the base of locustfiles:
a total deadline for each request and evenly spread users. Rows are lines of tab-separated fields, written whole to a
file opened O_APPEND after the fork, so that several workers share it, and an abrupt end loses at most what one turn of
the event loop ended:

    q  start_ns  end_ns  ok  status  name     a request; status 0 without an answer
    u  t_ns  pid  users  missed               four a second: users of this process, beats they missed so far
    r  t_ns  worker  users  requests  failures  latencies    one second of a worker on another machine, see `worker_reports`
    w  t_ns  worker  there    1: the master hears of a worker; 0: not any more
    x  t_ns  text                             a task of the locustfile raised
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Iterator
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
from chaoslab.worker_reports import WallClocks, seconds_of

ROWS_FILE = "CHAOSLAB_LOAD_ROWS"  # where rows go
SEED = "CHAOSLAB_LOAD_SEED"
RUN = "CHAOSLAB_LOAD_RUN"  # the harness's token; with it, standard input is a pipe that closes when the harness is gone

HOST = "CHAOSLAB_LOAD_HOST"  # whom workers of the harness's own ask, whatever address is published for others

_BEAT_S = 0.25
_GOLDEN = 0.618033988749895  # multiples of it spread evenly over 0..1, however many there are
_MS = NS_PER_S // 1000

runners.WORKER_REPORT_INTERVAL = (
    1.0  # three by default: of workers elsewhere nothing finer is known than one report's latencies
)


class DeadlineUser(FastHttpUser):
    """A user that starts a task every `period_s` on a grid of its own, and gives no request longer than `deadline_s`.

    Beats that pass while a task is still running are missed, never made up for in a burst.
    """

    abstract = True
    deadline_s = 2.0
    period_s = 1.0

    _numbers = count()
    _missed = 0  # over all users of this process
    _phase = 0.0  # another one in each worker

    def __init__(self, environment: Environment) -> None:
        self.network_timeout = self.connection_timeout = self.deadline_s
        super().__init__(environment)
        self.client.request = _within(self.deadline_s, self.client.request)  # type: ignore[method-assign]
        number = next(DeadlineUser._numbers)
        self.writer = f"load-{os.getpid()}-{number}"
        self.random = random.Random(f"{os.environ.get(SEED)}-{number}")  # noqa: S311  choices of a user, not secrets
        self._phase_ns = round((DeadlineUser._phase + number * _GOLDEN) % 1 * self.period_s * NS_PER_S)
        self._beat = self._beat_at(SYSTEM.now_ns())
        self._sequence = count()

    def _beat_at(self, now_ns: int) -> int:
        return int((now_ns - self._phase_ns) // (self.period_s * NS_PER_S))

    def wait_time(self) -> float:
        """Seconds to this user's next beat."""
        now_ns = SYSTEM.now_ns()
        passed = self._beat_at(now_ns)
        DeadlineUser._missed += max(0, passed - self._beat)
        self._beat = passed + 1
        return max(0.0, (self._beat * self.period_s) + (self._phase_ns - now_ns) / NS_PER_S)

    def entry(self) -> dict[str, str | int]:
        """A write of this user that no other has made: its client id, writer, sequence and payload."""
        seq = next(self._sequence)
        return {"id": f"{self.writer}-{seq}", "writer": self.writer, "seq": seq, "payload": f"{self.writer} says {seq}"}


def _within(deadline_s: float, request: Callable[..., Any]) -> Callable[..., Any]:
    """One deadline over connect, send, wait and read together; Locust's own are per connect and per read."""

    def bounded(*args: Any, **kwargs: Any) -> Any:
        with gevent.Timeout(deadline_s):
            return request(*args, **kwargs)

    return bounded


def missed_beats() -> int:
    """Beats that users of this process missed so far, because an answer took too long or the process was too busy."""
    return DeadlineUser._missed


def request_listener(descriptor: int) -> Callable[..., None]:
    """Make the listener that costs three microseconds a request: no JSON, no locks, one system call a turn of the event loop.

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
        begin_ns = end_ns - int(response_time * _MS)
        status = response.status_code if response is not None else 0
        if not rows:
            soon(flush)
        rows.append(f"q\t{begin_ns}\t{end_ns}\t{0 if exception else 1}\t{status}\t{name}\n")

    return on_request


def _error_listener(descriptor: int) -> Callable[..., None]:
    def on_error(exception: object, **_: object) -> None:
        text = " ".join(repr(exception).split())
        os.write(descriptor, f"x\t{SYSTEM.now_ns()}\t{text}\n".encode())

    return on_error


def _beats(descriptor: int, environment: Environment) -> Iterator[None]:
    """Each step writes how many users this process runs, and what they missed."""
    while True:
        users = environment.runner.user_count if environment.runner else 0
        os.write(descriptor, f"u\t{SYSTEM.now_ns()}\t{os.getpid()}\t{users}\t{missed_beats()}\n".encode())
        yield


def _beat_forever(descriptor: int, environment: Environment) -> None:
    parent = os.getppid()
    for _ in _beats(descriptor, environment):
        gevent.sleep(_BEAT_S)
        if os.getppid() != parent:  # a killed master leaves its workers sending
            os.kill(os.getpid(), signal.SIGKILL)


def _die_with_the_harness() -> None:
    """Wait for the other end of standard input to close; nobody writes to it. Then end the whole session's group."""
    wait_read(0)
    os.killpg(0, signal.SIGKILL)


def _say_whose_worker(data: dict[str, Any], **_: object) -> None:
    data[RUN] = os.environ.get(RUN)


def _report_listener(descriptor: int) -> Callable[..., None]:
    """In a master: rows for workers that write none here, because they run on another machine."""
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


def _roll_calls(descriptor: int, master: runners.MasterRunner) -> Iterator[None]:
    """Each step writes which workers the master hears of, and which not any more, since the last one."""
    there: set[str] = set()
    while True:
        now = {one.id for one in master.clients.all if one.state != runners.STATE_MISSING}
        for worker in sorted(now ^ there):
            os.write(descriptor, f"w\t{SYSTEM.now_ns()}\t{worker}\t{int(worker in now)}\n".encode())
        there = now
        yield


def _call_the_roll_forever(descriptor: int, master: runners.MasterRunner) -> None:
    for _ in _roll_calls(descriptor, master):
        gevent.sleep(_BEAT_S)


def _ask_the_entry_itself(worker: runners.WorkerRunner) -> None:
    """The master tells its own host with each order; a worker beside the entry needs no published address."""
    start = worker.start_worker

    def start_here(*args: Any, **kwargs: Any) -> None:
        worker.environment.host = os.environ[HOST]
        start(*args, **kwargs)

    worker.start_worker = start_here  # type: ignore[method-assign]


def _on_init(environment: Environment, **_: object) -> None:
    """Called in every process, after the fork. Without a file for rows this is Locust as it always was."""
    events.report_to_master.add_listener(_say_whose_worker)
    if RUN in os.environ:
        gevent.spawn(_die_with_the_harness)
    if ROWS_FILE not in os.environ:
        return
    descriptor = open_to_append(Path(os.environ[ROWS_FILE]))
    if isinstance(environment.runner, runners.MasterRunner):
        events.worker_report.add_listener(_report_listener(descriptor))
        gevent.spawn(_call_the_roll_forever, descriptor, environment.runner)
        return
    if isinstance(environment.runner, runners.WorkerRunner) and HOST in os.environ:
        _ask_the_entry_itself(environment.runner)
    events.request.add_listener(request_listener(descriptor))
    events.user_error.add_listener(_error_listener(descriptor))
    gevent.spawn(_beat_forever, descriptor, environment)


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
    # The locustfile imports this module by name: register there, or its DeadlineUser would be another one.
    from chaoslab.locust_rows import main as main_by_name

    main_by_name()
