"""The load: Locust as a process of its own, and its rows summed up second by second.

Locust is never imported here: it patches the interpreter. `LoadProcess` starts, watches and ends it; `LoadTail` reads
the rows it writes (see `locust_rows`); `Seconds` is the pure core that turns rows into `events.Load`.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from itertools import islice
from math import ceil
from pathlib import Path
from secrets import token_hex
from typing import Literal, NamedTuple, Self
from urllib.parse import urlsplit

from chaoslab.clock import NS_PER_S, SYSTEM, Clock
from chaoslab.errors import EnvironmentFault
from chaoslab.events import Load
from chaoslab.files import open_to_append
from chaoslab.process import GIVES_WAY, end_group, spawn
from chaoslab.published import is_published, listen_at
from chaoslab.spec.model import LoadSpec

STOP_TIMEOUT_S = 5  # above the deadline of a request, or samples in flight are dropped
_KILL_AFTER_S = STOP_TIMEOUT_S + 3.0
_CLOSE_AFTER_NS = NS_PER_S // 4  # rows of other workers may come this late
_CLOSE_AFTER_REPORTS_NS = 9 * NS_PER_S // 2  # and so late a plain Locust worker may report a second: it does every three
_USERS_STALE_NS = 5 * NS_PER_S  # a worker that is silent this long has no users any more
_NS_PER_MS = NS_PER_S // 1000
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH", "SSL_CERT_FILE")
_ROWS_NAME = "load-rows.tsv"


@dataclass
class Totals:
    """All of a run's load so far. `missed`: beats that users could not keep; `raised`: tasks of the locustfile that raised."""

    requests: int = 0
    failures: int = 0
    users_max: int = 0
    missed: int = 0
    raised: int = 0
    last_raised: str | None = None

    @property
    def achieved(self) -> float:
        """Share of the offered beats that were kept; far below 1 in a healthy stack means that Locust is saturated."""
        offered = self.requests + self.missed
        return self.requests / offered if offered else 0.0


class News(NamedTuple):
    """Something that somebody should hear of while the load goes on."""

    level: Literal["info", "warning"]
    text: str


@dataclass
class _Second:
    requests: int = 0
    failures: int = 0
    good_ns: list[int] = field(default_factory=list)


