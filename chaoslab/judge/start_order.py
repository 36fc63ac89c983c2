"""How replicas came back after a heal: their order, their failed connections, and which services waited for each other.

judge/README.md, Start order. Pure.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass

from chaoslab.clock import NS_PER_S
from chaoslab.history.result import AskResult, ObjectiveResult, StartResult
from chaoslab.judge.intervals import seconds
from chaoslab.judge.outcome import PASS, fail, inconclusive, objective
from chaoslab.judge.run_record import Record

WAITS_S = 10.0  # a replica waits if its connections failed for this long; during a boot they may fail for some seconds
STILL_S = 5.0  # and if the last one failed at most this long ago

Edge = tuple[str, str]  # the service that asks, and the one that is asked


@dataclass(frozen=True)
class Asked:
    """Failed connections of one replica to another. Instants are monotonic nanoseconds."""

    client: str
    client_service: str
    target: str
    target_service: str
    port: int
    first_ns: int
    last_ns: int
    times: int

    def __str__(self) -> str:
        lasted_s = round(seconds(self.last_ns - self.first_ns))
        return f"{self.client} could not reach {self.target}:{self.port}, {self.times} attempts in {lasted_s} s"


@dataclass(frozen=True)
class Circle:
    """Services that waited for each other: each for the next, the last for the first. `seen`: the failed connections."""

    services: tuple[str, ...]
    seen: tuple[Asked, ...]

    def __str__(self) -> str:
        ring = zip(self.services, (*self.services[1:], self.services[0]), strict=True)
        waits = ", and ".join(f"{one} waits for {other}" for one, other in ring)
        return f"circular start: {waits} ({'; '.join(map(str, self.seen))})"


def circles(record: Record) -> list[Circle]:
    """The circles at the heal of a later fault, at the start of a step, and at the end of the observation."""
    instants = [fault.heal_ns for fault in record.injections if fault.heal_ns is not None]
    instants += [step.begin_ns for step in record.steps] + [record.observed_end_ns]
    found: dict[frozenset[str], Circle] = {}
    for at_ns in sorted(instants):
        for circle in _circles_at(record, at_ns):
            found.setdefault(frozenset(circle.services), circle)
    return [*found.values()]


def _circles_at(record: Record, at_ns: int) -> list[Circle]:
    """The circles among services that had not started by then: one for each group that cannot start without each other."""
    waiting = _not_started(record, at_ns)
    waits: dict[Edge, Asked] = {}
    for asked in sorted(_asked(record, waiting, at_ns), key=lambda asked: (-asked.times, asked.client, asked.target)):
        long = asked.last_ns - asked.first_ns >= WAITS_S * NS_PER_S and at_ns - asked.last_ns <= STILL_S * NS_PER_S
        if long and asked.target in waiting and asked.client_service != asked.target_service:
            waits.setdefault((asked.client_service, asked.target_service), asked)
    reached = {service: _reached(service, waits) for service, _ in waits}
    found: dict[frozenset[str], Circle] = {}
    for service in sorted(reached):
        path = _way_back(service, waits) if service in reached[service] else None
        if path is not None:
            seen = tuple(waits[edge] for edge in zip(path, (*path[1:], path[0]), strict=True))
            found.setdefault(frozenset(path), Circle(path, seen))
    return [*found.values()]


def _not_started(record: Record, at_ns: int) -> dict[str, int]:
    """The replicas that were started and did not answer yet, with the instant of the heal."""
    waiting: dict[str, int] = {}
    for row in record.starts:
        if row.t_ns <= at_ns:
            if row.event == "returning":
                waiting[row.replica] = row.t_ns
            else:
                waiting.pop(row.replica, None)
    return waiting


def _asked(record: Record, since_ns: Mapping[str, int], until_ns: int) -> list[Asked]:
    """The failed connections of these clients, each from an instant on."""
    by_edge: defaultdict[tuple[str, str, int], list[tuple[int, int]]] = defaultdict(list)
    services: dict[str, str] = {}
    for row in record.asks:
        if row.client in since_ns and since_ns[row.client] <= row.t_ns <= until_ns:
            by_edge[row.client, row.target, row.port].append((row.t_ns, row.times))
            services |= {row.client: row.client_service, row.target: row.target_service}
    return [
        Asked(
            client, services[client], target, services[target], port,
            first_ns=rows[0][0], last_ns=rows[-1][0], times=sum(times for _, times in rows),
        )
        for (client, target, port), rows in by_edge.items()
    ]  # fmt: skip


def _reached(service: str, waits: Mapping[Edge, Asked]) -> set[str]:
    """What a service waits for, directly or indirectly."""
    found: set[str] = set()
    due = deque([service])
    while due:
        one = due.popleft()
        new = {other for client, other in waits if client == one} - found
        found |= new
        due += new
    return found


def _way_back(service: str, waits: Mapping[Edge, Asked]) -> tuple[str, ...]:
    """The shortest path of waiting from a service back to itself."""
    due: deque[tuple[str, ...]] = deque([(service,)])
    while True:
        path = due.popleft()
        for client, other in sorted(waits):
            if client == path[-1] and other == service:
                return path
            if client == path[-1] and other not in path:
                due.append((*path, other))


def check_start_order(record: Record) -> ObjectiveResult:
    """Whether the replicas that returned started without a circle."""
    found, begun = circles(record), {row.replica for row in record.starts}
    answering = begun - _not_started(record, record.observed_end_ns).keys()
    outcome = PASS
    if found:
        outcome = fail("; ".join(map(str, found)))
    elif len(answering) < len(begun):
        missing = ", ".join(sorted(begun - answering))
        outcome = inconclusive(f"not all have started, and no services were seen to wait for each other: {missing}")
    return objective("start-order", outcome, f"{len(answering)} of {len(begun)} replicas answer again", "no circle")


def start_results(record: Record) -> list[StartResult]:
    """Each replica that was started again after a heal, in the order in which they answered."""
    found = []
    for number, row in enumerate(record.starts):
        if row.event == "returning":
            later = [other for other in record.starts[number + 1 :] if other.replica == row.replica]
            up_ns = later[0].t_ns if later and later[0].event == "answers" else None
            from_s = seconds(row.t_ns - record.first_ns)
            after_s = None if up_ns is None else seconds(up_ns - row.t_ns)
            found.append(StartResult(replica=row.replica, service=row.service, fault=row.fault, from_s=from_s, after_s=after_s))
    return sorted(found, key=lambda one: (one.from_s, one.after_s is None, one.after_s or 0.0, one.replica))


def ask_results(record: Record) -> list[AskResult]:
    """The failed connections since the first fault, the most frequent first."""
    since_ns = record.first_inject_ns
    if since_ns is None:
        return []
    clients = dict.fromkeys((row.client for row in record.asks), since_ns)
    return [
        AskResult(
            client=one.client,
            target=f"{one.target}:{one.port}",
            times=one.times,
            first_s=seconds(one.first_ns - record.first_ns),
            last_s=seconds(one.last_ns - record.first_ns),
        )
        for one in sorted(_asked(record, clients, record.observed_end_ns), key=lambda one: (-one.times, one.client, one.target))
    ]
