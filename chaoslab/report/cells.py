"""Tens of thousands of slots, gathered into cells of time that an eye and a page can take. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from chaoslab.clock import NS_PER_S
from chaoslab.events import Probe

_CELLS_MAX = 700  # of one lane; about one a pixel
_WIDTH_MIN_S = 0.1


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
