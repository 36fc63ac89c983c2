"""What a run would do: resolved targets and times, for `--dry-run`. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from chaoslab.spec.fault import FaultBase
from chaoslab.spec.load import Loaded
from chaoslab.spec.objectives import objectives_for
from chaoslab.spec.probe_rate import probe_rate
from chaoslab.spec.stackfile.model import FaultObjectives
from chaoslab.spec.stackfile.topology import Topology
from chaoslab.spec.step import StepBase
from chaoslab.spec.timeline import end_of, schedule

_MAY = {"allowed": "fail", "queued": "be queued"}


def describe(
    loaded: Loaded,
    runtime: str,
    why: str,
    warning: str | None = None,
    *,
    unfamiliar: bool = False,
    limits: Sequence[str] = (),
) -> str:
    """What a run would do, as lines for people. `warning`: why its commands need permission, if they do.

    `unfamiliar`: the spec is not of this project, so every command that the stack would start is shown too.
    `limits`: what a run on this runtime cannot show, in sentences.
    """
    experiment, topology = loaded.experiment, loaded.compose.topology()
    objectives = objectives_for(experiment, loaded.compose.spec)
    lines = [f"{experiment.name}: {experiment.title}"]
    if warning is not None:
        lines.append(f"  note      {warning}; it runs only with --allow-exec")
    if unfamiliar:
        lines += [f"  starts    {replica}: {command}" for replica, command in _commands(loaded)]
    lines += [f"  claims    {experiment.hypothesis}", f"  runtime   {runtime} ({why})"]
    lines += [f"  limit     {limit}" for limit in limits]
    for place in topology.places:
        lines.append(f"  {place:<9} {', '.join(replica.name for replica in topology.in_site(place))}")
    if experiment.load is not None:
        under = "".join(f", {more.users} while {id_} is active" for id_, more in experiment.load.under.items())
        lines.append(f"  load      {experiment.load.users} users of {experiment.load.locustfile.name}{under}")
    lines.append(f"  probe     {', '.join(_probed(loaded))}; each {probe_rate(experiment, loaded.compose.spec)}")
    steady = experiment.steady_state
    lines.append(f"  steady    holds {steady.hold:g} s within {steady.within:g} s")
    lines.append(f"  needs     {', '.join(steady.conditions) or 'no condition'}")
    if experiment.failback.conditions is not None:
        lines.append(f"  in end    {', '.join(experiment.failback.conditions) or 'no condition'}")
    words: dict[str, str] = {}
    for fault in experiment.faults:
        hit = _replicas_hit(fault, topology)
        names = f" [{', '.join(hit)}]" if hit else ""
        words[fault.id] = f"{fault.id}: {fault.fault} {fault.target}{names}{_settings_in_words(fault)}"
    for step in experiment.steps:  # one that comes after another is listed at the latest instant at which it begins
        latest = " at the latest" if step.after or step.after_heal else ""
        words[step.id] = f"{step.id}{latest}: {step.kind} {step.target}{_settings_in_words(step)}"
    actors = (experiment.faults, list(objectives.values()), experiment.steps)
    for action in schedule(*actors):
        latest = f" at recovery, at the latest at {action.at_s:g} s:" if action.latest else ""
        lines.append(f"  {action.at_s:>7.1f} s {action.verb}{latest} {words[action.id]}")
    lines += [f"  {advice.level:<9} {advice.message}" for advice in loaded.advice]
    early = " at the latest" if any(fault.heals_at_recovery for fault in experiment.faults) else ""
    lines.append(f"  {end_of(*actors):>7.1f} s failback{early}; then every site's ledgers are read")
    for service, wanted in objectives.items():
        refined = [f"under {fault}: {_promises(promised)}" for fault, promised in wanted.under.items()]
        degraded = {journey: mode for journey, mode in wanted.degraded.items() if mode != "required"}
        modes = [f"{journey} may {_MAY[mode]} while a fault is active" for journey, mode in degraded.items()]
        lines.append(f"  objective {service}: {'; '.join([_promises(wanted), *refined, *modes])}")
    return "\n".join(lines)


def describe_as_data(
    loaded: Loaded,
    runtime: str,
    why: str,
    warning: str | None = None,
    *,
    unfamiliar: bool = False,
    limits: Sequence[str] = (),
) -> dict[str, Any]:
    """The same for machines; times are seconds from the end of the steady state. With `at_recovery`, at the latest then."""
    experiment, topology = loaded.experiment, loaded.compose.topology()
    objectives = objectives_for(experiment, loaded.compose.spec)
    rate = probe_rate(experiment, loaded.compose.spec)
    told: dict[str, dict[str, Any]] = {
        fault.id: {"fault": fault.fault, "target": fault.target, "replicas": _replicas_hit(fault, topology)}
        | {"with": dict(_settings_of(fault))}
        for fault in experiment.faults
    }
    told |= {step.id: {"step": step.kind, "target": step.target, "with": dict(_settings_of(step))} for step in experiment.steps}
    timeline = [
        {"at_s": action.at_s, "verb": action.verb, "id": action.id, **told[action.id]}
        | ({"at_recovery": True} if action.latest else {})
        for action in schedule(experiment.faults, list(objectives.values()), experiment.steps)
    ]
    return {
        "experiment": experiment.name,
        "runtime": runtime,
        "why": why,
        "limits": [*limits],
        "warning": warning,
        "starts": dict(_commands(loaded)) if unfamiliar else {},
        "places": {place: [replica.name for replica in topology.in_site(place)] for place in topology.places},
        "probe": {"journeys": _probed(loaded), "rate": rate.per_s, "why": rate.why},
        "timeline": timeline,
        "failback_at_s": end_of(experiment.faults, list(objectives.values()), experiment.steps),
        "objectives": {
            name: _promises_as_data(wanted)
            | ({"degraded": dict(wanted.degraded)} if wanted.degraded else {})
            | (
                {"under": {fault: _promises_as_data(promised) for fault, promised in wanted.under.items()}}
                if wanted.under
                else {}
            )
            for name, wanted in objectives.items()
        },
    }


def _promises_as_data(wanted: FaultObjectives) -> dict[str, Any]:
    return {**_thresholds(wanted), "unaffected": wanted.unaffected}


def _probed(loaded: Loaded) -> list[str]:
    """The journeys that are probed."""
    named = loaded.experiment.probe.journeys
    return [*loaded.compose.spec.journeys] if named is None else named


def _commands(loaded: Loaded) -> Iterator[tuple[str, str]]:
    """What each replica runs as a process, as written."""
    for name, service in loaded.compose.services.items():
        override = loaded.compose.spec.processes.get(name)
        command = (override and override.command) or service.get("command") or service.get("image") or "its image"
        yield name, command if isinstance(command, str) else " ".join(map(str, command))


def _settings_in_words(entry: FaultBase | StepBase) -> str:
    words = []
    for key, value in _settings_of(entry):
        is_command = isinstance(value, list) and all(isinstance(word, str) for word in value)
        words.append(f"; {key} {shlex.join(value) if is_command else value}")
    return "".join(words)


def _replicas_hit(fault: FaultBase, topology: Topology) -> list[str]:
    site, service = getattr(fault, "site", None), getattr(fault, "service", None)
    hit = topology.of_service(service, site) if service is not None else topology.in_site(site or "")
    return [replica.name for replica in hit]


def _settings_of(entry: FaultBase | StepBase) -> Iterator[tuple[str, Any]]:
    """What is particular to this entry, as it is written in a spec; its name, target and times are shown elsewhere."""
    fields = entry.target_fields if isinstance(entry, FaultBase) else (entry.kind, "owner")
    elsewhere = {"id", "at", "heal_after", "fault", *fields}
    yield from entry.model_dump(mode="json", by_alias=True, exclude=elsewhere, exclude_none=True, exclude_defaults=True).items()


def _promises(wanted: FaultObjectives) -> str:
    words = [f"{name} {threshold}" for name, threshold in _thresholds(wanted).items()]
    words += {True: ["unaffected"], False: [], "allowed": ["unaffected allowed"]}[wanted.unaffected]
    return ", ".join(words) or "none"


def _thresholds(wanted: FaultObjectives) -> dict[str, str]:
    names = ("rto", "rpo", "failback", "restored", "availability", "pause", "failed")
    thresholds = {name: getattr(wanted, name, None) for name in names}
    return {name: str(threshold) for name, threshold in thresholds.items() if threshold is not None}
