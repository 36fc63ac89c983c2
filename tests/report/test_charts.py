"""The charts, read back: what they show against what was measured."""

import dataclasses
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from typing import Any

import msgspec
import pytest
import synthetic_runs
from hypothesis import given
from hypothesis import strategies as st
from synthetic_runs import HEAL_S, INJECT_S, JOURNEYS, Run, Script, history, machine_rows

from chaoslab.history.result import ClockResult, FaultResult, Interval, Result
from chaoslab.history.rows import AnyRow, Load, Probe
from chaoslab.judge.run_record import Record
from chaoslab.report import cells, charts
from chaoslab.report.charts import Band, Loads, Mark, Scale, ticks
from chaoslab.report.html import render_html

TOLERANCE_S = 0.08  # two tenths of a pixel are 0.02 s here, and a cell of a lane is 0.12 s wide


passing, failing = cache(synthetic_runs.passing), cache(synthetic_runs.failing)


def chart(run: Run, name: str, rows: list[AnyRow] | None = None) -> ET.Element:
    page = render_html(run.result, run.experiment, run.stack, Record.of(rows or run.rows), run.facts)
    drawn = {svg.get("aria-labelledby"): svg for svg in map(ET.fromstring, re.findall(r"<svg.*?</svg>", page, re.DOTALL))}
    return drawn[f"{name}-title {name}-desc"]


def of_look(svg: ET.Element, look: str) -> list[ET.Element]:
    return [shape for shape in svg if look in (shape.get("class") or "").split()]


def number(shape: ET.Element, name: str) -> float:
    return float(shape.get(name) or "nan")


def tooltip(shape: ET.Element) -> str:
    return shape.findtext("title") or ""


def seconds_at(svg: ET.Element) -> Callable[[float], float]:
    """From a pixel to the second of the run, by the labels of the time axis alone."""
    (x0, s0), *_, (x1, s1) = [(number(label, "x"), float(label.text or "")) for label in of_look(svg, "second")]
    return lambda x: s0 + (x - x0) * (s1 - s0) / (x1 - x0)


def span_s(svg: ET.Element, shape: ET.Element) -> tuple[float, float]:
    """From when to when a rectangle or a path that only goes right reaches."""
    at = seconds_at(svg)
    if shape.tag == "rect":
        return at(number(shape, "x")), at(number(shape, "x") + number(shape, "width"))
    xs = [float(x) for x in re.findall(r"[MH]([\d.]+)", shape.get("d") or "")]
    return at(min(xs)), at(max(xs))


def level_at(labels: list[ET.Element], *, logarithmic: bool) -> Callable[[float], float]:
    """From a pixel to the quantity, by the labels beside a panel, whose baselines stand 4 pixels below their levels."""
    known = [(number(label, "y") - 4, float(label.text or "")) for label in labels]
    (y0, v0), *_, (y1, v1) = [(y, math.log10(value) if logarithmic else value) for y, value in known]

    def level(y: float) -> float:
        value = v0 + (y - y0) * (v1 - v0) / (y1 - y0)
        return 10**value if logarithmic else value

    return level


