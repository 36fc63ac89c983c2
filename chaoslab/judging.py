"""From a run folder to its result: the one way, for a run that just ended and for one that is judged again."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from chaoslab.events import Anchor, AnyRow, PhaseRow
from chaoslab.record import Record
from chaoslab.result import Result
from chaoslab.spec.model import Experiment, StackSpec
from chaoslab.spec.resolved import load_resolved
from chaoslab.store import RunFolder
from chaoslab.verdict import judge_safely

OnCrash = Callable[[Exception], object]


def judge_stored(folder: RunFolder, on_crash: OnCrash) -> Result:
    """The verdict on a stored run, from its history and its resolved spec alone. Raises ChaoslabError when they are broken.

    A judge that crashes is a result with the verdict error; `on_crash` is given what it crashed with.
    """
    return judge_rows(*load_resolved(folder.experiment), folder.read_rows(), on_crash)[0]


def judge_rows(
    experiment: Experiment, stack: StackSpec, rows: Iterable[AnyRow], on_crash: OnCrash
) -> tuple[Result, Record | None]:
    """The verdict on a history, and what was kept of its rows; see `judge_safely`."""
    result, record = judge_safely(experiment, stack, rows, on_crash)
    told = record.told if record else [row for row in rows if isinstance(row, Anchor | PhaseRow)]
    return _with_origin(_with_cleanup(result, told), told), record


def _with_cleanup(result: Result, rows: Iterable[AnyRow]) -> Result:
    ends = [row.detail for row in rows if isinstance(row, PhaseRow) and row.phase == "down" and row.event == "end"]
    left = sorted({text for detail in ends for text in detail.get("left", ())})
    cleanup = "incomplete" if left or not ends else "kept" if ends[-1].get("kept") else "complete"
    return msgspec.structs.replace(result, cleanup=cleanup, left_behind=left)


def _with_origin(result: Result, rows: Iterable[AnyRow]) -> Result:
    """On what it ran and how to run it again, as the run's own first row says."""
    facts = next((row.facts for row in rows if isinstance(row, Anchor)), {})
    versions = {str(name): str(version) for name, version in facts.get("versions", {}).items()}
    return msgspec.structs.replace(result, versions=versions, seed=facts.get("seed"), command=facts.get("command", ""))
