"""A run's history in, its result out. Pure, so that a stored run can be judged again and must come to the same.

Each objective is checked by itself and the worst is the verdict. Whether it was expected is another question (`as_expected`).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TypeVar

from chaoslab.case import Case, ServiceCase
from chaoslab.checks import (
    check_availability,
    check_failback,
    check_ledger,
    check_rpo,
    check_rto,
    promises_failback,
    promises_rto,
)
from chaoslab.clocks import Event
from chaoslab.errors import ChaoslabError
from chaoslab.events import NOT_HIDDEN, Anchor, AnyRow
from chaoslab.figures import clock_results, fault_result, journey_result, load_result, overhead_s, phase_s, service_result
from chaoslab.measure import seconds
from chaoslab.premises import (
    check_failback_condition,
    check_fault,
    check_instrument,
    check_load,
    check_return,
    check_steady_state,
    unless_stalled,
)
from chaoslab.record import Record
from chaoslab.result import LedgerResult, LoadResult, MachineResult, ObjectiveResult, Result
from chaoslab.said import crashed, inconclusive, objective, safely
from chaoslab.spec.model import Experiment, StackSpec, Verdict
from chaoslab.spec.objectives import objectives_for
from chaoslab.starvation import summary

WORST_FIRST: tuple[Verdict, ...] = ("fail", "error", "aborted", "inconclusive", "pass")
Check = Callable[[], ObjectiveResult]
Reason = tuple[Verdict, str]
T = TypeVar("T")
R = TypeVar("R")


def judge(experiment: Experiment, stack: StackSpec, rows: Iterable[AnyRow]) -> Result:
    """Judge one run. `rows` may come in any order.

    A check that crashes makes its own objective, and so the verdict, an error; it does not raise.
    """
    return judge_record(experiment, stack, Record.of(rows))


def judge_record(experiment: Experiment, stack: StackSpec, record: Record) -> Result:
    """As `judge`, for rows that were sorted out already."""
    case = Case(experiment, stack, record, objectives_for(experiment, stack))
    objectives = [_unless_cut(case, safely(id_, check)) for id_, check in _checks(case)]
    objectives += [] if any(_is_promise(one) for one in objectives) else [_nothing_promised()]
    return _result(case, objectives)


def judge_safely(
    experiment: Experiment, stack: StackSpec, rows: Iterable[AnyRow], on_crash: Callable[[Exception], object]
) -> tuple[Result, Record | None]:
    """Like `judge`; and if that itself should break, a result that says so, with the verdict error: never a pass.

    `on_crash` is given the error, for whoever keeps its traceback. With the result come the rows as they were sorted out; None
    where that broke. `rows` are gone through again then. Raises ChaoslabError when the history itself is broken.
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


def as_expected(result: Result, experiment: Experiment) -> tuple[bool, str]:
    """Whether a run ended as its experiment expects (a pass, unless it says otherwise), and the sentence that tells.

    Objectives that are named must be among those that came to the expected verdict; others may be, too.
    """
    expect = experiment.expect
    wanted: Verdict = expect.verdict if expect else "pass"
    if result.verdict != wanted:
        return False, f"expected {wanted}, and it was {result.verdict}"
    met = {one.id for one in result.objectives if one.verdict == wanted}
    missing = [id_ for id_ in (expect.objectives if expect else []) if id_ not in met]
    if missing:
        return False, f"{wanted} as expected, but not for {', '.join(missing)}; {wanted}: {', '.join(sorted(met)) or 'none'}"
    return True, f"{wanted}, as expected"


def worst_of(verdicts: Iterable[Verdict]) -> Verdict:
    """The worst wins: fail, error, aborted, inconclusive, pass."""
    return min(verdicts, key=WORST_FIRST.index, default="pass")


# --- the objectives ---------------------------------------------------------------------------------------------


