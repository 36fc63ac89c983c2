"""What a game day will run, how long that takes according to past runs, and how it is divided between machines. Pure."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from chaoslab.errors import SpecError
from chaoslab.spec.load import Loaded
from chaoslab.spec.objectives import objectives_for
from chaoslab.spec.timeline import end_of

BOOT_AND_DOWN_S = 30.0  # what a run takes beyond its script, until one was measured
# The variables of CI systems for the number of this machine and for the number of machines, and where they begin to count.
ENVIRONMENTS: tuple[tuple[str, str, int], ...] = (
    ("CHAOSLAB_SHARD_INDEX", "CHAOSLAB_SHARD_TOTAL", 1),
    ("CI_NODE_INDEX", "CI_NODE_TOTAL", 1),  # GitLab, parallel:
    ("JOB_COMPLETION_INDEX", "JOB_COMPLETIONS", 0),  # Kubernetes, indexed jobs; the second is set in the job's template
    ("NOMAD_ALLOC_INDEX", "NOMAD_GROUP_COUNT", 0),  # Nomad; the second is set in the task's template
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", 1),  # Slurm arrays; SLURM_ARRAY_TASK_MIN says where they begin
    ("STRATEGY_JOB_INDEX", "STRATEGY_JOB_TOTAL", 0),  # GitHub: strategy.job-index and job-total, passed on by the workflow
)
_SHARD = re.compile(r"(\d{1,4})/(\d{1,4})")


class Shard(msgspec.Struct, frozen=True):
    """One of `total` machines; `index` counts from 1."""

    index: int
    total: int

    def __str__(self) -> str:
        return f"{self.index}/{self.total}"


WHOLE = Shard(1, 1)
SHARDS_MAX = 9999


def parse_shard(text: str) -> Shard:
    """`2/3`: the second of three. Raises SpecError."""
    found = _SHARD.fullmatch(text)
    shard = Shard(int(found[1]), int(found[2])) if found else None
    if shard is None or not 1 <= shard.index <= shard.total:
        raise SpecError(f"{text!r} is not a shard; write index/total, counted from 1, such as 2/3")
    return shard


def shard_of(environment: Mapping[str, str]) -> Shard:
    """The shard that the CI system gave this machine; without one, the whole.

    Raises SpecError if only the index is known: a part of a game day would count as a whole one.
    """
    for index, total, first in ENVIRONMENTS:
        if not environment.get(index):
            continue
        if not environment.get(total):
            if index.startswith(("CHAOSLAB", "STRATEGY")):
                raise SpecError(f"{index} is set and {total} is not", cure=f"set {total}, or use --shard index/total")
            continue
        try:
            begin = int(environment.get("SLURM_ARRAY_TASK_MIN", first)) if index.startswith("SLURM") else first
            number = int(environment[index]) - begin + 1
        except ValueError:
            raise SpecError(
                f"{index} is {environment[index]!r}, which is not a number", cure="unset it, or use --shard index/total"
            ) from None
        return parse_shard(f"{number}/{environment[total]}")
    return WHOLE


def scripted_s(loaded: Loaded) -> float:
    """How long a run of an experiment takes by its script, in seconds: an estimate for one that was never run.

    A heal at recovery counts as the latest possible.
    """
    experiment = loaded.experiment
    timeline_s = end_of(experiment.faults, list(objectives_for(experiment, loaded.compose.spec).values()), experiment.steps)
    return BOOT_AND_DOWN_S + experiment.steady_state.hold + timeline_s + experiment.failback.hold


def expected_s(measured_s: Sequence[float], scripted: float) -> float:
    """Seconds that the next run will take: the median of the last five, else its scripted length."""
    return statistics.median(measured_s[-5:]) if measured_s else scripted


def divide(names: Iterable[str], seconds: Mapping[str, float], total: int) -> list[list[str]]:
    """Names of runs for each of `total` machines, the longest first, to the machine with the least so far; order is kept.

    The same names and seconds give the same shards on every machine.
    """
    ordered = list(names)
    shares: list[list[str]] = [[] for _ in range(total)]
    sums = [0.0] * total
    for name in sorted(ordered, key=lambda name: (-seconds[name], name)):
        least = min(range(total), key=lambda number: (sums[number], number))
        shares[least].append(name)
        sums[least] += seconds[name]
    return [sorted(share, key=ordered.index) for share in shares]
