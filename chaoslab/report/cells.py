"""Tens of thousands of slots, gathered into cells of time that an eye and a page can take. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from chaoslab.clock import NS_PER_S
from chaoslab.events import BY_LOAD, HARNESS, KERNEL, OTHERS, OUTSIDE, STOLEN, Machine, Probe

_CELLS_MAX = 700  # of one lane; about one a pixel
_WIDTH_MIN_S = 0.1
_NOT_SITES = (OUTSIDE, BY_LOAD, HARNESS, OTHERS, KERNEL, STOLEN)
_SEEN_FROM = 0.02  # of a processor: an owner that never has more has no lane


@dataclass(frozen=True)
class Lane:
    """One journey over time. Cell i begins at `begin_s + i * width_s`, in seconds of the run; a cell without slots is None."""

    journey: str
    service: str
    begin_s: float
    end_s: float
    width_s: float
    bad_share: list[float | None]

    def steps(self) -> tuple[list[float], list[float]]:
        """Equal neighbours merged: edges (one more than values) and the share of bad slots between them."""
        values: list[float] = []
        edges = [self.begin_s]
        for number, share in enumerate(self.bad_share):
            value = share or 0.0
            if values and values[-1] == value:
                edges.pop()
            else:
                values.append(value)
            edges.append(min(self.end_s, self.begin_s + (number + 1) * self.width_s))
        return edges, values


@dataclass(frozen=True)
class Latencies:
    """Latency of a service's good slots, from the due time; None where there was no good slot. `at_s` is a cell's middle."""

    service: str
    at_s: list[float]
    p50_ms: list[float | None]
    p95_ms: list[float | None]


@dataclass(frozen=True)
class Use:
    """Who had the processors, second by second: `busy` by owner, between `edges` (one more than values).

    `starved`: begin and end of seconds in which the control was late or everything stood still. `peak`: all owners together.
    """

    edges: list[float]
    busy: dict[str, list[float]]
    starved: list[tuple[float, float]]
    peak: float


def use_of(rows: Sequence[Machine], start_ns: int) -> Use | None:
    """The sites' owners first; None without a single row."""
    if not rows:
        return None
    names = {name for row in rows for name, used in row.busy.items() if used >= _SEEN_FROM}
    ordered = [*sorted(names - {*_NOT_SITES}), *(name for name in _NOT_SITES if name in names)]
    together = -(-len(rows) // (_CELLS_MAX // 2))
    groups = [rows[at : at + together] for at in range(0, len(rows), together)]
    busy = {name: [sum(row.busy.get(name, 0.0) for row in group) / len(group) for group in groups] for name in ordered}
    return Use(
        [_seconds(group[0].begin_ns, start_ns) for group in groups] + [_seconds(rows[-1].t_ns, start_ns)],
        busy,
        [(_seconds(row.begin_ns, start_ns), _seconds(row.t_ns, start_ns)) for row in rows if row.starved],
        max((sum(values) for values in zip(*busy.values(), strict=True)), default=0.0),
    )


def _seconds(at_ns: int, start_ns: int) -> float:
    return (at_ns - start_ns) / NS_PER_S


def in_order(probes: Sequence[Probe], journeys: Sequence[str]) -> list[Probe]:
    """The slots journey by journey, as a person listed them; strangers come last, by name."""
    places = {name: place for place, name in enumerate(journeys)}
    return sorted(probes, key=lambda probe: (places.get(probe.journey, len(places)), probe.journey))


def lanes(probes: Sequence[Probe], start_ns: int) -> list[Lane]:
    """A lane for each journey, services together, in the order in which they first appear."""
    if not probes:
        return []
    begin_ns, end_ns = _span(probes)
    width_ns = max(round(_WIDTH_MIN_S * NS_PER_S), -(-(end_ns - begin_ns) // _CELLS_MAX))
    count = (end_ns - begin_ns) // width_ns + 1
    counts: defaultdict[tuple[str, str], tuple[list[int], list[int]]] = defaultdict(lambda: ([0] * count, [0] * count))
    for probe in probes:
        total, bad = counts[probe.service, probe.journey]
        cell = (probe.due_ns - begin_ns) // width_ns
        total[cell] += 1
        bad[cell] += not probe.good
    begin_s, width_s = (begin_ns - start_ns) / NS_PER_S, width_ns / NS_PER_S
    return [
        Lane(journey, service, begin_s, (end_ns - start_ns) / NS_PER_S, width_s, _shares(total, bad))
        for wanted in dict.fromkeys(service for service, _ in counts)
        for (service, journey), (total, bad) in counts.items()
        if service == wanted
    ]


def latencies(probes: Sequence[Probe], start_ns: int) -> list[Latencies]:
    """p50 and p95 of each service, in cells of half a second or more."""
    if not probes:
        return []
    begin_ns, end_ns = _span(probes)
    width_ns = max(NS_PER_S // 2, -(-(end_ns - begin_ns) // (_CELLS_MAX // 2)))
    count = (end_ns - begin_ns) // width_ns + 1
    services: defaultdict[str, list[list[float]]] = defaultdict(lambda: [[] for _ in range(count)])
    for probe in probes:
        cells = services[probe.service]
        if probe.good:
            cells[(probe.due_ns - begin_ns) // width_ns].append((probe.end_ns - probe.due_ns) / 1e6)
    at_s = [(begin_ns - start_ns + (number + 0.5) * width_ns) / NS_PER_S for number in range(count)]
    return [
        Latencies(service, at_s, [_quantile(cell, 0.5) for cell in cells], [_quantile(cell, 0.95) for cell in cells])
        for service, cells in services.items()
    ]


def _span(probes: Iterable[Probe]) -> tuple[int, int]:
    dues = [probe.due_ns for probe in probes]
    return min(dues), max(dues)


def _shares(total: list[int], bad: list[int]) -> list[float | None]:
    return [bad_count / count if count else None for count, bad_count in zip(total, bad, strict=True)]


def _quantile(values: list[float], share: float) -> float | None:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else None