def _checks(case: Case) -> Iterator[tuple[str, Check]]:
    record, steady = case.record, case.experiment.steady_state
    yield "steady-state", lambda: check_steady_state(record, case.slots, steady)
    yield "instrument", lambda: check_instrument(record, case.slots, steady, case.late)
    if case.experiment.load is not None:
        yield "load", partial(check_load, record)
    for id_ in dict.fromkeys([*(fault.id for fault in case.experiment.timeline), *(one.id for one in record.injections)]):
        yield f"fault.{id_}", partial(check_fault, id_, record)
    for one in record.injections:
        if one.detail.get("unhealthy"):
            yield f"failback.{one.id}", partial(check_return, one)
    for service in case.services.values():
        yield from _service_checks(case, service)
    looked_at = sorted({row.id for row in record.conditions if row.role == "failback"})
    for id_ in dict.fromkeys([*steady.conditions, *looked_at]):
        yield f"failback.{id_}", partial(check_failback_condition, id_, record)


def _service_checks(case: Case, service: ServiceCase) -> Iterator[tuple[str, Check]]:
    name, owed = service.name, service.objectives
    if promises_rto(owed):
        yield f"{name}.rto", lambda: unless_stalled(case.late, _rto(case, service))
    if owed.rpo is not None:
        yield f"{name}.rpo", partial(_rpo, service)
    if promises_failback(owed):
        yield f"{name}.failback", lambda: unless_stalled(case.late, _failback(case, service))
    if (availability := owed.availability) is not None:
        yield (
            f"{name}.availability",
            lambda: unless_stalled(case.late, check_availability(name, _shares(service), availability)),
        )
    if any(journey.spec and journey.spec.ledger for journey in service.journeys):
        yield f"{name}.ledger", partial(_ledger, service)


def _rto(case: Case, service: ServiceCase) -> ObjectiveResult:
    verified = {fault: all(one.verified for one in case.injections_of(fault)) for fault in service.notices}
    unseen = [journey.name for journey in service.journeys if not journey.since_fault]
    return check_rto(service.name, service.clocks, service.notices, service.objectives, case.look, verified, unseen)


def _failback(case: Case, service: ServiceCase) -> ObjectiveResult:
    look = case.look

    def seen(heal: Event) -> bool:
        end_ns = look.until_next(heal)
        came = all(journey.settled.numbers(heal.at_ns, end_ns) for journey in service.journeys)
        return came and ("failback", "begin") in case.record.phases

    return check_failback(service.name, service.clocks, service.objectives, look, seen, service.ledger)


def _shares(service: ServiceCase) -> dict[str, tuple[float, float]]:
    return {journey.name: journey.availability_range for journey in service.journeys if journey.since_fault}


def _rpo(service: ServiceCase) -> ObjectiveResult:
    limit, ledger = service.objectives.rpo, service.ledger
    if limit is None or ledger is None:
        return objective(
            f"{service.name}.rpo", inconclusive("no journey of this service keeps a ledger"), "not measured", str(limit)
        )
    return check_rpo(service.name, ledger, limit)


def _ledger(service: ServiceCase) -> ObjectiveResult:
    if service.ledger is None:
        raise LookupError(f"{service.name} keeps no ledger")
    rpo_judged = service.objectives.rpo is not None
    return check_ledger(service.name, service.ledger, linearizable=service.linearizable, rpo_judged=rpo_judged)


def _unless_cut(case: Case, judged: ObjectiveResult) -> ObjectiveResult:
    """What a service owes is not met in a run that was cut: what is missing of it might have changed that.

    Nor is a share missed that the rest of the run might have mended.
    """
    changeable = ("pass", "fail") if judged.id.endswith(".availability") else ("pass",)
    if judged.verdict not in changeable or not case.look.cut or not _is_promise(judged):
        return judged
    why = f"{judged.why or 'it held as far as the run went'}; that was ended early, after {seconds(case.watched_ns):.1f} s"
    return objective(judged.id, inconclusive(why), judged.measured, judged.objective)


