"""The report of a run: one self-contained page, for screen and paper, that stays readable without chaoslab.

Input from outside stays text: the templates escape everything, and the page's content security policy forbids scripts and
all requests.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

import jinja2

from chaoslab import __version__
from chaoslab.clock import NS_PER_S
from chaoslab.errors import exit_code_of
from chaoslab.history.result import ClockResult, FaultResult, Interval, Result, StepResult
from chaoslab.history.rows import AnyRow, PhaseRow
from chaoslab.judge.clocks import declared_in_words
from chaoslab.judge.run_record import Probed, Record
from chaoslab.judge.starvation import in_words
from chaoslab.report import business, cells, charts
from chaoslab.report.labels import (
    CLOCK_ENDS,
    LEDGER_COUNTS,
    NOT_FINDINGS,
    VERDICT_TONES,
    VERDICTS,
    clean,
    interval_in_words,
    line_of,
    reasons_in_short,
    split_objective,
    without_ledger,
)
from chaoslab.spec.model import Experiment
from chaoslab.spec.probe_rate import probe_rate
from chaoslab.spec.stackfile.model import StackSpec
from chaoslab.units import format_s

_EVENTS_MAX = 500
_ERRORS_MAX = 3
_STARVED_MAX = 8

PAGE_CACHE_LIMIT = (
    "SIGKILL ends processes, not the kernel: the page cache survives. A write that was acknowledged before it was synced to "
    "disk survives here, but would be lost in a real power failure."
)
CUT_LIMIT = (
    "The power cut removed from volumes what was never synced, unless the kernel had written it back on its own, which takes "
    "about half a minute. Data outside volumes, and data of replicas that kept their power, is still there; so is what a disk "
    "would have lost from its own cache."
)
LIMITS = (
    "The whole stack ran on one host: one clock, one kernel, one disk. Clock drift, a slow disk at one site and real distance "
    "between the sites were not part of this run.",
    "The probe rate limits how narrow an interval can be. The true value lies somewhere within it.",
    "A pass means that this stack met its objectives in this run, under this load and these faults. It shows nothing more.",
)


@dataclass(frozen=True)
class _Event:
    """A line in the table of events. `since_fault_s` is None before the first fault."""

    at_s: float
    since_fault_s: float | None
    text: str
    tone: str


def render_html(
    result: Result,
    experiment: Experiment,
    stack: StackSpec,
    record: Record,
    facts: Mapping[str, Any] | None = None,
    limits: Sequence[str] = (),
) -> str:
    """The page. `facts`: of the host and the run; `command`, if it is among them, repeats the run.

    `limits`: what the runtime of this run cannot show, in sentences.
    """
    anchor = record.anchor
    start_ns = anchor.t_ns if anchor else record.first_ns
    known = (anchor.facts if anchor else {}) | dict(facts or {})
    known.pop("versions", None)  # they have a table of their own
    command = known.pop("command", None) or ["chaoslab", "run", experiment.name, "--runtime", result.runtime]
    probes = cells.in_order(record.probes, list(stack.journeys))
    starved = [row for row in record.machine if row.starved]
    starved_lines = [f"at {format_s(_seconds(row, start_ns))}: {in_words(row)}" for row in starved[:_STARVED_MAX]]
    if len(starved) > _STARVED_MAX:
        starved_lines.append(f"{len(starved) - _STARVED_MAX} more in history.jsonl")
    in_vain = sorted(result.unanswered, key=attrgetter("client"))  # for each client, the most frequent comes first
    named = [(*split_objective(objective.id, result.services), objective) for objective in result.objectives]
    return _template().render(
        result=result,
        experiment=experiment,
        stack=stack,
        probed=str(probe_rate(experiment, stack)),
        run=anchor.run if anchor else "",
        reasons=reasons_in_short(result),
        headline=VERDICTS[result.verdict],
        tone=VERDICT_TONES[result.verdict],
        exit_code=int(exit_code_of(result)),
        steps=_own_steps(result),
        struck=(struck := [fault for fault in result.faults if "#" not in fault.id]),  # a flapping link is one fault
        effects={journey: [_effect(result, fault, journey) for fault in struck] for journey in result.journeys},
        objectives=[(service, list(own)) for service, own in groupby(named, key=lambda item: item[0])],
        functions=business.told(result),
        disruption=business.disruption(result),
        charts=_charts(result, record, probes, start_ns, stack.sites),
        ends=CLOCK_ENDS,
        ledger_counts=LEDGER_COUNTS,
        unmeasured=without_ledger(result),
        not_findings=NOT_FINDINGS,
        unanswered=[(client, list(own)) for client, own in groupby(in_vain, key=attrgetter("client"))],
        starved=starved_lines,
        errors={name: told[:_ERRORS_MAX] for name, probed in sorted(probes.items()) if (told := probed.errors())},
        events=_events(record.rows, result, start_ns),
        conditions=[(row, _seconds(row, start_ns)) for row in record.conditions],
        limits=[*limits, CUT_LIMIT if any(fault.cuts_disks for fault in experiment.faults) else PAGE_CACHE_LIMIT, *LIMITS],
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
    environment.filters |= {"seconds": format_s, "tone": VERDICT_TONES.get}
    environment.filters["tenths"] = charts.tenths
    environment.filters["declared"] = declared_in_words
    environment.filters["took"] = lambda clock: interval_in_words(Interval(clock.low, clock.high))  # a clock or a return
    environment.globals["width_px"] = charts.WIDTH_PX
    return environment.get_template("report.html.j2")


def _charts(
    result: Result, record: Record, probes: Mapping[str, Probed], start_ns: int, sites: Sequence[str]
) -> dict[str, charts.Chart]:
    """The charts by name; none when nothing was probed, none of a machine that was not watched, nor of unknown writers."""
    if not probes:
        return {}
    lanes = cells.lanes(probes, start_ns)
    load = charts.Loads(
        [_seconds(row, start_ns) for row in record.load],
        [float(row.requests) for row in record.load],
        [float(row.failures) for row in record.load],
    )
    begins: dict[str, float] = {}
    bands: list[charts.Band] = []
    for row in record.rows:
        if isinstance(row, PhaseRow) and row.event == "begin":
            begins[row.phase] = _seconds(row, start_ns)
        elif isinstance(row, PhaseRow) and row.phase in begins:
            bands.append(charts.Band(row.phase, begins.pop(row.phase), _seconds(row, start_ns)))
    drawn = {
        "timeline": charts.timeline(lanes, bands, result.faults, _marks(result), _own_steps(result)),
        "load": charts.load_and_latency(load, cells.latencies(probes, start_ns), lanes, result.faults),
    }
    use = cells.use_of(record.machine, start_ns)
    if result.writers:
        drawn["writers"] = charts.writers(result.writers, sites, lanes, result.faults)
    return drawn | ({"machine": charts.machine(use, lanes, result.faults)} if use else {})


def _marks(result: Result) -> list[charts.Mark]:
    """For each event that started clocks of a service, the longest of them; a clock that never ended is longest."""
    by_event: dict[tuple[str, float, str], list[ClockResult]] = {}
    for clock in result.clocks:
        by_event.setdefault((clock.service, clock.from_s, clock.kind), []).append(clock)
    kinds = {step.id: step.kind for step in result.steps}
    marks = []
    for clocks in by_event.values():
        longest = max(clocks, key=lambda clock: (clock.high is None, clock.high or clock.low))
        name = {"rto": "RTO", "failback": "failback"}[longest.kind]
        if longest.event == "step":
            name = "switch back" if kinds.get(longest.cause) == "switchback" else longest.cause
        interval = Interval(longest.low, longest.high, longest.objective)
        marks.append(charts.Mark(longest.service, name, longest.from_s, interval))
    return marks


def _own_steps(result: Result) -> list[StepResult]:
    """The steps of the timeline; the switchbacks of the harness are shown by their clocks."""
    return [step for step in result.steps if step.kind != "switchback"]


def _effect(result: Result, fault: FaultResult, journey: str) -> str:
    """The measured effect of a fault on a journey: how long until it was back; empty without an effect."""
    clocks = [clock for clock in result.clocks if clock.journey == journey]
    causes = [{part.partition("#")[0] for part in clock.cause.split("+")} for clock in clocks]
    own = [clock for clock, ids in zip(clocks, causes, strict=True) if clock.event == "inject" and fault.id in ids]
    if own:
        longest = max(own, key=lambda clock: (clock.high is None, clock.high or clock.low))
        if longest.high is None:
            return f"not back within {format_s(longest.low)}"
        return f"back after {interval_in_words(Interval(longest.low, longest.high))}"
    if any(fault.id in clock.masked for clock in clocks):
        return "was already down"
    return "" if fault.verified else "not known: the effect of the fault was not seen"


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


def _flat(facts: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for key, value in facts.items():
        name = f"{prefix}{key.replace('_', ' ')}"
        found += _flat(value, f"{name} · ") if isinstance(value, Mapping) else [(name, str(value))]
    return found


def _seconds(row: AnyRow, start_ns: int) -> float:
    return (row.t_ns - start_ns) / NS_PER_S
