"""Consistency checks of an experiment: its times, and its names against those of the stack. Pure; reports, never raises."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from chaoslab.spec.fault import FaultBase
from chaoslab.spec.model import Experiment
from chaoslab.spec.objectives import measured_services, mode_of, objectives_for, promised_names, under_fault, watches_starts
from chaoslab.spec.probe_rate import LEDGER_MIN
from chaoslab.spec.stackfile.degraded_checks import check_degraded
from chaoslab.spec.stackfile.model import Objectives, StackSpec
from chaoslab.spec.stackfile.topology import Topology
from chaoslab.spec.step import BringAboutStep, StepBase
from chaoslab.spec.step_checks import check_steps
from chaoslab.spec.timeline import lasts_s
from chaoslab.spec.yaml.problems import suggest
from chaoslab.spec.yaml.report import Report

PROMISES = tuple(Objectives.model_fields)
LEDGER, STEADY_STATE, START_ORDER, ONE_WRITER = "ledger", "steady-state", "start-order", "one-writer"
_OBJECTIVE_FORM = "; name a service and rto, rpo, failback, restored, availability, pause, failed or ledger, such as web.rto"

Numbered = Sequence[tuple[int, FaultBase]]  # faults with their places in the timeline as written, from 0
Entries = Sequence[tuple[int, FaultBase | StepBase]]


def check_experiment(
    experiment: Experiment, entries: Entries, topology: Topology | None, report: Report, *, complete: bool
) -> None:
    """All checks. `entries`: of the timeline, with their places in it; `complete`: none was left out for being broken.

    Without a sound stack, and so without a topology, only the times are checked.
    """
    faults = [(number, entry) for number, entry in entries if isinstance(entry, FaultBase)]
    steps = [(number, entry) for number, entry in entries if isinstance(entry, StepBase)]
    first: dict[str, int] = {}
    for number, entry in entries:
        if entry.id in first:
            kind = "fault" if isinstance(entry, FaultBase) else "step"
            message = f"{kind} id {entry.id!r} is used twice; item {first[entry.id] + 1} of the timeline has it too"
            report(("timeline", number, "id"), message, "timeline.id-twice")
        first.setdefault(entry.id, number)
    _check_times(experiment, faults, topology, report, complete)
    check_steps(steps, faults, topology, report, complete=complete)
    if experiment.load is not None:
        experiment.load.check(report.below("load"))
        known = [fault.id for _, fault in faults]
        for id_ in experiment.load.under if complete else ():
            if id_ not in known:
                message = f"unknown fault {id_!r}{suggest(id_, known)}"
                report(("load", "under", id_), message, "load.fault-unknown", key=True)
    if topology is not None:
        _check_names(experiment, topology.spec, report)
        _check_objectives(experiment, entries, topology, report, complete)
        _check_expectation(experiment, entries, topology, report, complete)
        _check_heals(experiment, faults, topology.spec, report)
        for number, fault in faults:
            fault.check(topology, report.below("timeline", number))
        _check_what_is_judged(experiment, topology.spec, report)


def _check_times(experiment: Experiment, faults: Numbered, topology: Topology | None, report: Report, complete: bool) -> None:
    """Times that are impossible in any run."""
    objectives = [] if topology is None else [*objectives_for(experiment, topology.spec).values()]
    ends_s = {}  # when each is healed at the latest; infinite where it is not known
    for number, fault in faults:
        unknown = fault.heal_after is None or (fault.heals_at_recovery and not objectives)
        ends_s[number] = math.inf if unknown else fault.at + lasts_s(fault, objectives)
    for name in ("steady_state", "failback"):
        phase = getattr(experiment, name)
        if phase.hold > phase.within:
            message = f"{name} cannot hold for {phase.hold:g}s within {phase.within:g}s; raise within, or lower hold"
            report((name,), message, "phase.hold-beyond-within")
    over_s = max((ends_s[number] for number, fault in faults if fault.heal_after is not None), default=math.inf)
    for index, (number, fault) in enumerate(faults):
        path = ("timeline", number)
        fault.check_times(report.below(*path))
        if fault.heal_after == 0:
            message = f"fault {fault.id!r} heals at once; set how long it lasts, such as heal_after: 30s"
            report((*path, "heal_after"), message, "timeline.heals-at-once")
        if complete and fault.heal_after is None and fault.at >= over_s:  # it would last until the others are over
            message = f"fault {fault.id!r} begins at {fault.at:g}s, after all others are healed; set its heal_after"
            report((*path, "at"), message, "timeline.begins-too-late")
        for other_number, other in faults[:index]:
            together = fault.at < ends_s[other_number] and other.at < ends_s[number]
            if together and (fault.conflicts_with(other) or other.conflicts_with(fault)):
                message = (
                    f"fault {fault.id!r} conflicts with {other.id!r} (item {other_number + 1}), which is not healed by then"
                )
                report((*path, "at"), f"{message}; move one of them", "timeline.conflict")
                break


def _check_heals(experiment: Experiment, faults: Numbered, stack: StackSpec, report: Report) -> None:
    """A heal at recovery waits for a probed service with an RTO: there must be one.

    With a heal before an RTO is over, not back by then is no pass and no fail.
    """
    probed = stack.journeys if experiment.probe.journeys is None else experiment.probe.journeys
    services = dict.fromkeys(stack.journeys[name].service for name in probed if name in stack.journeys)
    objectives = objectives_for(experiment, stack)
    rtos = [objectives[name].rto for name in services]
    longest_s = max((rto.value for rto in rtos if rto is not None), default=0.0)
    for number, fault in faults:
        if fault.heals_at_recovery and all(under_fault(objectives[name], fault.id).rto is None for name in services):
            message = f"no service that is probed has an RTO under {fault.id!r}, so there is no recovery to wait for"
            cure = f"; give one of {', '.join(services) or 'the services'} an rto, or say how long the fault lasts, such as 30s"
            report(("timeline", number, "heal_after"), message + cure, "timeline.no-recovery")
        if isinstance(fault.heal_after, float) and 0 < fault.heal_after < longest_s:
            message = f"{fault.id} is healed after {fault.heal_after:g} s, before an RTO of {longest_s:g} s has passed"
            why = "a service that has not recovered by then is inconclusive; raise heal_after"
            report(("timeline", number, "heal_after"), f"{message}: {why}", "timeline.heals-before-rto", level="warning")


def _check_names(experiment: Experiment, stack: StackSpec, report: Report) -> None:
    """Conditions and journeys exist in the stack, and the probe rate is high enough for its ledgers."""
    _check_known(experiment.steady_state.conditions, report.below("steady_state", "conditions"), "condition", stack.conditions)
    in_the_end = report.below("failback", "conditions")
    _check_known(experiment.failback.conditions or (), in_the_end, "condition", stack.conditions)
    _check_known(experiment.probe.journeys or (), report.below("probe", "journeys"), "journey", stack.journeys)
    if not stack.journeys:
        message = "the stack has no journeys, so nothing would be measured; declare some under x-chaoslab.journeys"
        report(("stack",), message, "stack.no-journeys")
    probe, journeys = experiment.probe, stack.journeys
    names = [name for name in (journeys if probe.journeys is None else probe.journeys) if name in journeys]
    kept = [name for name in names if journeys[name].ledger is not None]
    if probe.rate is not None and probe.rate < LEDGER_MIN and kept:
        message = (
            f"rate {probe.rate:g} is too low for the ledger of {', '.join(kept)}: a fault would have few writes to destroy"
        )
        cure = f"; set {LEDGER_MIN:g} or more, or name other journeys in probe.journeys"
        report(("probe", "rate"), message + cure, "probe.rate-too-low")

    late = [name for name in names if probe.timeout is not None and journeys[name].good.within > probe.timeout]
    if probe.timeout is not None and late:
        message = f"a good answer of {', '.join(late)} may take longer than the timeout of {probe.timeout:g}s; raise timeout"
        report(("probe", "timeout"), message, "probe.timeout-below-good")


def _check_known(names: Iterable[str], report: Report, kind: str, known: Iterable[str]) -> None:
    for index, name in enumerate(names):
        if name not in known:
            hint = suggest(name, known) or f"; the stack declares no {kind}s"
            report((index,), f"unknown {kind} {name!r}{hint}", f"{kind}.unknown")


def _check_objectives(experiment: Experiment, entries: Entries, topology: Topology, report: Report, complete: bool) -> None:
    """Objectives for services that are measured, refined for faults and steps that there are."""
    measured, known = measured_services(topology.spec), {entry.id: entry for _, entry in entries}
    for name, wanted in experiment.objectives.items():
        if name not in measured and topology.of_service(name):
            message = f"no journey probes service {name!r}, so its objectives cannot be judged; measured: {', '.join(measured)}"
            report(("objectives", name), message, "objectives.not-measured", key=True)
        elif name not in measured:
            message = f"unknown service {name!r}{suggest(name, measured)}"
            report(("objectives", name), message, "objectives.service-unknown", key=True)
        for id_, own in wanted.under.items() if complete else ():
            at, entry = report.below("objectives", name, "under", id_), known.get(id_)
            if entry is None:
                at((), f"unknown fault {id_!r}{suggest(id_, known)}", "objectives.fault-unknown", key=True)
            if not isinstance(entry, StepBase):
                continue
            if experiment.faults and not isinstance(entry, BringAboutStep):  # it is no event, so nothing is counted from it
                message = (
                    f"step {id_!r} responds to a fault: its time counts under that fault, so it has no objectives of its own"
                )
                at((), message, "objectives.of-remedy", key=True)
            for promise in ("rto", "unaffected"):  # no step is a fault that services recover from
                if promise in own.model_fields_set:
                    message = f"{id_!r} is a step, which has no {promise}; write failback, pause or failed"
                    at((promise,), message, "objectives.not-of-step", key=True)


def _check_what_is_judged(experiment: Experiment, stack: StackSpec, report: Report) -> None:
    """Degraded modes that the experiment changes, and services whose journeys leave nothing that an RTO or RPO could judge."""
    for name, wanted in experiment.objectives.items():
        check_degraded(wanted.degraded, stack.journeys, [name], name, report.below("objectives", name, "degraded"))
    probed = stack.journeys if experiment.probe.journeys is None else experiment.probe.journeys
    for service, wanted in objectives_for(experiment, stack).items():
        own = {name: stack.journeys[name] for name in probed if name in stack.journeys}
        own = {name: journey for name, journey in own.items() if journey.service == service}
        written = experiment.objectives.get(service)
        has_rto = any(layer.rto is not None for layer in (wanted, *wanted.under.values()))
        if has_rto and own and all(mode_of(name, wanted) == "allowed" for name in own):
            path = ("objectives", service, "degraded") if written is not None and written.degraded else ("stack",)
            message = f"{service} has an RTO, but each of its journeys ({', '.join(own)}) may fail while a fault is active"
            report(path, f"{message}, so nothing would be judged; require one of them, or set rto: null", "degraded.no-rto")
        if wanted.rpo is not None and own and all(journey.ledger is None for journey in own.values()):
            is_own = written is not None and "rpo" in written.model_fields_set
            message = (
                f"{service} has an RPO, but none of its journeys has a ledger: RPO not measured, so the run is inconclusive"
            )
            cure = "give one a ledger, or set rpo: null"
            path = ("objectives", service, "rpo") if is_own else ("stack",)
            report(path, f"{message}; {cure}", "objectives.rpo-not-measured", level="warning")


def _check_expectation(experiment: Experiment, entries: Entries, topology: Topology, report: Report, complete: bool) -> None:
    """Objectives that are expected to fail exist and can fail."""
    stack = topology.spec
    objectives = objectives_for(experiment, stack)
    possible = {f"{name}.{promise}" for name in objectives for promise in PROMISES}
    planned = complete and experiment.is_planned_change
    promised = {f"{name}.{own}" for name, one in objectives.items() for own in promised_names(one, planned_change=planned)}
    others = {f"{'fault' if isinstance(entry, FaultBase) else 'step'}.{entry.id}" for _, entry in entries}
    returns = [*(entry.id for _, entry in entries if isinstance(entry, FaultBase)), *experiment.conditions_in_the_end]
    others |= {f"failback.{id_}" for id_ in returns}  # its replicas are healthy again, or it holds again
    others |= {f"restore.{step.id}" for step in experiment.steps if step.restores}
    known = promised | others | {STEADY_STATE, *(f"{name}.{LEDGER}" for name in objectives)}
    known |= {f"{ONE_WRITER}.{topology.replica(name).service}" for name in stack.writers}
    known |= {START_ORDER} if watches_starts(experiment, stack) else set()
    for index, name in enumerate(experiment.expect.objectives if experiment.expect else ()):
        if name in known or (name.startswith(("fault.", "step.", "failback.", "restore.")) and not complete):
            continue
        if name in possible:
            service, _, promise = name.rpartition(".")
            message = f"{service} has no {promise} objective here, so {name} cannot fail; add it to the objectives of {service}"
        else:
            message = f"unknown objective {name!r}{suggest(name, known) or _OBJECTIVE_FORM}"
        report(("expect", "objectives", index), message, "expect.objective-unknown")
