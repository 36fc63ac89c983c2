"""What a declared degraded mode allows, and what it does not: judge/README.md, Degraded modes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pytest
from judge_runs import FaultScript, Run, experiment, final_reads, judged, ledger_read, objective, outage, stack_spec, verdicts

from chaoslab.history.result import FunctionResult, Result
from chaoslab.history.rows import AnyRow, LedgerRead, Probe
from chaoslab.judge.verdict import judge
from chaoslab.spec.stackfile.model import StackSpec

SEND, READ = "talk.send", "talk.read"
PROMISES = {"rto": "< 10s", "rpo": 0, "failback": "< 4s"}
SEND_DOWN = {SEND: [(0.0, 20.2)], READ: [(0.0, 2.0)]}  # the fire burns from 0 to 20; only reads recover meanwhile


def wanted(send: str, read: str = "required", **more: Any) -> Any:
    """An experiment in which the two journeys have these modes."""
    return experiment({**PROMISES, "degraded": {SEND: send, READ: read}, **more})


def stack(**ledger: Any) -> StackSpec:
    """One in which a 202 is a good answer to a write."""
    raw = stack_spec(**ledger).model_dump(mode="json", by_alias=True, exclude_none=True)
    raw["journeys"][SEND]["good"]["status"] = [201, 202]
    raw["journeys"][SEND]["title"] = "Send a message"
    return StackSpec.model_validate(raw)


def queues(begin_s: float, end_s: float) -> Callable[[Probe], Probe]:
    """Writes that are due in these seconds after the fault are answered with 202."""

    def edit(slot: Probe) -> Probe:
        since_s = slot.due_ns / 1e9 - 100
        is_queued = slot.op == "write" and slot.good and begin_s <= since_s < end_s
        return msgspec.structs.replace(slot, status=202) if is_queued else slot

    return edit


def queued(begin_s: float = 0.5, end_s: float = 20.0, **changes: Any) -> Run:
    return Run(bad=outage(0, begin_s), edit=queues(begin_s, end_s), **changes)


def judged_rows(rows: list[AnyRow], spec: Any, the_stack: StackSpec | None = None) -> Result:
    return judge(spec, the_stack or stack(), rows)


def function(result: Result, journey: str = SEND) -> FunctionResult:
    return result.functions[journey]


# --- allowed ----------------------------------------------------------------------------------------------------


def test_a_journey_that_may_fail_does_so_for_the_whole_fault() -> None:
    """The same rows are a fail where it is required."""
    assert verdicts(judged(Run(bad=SEND_DOWN), wanted("allowed"))) | {"talk.rto": ""} == verdicts(judged(Run())) | {
        "talk.rto": ""
    }
    assert objective(judged(Run(bad=SEND_DOWN), wanted("required")), "talk.rto").verdict == "fail"
    met = objective(judged(Run(bad=SEND_DOWN), wanted("allowed")), "talk.rto")
    assert (met.verdict, met.objective) == ("pass", "10.0 s (but talk.send may fail)")


def test_a_mode_is_declared_by_tier_service_or_experiment() -> None:
    """The narrowest one counts, journey by journey."""
    raw = stack().model_dump(mode="json", by_alias=True, exclude_none=True)
    raw["tiers"] = {"critical": {**PROMISES, "degraded": {SEND: "allowed", READ: "allowed"}}}
    raw["services"] = {"talk": {"tier": "critical", "objectives": {"degraded": {READ: "required"}}}}
    in_stack = StackSpec.model_validate(raw)
    assert judged(Run(bad=SEND_DOWN), experiment({}), in_stack).verdict == "pass"
    assert judged(Run(bad=SEND_DOWN), experiment({"degraded": {SEND: "required"}}), in_stack).verdict == "fail"


def test_the_other_journeys_are_judged_as_ever() -> None:
    """Known bad: reads are required, and fail beyond the RTO."""
    result = judged(Run(bad={**SEND_DOWN, READ: [(0.0, 15.0)]}), wanted("allowed"))
    assert objective(result, "talk.rto").verdict == "fail"
    assert (function(result).kept, function(result, READ).kept) == ("kept", "broken")


def test_after_the_last_heal_a_journey_that_may_fail_must_be_back() -> None:
    """Known bad: it fails on, beyond the failback objective; the clock counts from the heal."""
    result = judged(Run(bad={SEND: [(0.0, 25.0)], READ: [(0.0, 2.0)]}), wanted("allowed"))
    assert objective(result, "talk.failback").verdict == "fail"
    assert [(one.journey, one.kind, one.cause) for one in result.clocks] == [(READ, "rto", "fire"), (SEND, "failback", "fire")]
    assert function(result).kept == "broken"


def test_its_failback_counts_from_the_heal_that_leaves_nothing_active() -> None:
    """While a second fault is active, the heal of the first ends nothing."""
    faults = [FaultScript(heal=12.0, healed=12.1), FaultScript(id="slow", inject=5.0, effective=5.1, name="link.degrade")]
    timeline = [
        {"id": "fire", "at": "0s", "fault": "site.power-loss", "site": "pangyo", "heal_after": "12s"},
        {
            "id": "slow",
            "at": "5s",
            "fault": "link.degrade",
            "from": "pangyo",
            "to": "anyang",
            "latency": "9ms",
            "heal_after": "15s",
        },
    ]
    spec = experiment(
        {**PROMISES, "degraded": {SEND: "allowed"}, "under": {"slow": {"unaffected": "allowed"}}}, timeline=timeline
    )
    result = judged(Run(bad={SEND: [(0.0, 22.0)], READ: [(0.0, 2.0)]}, faults=faults), spec)
    [clock] = [one for one in result.clocks if one.journey == SEND]
    assert (clock.kind, clock.cause, round(clock.low)) == ("failback", "slow", 1)
    assert result.verdict == "pass"


def test_what_may_fail_is_no_loss_of_availability() -> None:
    """It is where the journey is required."""
    for mode, verdict in (("allowed", "pass"), ("required", "fail")):
        spec = wanted(mode, availability="> 90%", rto=None)
        assert objective(judged(Run(bad={SEND: [(0.0, 20.0)]}), spec), "talk.availability").verdict == verdict


def test_what_may_fail_is_no_failed_request_and_no_pause() -> None:
    """What fails after the last heal is both, and what is required at any time."""

    def verdicts_on(mode: str, end_s: float) -> list[str]:
        result = judged(Run(bad={SEND: [(0.0, end_s)]}), wanted(mode, failed=0, pause="< 1s", rto=None))
        return [objective(result, f"talk.{name}").verdict for name in ("failed", "pause")]

    assert verdicts_on("allowed", 20.0) == ["pass", "pass"]
    assert verdicts_on("allowed", 22.0) == ["fail", "fail"]
    assert verdicts_on("required", 20.0) == ["fail", "fail"]


def test_a_fault_during_a_degraded_mode_needs_no_acknowledged_write_before_it() -> None:
    """As during an outage; but the first fault does."""
    faults = [FaultScript(), FaultScript(id="kill", inject=10.0, effective=10.1, heal=20.0, healed=20.1, name="service.kill")]
    timeline = [
        {"id": "fire", "at": "0s", "fault": "site.power-loss", "site": "pangyo", "heal_after": "20s"},
        {"id": "kill", "at": "10s", "fault": "service.kill", "service": "talk", "heal_after": "10s"},
    ]
    changes = {"degraded": {SEND: "allowed"}, "under": {"kill": {"unaffected": "allowed"}}}
    result = judged(Run(bad=SEND_DOWN, faults=faults), experiment({**PROMISES, **changes}, timeline=timeline))
    assert objective(result, "talk.rpo").verdict == "pass"


def test_a_loss_is_a_loss_in_any_mode() -> None:
    """Known bad: an acknowledged write is missing."""
    run = Run(bad=SEND_DOWN)
    slots = run.slots()
    lost = next(slot for slot in slots if slot.outcome == "acked" and slot.due_ns > (100 - 1) * 1e9)
    rows = [row for row in run.rows() if not isinstance(row, LedgerRead)]
    rows += final_reads([slot for slot in slots if slot is not lost])
    result = judged_rows(rows, wanted("allowed"))
    assert objective(result, "talk.rpo").verdict == "fail"
    assert (function(result).lost, function(result).kept) == (1, "broken")


# --- noticed by a degraded mode alone ---------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "run"), [("allowed", Run(bad={SEND: [(0.0, 20.0)]})), ("queued", queued(0.0))])
def test_a_fault_is_noticed_by_the_mode_alone(mode: str, run: Run) -> None:
    """That meets an RTO, since nothing required was missed; and it breaks the claim that nothing is noticed."""
    result = judged(run, wanted(mode), stack())
    assert result.services["talk"].faults == {"fire": "degraded"}
    assert result.services["talk"].status == "recovered"
    assert objective(result, "talk.rto").verdict == "pass"
    claimed = objective(judged(run, wanted(mode, unaffected=True), stack()), "talk.rto")
    assert claimed.verdict == "fail" and "degraded mode" in claimed.why
    assert objective(judged(run, wanted(mode, unaffected="allowed"), stack()), "talk.rto").verdict == "pass"


def test_without_any_sign_of_the_fault_the_service_may_have_been_missed() -> None:
    """A mode that is declared and not used shows nothing."""
    assert objective(judged(Run(), wanted("allowed")), "talk.rto").verdict == "inconclusive"


# --- queued -----------------------------------------------------------------------------------------------------


def test_a_write_may_be_queued_while_a_fault_is_active() -> None:
    """A 202 is a good answer and acknowledges; what it acknowledged is there in the end."""
    result = judged(queued(), wanted("queued"), stack())
    assert result.verdict == "pass"
    found = function(result)
    assert (found.title, found.mode, found.used, found.kept) == ("Send a message", "queued", True, "kept")
    assert (found.later, found.later_lost, found.lost) == (975, 0, 0)
    assert (found.disrupted_s, found.away_s, found.later_s, found.later_after_s) == (20.0, 0.5, 19.5, 0.0)


def test_who_still_queues_after_the_last_heal_is_not_back() -> None:
    """Known bad: a 202 is bad then, and the failback objective is missed; as a required journey it would be a pass."""
    late = queued(end_s=25.5)
    result = judged(late, wanted("queued"), stack())
    assert objective(result, "talk.failback").verdict == "fail"
    assert (function(result).kept, function(result).later_after_s) == ("broken", 5.5)
    assert judged(late, wanted("required"), stack()).verdict == "pass"
    assert objective(judged(queued(end_s=22.0), wanted("queued"), stack()), "talk.failback").verdict == "pass"


def test_what_was_queued_and_is_missing_in_the_end_is_lost() -> None:
    """Known bad: no RPO excuses it, where it was acknowledged after the fault."""
    run = queued()
    slots = run.slots()
    rows = [row for row in run.rows() if not isinstance(row, LedgerRead)]
    rows += final_reads([slot for slot in slots if slot.status != 202])
    for rpo in (0, "< 10m"):
        result = judged_rows(rows, wanted("queued", rpo=rpo))
        assert objective(result, "talk.rpo").verdict == "fail"
        assert result.ledger["talk"].lost_after_fault == 975
    assert (function(result).later_lost, function(result).kept) == (975, "broken")
    assert objective(judged_rows(rows, wanted("queued", rpo=None)), "talk.ledger").verdict == "fail"


def stale_after(read_s: float, mode: str, missing: Callable[[Probe], bool] = lambda slot: slot.status == 202) -> str:
    """The verdict on the ledger, when a read through the entry that began then lacks some acknowledged writes."""
    run = queued()
    seen = [(slot.id or "", slot.hash or "") for slot in run.slots() if slot.outcome == "acked" and not missing(slot)]
    rows = [*run.rows(), ledger_read(seen, at=read_s)]
    return objective(judged_rows(rows, wanted(mode), stack(linearizable=True)), "talk.ledger").verdict


def test_what_is_queued_may_be_missing_from_reads_until_the_failback_is_over() -> None:
    """That is 4 s after the heal was verified at 20.5 s. A required journey has to show it at once."""
    assert [stale_after(at_s, "queued") for at_s in (15.0, 24.4)] == ["pass", "pass"]
    assert stale_after(24.6, "queued") == "fail"
    assert stale_after(15.0, "required") == "fail"
    early = lambda slot: slot.due_ns < 99e9  # noqa: E731 - acknowledged with 201 before the fault
    assert stale_after(15.0, "queued", early) == "fail"


def test_late_is_late_in_any_mode() -> None:
    """Known bad: nothing is acknowledged within the RTO."""
    assert objective(judged(queued(begin_s=12.0), wanted("queued"), stack()), "talk.rto").verdict == "fail"


# --- what is said of it -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        (
            "allowed",
            "talk.send may fail while a fault is active, but it never did: this run shows nothing about that degraded mode",
        ),
        (
            "queued",
            "talk.send may be queued while a fault is active, but no 202 came: this run shows nothing about that degraded mode",
        ),
        ("required", None),
    ],
)
def test_a_mode_that_was_never_used_is_told(mode: str, said: str | None) -> None:
    """As a warning; the verdict is that of what was judged."""
    result = judged(Run(bad={READ: [(0.0, 1.0)]}), wanted(mode), stack())
    assert (result.verdict, result.warnings) == ("pass", [said] if said else [])
    assert function(result).used is (None if said is None else False)


def test_a_function_without_a_promise_keeps_none() -> None:
    """And one of a run that was cut short is unknown."""
    bare: Mapping[str, Any] = {"rto": None, "rpo": None, "failback": None}
    assert function(judged(Run(bad=SEND_DOWN), experiment({**bare})), READ).kept == "none"
    assert function(judged(Run(bad={READ: [(0.0, 2.0)]}, end_s=1.0), experiment(PROMISES)), READ).kept == "unknown"


def test_a_function_is_told_apart_from_its_service() -> None:
    """How long it was away during the fault and after it, and which promise that was held against."""
    result = judged(Run(bad={SEND: [(0.0, 20.0), (20.0, 21.0)], READ: [(0.0, 2.0)]}), wanted("allowed"))
    found = function(result)
    assert (found.away_s, found.away_after_s, found.rto_s, found.failback_s) == (20.0, 1.0, None, 4.0)
    assert (function(result, READ).away_s, function(result, READ).rto_s) == (2.0, 10.0)


def test_a_claim_that_nothing_is_noticed_is_broken_by_the_functions_that_did() -> None:
    """And kept by the others."""
    result = judged(Run(bad={SEND: [(0.0, 1.0)]}), experiment({"unaffected": True}))
    assert (function(result).kept, function(result, READ).kept) == ("broken", "none")