def points(d: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", d)]


def near(drawn: tuple[float, float], wanted: tuple[float, float], tolerance_s: float = TOLERANCE_S) -> bool:
    return all(abs(one - other) <= tolerance_s for one, other in zip(drawn, wanted, strict=True))


def mismatches(svg: ET.Element, result: Result) -> Iterator[str]:
    """Where the timeline shows another fault, or another clock, than the result holds."""
    for fault in result.faults:
        assert fault.heal_s is not None
        assert fault.healed_s is not None
        for look, wanted in (("fault-shade", (fault.inject_s, fault.heal_s)), ("heal-shade", (fault.heal_s, fault.healed_s))):
            if not any(near(span_s(svg, box), wanted) for box in of_look(svg, look)):
                yield f"no {look} from {wanted[0]} to {wanted[1]}"
        for look, wanted_s in (("fault-line", fault.inject_s), ("heal-line", fault.heal_s)):
            if not any(near(span_s(svg, line), (wanted_s, wanted_s)) for line in of_look(svg, look)):
                yield f"no {look} at {wanted_s}"
    for clock in longest_clocks(result):
        own = [shape for shape in svg if tooltip(shape).startswith(f"{clock.service}: ")]
        end_s = seconds_at(svg)(976) if clock.high is None else clock.from_s + clock.high
        if not any(near(span_s(svg, line), (clock.from_s, end_s)) for line in own if "clock" in (line.get("class") or "")):
            yield f"no clock of {clock.service} from {clock.from_s} to {end_s}"
        unknown = (clock.from_s + clock.low, end_s)
        if clock.high is not None and not any(near(span_s(svg, box), unknown) for box in own if box.get("class") == "unknown"):
            yield f"no end of {clock.service}'s clock between {unknown[0]} and {unknown[1]}"


def longest_clocks(result: Result) -> list[ClockResult]:
    """Of each service and event."""
    longest: dict[Any, ClockResult] = {}
    for clock in sorted(result.clocks, key=lambda clock: math.inf if clock.high is None else clock.high):
        longest[(clock.service, clock.from_s, clock.kind)] = clock
    return list(longest.values())


@pytest.mark.parametrize("make", [passing, failing], ids=["passing", "failing"])
def test_windows_and_clocks_stand_where_the_result_has_them(make: Callable[[], Run]) -> None:
    """Read by the axis's own labels: fault windows, healing, and every service's clocks with what is not known of their end."""
    run = make()
    assert list(mismatches(chart(run, "timeline"), run.result)) == []


def test_a_shifted_window_is_seen() -> None:
    """Known bad: each instant and length, moved by half a second, is another than the one drawn."""
    run = passing()
    svg = chart(run, "timeline")
    fault, clock = run.result.faults[0], longest_clocks(run.result)[0]
    assert fault.heal_s is not None
    assert fault.healed_s is not None
    assert clock.high is not None
    replace = msgspec.structs.replace
    for shifted in (
        replace(fault, inject_s=fault.inject_s + 0.5),
        replace(fault, heal_s=fault.heal_s - 0.5),
        replace(fault, healed_s=fault.healed_s + 0.5),
    ):
        assert list(mismatches(svg, replace(run.result, faults=[shifted])))
    for moved in (
        replace(clock, from_s=clock.from_s + 0.5),
        replace(clock, low=clock.low - 0.5),
        replace(clock, high=clock.high + 0.5),
    ):
        assert list(mismatches(svg, replace(run.result, clocks=[moved])))


def test_a_service_that_noticed_nothing_has_no_clock() -> None:
    """Known bad: the chart of such a run could not be drawn. Nor need there be phases, faults, load or good slots."""
    run = passing()
    quiet = Run(msgspec.structs.replace(run.result, clocks=[], faults=[]), run.rows, run.experiment, run.stack, run.facts)
    assert of_look(chart(quiet, "timeline"), "clock") == []
    assert {text.text for text in of_look(chart(quiet, "timeline"), "service")} == {"auth", "talk", "pay", "partner"}
    bad = [msgspec.structs.replace(row, good=False) for row in run.rows if isinstance(row, Probe)]
    assert of_look(chart(quiet, "load", bad), "rps") == []
    assert {curve.get("d") for curve in of_look(chart(quiet, "load", bad), "p95")} == {""}


def test_the_same_instant_stands_at_the_same_place_in_each_chart() -> None:
    """So that the eye can go down from an outage to the load and to the machine."""
    run = passing()
    rows = [*run.rows, *machine_rows(starved_s=range(30, 34))]
    all_three = [chart(run, name, rows) for name in ("timeline", "machine", "load")]
    labels = [[(label.text, label.get("x")) for label in of_look(svg, "second")] for svg in all_three]
    assert labels[0] == labels[1] == labels[2]
    assert all(near(span_s(svg, of_look(svg, "fault-line")[0]), (INJECT_S, INJECT_S)) for svg in all_three)


def test_bad_slots_stand_where_they_were() -> None:
    """Each scripted outage of a journey is a stretch of its lane, as long as it was but for the width of a cell."""
    svg = chart(passing(), "timeline")
    for journey in JOURNEYS:
        stretches = [span_s(svg, curve) for curve in of_look(svg, "bad") if tooltip(curve).startswith(f"{journey}: ")]
        back_s = max(end for begin, end in stretches if begin < HEAL_S)
        assert min(begin for begin, _ in stretches) == pytest.approx(INJECT_S, abs=0.15)
        assert all(begin >= INJECT_S - 0.15 for begin, _ in stretches)
        outages = synthetic_runs.failover(22.8)[journey]
        assert back_s <= max(end for begin, end, _ in outages if begin < HEAL_S) + 0.15
        first_end_s = min(end for begin, end in stretches if begin < HEAL_S)
        assert first_end_s >= outages[0][1] - 0.15


def test_a_single_bad_slot_can_be_seen() -> None:
    """One in thousands rises at least a quarter of its lane, and its tooltip says when; where all are good nothing rises."""
    good = [row for row in history(Script({}), fault=False) if not isinstance(row, Load)]
    spoilt: list[Any] = list(good)
    place = next(at for at, row in enumerate(good) if isinstance(row, Probe) and row.due_ns > synthetic_runs.at(50))
    spoilt[place] = msgspec.structs.replace(spoilt[place], good=False)
    assert of_look(chart(passing(), "timeline", good), "bad") == []
    [bad] = of_look(chart(passing(), "timeline", spoilt), "bad")
    heights = [float(y) for y in re.findall(r"(?:V|[\d.]+ )([\d.]+)", bad.get("d") or "")]
    assert max(heights) - min(heights) > 3
    assert re.search(r": \d+% of the slots bad, (49\.9|50\.0) to 50\.\d s", tooltip(bad))


def test_starved_seconds_stand_where_they_were() -> None:
    """Once in the control's strip, and once across all owners."""
    run = passing()
    svg = chart(run, "machine", [*run.rows, *machine_rows(starved_s=range(30, 34))])
    for look in ("bad", "starved"):
        spans = [span_s(svg, box) for box in of_look(svg, look)]
        assert [near(span, (second, second + 1)) for span, second in zip(spans, range(30, 34), strict=True)] == [True] * 4
    owners = [text.text for text in of_look(svg, "journey")]
    assert owners == ["control", "anyang", "pangyo", "outside", "load", "harness", "others"]
    [others] = [curve for curve in of_look(svg, "use") if tooltip(curve).startswith("others")]
    assert tooltip(others) == "others: 0.14 CPUs on average, 1.00 at most"


def test_load_and_latency_can_be_read_from_the_axes() -> None:
    """Each point against its row, by the labels beside the panel; a gap where no slot was good."""
    run = passing()
    svg = chart(run, "load")
    at, levels = seconds_at(svg), of_look(svg, "level")
    rows = [row for row in run.rows if isinstance(row, Load)]
    requests = level_at([level for level in levels if number(level, "y") < 90], logarithmic=False)
    drawn = {round(at(x)): requests(y) for x, y in points(of_look(svg, "rps")[0].get("d") or "")}
    measured = {round((row.t_ns - synthetic_runs.at(0)) / 1e9): row.requests for row in rows}
    assert len(drawn) > 80
    assert all(abs(measured[second] - value) < 1 for second, value in drawn.items())
    record = Record.of(run.rows)
    services = cells.latencies(cells.in_order(record.probes, list(run.stack.journeys)), synthetic_runs.at(0))
    for index, service in enumerate(services):
        top = 16 + 82 * (index + 1)
        own = [level for level in levels if top <= number(level, "y") <= top + 72]
        for look, values in (("p95", service.p95_ms), ("p50", service.p50_ms)):
            curve = of_look(svg, look)[index]
            wanted = [(second, value) for second, value in zip(service.at_s, values, strict=True) if value is not None]
            read = [(at(x), level_at(own, logarithmic=True)(y)) for x, y in points(curve.get("d") or "")]
            assert len(read) >= len(wanted) - 1  # the middle of the last cell may lie behind the last slot
            assert all(near(one[:1], other[:1]) for one, other in zip(read, wanted, strict=False))
            assert all(one[1] == pytest.approx(other[1], rel=0.03) for one, other in zip(read, wanted, strict=False))
        assert (curve.get("d") or "").count("M") == 2  # before the outage, and after


def test_a_chart_says_in_words_what_it_shows() -> None:
    """For whoever cannot see it: a role, and a description with every fault and clock; a name that is cut has a tooltip."""
    svg = chart(failing(), "timeline")
    assert svg.get("role") == "img"
    description = svg.findtext("desc") or ""
    assert "Fault fire: site.power-loss pangyo, active from 20.0 s to 70.0 s, healed at 78.4 s." in description
    assert "pay: RTO at least 59.7 s." in description
    name = "a.journey.with.a.very.long.name"
    rows = history(Script({}, until_s=40, journeys={name: JOURNEYS["auth.check"]}))
    [label] = of_look(chart(passing(), "timeline", rows), "journey")
    assert (label.text or "").endswith("…")
    assert tooltip(label) == name


AT_S = st.floats(-50, 2000)
FAULTS = st.builds(
    lambda id_, times, known: FaultResult(
        id=id_, name="x", target="y", effective_s=None, inject_s=times[0],
        heal_s=times[1] if known else None, healed_s=times[2] if known == 2 else None,
    ),
    st.text(max_size=30), st.lists(AT_S, min_size=3, max_size=3).map(sorted), st.integers(0, 2),
)  # fmt: skip
INTERVALS = st.builds(Interval, st.floats(0, 500), st.none() | st.floats(500, 2000), st.none() | st.floats(0, 900))
LANES = st.builds(
    lambda begin_s, shares: cells.Lane("journey", "service", begin_s, begin_s + len(shares), 1.0, shares),
    st.floats(0, 100),
    st.lists(st.none() | st.sampled_from([0.0, 0.02, 0.5, 1.0]), max_size=60),
)
LATENCY = st.none() | st.just(0.0) | st.floats(1e-3, 1e5)
MOMENTS = st.lists(st.tuples(AT_S, LATENCY, LATENCY, st.floats(0, 1e4)), max_size=30)


@given(
    lanes=st.lists(LANES, min_size=1, max_size=3),
    faults=st.lists(FAULTS, max_size=3),
    marks=st.lists(st.builds(Mark, st.just("service"), st.just("RTO"), AT_S, INTERVALS), max_size=4),
    moments=MOMENTS,
)
def test_whatever_was_measured_is_drawn_within_its_chart(
    lanes: list[cells.Lane], faults: list[FaultResult], marks: list[Mark], moments: list[tuple[float, Any, Any, float]]
) -> None:
    """Property: faults that never healed or lie outside of the probing, no slots, no latency, no load."""
    at_s, p50_ms, p95_ms, per_s = ([*column] for column in zip(*moments, strict=True)) if moments else ([], [], [], [])
    bands = [Band("faults", mark.begin_s, mark.begin_s + 100) for mark in marks]
    latencies = [cells.Latencies("service", at_s, p50_ms, p95_ms)]
    use = cells.Use([0.0, 1.0, 2.0], {"others": [0.5, 1.0]}, [(0.0, 1.0)], 1.0)
    for drawn in (
        charts.timeline(lanes, bands, faults, marks),
        charts.machine(use, lanes, faults),
        charts.load_and_latency(Loads(at_s, per_s, per_s), latencies, lanes, faults),
    ):
        for shape in drawn.shapes:
            if isinstance(shape, charts.Curve):
                assert all(0 <= x <= 1000 for x, _ in points(shape.d))
                assert "nan" not in shape.d
            else:
                assert 0 <= shape.x <= 1000
                assert 0 <= shape.y <= drawn.height
            if isinstance(shape, charts.Box):
                assert shape.width >= 0
                assert shape.x + shape.width <= 1000


@given(
    low=st.floats(-1e5, 1e5),
    span=st.floats(1e-2, 1e5),
    count_max=st.integers(2, 12),
)
def test_ticks_are_few_round_and_within(low: float, span: float, count_max: int) -> None:
    """Property: at most so many, evenly apart by 1, 2 or 5 times a power of ten, none outside."""
    found = ticks(low, low + span, count_max)
    assert len(found) <= count_max
    assert all(low - span * 1e-6 <= tick <= low + span * (1 + 1e-6) for tick in found)
    for before, after in pairwise(found):
        assert float(f"{after - before:.3g}") == pytest.approx(after - before)
        assert f"{after - before:.0e}"[0] in "125"


@pytest.mark.parametrize(
    ("low", "high", "count_max", "wanted"),
    [
        (9.1, 96.0, 10, [10, 20, 30, 40, 50, 60, 70, 80, 90]),
        (0, 170, 3, [0, 100]),
        (20.5, 159.5, 10, [40, 60, 80, 100, 120, 140]),
        (0, 3600, 10, [0, 500, 1000, 1500, 2000, 2500, 3000, 3500]),
        (0.0, 1.0, 10, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
    ],
)
def test_ticks_of_usual_axes(low: float, high: float, count_max: int, wanted: list[float]) -> None:
    """A minute and a half, a load, an hour, a second."""
    assert ticks(low, high, count_max) == pytest.approx(wanted)


def test_a_scale_puts_what_lies_outside_at_its_edge() -> None:
    """Linear and logarithmic, upside down as the axes of a picture are."""
    assert [Scale(0, 10, 100, 0).px(value) for value in (-1, 0, 5, 10, 11)] == [100, 100, 50, 0, 0]
    assert [Scale(1, 100, 0, 50, logarithmic=True).px(value) for value in (0, 1, 10, 100, 1e9)] == pytest.approx(
        [0, 0, 25, 50, 50]
    )


def test_each_site_has_a_strip_of_when_it_took_writes_and_two_at_once_stand_out() -> None:
    """In both strips."""
    _, writers = synthetic_runs.decided()
    run = passing()
    drawn = chart(dataclasses.replace(run, result=msgspec.structs.replace(run.result, writers=writers)), "writers")
    strips = [(span_s(drawn, box), tooltip(box)) for box in of_look(drawn, "use")]
    assert [told for _, told in strips] == [
        f"pg-pangyo took writes from {writers[0].begin_s:.1f} to 30.0 s.",
        f"pg-anyang took writes from 25.0 to {writers[1].end_s:.1f} s.",
    ]
    assert strips[0][0] == pytest.approx((writers[0].begin_s, 30.0), abs=TOLERANCE_S)
    twice = of_look(drawn, "bad")
    assert [span_s(drawn, box) for box in twice] == [pytest.approx((25.0, 30.0), abs=TOLERANCE_S)] * 2
    assert tooltip(twice[0]) == "pg-pangyo and pg-anyang both took writes from 25.0 to 30.0 s."
    assert {number(box, "y") for box in twice} == {number(box, "y") for box in of_look(drawn, "use")}
    assert [label.text for label in of_look(drawn, "journey")] == ["pangyo", "anyang"]
