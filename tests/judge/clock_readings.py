"""One scene read twice, by the judge and by the naive model, and where the two differ."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import naive_clocks as naive
from timelines import Scene, experiment_of, rows_of, stack_of

from chaoslab.history.result import Result
from chaoslab.judge.verdict import judge

Reading = tuple[
    list[dict[str, Any]], dict[str, str]
]  # clocks; verdicts of objectives, and what each service noticed of a fault
Judge = Callable[..., Result]


def read_by_naive(scene: Scene) -> Reading:
    found = naive.find(scene.facts)
    return _clocks(found.clocks), found.objectives | _noticed(found.faults)


def read_by_judge(scene: Scene, judge_: Judge = judge) -> Reading:
    result = judge_(experiment_of(scene), stack_of(scene), rows_of(scene))
    kept = {one.id: one.verdict for one in result.objectives if one.id.endswith((".rto", ".failback", ".restored"))}
    return _clocks(result.clocks), kept | _noticed({name: one.faults for name, one in result.services.items()})


def _noticed(faults: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    return {f"{service} and {fault}": status for service, own in faults.items() for fault, status in own.items()}


def _clocks(clocks: Iterable[Any]) -> list[dict[str, Any]]:
    """As plain values, in one order, rounded to the microsecond."""
    fields = ("journey", "cause", "event", "kind", "low", "high", "end", "masked", "verdict")
    found = [{field: _plain(getattr(clock, field)) for field in fields} for clock in clocks]
    return sorted(found, key=lambda clock: str(sorted(clock.items())))


def _plain(value: Any) -> Any:
    return round(value, 6) if isinstance(value, float) else list(value) if isinstance(value, list | tuple) else value


def difference(expected: Reading, found: Reading) -> str:
    """What the second reading has otherwise, in words; empty where they are alike."""
    missing = [clock for clock in expected[0] if clock not in found[0]]
    extra = [clock for clock in found[0] if clock not in expected[0]]
    ids = sorted({*expected[1], *found[1]})
    verdicts = [
        f"{id_}: {expected[1].get(id_)}, not {found[1].get(id_)}" for id_ in ids if expected[1].get(id_) != found[1].get(id_)
    ]
    differences = [f"missing {clock}" for clock in missing] + [f"extra {clock}" for clock in extra] + verdicts
    if not differences and len(expected[0]) != len(found[0]):
        differences = ["one clock is there more than once"]
    return "\n".join(differences)
