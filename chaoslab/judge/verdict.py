"""From a run's history to its result. Pure, so that a stored run can be judged again with the same result.

Each objective is checked separately, and the worst verdict is that of the run: judge/README.md, Verdicts. Whether it was
expected is decided by `as_expected`.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import TypeVar

import msgspec

from chaoslab.errors import WORST_FIRST, ChaoslabError, Verdict, worst_verdict
from chaoslab.history.result import LoadResult, MachineResult, ObjectiveResult, Result
from chaoslab.history.rows import NOT_HIDDEN, Anchor, AnyRow, Decided, PhaseRow
from chaoslab.judge.clocks import Event, base_id
from chaoslab.judge.decisions import decision_results
from chaoslab.judge.early_end import as_if_served, can_be_decided
from chaoslab.judge.functions import function_result, unused_modes
from chaoslab.judge.intervals import SKEWED_SHARE_MAX, seconds
from chaoslab.judge.metrics import (
    clock_results,
    fault_result,
    journey_result,
    load_result,
    overhead_s,
    phase_s,
    restored_results,
    service_result,
)
from chaoslab.judge.objectives import (
    check_availability,
    check_failback,
    check_ledger,
    check_restored,
    check_rpo,
    check_rto,
    has_failback,
    has_restored,
    has_rto,
)
from chaoslab.judge.outcome import crashed, fail, inconclusive, objective, safely
from chaoslab.judge.pauses import check_failed, check_pause, has_limit
from chaoslab.judge.restored import check_restore
from chaoslab.judge.run_data import RunData, ServiceData
from chaoslab.judge.run_record import Record
from chaoslab.judge.start_order import ask_results, check_start_order, start_results
from chaoslab.judge.starvation import summary
from chaoslab.judge.steps import SWITCHBACK, check_step, check_switchback, step_results
from chaoslab.judge.validity import (
    check_failback_condition,
    check_fault,
    check_load,
    check_prober,
    check_return,
    check_steady_state,
    unless_stalled,
)
from chaoslab.judge.writers import check_one_writer, check_unseen_writers, writer_results
from chaoslab.spec.model import Experiment
from chaoslab.spec.objectives import objectives_for
from chaoslab.spec.stackfile.model import StackSpec
from chaoslab.spec.step import StepBase
from chaoslab.units import Threshold

Check = Callable[[], ObjectiveResult]
OnCrash = Callable[[Exception], object]
Reason = tuple[Verdict, str]
_OF_VALID_RUN = ("steady-state", "instrument", "load")  # what a run needs to show anything
T = TypeVar("T")
R = TypeVar("R")


def judge(experiment: Experiment, stack: StackSpec, rows: Iterable[AnyRow]) -> Result:
    """Judge one run. `rows` may come in any order.

    A check that crashes makes its own objective, and so the verdict, an error; it does not raise.
    """
    return judge_record(experiment, stack, Record.of(rows))


def judge_record(experiment: Experiment, stack: StackSpec, record: Record) -> Result:
    """As `judge`, for rows that are already sorted by kind."""
    run = RunData(experiment, stack, record, objectives_for(experiment, stack))
    objectives: list[ObjectiveResult] = []
    failed = {} if record.decided is None else failed_for_good(experiment, stack, record, record.decided)
    for id_, check in _checks(run):
        judged = safely(id_, check)
        if record.decided is not None:
            objectives.append(_once_decided(judged, failed.get(id_)))
            continue
        # In a run that was cut, what is missing might have ended a pass, or have made up for a share that was missed.
        changeable = ("pass", "fail") if judged.id.endswith(".availability") else ("pass",)
        if run.timeline.cut and judged.verdict in changeable and _is_of_service(judged, run):
            so_far = judged.why or "it held as far as the run went"
            why = inconclusive(f"{so_far}; the run ended early, after {seconds(run.watched_ns):.1f} s")
            judged = objective(judged.id, why, judged.measured, judged.objective)
        objectives.append(judged)
    if not any(_is_of_service(judged, run) for judged in objectives):
        why = inconclusive("no service has an objective, so nothing was judged")
        objectives.append(objective("objectives", why, "none", "at least one"))
    return _result(run, objectives)


def failed_for_good(
    experiment: Experiment, stack: StackSpec, record: Record, decided: Decided, ids: Container[str] | None = None
) -> dict[str, ObjectiveResult]:
    """The objectives that are missed whatever comes after `decided`, by id: of all, or of these. None while the harness stalls.

    The run asks it before it ends early, and the judge afterwards; `decided` is the row that the run writes, or would write.
    """
    run = RunData(experiment, stack, replace(record, decided=decided), objectives_for(experiment, stack))
    if max(run.skewed.values(), default=0.0) > SKEWED_SHARE_MAX:
        return {}
    run = RunData(experiment, stack, as_if_served(record, experiment, decided), run.objectives)
    checks = ((id_, check) for id_, check in _checks(run) if can_be_decided(id_, experiment) and (ids is None or id_ in ids))
    return {id_: judged for id_, check in checks if (judged := safely(id_, check)).verdict == "fail"}


def _once_decided(judged: ObjectiveResult, failed: ObjectiveResult | None) -> ObjectiveResult:
    """An objective of a run that ended when what it had to show had failed for good. `failed`: if this is one of them."""
    if failed is not None:
        return judged if judged.verdict == "fail" else objective(judged.id, fail(failed.why), judged.measured, judged.objective)
    is_told = judged.verdict == "pass" and judged.id.startswith(("fault.", "step."))
    if is_told or judged.verdict == "error" or judged.id in _OF_VALID_RUN:
        return judged
    return objective(judged.id, inconclusive("not judged: the run had ended"), judged.measured, judged.objective)


def judge_safely(
    experiment: Experiment, stack: StackSpec, rows: Iterable[AnyRow], on_crash: OnCrash
) -> tuple[Result, Record | None]:
    """Like `judge`; and if that itself should break, a result that says so, with the verdict error: never a pass.

    `on_crash` is given the error, so that its traceback can be kept. The rows, sorted by kind, come with the result;
    None where that broke. `rows` are gone through again then. Raises ChaoslabError when the history itself is broken.
    """
    record: Record | None = None
    try:
        record = Record.of(rows)
        return judge_record(experiment, stack, record), record
    except Exception as bug:
        if record is None and isinstance(bug, ChaoslabError):
            raise
        on_crash(bug)
        return _unjudged(experiment, rows, crashed(bug)[1]), record


def judge_rows(
    experiment: Experiment, stack: StackSpec, rows: Iterable[AnyRow], on_crash: OnCrash
) -> tuple[Result, Record | None]:
    """As `judge_safely`, with what the run's own rows say of how it began and how it was cleaned up."""
    result, record = judge_safely(experiment, stack, rows, on_crash)
    kept = record.rows if record else [row for row in rows if isinstance(row, Anchor | PhaseRow)]
    facts = next((row.facts for row in kept if isinstance(row, Anchor)), {})
    downs = [row for row in kept if isinstance(row, PhaseRow) and row.phase == "down"]
    ends = [row.detail for row in downs if row.event == "end"]
    left = sorted({text for detail in ends for text in detail.get("left", ())})
    result = msgspec.structs.replace(
        result,
        cleanup="incomplete" if left or not ends else "kept" if ends[-1].get("kept") else "complete",
        left_behind=left,
        versions={str(name): str(version) for name, version in facts.get("versions", {}).items()},
        seed=facts.get("seed"),
        command=facts.get("command", ""),
    )
    return result, record


