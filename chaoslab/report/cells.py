"""Tens of thousands of slots, aggregated into cells of time that fit on a page. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chaoslab.clock import NS_PER_S
from chaoslab.history.rows import BY_LOAD, HARNESS, KERNEL, OTHERS, OUTSIDE, STOLEN, Machine
from chaoslab.judge.intervals import latencies_ms, percentile
from chaoslab.judge.run_record import Probed
from chaoslab.judge.starvation import JOURNEY

_CELLS_MAX = 700  # of one lane; about one for each pixel
_WIDTH_MIN_S = 0.1
_JOINED_BELOW_S = 1.0  # of good cells between two stretches of bad ones
_NOT_SITES = (OUTSIDE, BY_LOAD, HARNESS, OTHERS, KERNEL, STOLEN)
_SEEN_FROM = 0.02  # of a processor: an owner that never uses more has no lane


@dataclass(frozen=True)
class Lane:
    """One journey over time. Cell i begins at `begin_s + i * width_s`, in seconds of the run; a cell without slots is None."""

    journey: str
    service: str
    begin_s: float
    end_s: float
    width_s: float
    bad_share: list[float | None]

    def stretches(self) -> list[tuple[list[float], list[float]]]:
        """Where slots were bad: for each stretch its edges (one more than values) and the share of bad slots between them.

        Equal neighbours are one step. Good cells for less than a second do not end a stretch.
        """
        found: list[tuple[list[float], list[float]]] = []
        for number, share in enumerate(self.bad_share):
            begin_s = self.begin_s + number * self.width_s
            end_s = min(self.end_s, begin_s + self.width_s)
            if not share:
                continue
            edges, shares = found[-1] if found else ([], [])
            if not edges or begin_s - edges[-1] >= _JOINED_BELOW_S:
                found.append(([begin_s, end_s], [share]))
            elif begin_s - edges[-1] > self.width_s / 2:
                edges += [begin_s, end_s]
                shares += [0.0, share]
            elif shares[-1] == share:
                edges[-1] = end_s
            else:
                edges.append(end_s)
                shares.append(share)
        return found


@dataclass(frozen=True)
class Latencies:
    """Latency of a service's good slots, from the due time; None where there was no good slot. `at_s` is a cell's middle."""

    service: str
    at_s: list[float]
    p50_ms: list[float | None]
    p95_ms: list[float | None]


@dataclass(frozen=True)
class Use:
    """Processors in use by each owner, second by second: `busy` between `edges` (one more than values).

    `starved`: begin and end of seconds in which the control was late or everything stood still. `peak`: all owners together.
    """

    edges: list[float]
    busy: dict[str, list[float]]
    starved: list[tuple[float, float]]
    peak: float


def use_of(rows: Sequence[Machine], start_ns: int) -> Use | None:
    """The sites first, then the other owners. None without a row of the sampler."""
    if all(JOURNEY in row.late for row in rows):
        return None
    starved = [(_seconds(row.begin_ns, start_ns), _seconds(row.t_ns, start_ns)) for row in rows if row.starved]
    rows = [row for row in rows if JOURNEY not in row.late]  # these lie between the sampler's rows, and have no usage
    names = {name for row in rows for name, used in row.busy.items() if used >= _SEEN_FROM}
    ordered = [*sorted(names - {*_NOT_SITES}), *(name for name in _NOT_SITES if name in names)]
    together = -(-len(rows) // (_CELLS_MAX // 2))
    groups = [rows[at : at + together] for at in range(0, len(rows), together)]
    busy = {name: [sum(row.busy.get(name, 0.0) for row in group) / len(group) for group in groups] for name in ordered}
    return Use(
        [_seconds(group[0].begin_ns, start_ns) for group in groups] + [_seconds(rows[-1].t_ns, start_ns)],
        busy,
        starved,
        max((sum(values) for values in zip(*busy.values(), strict=True)), default=0.0),
    )


def _seconds(at_ns: int, start_ns: int) -> float:
    return (at_ns - start_ns) / NS_PER_S


def in_order(probes: Mapping[str, Probed], journeys: Sequence[str]) -> dict[str, Probed]:
    """The journeys in the stack's order; any that it does not list come last, by name."""
    listed = [name for name in journeys if name in probes]
    return {name: probes[name] for name in [*listed, *sorted(probes.keys() - {*listed})]}


def lanes(probes: Mapping[str, Probed], start_ns: int) -> list[Lane]:
    """A lane for each journey, services together, in the order in which they first appear."""
    if not probes:
        return []
    begin_ns, end_ns = _span(probes)
    width_ns = max(round(_WIDTH_MIN_S * NS_PER_S), -(-(end_ns - begin_ns) // _CELLS_MAX))
    cells = _cells(begin_ns, end_ns, width_ns)
    begin_s, end_s = _seconds(begin_ns, start_ns), _seconds(end_ns, start_ns)
    found = []
    for service, own in _by_service(probes).items():
        for journey, probed in own.items():
            slots = probed.slots
            inside = [slots.numbers(*cell) for cell in cells]
            shares = [slots.good.count(0, cell.start, cell.stop) / len(cell) if cell else None for cell in inside]
            found.append(Lane(journey, service, begin_s, end_s, width_ns / NS_PER_S, shares))
    return found


def latencies(probes: Mapping[str, Probed], start_ns: int) -> list[Latencies]:
    """p50 and p95 of each service, in cells of half a second or more."""
    if not probes:
        return []
    begin_ns, end_ns = _span(probes)
    width_ns = max(NS_PER_S // 2, -(-(end_ns - begin_ns) // (_CELLS_MAX // 2)))
    cells = _cells(begin_ns, end_ns, width_ns)
    at_s = [_seconds(begin_ns + width_ns // 2, start_ns) for begin_ns, _ in cells]
    found = []
    for service, own in _by_service(probes).items():
        slots = [probed.slots for probed in own.values()]
        cells_ms = [[ms for each in slots for ms in latencies_ms(each.due_in(*cell))] for cell in cells]
        p50_ms, p95_ms = ([percentile(values, share) for values in cells_ms] for share in (0.5, 0.95))
        found.append(Latencies(service, at_s, p50_ms, p95_ms))
    return found


def _by_service(probes: Mapping[str, Probed]) -> dict[str, dict[str, Probed]]:
    found: dict[str, dict[str, Probed]] = {}
    for journey, probed in probes.items():
        found.setdefault(probed.service, {})[journey] = probed
    return found


def _span(probes: Mapping[str, Probed]) -> tuple[int, int]:
    """When the first slot was due, and the last."""
    return min(probed.slots.due[0] for probed in probes.values()), max(probed.slots.due[-1] for probed in probes.values())


def _cells(begin_ns: int, end_ns: int, width_ns: int) -> list[tuple[int, int]]:
    """Begin and end of each; the last one holds `end_ns`."""
    count = (end_ns - begin_ns) // width_ns + 1
    return [(begin_ns + number * width_ns, begin_ns + (number + 1) * width_ns) for number in range(count)]