class Seconds:
    """Sums rows into seconds since `begin_ns`. Pure: the caller says what time it is.

    Every request is counted exactly once: a row that comes after its second was closed counts in the oldest open one.
    A second without a single request is a row too, else an outage would leave no trace.
    """

    def __init__(self, begin_ns: int) -> None:
        self._begin_ns = begin_ns
        self._closed = 0  # seconds handed out so far
        self._open: dict[int, _Second] = {}
        self._users: dict[str, list[tuple[int, int]]] = {}  # pid or worker: when it told how many users it has, oldest first
        self._missed: dict[str, int] = {}  # pid: beats missed so far
        self._workers: dict[str, bool] = {}  # whether the master hears of them
        self._news: list[News] = []
        self._totals = Totals()

    @property
    def totals(self) -> Totals:
        return replace(self._totals)

    def feed(self, line: str) -> None:
        """Take one row, without its newline. Raises ValueError on anything that is not a row."""
        kind, *fields = line.split("\t")
        kinds: dict[str, Callable[..., None]] = {
            "q": self._take_request,
            "u": self._take_users,
            "r": self._take_report,
            "w": self._take_worker,
            "x": self._take_raised,
        }
        try:
            kinds[kind](*fields)
        except (KeyError, TypeError, ValueError) as broken:
            raise ValueError(f"not a row of the load: {line!r}") from broken

    def _take_request(self, begin: str, end: str, good: str, _status: str, *_name: str) -> None:
        begin_ns, end_ns = int(begin), int(end)
        self._count(end_ns, 1, int(good != "1"))
        if good == "1":
            self._second(end_ns).good_ns.append(end_ns - begin_ns)

    def _take_users(self, t: str, pid: str, users: str, missed: str) -> None:
        self._tell_users(pid, int(t), int(users))
        self._totals.missed += int(missed) - self._missed.get(pid, 0)
        self._missed[pid] = int(missed)

    def _tell_users(self, who: str, t_ns: int, users: int) -> None:
        told = self._users.setdefault(who, [])
        told.append((t_ns, users))
        told.sort()
        self._totals.users_max = max(self._totals.users_max, self.users(t_ns))

    def _take_report(self, t: str, worker: str, users: str, requests: str, failures: str, latencies: str = "") -> None:
        self._count(int(t), int(requests), int(failures))
        self._tell_users(worker, int(t), int(users))
        for ms, _, count in (piece.partition("*") for piece in latencies.split()):
            self._second(int(t)).good_ns += int(count) * [int(ms) * _NS_PER_MS]

    def _take_worker(self, t: str, worker: str, there: str) -> None:
        before, self._workers[worker] = self._workers.get(worker), there == "1"
        if there != "1":
            self._tell_users(worker, int(t), 0)
            self._news.append(News("warning", f"Locust's worker {worker} went missing: it makes no load any more"))
        elif before is False:
            self._news.append(News("info", f"Locust's worker {worker} is back"))

    def _take_raised(self, _t: str, *text: str) -> None:
        self._totals.raised += 1
        self._totals.last_raised = " ".join(text)

    def _count(self, t_ns: int, requests: int, failures: int) -> None:
        for sums in (self._second(t_ns), self._totals):
            sums.requests += requests
            sums.failures += failures

    def _second(self, t_ns: int) -> _Second:
        return self._open.setdefault(max(self._closed, (t_ns - self._begin_ns) // NS_PER_S), _Second())

    def news(self) -> list[News]:
        """What was heard of workers since the last call."""
        told, self._news = self._news, []
        return told

    def users(self, now_ns: int) -> int:
        """Users that ran then, over all processes that still told."""
        spoke = ([(t_ns, users) for t_ns, users in told if t_ns <= now_ns] for told in self._users.values())
        return sum(told[-1][1] for told in spoke if told and now_ns - told[-1][0] <= _USERS_STALE_NS)

    def close_until(self, now_ns: int) -> list[Load]:
        """Every second that ended before now, oldest first; each is handed out once."""
        end = (now_ns - self._begin_ns) // NS_PER_S
        return [self._close(number) for number in range(self._closed, end)]

    def close_all(self, now_ns: int) -> list[Load]:
        """As `close_until`, and the last, begun second when it holds anything."""
        closed = self.close_until(now_ns)
        return closed + [self._close(number) for number in sorted(self._open)]

    def _close(self, number: int) -> Load:
        second = self._open.pop(number, None) or _Second()
        self._closed = number + 1
        t_ns = self._begin_ns + (number + 1) * NS_PER_S
        for who, told in self._users.items():
            self._users[who] = [one for one in told if t_ns - one[0] <= _USERS_STALE_NS]
        good_ns = sorted(second.good_ns)
        return Load(
            t_ns=t_ns,
            requests=second.requests,
            failures=second.failures,
            users=self.users(t_ns),
            p50_ms=_percentile_ms(good_ns, 0.50),
            p95_ms=_percentile_ms(good_ns, 0.95),
            p99_ms=_percentile_ms(good_ns, 0.99),
        )


def _percentile_ms(ordered_ns: list[int], share: float) -> float | None:
    """The smallest value that at least `share` of the values do not exceed; None when there are none."""
    if not ordered_ns:
        return None
    return round(ordered_ns[ceil(share * len(ordered_ns)) - 1] / 1e6, 3)


class LoadTail:
    """Reads what was appended to a file of rows since it last looked; a line that is not whole yet waits."""

    def __init__(self, path: Path, begin_ns: int, clock: Clock = SYSTEM, *, close_after_ns: int = _CLOSE_AFTER_NS) -> None:
        """`close_after_ns`: how long after its end a second may still be told of."""
        self._file = path.open("rb")
        self._rest = b""
        self._seconds = Seconds(begin_ns)
        self._clock = clock
        self._close_after_ns = close_after_ns

    @property
    def totals(self) -> Totals:
        return self._seconds.totals

    def poll(self) -> list[Load]:
        """The seconds that are complete by now and were not handed out before. Raises ValueError on a broken row."""
        now_ns = self._clock.now_ns()
        self._read()
        return self._seconds.close_until(now_ns - self._close_after_ns)

    def news(self) -> list[News]:
        """What was read of workers that went missing or came back, since the last call."""
        return self._seconds.news()

    def finish(self) -> list[Load]:
        """What is left once nobody writes any more; closes the file. Nothing on a second call."""
        if self._file.closed:
            return []
        self._read()
        self._file.close()
        return self._seconds.close_all(self._clock.now_ns())

    def _read(self) -> None:
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        for line in lines:
            self._seconds.feed(line.decode(errors="replace"))


class LoadProcess:
    """Locust at work. Ends as one: on `stop`, when its master dies, and when this process disappears."""

    def __init__(
        self,
        spec: LoadSpec,
        base_url: str,
        folder: Path,
        *,
        seed: int = 0,
        env: Mapping[str, str] | None = None,
        entry_port: int = 0,
    ) -> None:
        """`folder` takes the log and the rows; `env` is added to a minimal environment. `seed` repeats the users' choices.

        `entry_port`: where the entry is published for workers on other machines, on the address of `spec.listen`.
        """
        self._spec = spec
        self._base_url = base_url
        self._entry_port = entry_port
        self._published_url: str | None = None
        self._door: subprocess.Popen[bytes] | None = None
        self._folder = folder
        self._log = folder / "locust.log"
        self._door_log = folder / "published.log"
        self._rows = folder / _ROWS_NAME
        self._env = _environment(self._rows, base_url, seed) | dict(env or {})
        self._lifeline: int | None = None

    def start(self) -> Self:
        """Start Locust and return at once; the first request follows after 0.3 to 1.5 s.

        Raises EnvironmentFault when Locust is not installed or cannot be started, or when the entry cannot be published.
        """
        if find_spec("locust") is None:
            raise EnvironmentFault("Locust is not installed", cure="install the extra: pip install 'chaoslab[load]'")
        self._folder.mkdir(parents=True, exist_ok=True)
        os.close(open_to_append(self._rows))
        late_ns = _CLOSE_AFTER_NS if self._spec.listen is None else _CLOSE_AFTER_REPORTS_NS
        self._tail = LoadTail(self._rows, SYSTEM.now_ns(), close_after_ns=late_ns)
        self._publish()
        lifeline, self._lifeline = os.pipe()  # the read end is Locust's; ours closes when we are gone, however
        try:
            self._child = spawn(
                command(self._spec, self._published_url or self._base_url),
                log=self._log,
                env=self._env,
                cwd=self._folder,
                stdin=lifeline,
                niceness=GIVES_WAY,
            )
        except EnvironmentFault:
            os.close(self._lifeline)
            self._lifeline = None
            self._unpublish()
            raise
        finally:
            os.close(lifeline)
        return self

    def _publish(self) -> None:
        """Locust's master tells every worker its own `--host`: that has to be an address that all of them reach."""
        host = (self._spec.listen or "").rpartition(":")[0].strip("[]")
        if not host or not is_published(host):
            return
        with listen_at(host, self._entry_port) as listening:
            self._published_url = f"http://{_shown(*listening.getsockname()[:2])}"
            entry = urlsplit(self._base_url).netloc
            command = [sys.executable, "-m", "chaoslab.published", entry]
            self._door = spawn(command, log=self._door_log, env=self._env, cwd=self._folder, stdin=listening.fileno())

    def _unpublish(self) -> None:
        if self._door is not None:
            end_group(self._door, grace_s=0.0)

    @property
    def published_url(self) -> str | None:
        """Where workers on other machines find the entry; None where nothing is published."""
        return self._published_url

    @property
    def pid(self) -> int:
        """Leader of the session and group that all of Locust's processes belong to."""
        return self._child.pid

    @property
    def totals(self) -> Totals:
        return self._tail.totals

    def rows(self) -> list[Load]:
        """One row for each second that passed since the last call."""
        return self._tail.poll()

    def news(self) -> list[News]:
        """What was heard of workers that went missing or came back, since the last call."""
        return self._tail.news()

    def poll(self) -> str | None:
        """None while Locust runs, else why it does not, with its last log lines; what it left behind is ended."""
        if self._door is not None and (status := self._door.poll()) is not None:
            tail = "\n".join(_last_lines(self._door_log, 12))
            return f"what publishes the entry at {self._published_url} ended by itself with status {status}:\n{tail}"
        status = self._child.poll()
        if status is None:
            return None
        end_group(self._child, grace_s=0.0)
        tail = "\n".join(_last_lines(self._log, 12))
        return f"Locust ended by itself with status {status}; its last lines:\n{tail}"

    def stop(self) -> list[Load]:
        """End Locust, all of it, and return the rows that were still to come. Safe to call twice."""
        end_group(self._child, grace_s=_KILL_AFTER_S)
        self._unpublish()
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None
        return self._tail.finish()


def command(spec: LoadSpec, base_url: str) -> list[str]:
    """Locust's command line. Failed requests are what a fault is for: they do not make Locust's own exit an error."""
    flags = ["--headless", "--only-summary", "--exit-code-on-error", "0", "--stop-timeout", str(STOP_TIMEOUT_S)]
    return [
        *(sys.executable, "-m", "chaoslab.locust_rows", "-f", str(spec.locustfile), "--host", base_url),
        *flags,
        *_role(spec),
    ]


def _role(spec: LoadSpec) -> list[str]:
    """One process; a master of our own with workers, here or elsewhere; or workers of a master that already runs."""
    processes = ["--processes", str(spec.workers)] if spec.workers else []
    if spec.master is not None:
        host, _, port = spec.master.rpartition(":")
        return ["--worker", "--master-host", host, "--master-port", port, *processes]
    users = ["--users", str(spec.users), "--spawn-rate", str(spec.spawn_rate)]
    if spec.listen is None and not spec.workers:
        return users
    host, _, port = (spec.listen or f"127.0.0.1:{_free_port()}").rpartition(":")
    bind = ["--master-bind-host", host, "--master-bind-port", port, "--expect-workers-max-wait", "30"]
    if processes:
        return [*users, *processes, *bind, "--master-host", host, "--master-port", port, "--enable-rebalancing"]
    return [*users, "--master", *bind, "--expect-workers", str(max(1, spec.expect_workers))]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _environment(rows: Path, base_url: str, seed: int) -> dict[str, str]:
    """What Locust's processes see: no LOCUST_ settings of the caller's shell, and only what `locust_rows` asks for."""
    kept = {name: value for name, value in os.environ.items() if name in _KEPT or name.startswith("CHAOSLAB_")}
    ours = {"CHAOSLAB_LOAD_ROWS": str(rows), "CHAOSLAB_LOAD_SEED": str(seed), "CHAOSLAB_LOAD_RUN": token_hex(8)}
    ours["CHAOSLAB_LOAD_HOST"] = base_url
    return kept | ours | {"PYTHONUNBUFFERED": "1", "PYTHONHASHSEED": str(seed % 2**32)}


def _last_lines(path: Path, lines: int) -> list[str]:
    with contextlib.suppress(OSError), path.open("rb") as log:
        log.seek(max(0, path.stat().st_size - 8192))
        text = log.read().decode(errors="replace").splitlines()
        return list(islice(text, max(0, len(text) - lines), None))
    return []