def as_expected(result: Result, experiment: Experiment) -> tuple[bool, str]:
    """Whether a run ended as its experiment expects (a pass, unless it says otherwise), and a sentence about it.

    Objectives that are named must be among those that came to the expected verdict; others may be, too.
    """
    expect = experiment.expect
    wanted: Verdict = expect.verdict if expect else "pass"
    if result.verdict != wanted:
        return False, f"expected {wanted}, but it was {result.verdict}"
    met = {judged.id for judged in result.objectives if judged.verdict == wanted}
    missing = [id_ for id_ in (expect.objectives if expect else []) if id_ not in met]
    if missing:
        return False, f"{wanted} as expected, but not for {', '.join(missing)}; {wanted}: {', '.join(sorted(met)) or 'none'}"
    return True, f"{wanted}, as expected"


# --- the objectives ---------------------------------------------------------------------------------------------


def _checks(run: RunData) -> Iterator[tuple[str, Check]]:
    """All checks of a run by the id of their objective: whether it is valid, then its services."""
    record, steady = run.record, run.experiment.steady_state
    yield "steady-state", lambda: check_steady_state(record, run.slots, steady)
    yield "instrument", lambda: check_prober(record, run.slots, steady, run.skewed)
    if run.experiment.load is not None:
        yield "load", partial(check_load, record, run.experiment.load)
    injected = (injection.id for injection in record.injections)
    for id_ in dict.fromkeys([*(fault.id for fault in run.experiment.faults), *injected]):
        yield f"fault.{id_}", partial(check_fault, id_, record)
    for step in run.experiment.steps:
        yield f"step.{step.id}", partial(check_step, step, record, run.timeline)
        if step.restores:
            yield f"restore.{step.id}", partial(_check_restore, step, run)
    for id_ in dict.fromkeys(base_id(step.id) for step in record.steps if step.name == SWITCHBACK):
        within_s = run.experiment.failback.within
        yield f"{SWITCHBACK}.{id_}", partial(check_switchback, id_, record, run.timeline, within_s)
    asked = {row.replica: row.service for row in record.answers if row.about == "writes"}
    for name in dict.fromkeys(asked.values()):
        yield f"one-writer.{name}", partial(check_one_writer, name, record, run.timeline)
    unseen = sorted(run.stack.writers.keys() - asked.keys())
    if unseen and ("steady", "begin") in record.phases:
        yield "one-writer.unknown", partial(check_unseen_writers, unseen)
    if record.starts:
        yield "start-order", partial(check_start_order, record)
    for injection in record.injections:
        if injection.detail.get("unhealthy"):
            yield f"failback.{injection.id}", partial(check_return, injection, run.timeline)
    for service in run.services.values():
        yield from _service_checks(run, service)
    looked_at = sorted({row.id for row in record.conditions if row.role == "failback"})
    for id_ in dict.fromkeys([*run.experiment.conditions_in_the_end, *looked_at]):
        yield f"failback.{id_}", partial(check_failback_condition, id_, record, run.timeline)


