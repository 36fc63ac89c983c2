"""How many requests failed, and for how long writes paused: judge/README.md, Pauses and failed requests. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from chaoslab.clock import NS_PER_S
from chaoslab.history.result import Interval, ObjectiveResult, OutageResult
from chaoslab.judge.intervals import seconds
from chaoslab.judge.outcome import PASS, Outcome, fail, inconclusive, objective, worst
from chaoslab.judge.run_data import JourneyData, RunData, ServiceData
from chaoslab.spec.model import ExperimentObjectives
from chaoslab.units import Threshold, format_s

Name = Literal["pause", "failed"]
_REASONS_MAX = 3  # how many different errors a reason names


@dataclass(frozen=True)
class Part:
    """A part of the run, and the limit that applies in it. `cause`: the fault or step that it is about; "" for all of the run.

    `spans`: begins and ends, monotonic nanoseconds; none where the cause never began.
    """

    cause: str
    limit: Threshold
    spans: Sequence[tuple[int, int]]

    def has(self, begin_ns: int, end_ns: int) -> bool:
        """Whether begin..end overlaps it."""
        return any(begin_ns < to_ns and end_ns >= from_ns for from_ns, to_ns in self.spans)

    @property
    def wanted(self) -> str:
        limit = "none" if self.limit.unit == "count" and self.limit.value == 0 else str(self.limit)
        return f"{self.cause}: {limit}" if self.cause else limit


def has_limit(objectives: ExperimentObjectives, name: Name) -> bool:
    """Whether there is such an objective, at least under a fault or a step."""
    return any(getattr(layer, name) is not None for layer in (objectives, *objectives.under.values()))


def _parts(run: RunData, service: ServiceData, name: Name) -> Iterator[Part]:
    """The run since its first event; and, for each fault or step with a limit of its own, the time to the next event."""
    own: Threshold | None = getattr(service.objectives, name)
    if own is not None:
        first_ns = run.timeline.end_ns - run.watched_ns
        yield Part("", own, [(first_ns, run.timeline.end_ns)] if run.watched_ns else [])
    for cause, refined in service.objectives.under.items():
        limit: Threshold | None = getattr(refined, name)
        if limit is not None:
            events = [event for event in run.timeline.events if event.kind != "heal" and cause in event.faults]
            yield Part(cause, limit, [(event.at_ns, run.timeline.until_next(event)) for event in events])


# --- failed requests --------------------------------------------------------------------------------------------


def check_failed(run: RunData, service: ServiceData) -> ObjectiveResult:
    """Judge the requests without a success before the prober gave up. A late success is not a failure."""
    parts = [*_parts(run, service, "failed")]
    failed = sent = 0
    outcomes: list[Outcome] = []
    for part in parts:
        of_part = sum(len(journey.slots.due_in(*span)) for journey in service.journeys for span in part.spans)
        found = [
            (f"{journey.name}: {slot.why}", run.timeline.is_starved(since_ns))
            for journey in service.journeys
            for since_ns, slot in journey.failed
            if part.has(since_ns, since_ns)
        ]
        failed, sent = failed + len(found), sent + of_part
        outcomes.append(_of_failed(part, found) if of_part else _unseen(part))
    return objective(f"{service.name}.failed", worst(outcomes), f"{failed} of {sent}", "; ".join(part.wanted for part in parts))


def _of_failed(part: Part, found: Sequence[tuple[str, bool]]) -> Outcome:
    """`found`: of each failed request its journey with the error, and whether the machine was starved."""
    if part.limit.holds(len(found)):
        return PASS
    reasons = Counter(why for why, _ in found).most_common(_REASONS_MAX)
    text = f"{len(found)} requests failed: {', '.join(f'{count} of {why}' for why, count in reasons)}"
    sure = sum(not starved for _, starved in found)
    if part.limit.holds(sure):
        return inconclusive(f"{text}; {len(found) - sure} of them while the machine was starved")
    return fail(text)


def _unseen(part: Part) -> Outcome:
    return inconclusive(f"no slot was seen after {part.cause}" if part.cause else "no slot was seen after the first event")


# --- pauses -----------------------------------------------------------------------------------------------------


def check_pause(run: RunData, service: ServiceData) -> ObjectiveResult:
    """Judge the longest time in which writes got no good answer, of the worst journey."""
    parts = [*_parts(run, service, "pause")]
    writes = [journey for journey in service.journeys if journey.op == "write"]
    outcomes: list[Outcome] = []
    longest: list[OutageResult] = []
    for part in parts:
        if not any(len(journey.slots.due_in(*span)) for journey in writes for span in part.spans):
            outcomes.append(_unseen(part) if writes else inconclusive("no journey of this service writes"))
        for journey in writes:
            own = [outage for outage in journey.outages_judged if part.has(*_span_ns(run, outage))]
            outcomes += [_of_pause(run, part, journey, outage) for outage in own]
            longest += own
    interval = pause_of(longest)
    measured = "none" if interval is None else f"≥ {interval.low:.2f} s"
    if interval is not None and interval.high is not None:
        measured = f"{interval.low:.2f}..{interval.high:.2f} s"
    return objective(f"{service.name}.pause", worst(outcomes), measured, "; ".join(part.wanted for part in parts))


def _span_ns(run: RunData, outage: OutageResult) -> tuple[int, int]:
    begin_ns = run.record.first_ns + round(outage.at_s * NS_PER_S)
    return begin_ns, begin_ns + round(outage.low_s * NS_PER_S)


def _of_pause(run: RunData, part: Part, journey: JourneyData, outage: OutageResult) -> Outcome:
    if not part.limit.holds(outage.low_s):
        starved_s = seconds(run.timeline.starved_ns(*_span_ns(run, outage)))
        text = f"{journey.name} paused for {format_s(outage.low_s)}"
        if part.limit.holds(outage.low_s - starved_s):
            return inconclusive(f"{text}; the machine was starved for {format_s(starved_s)} of that")
        return fail(text)
    if not outage.ended:
        return inconclusive(f"{journey.name} still paused when the run ended")
    if not part.limit.holds(outage.high_s):
        return inconclusive(f"{journey.name}: the objective lies within {outage.low_s:.2f}..{outage.high_s:.2f} s")
    return PASS


def pause_of(outages: Sequence[OutageResult]) -> Interval | None:
    """The longest of several outages; `high` is None if the end of one was not seen. None without outages."""
    if not outages:
        return None
    ended = all(outage.ended for outage in outages)
    high_s = max(outage.high_s for outage in outages)
    return Interval(max(outage.low_s for outage in outages), high_s if ended else None)
