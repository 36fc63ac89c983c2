"""An experiment as it was resolved, with its stack's section, as one YAML file: enough to judge a stored run again."""

from __future__ import annotations

import contextlib
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from chaoslab.redact import Secrets
from chaoslab.spec.fault import UnknownFault
from chaoslab.spec.fault_types import fault_types
from chaoslab.spec.model import Experiment
from chaoslab.spec.stackfile.model import StackSpec
from chaoslab.spec.yaml.partial import validate
from chaoslab.spec.yaml.problems import Problem, SpecErrors
from chaoslab.spec.yaml.scalars import read_plain, surprise
from chaoslab.spec.yaml.source import read

FORMAT = "chaoslab/resolved/v1"


def resolved_yaml(experiment: Experiment, stack: StackSpec, secrets: Secrets | None = None) -> str:
    """Every value written out, defaults included; thresholds and durations as text. Reads back as equal objects.

    With `secrets`, those are covered; judging needs none of them.
    """
    data: dict[str, Any] = {
        "format": FORMAT,
        "experiment": experiment.model_dump(mode="json", by_alias=True),
        "stack": stack.model_dump(mode="json", by_alias=True),
    }
    data = secrets.tree(data) if secrets else data
    text: str = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text


def spec_sha256(resolved: bytes) -> str:
    """The hash of a resolved experiment as `resolved_yaml` wrote it: it says which experiment a run was one of."""
    return sha256(resolved).hexdigest()


def load_resolved(path: Path) -> tuple[Experiment, StackSpec]:
    """Read what `resolved_yaml` wrote; a fault whose package is not here is an UnknownFault.

    Raises SpecErrors when the file is broken or of another format.
    """
    document = read(path)
    data = document.data if isinstance(document.data, dict) else {}
    if data.get("format") != FORMAT:
        message = f"this is not a resolved experiment ({FORMAT}); name the folder of a run, as in runs/idc-fire/latest"
        raise SpecErrors([Problem.at(document.value_at(("format",)), message, "resolved.format")])
    written = data.get("experiment")
    if isinstance(written, dict) and isinstance(written.get("timeline"), list):
        timeline = [*written["timeline"]]
        for index, fault in enumerate(timeline):
            if isinstance(fault, dict) and isinstance(fault.get("fault"), str) and fault["fault"] not in fault_types():
                with contextlib.suppress(ValidationError):  # what else is wrong with it is found below
                    timeline[index] = UnknownFault.model_validate(fault)
        written = {**written, "timeline": timeline}
    experiment = validate(Experiment, written, document, under=("experiment",), stand_ins={})
    stack = validate(StackSpec, data.get("stack"), document, under=("stack",), stand_ins={})
    problems = [*document.problems, *experiment.problems, *stack.problems]
    if problems or experiment.value is None or stack.value is None:
        raise SpecErrors(problems)
    return experiment.value, stack.value


class _Dumper(yaml.SafeDumper):
    """Quotes every text that would be read as something else, and repeats instead of using aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_text(self, text: str) -> yaml.ScalarNode:
        odd = not isinstance(read_plain(text), str) or surprise(text) is not None or not text.isprintable()
        return self.represent_scalar("tag:yaml.org,2002:str", text, style='"' if odd else None)


_Dumper.add_representer(str, _Dumper.represent_text)
