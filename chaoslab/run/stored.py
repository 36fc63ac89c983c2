"""From a run's folder to its result: the same way for a run that just ended and for one that is judged again."""

from __future__ import annotations

import msgspec

from chaoslab.history.folder import RunFolder
from chaoslab.history.result import Result
from chaoslab.judge.verdict import OnCrash, judge_rows
from chaoslab.spec.resolved import load_resolved, spec_sha256


def judge_stored(folder: RunFolder, on_crash: OnCrash = lambda _: None) -> Result:
    """The verdict on a stored run, from its history and its resolved spec alone; nothing is written.

    A judge that crashes is a result with the verdict error; `on_crash` is given what it crashed with.
    Raises ChaoslabError when the history or the spec is missing or broken.
    """
    result, _ = judge_rows(*load_resolved(folder.experiment), folder.read_rows(), on_crash)
    return msgspec.structs.replace(result, spec_sha256=spec_sha256(folder.experiment.read_bytes()))
