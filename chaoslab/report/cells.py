"""Tens of thousands of slots, gathered into cells of time that an eye and a page can take. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from chaoslab.clock import NS_PER_S
from chaoslab.events import BY_LOAD, HARNESS, KERNEL, OTHERS, OUTSIDE, STOLEN, Machine
from chaoslab.measure import latencies_ms
from chaoslab.record import Probed
from chaoslab.slots import Slots

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


def in_order(probes: Mapping[str, Probed], journeys: Sequence[str]) -> dict[str, Probed]:
    """The journeys as a person listed them; strangers come last, by name."""
    listed = [name for name in journeys if name in probes]
    return {name: probes[name] for name in [*listed, *sorted(probes.keys() - {*listed})]}


def lanes(probes: Mapping[str, Probed], start_ns: int) -> list[Lane]:
    """A lane for each journey, services together, in the order in which they first appear."""
    if not probes:
        return []
    begin_ns, end_ns = _span(probes)
    width_ns = max(round(_WIDTH_MIN_S * NS_PER_S), -(-(end_ns - begin_ns) // _CELLS_MAX))
    edges = _edges(begin_ns, end_ns, width_ns)
    begin_s, width_s = (begin_ns - start_ns) / NS_PER_S, width_ns / NS_PER_S
    return [
        Lane(journey, service, begin_s, (end_ns - start_ns) / NS_PER_S, width_s, _shares(probed.slots, edges))
        for service, own in _by_service(probes).items()
        for journey, probed in own.items()
    ]


def latencies(probes: Mapping[str, Probed], start_ns: int) -> list[Latencies]:
    """p50 and p95 of each service, in cells of half a second or more."""
    if not probes:
        return []
    begin_ns, end_ns = _span(probes)
    width_ns = max(NS_PER_S // 2, -(-(end_ns - begin_ns) // (_CELLS_MAX // 2)))
    edges = _edges(begin_ns, end_ns, width_ns)
    at_s = [(begin_ns - start_ns + (number + 0.5) * width_ns) / NS_PER_S for number in range(len(edges) - 1)]
    found = []
    for service, own in _by_service(probes).items():
        cells = [_latencies_ms([probed.slots for probed in own.values()], cell) for cell in pairwise(edges)]
        found.append(
            Latencies(service, at_s, [_quantile(cell, 0.5) for cell in cells], [_quantile(cell, 0.95) for cell in cells])
        )
    return found


def _by_service(probes: Mapping[str, Probed]) -> dict[str, dict[str, Probed]]:
    found: dict[str, dict[str, Probed]] = {}
    for journey, probed in probes.items():
        found.setdefault(probed.service, {})[journey] = probed
    return found


def _span(probes: Mapping[str, Probed]) -> tuple[int, int]:
    """When the first slot was due, and the last."""
    return min(probed.slots.due[0] for probed in probes.values()), max(probed.slots.due[-1] for probed in probes.values())


def _edges(begin_ns: int, end_ns: int, width_ns: int) -> list[int]:
    """Of the cells, one more than there are."""
    return [begin_ns + number * width_ns for number in range((end_ns - begin_ns) // width_ns + 2)]


def _shares(slots: Slots, edges: Sequence[int]) -> list[float | None]:
    """The share of bad slots in each cell."""
    numbers = [slots.numbers(*cell) for cell in pairwise(edges)]
    return [slots.good.count(0, own.start, own.stop) / len(own) if own else None for own in numbers]


def _latencies_ms(journeys: Sequence[Slots], cell: tuple[int, int]) -> list[float]:
    """Of the good slots in a cell, from the shortest."""
    return sorted(latency_ms for slots in journeys for latency_ms in latencies_ms(slots.due_in(*cell)))


def _quantile(values: Sequence[float], share: float) -> float | None:
    """Of sorted values."""
    return values[min(len(values) - 1, int(len(values) * share))] if values else None