def _is_promise(one: ObjectiveResult) -> bool:
    """Whether this is something that a service owes, rather than a premise of the run."""
    return one.id.rpartition(".")[2] in ("rto", "rpo", "failback", "availability", "ledger")


def _nothing_promised() -> ObjectiveResult:
    return objective("objectives", inconclusive("no service owes anything, so nothing was judged"), "none", "at least one")


# --- the result -------------------------------------------------------------------------------------------------


def _result(case: Case, objectives: list[ObjectiveResult]) -> Result:
    record, anchor = case.record, case.record.anchor
    services, broken_services = _figures(case.services, partial(service_result, case))
    journeys, broken_journeys = _figures(case.journeys, partial(journey_result, case))
    ledgers, broken_ledgers = _figures(case.services, _ledger_result)
    clocks, broken_clocks = _figures({"clocks": case}, clock_results)
    objectives = [*objectives, *broken_services, *broken_journeys, *broken_ledgers, *broken_clocks]
    reasons = [*_run_reasons(record), *((one.verdict, f"{one.id}: {one.why}") for one in objectives if one.verdict != "pass")]
    return Result(
        experiment=case.experiment.name,
        verdict=worst_of(verdict for verdict, _ in reasons),
        runtime=anchor.runtime if anchor else "unknown",
        started_at=anchor.wall if anchor else "unknown",
        duration_s=seconds(record.last_ns - record.first_ns),
        boot_s=phase_s(record, "boot"),
        overhead_s=overhead_s(case),
        faults=[fault_result(one, record.first_ns) for one in record.injections],
        services=services,
        journeys=journeys,
        ledger={name: ledger for name, ledger in ledgers.items() if ledger is not None},
        load=load_result(record.load),
        objectives=objectives,
        clocks=clocks.get("clocks", []),
        machine=MachineResult(**summary(case.starved)),
        reasons=[why for _, why in sorted(reasons, key=lambda reason: WORST_FIRST.index(reason[0]))],
        warnings=_warnings(case),
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


def _figures(of: Mapping[str, T], figure: Callable[[T], R]) -> tuple[dict[str, R], list[ObjectiveResult]]:
    """The figure of each; and where working one out broke, an error in its place."""
    figures: dict[str, R] = {}
    broken: list[ObjectiveResult] = []
    for name, one in of.items():
        try:
            figures[name] = figure(one)
        except Exception as bug:
            broken.append(objective(f"{name}.figures", crashed(bug), "not known", ""))
    return figures, broken


def _ledger_result(service: ServiceCase) -> LedgerResult | None:
    limit = service.objectives.rpo
    return service.ledger.result(limit.value if limit else None) if service.ledger else None


def _run_reasons(record: Record) -> list[Reason]:
    """What the rows themselves say about the run, whatever was measured."""
    reasons: list[Reason] = []
    if record.anchor is None:
        reasons.append(("error", "the history has no anchor: its first row is missing"))
    reasons += [("error", note.text) for note in record.notes if note.level == "error"]
    reasons += [("aborted", f"aborted: {row.condition} ({row.observed})") for row in record.aborts]
    reasons += [("inconclusive", f"interrupted: {note.text}") for note in record.notes if note.level == "interrupted"]
    reasons += [("inconclusive", note.text) for note in record.notes if note.level == "blind"]
    if not record.injections:
        reasons.append(("inconclusive", "no fault was injected"))
    return reasons


def _warnings(case: Case) -> list[str]:
    """What a person should know although no objective is about it."""
    warnings = [note.text for note in case.record.notes if note.level == "warning"]
    for name, service in case.services.items():
        if service.ledger and service.ledger.stale and not service.linearizable:
            warnings.append(f"{name}: {len(service.ledger.stale)} acknowledged writes were missing from a later read (stale)")
    for one in case.record.injections:
        if NOT_HIDDEN in one.detail:
            seen = f"{one.id}: connects behind its fence succeeded and then hung, where a real network loses them"
            warnings.append(f"{seen} (by link's end: {one.detail[NOT_HIDDEN]})")
    return warnings
