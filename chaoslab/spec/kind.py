"""What a YAML file is that was named where an experiment is wanted, and what to do with it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from chaoslab.spec.project import SUITES
from chaoslab.spec.resolved import FORMAT
from chaoslab.spec.yaml.source import EXTENSION

Kind = Literal["experiment", "suite", "runbook", "compose-file", "overlay", "record"]
_SERVICES_SHOWN = 5


def kind_of(data: Any) -> Kind:
    """By the keys at its top; anything that cannot be identified is taken for an experiment."""
    if not isinstance(data, dict):
        return "experiment"
    if data.get("format") == FORMAT:
        return "record"
    if "timeline" in data or "stack" in data:
        return "experiment"
    kinds: dict[str, Kind] = {"experiments": "suite", "steps": "runbook", "services": "compose-file", EXTENSION: "overlay"}
    return next((kind for key, kind in kinds.items() if key in data), "experiment")


def instead_of_an_experiment(file: Path, data: Mapping[str, Any]) -> str | None:
    """What the file is, and what to do with it, as one sentence; None where it is an experiment."""
    match kind_of(data):
        case "suite":
            named = file.stem if file.resolve().parent.parts[-2:] == SUITES.parts else file
            return f"this is a suite of experiments, not an experiment; run it with: chaoslab gameday {named}"
        case "runbook":
            item = f"{{id: {file.stem}, after: fire, runbook: {file.name}}}"
            return f"this is a runbook, not an experiment; an experiment uses it as an item of its timeline, such as {item}"
        case "compose-file":
            services = [str(name) for name in data["services"]] if isinstance(data["services"], dict) else []
            shown = ", ".join([*services[:_SERVICES_SHOWN], *(["…"] if len(services) > _SERVICES_SHOWN else [])])
            count = f"{len(services)} service{'s' * (len(services) != 1)}"
            what = f"this is a Compose file with {count} ({shown}), not an experiment"
            if EXTENSION not in data:
                return (
                    f"{what}, but it does not say which service is in which site. `chaoslab init`, in its folder, writes a"
                    " chaoslab.yaml that does, and a first experiment that uses both"
                )
        case "overlay":
            what = f"this is the {EXTENSION} section of a stack, not an experiment"
        case "record":
            what = "this is what a run recorded, not an experiment"
            return f"{what}; to judge that run again: chaoslab analyze {file.parent}"
        case _:
            return None
    return f"{what}; an experiment names it under `stack`. To check it: chaoslab check {file}"
