"""The charts of a report: from cells, faults and clocks to shapes in pixels. Pure; `charts.svg.j2` writes them as SVG.

Instants are seconds of the run. All charts share their margins, so that the same instant is at the same place in each.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import ClassVar

from chaoslab.history.result import FaultResult, Interval, StepResult, WriterResult
from chaoslab.report.cells import Lane, Latencies, Use
from chaoslab.report.labels import interval_in_words, one_line

WIDTH_PX = 1000
_LEFT_PX, _RIGHT_PX = 124, 976  # of the time axis
_LANE_PX, _HEAD_PX, _PANEL_PX, _GAP_PX, _AXIS_PX = 19, 27, 66, 16, 38
_BAD_HEIGHT_MIN = 0.3  # of a lane; a single bad slot must stay visible
_LETTER_PX = 6.2
_TIME_TICKS_MAX, _LOAD_TICKS_MAX, _LATENCY_TICKS_MAX = 10, 3, 4


@dataclass(frozen=True)
class Band:
    """A phase of the run, for the strip on top."""

    name: str
    begin_s: float
    end_s: float


@dataclass(frozen=True)
class Mark:
    """A recovery clock above a service's lanes: the instant from which it counts, and the interval in which it ended."""

    service: str
    name: str
    begin_s: float
    interval: Interval


@dataclass(frozen=True)
class Loads:
    """Locust, second by second."""

    at_s: list[float]
    rps: list[float]
    failures: list[float]


@dataclass(frozen=True)
class Box:
    """A rectangle. `look` is a class of the page's style sheet, `title` the tooltip."""

    tag: ClassVar[str] = "rect"
    look: str
    x: float
    y: float
    width: float
    height: float
    title: str = ""


@dataclass(frozen=True)
class Curve:
    """A path; `d` as in SVG."""

    tag: ClassVar[str] = "path"
    look: str
    d: str
    title: str = ""


@dataclass(frozen=True)
class Words:
    """Text at its baseline."""

    tag: ClassVar[str] = "text"
    look: str
    x: float
    y: float
    text: str
    title: str = ""


Shape = Box | Curve | Words


@dataclass(frozen=True)
class Chart:
    """A drawing of `WIDTH_PX` by `height` pixels. `description` is its text alternative."""

    name: str
    title: str
    description: str
    height: float
    shapes: list[Shape]


@dataclass(frozen=True)
class Scale:
    """From a quantity to pixels. Values outside `low`..`high` are drawn at the edge."""

    low: float
    high: float
    low_px: float
    high_px: float
    logarithmic: bool = False

    def px(self, value: float) -> float:
        """The position of a value."""
        inside = min(max(value, self.low), self.high)
        if self.logarithmic:
            share = math.log(inside / self.low) / math.log(self.high / self.low)
        else:
            share = (inside - self.low) / (self.high - self.low)
        return self.low_px + share * (self.high_px - self.low_px)


def ticks(low: float, high: float, count_max: int) -> list[float]:
    """Round numbers from `low` to `high`, at most `count_max` of them: steps of 1, 2 or 5 times a power of ten.

    `low` must be below `high`, and `count_max` at least 2.
    """
    exponent = math.floor(math.log10((high - low) / count_max))
    for step in (digit * 10.0**power for power in (exponent, exponent + 1) for digit in (1, 2, 5)):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < count_max:
            return [number * step for number in range(first, last + 1)]
    raise AssertionError("a step of five times the whole span leaves at most two ticks")


