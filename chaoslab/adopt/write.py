"""Writes a plan as files: an overlay, an experiment, a locustfile. If one exists, nothing is written."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import jinja2

from chaoslab.adopt.plan import Plan
from chaoslab.errors import EnvironmentFault, SpecError
from chaoslab.spec.yaml.scalars import read_plain, surprise

OVERLAY, EXPERIMENT = Path("chaoslab.yaml"), Path("experiments/first-fire.yaml")
LOCUSTFILE, IGNORE = Path("experiments/load/first_fire.py"), Path("runs/.gitignore")
_PLAIN = re.compile(r"[A-Za-z_][\w.-]*")
_LINE_MAX = 160
_HOLD_S = 15  # longer than the ten seconds for which many proxies leave a replica out before they retry it


def files_of(
    plan: Plan, compose: Sequence[Path], folder: Path, *, has_locust: bool, enabled: Collection[str] = ()
) -> dict[Path, str]:
    """The text of each file, by its path below `folder`. `enabled`: services that a profile would leave out."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("chaoslab.adopt", "."),
        autoescape=False,  # noqa: S701 - these are YAML and Python, whose values are quoted below
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    made.filters |= {"q": _word, "quoted": _quoted, "line": _line, "python": repr}
    experiments = folder / EXPERIMENT.parent
    data_volumes = [volume for one in plan.placed for volume in one.data.values()]
    first = {one.service: one.name for one in reversed(plan.placed)}
    values = {
        "plan": plan,
        "notes": {
            one.name: [note for note in plan.notes if first.get(note.about, note.about) == one.name] for one in plan.placed
        },
        "compose": [file.name for file in compose],
        "base": os.path.relpath(compose[0], folder),
        "stack": [os.path.relpath(file, experiments) for file in (*compose, folder / OVERLAY)],
        "measured": list(dict.fromkeys(journey.service for journey in plan.journeys)),
        "data_volumes": list(dict.fromkeys(data_volumes)),
        "volumes": [*plan.own_volumes, *data_volumes],
        "enabled": enabled,
        "has_locust": has_locust,
        "is_single": len(plan.placed) == 1,
        "fire_s": plan.rto_s + 2 * _HOLD_S,  # a proxy that loses a request at each retry is observed for longer
        "hold_s": _HOLD_S,
    }
    texts = {path: made.get_template(f"{name}.j2").render(values) for path, name in _TEMPLATES.items()}
    return {path: text.rstrip("\n") + "\n" for path, text in texts.items()} | {IGNORE: "*\n"}


_TEMPLATES = {OVERLAY: "overlay.yaml", EXPERIMENT: "first-fire.yaml", LOCUSTFILE: "first_fire.py"}


def write_new(folder: Path, files: Mapping[Path, str]) -> None:
    """Write all of them. Raises SpecError if one exists, before anything is written."""
    taken = [str(path) for path in files if path != IGNORE and os.path.lexists(folder / path)]
    if taken:
        message = f"{', '.join(taken)}: already there, and `init` never changes a file"
        raise SpecError(message, cure=f"remove or rename {'it' if len(taken) == 1 else 'them'} first, or edit by hand")
    made: list[Path] = []
    try:
        for path, text in files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if path == IGNORE and os.path.lexists(target):
                continue
            with target.open("x", encoding="utf-8") as file:
                made.append(target)
                file.write(text)
    except OSError as broken:  # also a file where a folder should be, and a file that was created just now
        for target in made:
            target.unlink(missing_ok=True)
        raise EnvironmentFault(
            f"cannot write {broken.filename or target}, so nothing was written: {broken.strerror}"
        ) from broken


def _word(text: object) -> str:
    """A YAML scalar that reads back as this text, unquoted if that is safe."""
    value = str(text)
    safe = _PLAIN.fullmatch(value) and isinstance(read_plain(value), str) and surprise(value) is None
    return value if safe else _quoted(value)


def _quoted(text: object) -> str:
    return json.dumps(str(text), ensure_ascii=False)


def _line(text: object) -> str:
    """A comment: one line, not too long."""
    value = re.sub(r"[^ -~\xa1-\ud7ff]+", " ", " ".join(str(text).split()))
    return value if len(value) <= _LINE_MAX else value[: _LINE_MAX - 1] + "…"
