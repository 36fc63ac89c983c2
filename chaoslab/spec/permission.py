"""Whether the commands of a spec (`exec` faults, steps, conditions) and the classes of its journeys may run.

They do only in the repository of the spec, or when allowed.
"""

from __future__ import annotations

from pathlib import Path

from chaoslab.errors import SpecError
from chaoslab.spec.load import Loaded
from chaoslab.spec.repository import is_own, repository_of

_OPTION = "--allow-exec"


def unpermitted_commands(loaded: Loaded, working_folder: Path) -> str | None:
    """Why the commands of this experiment need permission, in words; None when it has none or they are our own."""
    named: dict[str, list[str]] = {}  # ids by kind
    for fault in loaded.experiment.faults:
        if fault.runs_commands:
            named.setdefault(fault.fault, []).append(fault.id)
    for name, journey in loaded.compose.spec.journeys.items():
        if journey.python is not None:
            named.setdefault("python", []).append(f"{journey.python.class_} of {name}")
    for name, condition in loaded.compose.spec.conditions.items():
        looks = [condition, condition.bring_about, *(condition.bring_about.values.values() if condition.bring_about else ())]
        if any(look is not None and look.run is not None for look in looks):
            named.setdefault("condition", []).append(name)
    for step in loaded.experiment.steps:
        if step.runs_commands:
            named.setdefault("step", []).append(step.id)
    if not named or is_own(loaded.file, working_folder):
        return None
    project = repository_of(working_folder)
    where = f"lies outside this project ({project})" if project else "is outside any project: this folder is not in one"
    commands = "; ".join(f"{kind} {', '.join(ids)}" for kind, ids in named.items())
    return f"{loaded.file} {where}, and would run its own commands as your user: {commands}"


def require_permission(loaded: Loaded, working_folder: Path, *, allowed: bool) -> None:
    """Raises SpecError where commands of a spec that is not the project's own would run without permission."""
    why = None if allowed else unpermitted_commands(loaded, working_folder)
    if why is not None:
        raise SpecError(why, cure=f"read what they do, then: chaoslab run … {_OPTION}")