def _check_restore(step: StepBase, run: RunData) -> ObjectiveResult:
    ledgers = {name: service.ledger for name, service in run.services.items()}
    probes = run.record.probes
    writes = {
        name: [probes[own.name].writes for own in service.journeys if own.keeps_ledger and own.name in probes]
        for name, service in run.services.items()
    }
    return check_restore(step, run.record, writes, ledgers)


def _service_checks(run: RunData, service: ServiceData) -> Iterator[tuple[str, Check]]:
    """The checks of one service. What they need is computed when they are called, where a crash is caught."""
    name, objectives, timeline = service.name, service.objectives, run.timeline

    def rto() -> ObjectiveResult:
        verified = {fault: all(one.verified for one in run.injections_of(fault)) for fault in service.impacts}
        unseen = [journey.name for journey in service.journeys if not journey.since_fault]
        judged = check_rto(name, service.clocks, service.impacts, objectives, timeline, verified, unseen)
        may_fail = [journey.name for journey in service.journeys if journey.mode == "allowed"]
        exempt = f" (but {', '.join(may_fail)} may fail)" if may_fail else ""
        return msgspec.structs.replace(judged, objective=f"{judged.objective}{exempt}")

    def failback() -> ObjectiveResult:
        def seen(heal: Event) -> bool:
            return service.seen_after(heal) and ("failback", "begin") in run.record.phases

        return check_failback(name, service.clocks, objectives, timeline, seen, service.ledger)

    def restored() -> ObjectiveResult:
        return check_restored(name, service.restorations, objectives, timeline, service.seen_after)

    def availability(wanted: Threshold) -> ObjectiveResult:
        shares = {journey.name: journey.availability_range for journey in service.journeys if journey.since_fault}
        return check_availability(name, shares, wanted)

    def rpo(wanted: Threshold) -> ObjectiveResult:
        if service.ledger is None:
            why = inconclusive("no journey of this service has a ledger")
            return objective(f"{name}.rpo", why, "not measured", str(wanted))
        return check_rpo(name, service.ledger, wanted)

    def ledger() -> ObjectiveResult:
        if service.ledger is None:
            raise LookupError(f"{name} keeps no ledger")
        rpo_judged = objectives.rpo is not None
        return check_ledger(name, service.ledger, linearizable=service.linearizable, rpo_judged=rpo_judged)

    if has_rto(objectives) and not run.experiment.is_planned_change:
        yield f"{name}.rto", lambda: unless_stalled(run.skewed, rto())
    if objectives.rpo is not None:
        yield f"{name}.rpo", partial(rpo, objectives.rpo)
    if has_failback(objectives):
        yield f"{name}.failback", lambda: unless_stalled(run.skewed, failback())
    if has_restored(objectives):
        yield f"{name}.restored", lambda: unless_stalled(run.skewed, restored())
    if (share := objectives.availability) is not None:
        yield f"{name}.availability", lambda: unless_stalled(run.skewed, availability(share))
    if has_limit(objectives, "pause"):
        yield f"{name}.pause", lambda: unless_stalled(run.skewed, check_pause(run, service))
    if has_limit(objectives, "failed"):
        yield f"{name}.failed", lambda: unless_stalled(run.skewed, check_failed(run, service))
    if any(journey.keeps_ledger for journey in service.journeys):
        yield f"{name}.ledger", ledger