def timeline(
    lanes: Sequence[Lane],
    bands: Sequence[Band],
    faults: Sequence[FaultResult],
    marks: Sequence[Mark],
    steps: Sequence[StepResult] = (),
) -> Chart:
    """Phases, faults and steps on top; below, for each service, its recovery clocks, and a strip of slots per journey."""
    time = _time(lanes)
    shapes: list[Shape] = []
    middle = _HEAD_PX / 2
    if bands:
        shapes.append(_label(middle, "phase", "quiet"))
        for band in bands:
            shapes += _bar(time, middle, band.begin_s, band.end_s, band.name, "phase")
        middle += _HEAD_PX
    for fault in faults:
        force_end_s, healed_s = _ends(fault, time)
        shapes.append(_label(middle, fault.id, "quiet"))
        shapes += _bar(time, middle, fault.inject_s, force_end_s, f"{fault.name} {fault.target}", "fault")
        if fault.heal_s is not None:
            shapes += _bar(time, middle, fault.heal_s, healed_s, "healing", "heal")
        middle += _HEAD_PX
    for step in steps:
        if step.begun_s is not None:
            shapes.append(_label(middle, step.id, "quiet"))
            end_s = time.high if step.ended_s is None else step.ended_s
            shapes += _bar(time, middle, step.begun_s, end_s, f"{step.kind} {step.what}: {step.status}", "phase")
            middle += _HEAD_PX
    y = middle - _HEAD_PX / 2 + _GAP_PX / 2
    for service, own in groupby(lanes, key=lambda lane: lane.service):
        shapes += _clocks(time, y, service, [mark for mark in marks if mark.service == service])
        y += _HEAD_PX
        for lane in own:
            shapes += _lane(time, y, lane)
            y += _LANE_PX
        y += _GAP_PX / 2
    span = f"{len(lanes)} journeys from {time.low:.1f} s to {time.high:.1f} s of the run."
    clocks = [f"{mark.service}: {mark.name} {interval_in_words(mark.interval)}." for mark in marks]
    told = [f"Fault {_fault_in_words(fault)}." for fault in faults] + [
        f"Step {step.id}: {step.status}, from {step.begun_s:.1f} s." for step in steps if step.begun_s is not None
    ]
    description = " ".join([span, *told, *clocks])
    shapes = [*_shade(time, faults, 0, y + 4), *shapes, *_time_axis(time, y + 4)]
    return Chart("timeline", "What users saw: good and bad slots of each journey", description, y + 4 + _AXIS_PX, shapes)


def writers(found: Sequence[WriterResult], sites: Sequence[str], lanes: Sequence[Lane], faults: Sequence[FaultResult]) -> Chart:
    """For each service a strip per site: when one of its replicas there took writes, and when two did anywhere."""
    time = _time(lanes)
    shapes: list[Shape] = []
    told: list[str] = []
    y = 0.0
    for service in dict.fromkeys(one.service for one in found):
        own = [one for one in found if one.service == service]
        shapes.append(_label(y + _HEAD_PX / 2 + 3, service, "service"))
        y += _HEAD_PX
        for site in dict.fromkeys([*sites, *(one.site for one in own)]):
            shapes += [_label(y + _LANE_PX / 2, site, "journey"), _horizontal("base", y + _LANE_PX - 2)]
            for one in [one for one in own if one.site == site]:
                told.append(f"{one.replica} took writes from {one.begin_s:.1f} to {one.end_s:.1f} s.")
                shapes.append(_box(time, "use", one.begin_s, one.end_s, y + 2, _LANE_PX - 4, told[-1]))
                for other in own:
                    begin_s, end_s = max(one.begin_s, other.begin_s), min(one.end_s, other.end_s)
                    if other.replica != one.replica and begin_s < end_s:
                        title = f"{one.replica} and {other.replica} both took writes from {begin_s:.1f} to {end_s:.1f} s."
                        shapes.append(_box(time, "bad", begin_s, end_s, y + 2, _LANE_PX - 4, title))
            y += _LANE_PX
        y += _GAP_PX / 2
    shapes = [*_shade(time, faults, 0, y), *shapes, *_time_axis(time, y)]
    return Chart("writers", "Which site took writes", " ".join(told), y + _AXIS_PX, shapes)


def machine(use: Use, lanes: Sequence[Lane], faults: Sequence[FaultResult]) -> Chart:
    """Under the journeys: the seconds in which the machine was starved, then a strip for each owner of its processors."""
    time = _time(lanes)
    bottom = _HEAD_PX + (1 + len(use.busy)) * _LANE_PX + 4
    shapes = _shade(time, faults, 0, bottom)
    shapes.append(_label(_HEAD_PX / 2 + 3, "the machine", "service"))
    shapes.append(Words("note", _LEFT_PX + 3, _HEAD_PX / 2 + 7, f"full height: {use.peak:.1f} CPUs"))
    shapes.append(_label(_HEAD_PX + _LANE_PX / 2, "control", "journey"))
    shapes.append(_box(time, "good", use.edges[0], use.edges[-1], _HEAD_PX + 2, _LANE_PX - 4, "control: in time"))
    for begin_s, end_s in use.starved:
        title = f"starved: the control was late, {begin_s:.1f} to {end_s:.1f} s"
        shapes.append(_box(time, "bad", begin_s, end_s, _HEAD_PX + 2, _LANE_PX - 4, title))
        shapes.append(_box(time, "starved", begin_s, end_s, _HEAD_PX + _LANE_PX - 2, bottom - _HEAD_PX - _LANE_PX + 2, title))
    for number, (owner, busy) in enumerate(use.busy.items(), 1):
        floor = _HEAD_PX + number * _LANE_PX + _LANE_PX - 2
        shapes.append(_label(floor - _LANE_PX / 2 + 2, owner, "journey"))
        shapes.append(_horizontal("base", floor, time.px(use.edges[0]), time.px(use.edges[-1])))
        heights = [(_LANE_PX - 4) * used / (use.peak or 1.0) for used in busy]
        title = f"{owner}: {sum(busy) / len(busy):.2f} CPUs on average, {max(busy):.2f} at most"
        shapes.append(Curve("use", _stairs(time, floor, use.edges, heights), title))
    starved = f"Starved in {len(use.starved)} seconds." if use.starved else "Never starved."
    description = f"CPUs in use by {', '.join(use.busy)}; {use.peak:.1f} at most. {starved}"
    return Chart("machine", "CPUs in use", description, bottom + _AXIS_PX, [*shapes, *_time_axis(time, bottom)])


