"""The report of a run: one page that needs nothing else, for a screen, for paper, and for whoever reads it in a year.

What comes from outside is text and stays text: the template escapes everything but the pictures drawn here, and the
page's own policy forbids scripts and every fetch.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import jinja2

from chaoslab import __version__
from chaoslab.clock import NS_PER_S
from chaoslab.events import AnyRow, Machine, PhaseRow
from chaoslab.record import Probed, Record
from chaoslab.report import cells, charts
from chaoslab.report.words import (
    BUCKETS,
    CLOCK_ENDS,
    COUNTED,
    VERDICT_TONES,
    VERDICTS,
    clean,
    exit_code_of,
    in_short,
    interval_in_words,
    line_of,
    split_objective,
)
from chaoslab.result import ClockResult, Interval, ObjectiveResult, Result
from chaoslab.spec.model import Experiment, StackSpec
from chaoslab.spec.probe_rate import probe_rate
from chaoslab.starvation import in_words
from chaoslab.units import format_s

_EVENTS_MAX = 500
_ERRORS_MAX = 3
_STARVED_MAX = 8

LIMITS = (
    "SIGKILL ends processes, not the kernel: the page cache survives. A write that was acknowledged before it was synced to "
    "disk looks safe here and would be lost in a real power loss.",
    "The whole stack ran on one host: one clock, one kernel, one disk. Clock drift, a slow disk in one site and real distance "
    "between the sites were not part of this run.",
    "An interval is as narrow as the slots are dense. The truth lies inside it; nothing is claimed about where.",
    "A pass says that this stack kept its objectives in this run, under this load and this fault. It says nothing of others.",
)
_LIMITS_OF = {
    "embedded": "The links were relays: they hold bytes back and let new connections hang. Real packet loss also lets TCP "
    "retransmit, back off and give up on its own timers, which a relay cannot show.",
    "compose": "Latency and refusals came from Toxiproxy, which works on streams, not packets; silent cuts came from real "
    "packet rules.",
}


@dataclass(frozen=True)
class _Event:
    """A line of the list of events. `since_fault_s` is None before the first fault."""

    at_s: float
    since_fault_s: float | None
    text: str
    tone: str


def warm_up() -> None:
    """Do what the first page would have to wait for; made to be called in a thread beside a run."""
    _template()
    with contextlib.suppress(ImportError):
        charts.warm_up()


def render_html(
    result: Result,
    experiment: Experiment,
    stack: StackSpec,
    record: Record,
    facts: Mapping[str, Any] | None = None,
) -> str:
    """The page. `facts` are those of the host and the run; `command`, if among them, is how to run this again.

    Without the `report` extra the page has every table and, in place of the pictures, how to get them.
    """
    anchor = record.anchor
    start_ns = anchor.t_ns if anchor else record.first_ns
    known = (anchor.facts if anchor else {}) | dict(facts or {})
    known.pop("versions", None)  # these have a table of their own
    command = known.pop("command", None) or ["chaoslab", "run", experiment.name, "--runtime", result.runtime]
    probes = cells.in_order(record.probes, list(stack.journeys))
    return _template().render(
        result=result,
        experiment=experiment,
        stack=stack,
        probed=str(probe_rate(experiment, stack)),
        run=anchor.run if anchor else "",
        reasons=in_short(result),
        headline=VERDICTS[result.verdict],
        tone=VERDICT_TONES[result.verdict],
        exit_code=int(exit_code_of(result)),
        objectives=_by_service(result),
        pictures=_pictures(result, record, probes, start_ns),
        ends=CLOCK_ENDS,
        buckets=BUCKETS,
        counted=COUNTED,
        starved=_starved(record.machine, start_ns),
        errors={name: told[:_ERRORS_MAX] for name, probed in sorted(probes.items()) if (told := probed.errors())},
        events=_events(record.told, result, start_ns),
        conditions=[(row, _seconds(row, start_ns)) for row in record.conditions],
        limits=[*(text for runtime, text in _LIMITS_OF.items() if runtime == result.runtime), *LIMITS],
        facts=_flat(known),
        command=command if isinstance(command, str) else shlex.join(str(part) for part in command),
        version=__version__,
    )


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: clean(value) if type(value) is str else value,
    )
    environment.filters |= {"interval": interval_in_words, "seconds": format_s, "tone": VERDICT_TONES.get, "took": _took}
    return environment.get_template("report.html.j2")


def _by_service(result: Result) -> list[tuple[str, list[tuple[str, ObjectiveResult]]]]:
    """Objectives in their order, neighbours of one service together; the service is empty where it is about the run."""
    named = [(*split_objective(objective.id, result.services), objective) for objective in result.objectives]
    return [
        (service, [(name, objective) for _, name, objective in group])
        for service, group in groupby(named, key=lambda item: item[0])
    ]


def _pictures(result: Result, record: Record, probes: Mapping[str, Probed], start_ns: int) -> dict[str, str] | None:
    """The drawings by name; empty when nothing was probed, None when they cannot be drawn here."""
    if not probes:
        return {}
    with contextlib.suppress(ImportError):
        return _drawn(result, record, probes, start_ns)
    return None


def _drawn(result: Result, record: Record, probes: Mapping[str, Probed], start_ns: int) -> dict[str, str]:
    lanes = cells.lanes(probes, start_ns)
    load = charts.Loads(
        [_seconds(row, start_ns) for row in record.load],
        [float(row.requests) for row in record.load],
        [float(row.failures) for row in record.load],
    )
    latencies = cells.latencies(probes, start_ns)
    use = cells.use_of(record.machine, start_ns)
    return {
        "timeline": charts.timeline(lanes, _bands(record.told, start_ns), result.faults, _marks(result)),
        "machine": charts.machine(use, lanes, result.faults) if use else "",
        "load": charts.load_and_latency(load, latencies, lanes, result.faults),
    }


def _bands(rows: Sequence[AnyRow], start_ns: int) -> list[charts.Band]:
    begins: dict[str, float] = {}
    bands: list[charts.Band] = []
    for row in rows:
        if isinstance(row, PhaseRow) and row.event == "begin":
            begins[row.phase] = _seconds(row, start_ns)
        elif isinstance(row, PhaseRow) and row.phase in begins:
            bands.append(charts.Band(row.phase, begins.pop(row.phase), _seconds(row, start_ns)))
    return bands


def _marks(result: Result) -> list[charts.Mark]:
    """For each event that started clocks of a service, the longest of them."""
    longest: dict[tuple[str, float, str], ClockResult] = {}
    for clock in result.clocks:
        key = (clock.service, clock.from_s, clock.kind)
        if key not in longest or _length(clock) > _length(longest[key]):
            longest[key] = clock
    names = {"rto": "RTO", "failback": "failback"}
    marks = []
    for clock in longest.values():
        interval = Interval(clock.low, clock.high, clock.objective)
        name = "switch back" if clock.event == "step" else names[clock.kind]
        marks.append(charts.Mark(clock.service, name, clock.from_s, interval))
    return marks


def _length(clock: ClockResult) -> tuple[bool, float]:
    """One whose end was not seen is longer than any other."""
    return clock.high is None, clock.low if clock.high is None else clock.high


def _took(clock: ClockResult) -> str:
    return interval_in_words(Interval(clock.low, clock.high))


def _events(rows: Sequence[AnyRow], result: Result, start_ns: int) -> list[_Event]:
    fault_s = min((fault.inject_s for fault in result.faults), default=None)
    events: list[_Event] = []
    for row in rows:
        line = line_of(row)
        if line is not None:
            at_s = _seconds(row, start_ns)
            since_s = at_s - fault_s if fault_s is not None and at_s >= fault_s - 0.001 else None
            events.append(_Event(at_s, since_s, line.text, line.tone))
    left_out = len(events) - _EVENTS_MAX
    if left_out > 0:
        events[_EVENTS_MAX:] = [_Event(events[-1].at_s, None, f"{left_out} more in history.jsonl", "quiet")]
    return events


def _starved(rows: Sequence[Machine], start_ns: int) -> list[str]:
    """Each starved second in words, up to a few."""
    found = [row for row in rows if row.starved]
    told = [f"at {format_s(_seconds(row, start_ns))}: {in_words(row)}" for row in found[:_STARVED_MAX]]
    return [*told, f"{len(found) - len(told)} more in history.jsonl"] if len(found) > len(told) else told


def _flat(facts: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for key, value in facts.items():
        name = f"{prefix}{key.replace('_', ' ')}"
        found += _flat(value, f"{name} · ") if isinstance(value, Mapping) else [(name, str(value))]
    return found


def _seconds(row: AnyRow, start_ns: int) -> float:
    return (row.t_ns - start_ns) / NS_PER_S