def _is_of_service(judged: ObjectiveResult, run: RunData) -> bool:
    """Whether this is the objective of a service, rather than what a valid run needs: a step, too, may be called `pause`."""
    promises = ("rto", "rpo", "failback", "restored", "availability", "pause", "failed", "ledger")
    service, _, promise = judged.id.rpartition(".")
    return promise in promises and service in run.services


# --- the result -------------------------------------------------------------------------------------------------


def _result(run: RunData, objectives: list[ObjectiveResult]) -> Result:
    record, anchor = run.record, run.record.anchor
    services, broken_services = _metrics(run.services, partial(service_result, run))
    journeys, broken_journeys = _metrics(run.journeys, partial(journey_result, run))
    functions, broken_functions = _metrics(run.journeys, partial(function_result, run))
    ledgers, broken_ledgers = _metrics(
        run.services,
        lambda service: (
            service.ledger.result(rpo.value if (rpo := service.objectives.rpo) else None) if service.ledger else None
        ),
    )
    clocks, broken_clocks = _metrics({"clocks": run}, clock_results)
    decisions, broken_decisions = _metrics({"decisions": run}, decision_results)
    restored, broken_restored = _metrics({"restored": run}, restored_results)
    objectives += [
        *broken_services,
        *broken_journeys,
        *broken_functions,
        *broken_ledgers,
        *broken_clocks,
        *broken_restored,
        *broken_decisions,
    ]
    reasons = _run_reasons(run)
    reasons += [(judged.verdict, f"{judged.id}: {judged.why}") for judged in objectives if judged.verdict != "pass"]
    return Result(
        experiment=run.experiment.name,
        verdict=worst_verdict(verdict for verdict, _ in reasons),
        runtime=anchor.runtime if anchor else "unknown",
        started_at=anchor.wall if anchor else "unknown",
        duration_s=seconds(record.last_ns - record.first_ns),
        boot_s=phase_s(record, "boot"),
        overhead_s=overhead_s(run),
        faults=[fault_result(injection, record.first_ns) for injection in record.injections],
        services=services,
        journeys=journeys,
        functions=functions,
        ledger={name: ledger for name, ledger in ledgers.items() if ledger is not None},
        load=load_result(record.load),
        objectives=objectives,
        steps=[*step_results(record)],
        clocks=clocks.get("clocks", []),
        decisions=decisions.get("decisions", []),
        writers=writer_results(record),
        restored=restored.get("restored", []),
        starts=start_results(record),
        unanswered=ask_results(record),
        machine=MachineResult(**summary(run.starved)),
        reasons=[why for _, why in sorted(reasons, key=lambda reason: WORST_FIRST.index(reason[0]))],
        warnings=[*_warnings(run), *unused_modes(functions)],
        interrupted=any(note.level == "interrupted" for note in record.notes),
    )