def load_and_latency(
    loads: Loads, latencies: Sequence[Latencies], lanes: Sequence[Lane], faults: Sequence[FaultResult]
) -> Chart:
    """Requests and failures a second; below, for each service, the band from p50 to p95 of its good slots."""
    time = _time(lanes)
    shapes: list[Shape] = []
    words: list[str] = []
    top, bottom = _GAP_PX, 0
    if loads.at_s:
        bottom = top + _PANEL_PX
        scale = Scale(0, max(loads.rps) * 1.12 + 1, bottom, top)
        words.append(f"Load: {max(loads.rps):.0f} requests/s and {max(loads.failures):.0f} failures/s at most.")
        shapes += _panel(time, scale, faults, ["load", "requests/s", "failed: filled"], ticks(0, scale.high, _LOAD_TICKS_MAX))
        shapes.append(Curve("failures", _filled(time, scale, loads.at_s, [0.0] * len(loads.at_s), loads.failures), words[-1]))
        shapes.append(Curve("rps", _line(time, scale, loads.at_s, loads.rps), words[-1]))
        top = bottom + _GAP_PX
    values = [value for service in latencies for value in (*service.p50_ms, *service.p95_ms) if value]
    exponents = (  # one scale for all services: whole powers of ten around everything that was measured
        math.floor(math.log10(min(values, default=1.0))),
        math.ceil(math.log10(max(values, default=10.0) * 1.01)),
    )
    decades = [10.0**exponent for exponent in range(exponents[0], exponents[1] + 1)]
    for service in latencies:
        bottom = top + _PANEL_PX
        scale = Scale(decades[0], decades[-1], bottom, top, logarithmic=True)
        slowest = max((value for value in service.p95_ms if value is not None), default=None)
        words.append(f"{service.service}: " + ("no good slot." if slowest is None else f"p95 {slowest:.0f} ms at most."))
        levels = decades[:: -(-len(decades) // _LATENCY_TICKS_MAX)]
        shapes += _panel(time, scale, faults, [service.service, "latency, ms", "p95 and p50"], levels)
        shapes.append(Curve("band", _filled(time, scale, service.at_s, service.p50_ms, service.p95_ms), words[-1]))
        shapes.append(Curve("p95", _line(time, scale, service.at_s, service.p95_ms), words[-1]))
        shapes.append(Curve("p50", _line(time, scale, service.at_s, service.p50_ms), words[-1]))
        top = bottom + _GAP_PX
    return Chart("load", "Load and latency", " ".join(words), bottom + _AXIS_PX, [*shapes, *_time_axis(time, bottom)])


def _time(lanes: Sequence[Lane]) -> Scale:
    """The time axis, from the first slot to the last, at least a second."""
    begin_s, end_s = min(lane.begin_s for lane in lanes), max(lane.end_s for lane in lanes)
    return Scale(begin_s, max(end_s, begin_s + 1.0), _LEFT_PX, _RIGHT_PX)


def _time_axis(time: Scale, y: float, *, named: bool = True) -> Iterator[Shape]:
    """A line with ticks; with their seconds below them where `named`."""
    yield _horizontal("axis", y)
    for at_s in ticks(time.low, time.high, _TIME_TICKS_MAX):
        yield _vertical("tick", time.px(at_s), y, y + 3)
        if named:
            yield Words("second", time.px(at_s), y + 15, f"{at_s:g}")
    if named:
        yield Words("axis-name", _RIGHT_PX, y + 31, "seconds of the run")


def _ends(fault: FaultResult, time: Scale) -> tuple[float, float]:
    """When a fault ceased to be active, and when it was healed; if it did not, the end of the time axis."""
    return (time.high if fault.heal_s is None else fault.heal_s), (time.high if fault.healed_s is None else fault.healed_s)


def _fault_in_words(fault: FaultResult) -> str:
    until = "to the end" if fault.heal_s is None else f"to {fault.heal_s:.1f} s"
    healed = "" if fault.heal_s is None else ", not healed" if fault.healed_s is None else f", healed at {fault.healed_s:.1f} s"
    return f"{fault.id}: {fault.name} {fault.target}, active from {fault.inject_s:.1f} s {until}{healed}"


def _shade(time: Scale, faults: Sequence[FaultResult], top: float, bottom: float) -> list[Shape]:
    """While a fault is active, and while it is being healed; a line where each begins."""
    shapes: list[Shape] = []
    for fault in faults:
        force_end_s, healed_s = _ends(fault, time)
        title = _fault_in_words(fault)
        shapes.append(_box(time, "fault-shade", fault.inject_s, force_end_s, top, bottom - top, title))
        shapes.append(_vertical("fault-line", time.px(fault.inject_s), top, bottom))
        if fault.heal_s is not None:
            shapes.append(_box(time, "heal-shade", fault.heal_s, healed_s, top, bottom - top, title))
            shapes.append(_vertical("heal-line", time.px(fault.heal_s), top, bottom))
    return shapes


def _bar(time: Scale, middle: float, begin_s: float, end_s: float, text: str, look: str) -> Iterator[Shape]:
    """A bar as high as a lane, with its text in it where that fits."""
    begin_px, end_px = time.px(begin_s), time.px(end_s)
    if end_px <= begin_px:
        return
    title = f"{text}, {begin_s:.1f} to {end_s:.1f} s"
    width_px = max(end_px - begin_px - 1.5, 0.5)  # so that neighbours can be distinguished
    top, height_px = middle - (_LANE_PX - 2) / 2, _LANE_PX - 2
    yield Box(look, begin_px, top, width_px, height_px, title)
    if look == "heal":  # hatched, so that it differs from an active fault in greyscale
        strokes = range(round(begin_px), round(begin_px + width_px) - height_px, 6)
        yield Curve("hatch", "".join(f"M{x} {tenths(top + height_px)}l{height_px}-{height_px}" for x in strokes), title)
    if _width_px(text) + 10 <= end_px - begin_px:
        yield Words("inside", begin_px + 5, middle + 4, one_line(text), title)


def _clocks(time: Scale, top: float, service: str, marks: Sequence[Mark]) -> Iterator[Shape]:
    """`|-----[=]` from the event to the recovery, the thick end as long as what is not known; a diamond at the objective."""
    yield _label(top + _HEAD_PX / 2 + 3, service, "service")
    level, free_px = top + _HEAD_PX - 6, 0.0
    ordered = sorted(marks, key=lambda mark: mark.begin_s)
    for mark, following in zip(ordered, [*ordered[1:], None], strict=False):
        high, objective = mark.interval.high, mark.interval.objective
        text = one_line(f"{mark.name} {interval_in_words(mark.interval)}")
        title = f"{service}: {text}" + ("" if objective is None else f", objective {objective:g} s")
        begin_px = time.px(mark.begin_s)
        end_px = time.px(time.high if high is None else mark.begin_s + high)
        yield _vertical("clock", begin_px, level - 4, level + 4, title)
        yield _horizontal("clock open" if high is None else "clock", level, begin_px, end_px, title)
        if high is not None:
            low_px = time.px(mark.begin_s + mark.interval.low)
            yield Box("unknown", low_px, level - 2.5, end_px - low_px, 5, title)
        until_s = following.begin_s if following else time.high
        if objective and mark.begin_s + objective <= until_s:  # beyond the next mark it would seem to belong to that
            yield Curve("objective", f"M{tenths(time.px(mark.begin_s + objective) - 4)} {tenths(level)}l4-4 4 4-4 4z", title)
        at_px = max(min(begin_px + 5, _RIGHT_PX - _width_px(text)), free_px)
        if at_px + _width_px(text) <= WIDTH_PX:
            yield Words("note", at_px, level - 4, text, title)
            free_px = at_px + _width_px(text) + 8


def _lane(time: Scale, top: float, lane: Lane) -> Iterator[Shape]:
    floor, height = top + _LANE_PX - 2, _LANE_PX - 4
    yield _label(top + _LANE_PX / 2, lane.journey, "journey")
    stretches = lane.stretches()
    title = lane.journey if stretches else f"{lane.journey}: no bad slot"
    yield _box(time, "good", lane.begin_s, lane.end_s, floor - height, height, title)
    for edges, shares in stretches:
        heights = [height * max(share, _BAD_HEIGHT_MIN) if share else 0.0 for share in shares]
        width_s = edges[-1] - edges[0]
        bad = sum(share * (end - begin) for share, begin, end in zip(shares, edges, edges[1:], strict=False)) / width_s
        title = f"{lane.journey}: {bad:.0%} of the slots bad, {edges[0]:.1f} to {edges[-1]:.1f} s"
        yield Curve("bad", _stairs(time, floor, edges, heights), title)


def _panel(
    time: Scale, scale: Scale, faults: Sequence[FaultResult], names: Sequence[str], levels: Sequence[float]
) -> list[Shape]:
    """The frame of a panel: what it shows, left of its scale, its levels, and the faults behind."""
    top, bottom = scale.high_px, scale.low_px
    shapes = _shade(time, faults, top, bottom)
    for number, name in enumerate(names):
        shapes.append(_label(top + 7 + 15 * number, name, "quiet" if number else "service"))
    for level in levels:
        y = scale.px(level)
        shapes += [_horizontal("grid", y), Words("level", _LEFT_PX - 6, y + 4, f"{level:g}")]
    return [*shapes, *_time_axis(time, bottom, named=False)]


def _label(middle: float, text: str, look: str) -> Words:
    """A name in the left margin; cut where it is too long, with the whole of it as tooltip."""
    indent = 10 if look == "journey" else 0
    whole = shown = one_line(text)
    while _width_px(shown) > _LEFT_PX - indent - 14:
        shown = f"{shown[:-2]}…"
    return Words(look, indent, middle + 4, shown, whole if shown != whole else "")


def _box(time: Scale, look: str, begin_s: float, end_s: float, top: float, height: float, title: str) -> Box:
    x = time.px(begin_s)
    return Box(look, x, top, time.px(end_s) - x, height, title)


def _horizontal(look: str, y: float, begin: float = _LEFT_PX, end: float = _RIGHT_PX, title: str = "") -> Curve:
    return Curve(look, f"M{tenths(begin)} {tenths(y)}H{tenths(end)}", title)


def _vertical(look: str, x: float, top: float, bottom: float, title: str = "") -> Curve:
    return Curve(look, f"M{tenths(x)} {tenths(top)}V{tenths(bottom)}", title)


def _stairs(time: Scale, floor: float, edges: Sequence[float], heights: Sequence[float]) -> str:
    """Steps above a floor, filled: `edges` in seconds, one more than `heights` in pixels."""
    steps = (f"V{tenths(floor - height)}H{tenths(time.px(edge))}" for height, edge in zip(heights, edges[1:], strict=True))
    return f"M{tenths(time.px(edges[0]))} {tenths(floor)}{''.join(steps)}V{tenths(floor)}z"


def _points(time: Scale, scale: Scale, at_s: Sequence[float], *series: Sequence[float | None]) -> list[list[list[str]]]:
    """For each stretch without a gap and within the time axis, its points: of each series in turn."""
    rows = zip(at_s, *series, strict=True)
    found = []
    for known, stretch in groupby(rows, lambda row: None not in row and time.low <= (row[0] or 0.0) <= time.high):
        if known:
            points = [[f"{tenths(time.px(at))} {tenths(scale.px(value))}" for value in values] for at, *values in stretch]
            found.append([list(column) for column in zip(*points, strict=True)])
    return found


def _line(time: Scale, scale: Scale, at_s: Sequence[float], values: Sequence[float | None]) -> str:
    """A line with gaps; a point alone is a dot."""
    return "".join(f"M{'L'.join(points)}{'h.1' * (len(points) == 1)}" for (points,) in _points(time, scale, at_s, values))


def _filled(
    time: Scale, scale: Scale, at_s: Sequence[float], lows: Sequence[float | None], highs: Sequence[float | None]
) -> str:
    """The area between two series, with gaps."""
    stretches = _points(time, scale, at_s, lows, highs)
    return "".join(f"M{'L'.join([*high, *reversed(low)])}z" for low, high in stretches)


def tenths(value: float) -> str:
    """A tenth of a pixel is finer than any screen."""
    return f"{value:.1f}".removesuffix(".0")


def _width_px(text: str) -> float:
    """About how wide a text is; an East Asian letter takes the room of nearly two."""
    return sum(_LETTER_PX * (1.75 if unicodedata.east_asian_width(letter) in "WF" else 1) for letter in one_line(text))
