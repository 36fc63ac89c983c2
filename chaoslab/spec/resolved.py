"""An experiment as it was resolved, with its stack's section, as one YAML file: enough to judge a stored run again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from chaoslab.masking import Secrets
from chaoslab.spec.model import Experiment, StackSpec
from chaoslab.spec.partial import validate
from chaoslab.spec.problems import Problem, SpecErrors
from chaoslab.spec.scalars import read_plain, surprise
from chaoslab.spec.source import Document, read

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


def load_resolved(path: Path) -> tuple[Experiment, StackSpec]:
    """Read what `resolved_yaml` wrote. Raises SpecErrors when the file is broken or of another format."""
    document = read(path)
    data = document.data if isinstance(document.data, dict) else {}
    if data.get("format") != FORMAT:
        message = f"this is no resolved experiment ({FORMAT}); name the folder of a run, as in runs/idc-fire/latest"
        raise SpecErrors([Problem.at(document.value_at(("format",)), message)])
    experiment = _part(document, "experiment", Experiment)
    stack = _part(document, "stack", StackSpec)
    problems = [*document.problems, *experiment.problems, *stack.problems]
    if problems or experiment.value is None or stack.value is None:
        raise SpecErrors(problems)
    return experiment.value, stack.value


def _part(document: Document, key: str, model: Any) -> Any:
    return validate(model, document.data.get(key), document, under=(key,), stand_ins={})


class _Dumper(yaml.SafeDumper):
    """Quotes every text that would be read as something else, and repeats instead of using aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    odd = not isinstance(read_plain(text), str) or surprise(text) is not None or not text.isprintable()
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if odd else None)


_Dumper.add_representer(str, _text)