def _unjudged(experiment: Experiment, rows: Iterable[AnyRow], why: str) -> Result:
    """Asks as little as possible of rows that could not be judged."""
    anchor = next((row for row in rows if isinstance(row, Anchor)), None)
    times = array("q", (row.t_ns for row in rows)) or [0]
    return Result(
        experiment=experiment.name,
        verdict="error",
        runtime=anchor.runtime if anchor else "unknown",
        started_at=anchor.wall if anchor else "unknown",
        duration_s=seconds(max(times) - min(times)),
        boot_s=0.0,
        overhead_s=0.0,
        faults=[],
        services={},
        journeys={},
        ledger={},
        load=LoadResult(),
        objectives=[objective("judge", ("error", why), "not judged", "")],
        reasons=[why],
    )


def _metrics(of: Mapping[str, T], measure: Callable[[T], R]) -> tuple[dict[str, R], list[ObjectiveResult]]:
    """The metrics of each; and where working them out broke, an error in their place."""
    found: dict[str, R] = {}
    broken: list[ObjectiveResult] = []
    for name, measured in of.items():
        try:
            found[name] = measure(measured)
        except Exception as bug:
            broken.append(objective(f"{name}.metrics", crashed(bug), "not known", ""))
    return found, broken


def _run_reasons(run: RunData) -> list[Reason]:
    """What the rows themselves say about the run, whatever was measured."""
    record = run.record
    reasons: list[Reason] = []
    if record.anchor is None:
        reasons.append(("error", "the history has no anchor: its first row is missing"))
    reasons += [("error", note.text) for note in record.notes if note.level == "error"]
    reasons += [("aborted", f"aborted: {row.condition} ({row.observed})") for row in record.aborts]
    reasons += [("inconclusive", f"interrupted: {note.text}") for note in record.notes if note.level == "interrupted"]
    reasons += [("inconclusive", note.text) for note in record.notes if note.level == "blind"]
    if record.decided is not None:
        named, after_s = ", ".join(record.decided.objectives), seconds(run.watched_ns)
        ended = f"the run ended {after_s:.1f} s after the first event, once {named} had failed for good"
        reasons.append(("inconclusive", f"{ended}; what was not decided is not judged"))
    if not run.changes:
        nothing = "no step was begun" if run.experiment.is_planned_change else "no fault was injected"
        reasons.append(("inconclusive", nothing))
    return reasons


def _warnings(run: RunData) -> list[str]:
    """What a reader should know although no objective covers it."""
    warnings = [note.text for note in run.record.notes if note.level == "warning"]
    for name, service in run.services.items():
        if service.ledger and service.ledger.stale and not service.linearizable:
            warnings.append(f"{name}: {len(service.ledger.stale)} acknowledged writes were missing from a later read (stale)")
    for fault in run.record.injections:
        if NOT_HIDDEN in fault.detail:
            seen = f"{fault.id}: connections behind its fence were accepted and then hung, where a real network drops them"
            warnings.append(f"{seen} (by link's end: {fault.detail[NOT_HIDDEN]})")
    return warnings
