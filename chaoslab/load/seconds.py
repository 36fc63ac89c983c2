"""Locust's rows, summed up second by second. Pure; for the format of the rows see `locust_plugin`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from chaoslab.clock import NS_PER_S
from chaoslab.history.rows import Load
from chaoslab.judge.intervals import percentile

_USERS_STALE_NS = 5 * NS_PER_S  # a process or worker that has been silent this long counts as having no users


class News(NamedTuple):
    """Something about the load that the run should note."""

    level: Literal["info", "warning"]
    text: str


@dataclass
class _Second:
    requests: int = 0
    failures: int = 0
    good_ms: list[float] = field(default_factory=list)


class Seconds:
    """Sums rows into seconds since `begin_ns`; instants are monotonic, and the caller says what time it is.

    Every request is counted exactly once: a row that comes after its second was closed counts in the oldest open second.
    A second without a single request is a row too, or an outage would leave no trace.
    """

    def __init__(self, begin_ns: int, *, close_after_ns: int = 0) -> None:
        """`close_after_ns`: how long after the end of a second its rows may still come."""
        self._begin_ns, self._close_after_ns = begin_ns, close_after_ns
        self._closed = 0  # how many seconds have been closed
        self._open: dict[int, _Second] = {}
        self._users: dict[str, list[tuple[int, int]]] = {}  # by pid or worker: instants and users, oldest first
        self._connected: dict[str, bool] = {}  # by worker
        self._raised = False
        self._news: list[News] = []

    def feed(self, line: str) -> None:
        """Take one row, without its newline. Raises ValueError on anything that is not a row."""
        try:
            match line.split("\t"):
                case ["q", begin, end, good, _status, *_name]:
                    second = self._count(int(end), 1, int(good != "1"))
                    if good == "1":
                        second.good_ms.append(round((int(end) - int(begin)) / 1e6, 3))
                case ["u", t, pid, users, _missed]:
                    self._set_users(pid, int(t), int(users))
                case ["r", t, worker, users, requests, failures, *latencies]:
                    second = self._count(int(t), int(requests), int(failures))
                    for ms, _, count in (piece.partition("*") for piece in "".join(latencies).split()):
                        second.good_ms += int(count) * [float(ms)]
                    self._set_users(worker, int(t), int(users))
                case ["w", t, worker, connected]:
                    t_ns, is_connected = int(t), connected == "1"
                    was_connected, self._connected[worker] = self._connected.get(worker), is_connected
                    if not is_connected:
                        self._set_users(worker, t_ns, 0)
                        self._news.append(News("warning", f"Locust's worker {worker} is missing: it makes no more load"))
                    elif was_connected is False:
                        self._news.append(News("info", f"Locust's worker {worker} is connected again"))
                case ["x", _t, *text]:
                    if not self._raised:
                        self._news.append(News("warning", f"a task of the locustfile raised {' '.join(text)}; see locust.log"))
                    self._raised = True
                case _:
                    raise ValueError("unknown kind of row, or wrong number of fields")
        except ValueError as error:
            raise ValueError(f"not a row of the load: {line!r}") from error

    def news(self) -> list[News]:
        """What happened since the last call: workers that went missing or came back, and a first task that raised."""
        news, self._news = self._news, []
        return news

    def close_until(self, now_ns: int) -> list[Load]:
        """Every second that is complete now and was not returned before, oldest first."""
        end = (now_ns - self._close_after_ns - self._begin_ns) // NS_PER_S
        return [self._close(number) for number in range(self._closed, end)]

    def close_all(self, now_ns: int) -> list[Load]:
        """When no more rows will come: every second until now, and the last one, which has begun, when it holds anything."""
        end = (now_ns - self._begin_ns) // NS_PER_S
        closed = [self._close(number) for number in range(self._closed, end)]
        return closed + [self._close(number) for number in sorted(self._open)]

    def _count(self, t_ns: int, requests: int, failures: int) -> _Second:
        second = self._open.setdefault(max(self._closed, (t_ns - self._begin_ns) // NS_PER_S), _Second())
        second.requests += requests
        second.failures += failures
        return second

    def _set_users(self, source: str, t_ns: int, users: int) -> None:
        history = self._users.setdefault(source, [])
        history.append((t_ns, users))
        history.sort()

    def _close(self, number: int) -> Load:
        second = self._open.pop(number, None) or _Second()
        self._closed = number + 1
        t_ns = self._begin_ns + (number + 1) * NS_PER_S
        users = 0
        for source, history in self._users.items():
            recent = [(at_ns, count) for at_ns, count in history if t_ns - at_ns <= _USERS_STALE_NS]
            users += next((count for at_ns, count in reversed(recent) if at_ns <= t_ns), 0)
            self._users[source] = recent
        return Load(
            t_ns=t_ns,
            requests=second.requests,
            failures=second.failures,
            users=users,
            p50_ms=percentile(second.good_ms, 0.50),
            p95_ms=percentile(second.good_ms, 0.95),
            p99_ms=percentile(second.good_ms, 0.99),
        )
