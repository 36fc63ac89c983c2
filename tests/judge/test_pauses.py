"""Planned changes, which are steps without a fault: how many requests failed, and for how long writes paused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from judge_runs import F0_S, FaultScript, Run, aborted, experiment, judged, ns, objective, verdicts

from chaoslab.clock import NS_PER_S
from chaoslab.history.result import Result
from chaoslab.history.rows import Machine, Probe, Step
from chaoslab.spec.model import Experiment

SWITCH = {"id": "switch", "run": ["switch"], "budget": "10s"}
PLANNED = {"failed": 0, "pause": "< 4s"}
Change = tuple[float, float]


def steps(*spans: Change, id_: str = "switch", kind: str = "run") -> list[Step]:
    """A step for each span, in seconds from the first."""
    rows = []
    for begin_s, end_s in spans:
        rows += [Step(t_ns=ns(begin_s), id=id_, name=kind, event="begin"), Step(t_ns=ns(end_s), id=id_, name=kind, event="end")]
    return rows


def planned(objectives: dict[str, Any] | None = None, **changes: Any) -> Experiment:
    return experiment(PLANNED if objectives is None else objectives, timeline=[SWITCH], **changes)


def run(*, late: Sequence[Change] = (), failed: Sequence[Change] = (), waits_s: float = 2.0, **more: Any) -> Run:
    """One run with a step at 0. Slots due in `late` are right and late by `waits_s`; those due in `failed` get a 503 then."""

    def edit(slot: Probe) -> Probe:
        due_s = slot.due_ns / NS_PER_S - F0_S
        if any(begin <= due_s < end for begin, end in late):
            end_ns = slot.due_ns + round(waits_s * NS_PER_S)
            return msgspec.structs.replace(slot, good=False, end_ns=end_ns, t_ns=end_ns, error=f"late: {waits_s:g} s")
        if any(begin <= due_s < end for begin, end in failed):
            end_ns = slot.due_ns + round(waits_s * NS_PER_S)
            outcome = "indeterminate" if slot.op == "write" else "bad"
            return msgspec.structs.replace(slot, good=False, outcome=outcome, end_ns=end_ns, t_ns=end_ns, status=503)
        return slot

    return Run(faults=(), more=[*steps((0.0, 3.0)), *more.pop("more", ())], edit=edit, faults_end_s=4.0, **more)


def seen(made: Run, spec: Experiment | None = None) -> Result:
    return judged(made, spec or planned())


def test_without_a_fault_any_step_is_what_is_tested() -> None:
    """Nothing was noticed: a pass, with ledger and pause judged, and no word of an RTO. Known bad: no fault, no verdict."""
    result = seen(run(), planned({**PLANNED, "rto": "< 10s", "rpo": 0, "failback": "< 4s"}))
    assert result.verdict == "pass", result.reasons
    assert {f"talk.{name}" for name in ("failed", "pause", "rpo", "failback", "ledger")} <= verdicts(result).keys()
    assert "talk.rto" not in verdicts(result)
    assert objective(result, "talk.failback").measured == "0.00 s"
    assert result.services["talk"].status == "unaffected"
    assert result.services["talk"].slots == 2 * 27 * 50


def test_a_step_that_never_began_is_inconclusive() -> None:
    """Nothing was tested, whatever users saw."""
    made = run()
    result = seen(made.but(more=[row for row in made.more if not isinstance(row, Step)]))
    assert (result.verdict, result.reasons[0]) == ("inconclusive", "no step was begun")


def test_a_late_success_is_a_pause_and_no_failure() -> None:
    """Requests that waited for 2 s count as paused, and none of them has failed; the failback clock counts from the step."""
    result = seen(run(late=[(0.5, 3.0)]), planned({**PLANNED, "failback": "< 4s"}))
    assert result.verdict == "pass", result.reasons
    assert objective(result, "talk.failed").measured == f"0 of {2 * 27 * 50}"
    pause = result.services["talk"].pause_s
    assert pause is not None and pause.high is not None
    assert 2.4 <= pause.low <= 2.5 <= pause.high <= 2.6
    assert (result.services["talk"].status, result.services["talk"].failed) == ("recovered", 0)
    (send,) = [clock for clock in result.clocks if clock.journey == "talk.send"]
    assert (send.cause, send.kind, send.verdict) == ("switch", "failback", "pass")


@pytest.mark.parametrize(("allowed", "verdict"), [(0, "fail"), (1, "fail"), (2, "pass"), ("< 2", "fail")])
def test_a_request_that_fails_is_counted(allowed: Any, verdict: str) -> None:
    """One slot of each journey got a 503: two requests. Known bad: single bad slots are flaps, which start no clock."""
    result = seen(run(failed=[(0.99, 1.01)], waits_s=0.1), planned({"failed": allowed, "pause": "< 4s"}))
    found = objective(result, "talk.failed")
    assert (found.verdict, found.measured[:4]) == (verdict, "2 of")
    assert result.services["talk"].failed == 2
    if verdict == "fail":
        assert found.why == "2 requests failed: 1 of talk.send: status 503, 1 of talk.read: status 503"


@pytest.mark.parametrize(("due_s", "count"), [(-1.5, 2), (-3.0, 0)])
def test_a_request_in_flight_at_the_step_counts_for_it(due_s: float, count: int) -> None:
    """It waited for 2 s and failed: after the step began, or before."""
    made = run(failed=[(due_s - 0.01, due_s + 0.01)])
    assert seen(made).services["talk"].failed == count


@pytest.mark.parametrize(("until_s", "verdict"), [(3.89, "pass"), (4.49, "inconclusive"), (4.99, "fail")])
def test_a_pause_is_the_longest_outage_of_writes(until_s: float, verdict: str) -> None:
    """From the first bad slot at 0.5 s; reads do not count."""

    def edit(slot: Probe) -> Probe:
        due_s = slot.due_ns / NS_PER_S - F0_S
        bad = 0.49 <= due_s < (until_s if slot.op == "write" else 20.0)
        return msgspec.structs.replace(slot, good=not bad)

    made = run().but(edit=edit)
    found = objective(seen(made, planned({"pause": "< 4s"})), "talk.pause")
    assert found.verdict == verdict, found
    assert found.objective == "< 4s"


def test_a_pause_that_does_not_end_is_inconclusive_or_a_fail() -> None:
    """Its end was not seen; it fails once it has been longer than the limit."""
    for begin_s, verdict in ((25.0, "inconclusive"), (20.0, "fail")):
        made = run(late=[(begin_s, 27.0)], waits_s=20.0)
        found = objective(seen(made), "talk.pause")
        assert (found.verdict, found.measured[0]) == (verdict, "≥"), found


def starved(begin_s: int, end_s: int) -> list[Machine]:
    """Seconds in which the control was late, and other programs used the machine."""
    return [
        Machine(
            t_ns=ns(at + 1.0),
            begin_ns=ns(at),
            busy={"others": 2.0 if begin_s <= at < end_s else 0.0},
            control_ms={"read": 900.0 if begin_s <= at < end_s else 1.0, "fsync": 1.0},
            starved=begin_s <= at < end_s,
            late=["read"] if begin_s <= at < end_s else [],
            why="the control was late" if begin_s <= at < end_s else "",
        )
        for at in range(-4, 27)
    ]


def test_starved_seconds_fail_nobody() -> None:
    """What failed or paused while the machine was starved shows nothing about the stack; known bad: it does all the same."""
    made = run(failed=[(10.0, 15.0)], waits_s=0.1)
    assert [objective(seen(made), f"talk.{name}").verdict for name in ("failed", "pause")] == ["fail", "fail"]
    excused = seen(made.but(more=[*made.more, *starved(9, 16)]))
    assert [objective(excused, f"talk.{name}").verdict for name in ("failed", "pause")] == ["inconclusive", "inconclusive"]


def test_a_run_that_was_cut_meets_neither() -> None:
    """A pass so far is none."""
    result = seen(run(more=[aborted(10.0)]))
    assert [objective(result, f"talk.{name}").verdict for name in ("failed", "pause")] == ["inconclusive", "inconclusive"]


def test_a_step_has_objectives_of_its_own() -> None:
    """Beside a fault, whose outage does not count; from the step to the next event."""
    fire = {"id": "fire", "at": "0s", "fault": "site.power-loss", "site": "pangyo", "heal_after": "10s"}
    back = {"id": "back", "after_heal": "fire", "bring_about": "leader-in-pangyo"}
    own = {"under": {"back": {"failed": 0, "pause": "< 4s", "failback": "< 2s"}}}
    spec = experiment({"rto": "< 10s", "rpo": 0, "failback": "< 9s", **own}, timeline=[fire, back])

    def judged_with(*taken: Step, late: Sequence[Change] = (), failed: Sequence[Change] = ()) -> Result:
        made = run(failed=[(0.1, 5.0), *failed], late=late, waits_s=1.0)
        return judged(made.but(faults=[FaultScript(heal=10.0, healed=10.5)], more=taken), spec)

    taken = steps((15.0, 18.0), id_="back", kind="bring_about")
    result = judged_with(*taken)
    assert result.verdict == "pass", result.reasons
    assert (objective(result, "talk.failed").measured[:4], objective(result, "talk.failed").objective) == ("0 of", "back: none")
    assert objective(judged_with(*taken, failed=[(15.99, 16.01)]), "talk.failed").verdict == "fail"
    late = judged_with(*taken, late=[(15.5, 17.5)])
    assert [objective(late, f"talk.{name}").verdict for name in ("failed", "pause", "failback")] == ["pass", "pass", "fail"]
    assert objective(judged_with(), "talk.failed").why == "no slot was seen after back"


def hangs(from_s: float, to_s: float) -> Callable[[Probe], Probe]:
    """Writes due in from..to get no answer for 2 s, by which time the prober gives up."""

    def edit(slot: Probe) -> Probe:
        due_s = slot.due_ns / NS_PER_S - F0_S
        if slot.op == "read" or not from_s <= due_s < to_s:
            return slot
        end_ns = slot.due_ns + 2 * NS_PER_S
        return msgspec.structs.replace(slot, good=False, outcome="indeterminate", end_ns=end_ns, t_ns=end_ns)

    return edit


def test_a_pause_that_begins_in_flight_at_a_step_is_that_steps() -> None:
    """Known bad: the second step's pause counted against the first one's limit, as a request in flight was due before it."""
    two = [{"id": "one", "run": ["x"]}, {"id": "two", "at": "10s", "run": ["x"]}]
    limits = {"under": {"one": {"pause": "< 1s"}, "two": {"pause": "< 6s"}}}
    taken = [*steps((0.0, 1.0), id_="one"), *steps((10.0, 11.0), id_="two")]

    def paused(from_s: float) -> tuple[str, str]:
        made = Run(faults=(), more=taken, edit=hangs(from_s, 14.99), faults_end_s=20.0)
        found = objective(judged(made, experiment(limits, timeline=two)), "talk.pause")
        return found.verdict, found.measured

    assert paused(9.59) == ("pass", "4.98..5.42 s")
    assert paused(9.39)[0] == "fail"  # the first of them were late before the second step began


def test_what_may_fail_is_excused_from_the_requests_in_flight_on() -> None:
    """At the second fault as at the first. Known bad: those in flight at the second one were a pause, and not available."""
    fire = {"fault": "site.power-loss", "site": "pangyo", "heal_after": "5s"}
    spec = experiment(
        {"pause": "< 0.3s", "availability": ">= 99.9%", "failback": "< 4s", "degraded": {"talk.send": "allowed"}},
        timeline=[{"id": "one", "at": "0s", **fire}, {"id": "two", "at": "15s", **fire}],
    )
    faults = [FaultScript("one", 0.0, 0.05, 5.0, 5.5), FaultScript("two", 15.0, 15.05, 20.0, 20.5)]

    def found(from_s: float) -> list[str]:
        result = judged(Run(faults=faults, edit=hangs(from_s, 18.99)), spec)
        return [objective(result, f"talk.{name}").verdict for name in ("pause", "availability")]

    assert found(14.59) == ["pass", "pass"]
    assert found(13.99) == ["fail", "fail"]
