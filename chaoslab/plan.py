"""What a run would do, in words: resolved targets and times, for `--dry-run`. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from chaoslab.schedule import end_of, schedule
from chaoslab.spec.load import Loaded
from chaoslab.spec.model import FaultBase, Objectives
from chaoslab.spec.objectives import objectives_for
from chaoslab.stack.topology import Topology


def describe(loaded: Loaded, runtime: str, why: str, warning: str | None = None, *, foreign: bool = False) -> str:
    """The plan of a run as lines for people. `warning`: why its commands need permission, if they do.

    `foreign`: the spec is somebody else's, so every command that the stack would start is shown too.
    """
    return "\n".join(_lines(loaded, runtime, why, warning, foreign))


def _lines(loaded: Loaded, runtime: str, why: str, warning: str | None, foreign: bool) -> Iterator[str]:
    experiment, topology = loaded.experiment, loaded.compose.topology()
    objectives = objectives_for(experiment, loaded.compose.spec)
    yield f"{experiment.name}: {experiment.title}"
    if warning is not None:
        yield f"  note      {warning}; it runs with --allow-exec only"
    yield from (f"  starts    {replica}: {command}" for replica, command in _commands(loaded) if foreign)
    yield f"  claims    {experiment.hypothesis}"
    yield f"  runtime   {runtime} ({why})"
    for place in topology.places:
        yield f"  {place:<9} {', '.join(replica.name for replica in topology.in_site(place))}"
    if experiment.load is not None:
        yield f"  load      {experiment.load.users} users of {experiment.load.locustfile.name}"
    steady = experiment.steady_state
    yield f"  steady    holds {steady.hold:g} s within {steady.within:g} s"
    yield f"  needs     {', '.join(steady.conditions) or 'no condition'}"
    by_id = {fault.id: fault for fault in experiment.timeline}
    for action in schedule(experiment.timeline, list(objectives.values())):
        yield f"  {action.at_s:>7.1f} s {action.verb} {_fault_in_words(by_id[action.fault_id], topology)}"
    yield f"  {end_of(experiment.timeline, list(objectives.values())):>7.1f} s failback; then every site's ledgers are read"
    for service, wanted in objectives.items():
        yield f"  objective {service}: {_objectives_in_words(wanted)}"


def _commands(loaded: Loaded) -> Iterator[tuple[str, str]]:
    """What each replica runs as a process, as written."""
    for name, service in loaded.compose.services.items():
        override = loaded.compose.spec.processes.get(name)
        said = (override and override.command) or service.get("command") or service.get("image") or "its image"
        yield name, said if isinstance(said, str) else " ".join(map(str, said))


def _fault_in_words(fault: FaultBase, topology: Topology) -> str:
    site, service = getattr(fault, "site", None), getattr(fault, "service", None)
    hit = topology.of_service(service, site) if service is not None else topology.in_site(site or "")
    names = f" [{', '.join(replica.name for replica in hit)}]" if hit else ""
    return f"{fault.id}: {fault.fault} {fault.target}{names}"


def _objectives_in_words(wanted: Objectives) -> str:
    said = {"rto": wanted.rto, "rpo": wanted.rpo, "failback": wanted.failback, "availability": wanted.availability}
    words = [f"{name} {threshold}" for name, threshold in said.items() if threshold is not None]
    return ", ".join(words + (["unaffected"] if wanted.unaffected else [])) or "none"
