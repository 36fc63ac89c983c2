"""How long the runs of an experiment took: from the stored runs on this machine, and from a file next to the suite.

`experiments/gameday/<suite>.durations.json` maps experiments to seconds. It is committed with the suite, so that every machine
divides a game day into the same shards.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec

from chaoslab.errors import ChaoslabError, ExitCode, SpecError
from chaoslab.gameday.journal import read_journal, state_of
from chaoslab.history.folder import LATEST, RunFolder
from chaoslab.history.writer import write_errors
from chaoslab.spec.yaml.problems import Place, Problem, shown_path

_Durations = dict[str, Annotated[float, msgspec.Meta(gt=0)]]
_TOLD = {ExitCode.PASS, ExitCode.FAIL, ExitCode.INCONCLUSIVE, ExitCode.UNCLEAN}  # verdicts of runs that went to their end


def durations_file(suite: Path) -> Path:
    """The file of a suite's durations."""
    return suite.with_suffix(".durations.json")


def read_durations(suite: Path) -> tuple[dict[str, float], list[Problem]]:
    """Seconds of a run by experiment, and what is wrong with the file; both empty if there is no file."""
    file = durations_file(suite)
    try:
        return msgspec.json.decode(file.read_bytes(), type=_Durations), []
    except FileNotFoundError:
        return {}, []
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as broken:
        message = f"not a mapping of experiments to seconds: {broken}; `chaoslab gameday durations DIR` writes it"
        return {}, [Problem.at(Place(shown_path(file), 1, 1), message, "suite.durations")]


def write_durations(nights: Sequence[Path], suite: Path) -> dict[str, float]:
    """Write the median durations of game days' runs into the suite's file; experiments without a run keep their seconds.

    `nights`: their folders. Returns what was written. Raises SpecError if one is not a game day of this suite, or no run went
    to its end; EnvironmentFault if the file cannot be written.
    """
    seconds: dict[str, list[float]] = {}
    for folder in nights:
        state = state_of(read_journal(folder))
        if state.opened.suite != suite.stem:
            raise SpecError(f"{folder} is a game day of the suite {state.opened.suite}, not of {suite.stem}")
        for case in state.opened.mine:
            ended = state.ended.get(case.id)
            if ended is not None and not ended.why and ended.exit_code in _TOLD:
                seconds.setdefault(case.experiment, []).append(ended.seconds)
    if not seconds:
        raise SpecError("no run of these game days finished, so nothing was measured")
    kept, _ = read_durations(suite)
    found = kept | {name: round(statistics.median(measured), 1) for name, measured in seconds.items()}
    file = durations_file(suite)
    with write_errors(file):
        file.write_bytes(msgspec.json.format(msgspec.json.encode(found, order="sorted"), indent=2) + b"\n")
    return found


def measured_s(experiment: str, root: Path) -> list[float]:
    """How long the stored runs of an experiment took, in seconds, the oldest first; interrupted ones do not count."""
    folders = [*root.glob(f"{experiment}/*/result.json"), *root.glob(f"gameday/*/*/runs/{experiment}/*/result.json")]
    found = []
    for path in sorted(folders, key=lambda path: path.parent.name):
        if path.parent.name != LATEST:
            with contextlib.suppress(ChaoslabError):
                result = RunFolder(path.parent).read_result()
                found += [] if result.interrupted else [result.duration_s]
    return found
