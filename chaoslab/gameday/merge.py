"""Merges the shards of a game day: the same pages as one machine would have written from the same runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from chaoslab.errors import SpecError
from chaoslab.gameday.journal import Closed, Journal, Opened, State, read_journal, state_of
from chaoslab.gameday.night import NightFolder, finish, rules_of
from chaoslab.gameday.plan import SHARDS_MAX, WHOLE
from chaoslab.gameday.tally import Night


def merge(folders: Sequence[Path], root: Path) -> tuple[NightFolder, Night]:
    """A new game day of the suite below `root`, from the folders of its shards.

    A shard that is missing or did not finish is reported, and its cases count as not run, which is never a pass. Raises
    SpecError if the folders are not of one game day (different suites, plans, hashes or versions, or a shard twice), or if a
    shard names cases or runs that are not its own.
    """
    states = [(path, state_of(read_journal(path))) for path in folders]
    opened = _plan_of_all(states)
    total, there = states[0][1].opened.shard.total, {state.opened.shard.index for _, state in states}
    problems = [f"shard {index}/{total} is missing" for index in range(1, total + 1) if index not in there]
    problems += [f"shard {state.opened.shard} did not finish" for _, state in states if not state.closed]
    for path, state in states:
        if others := sorted({*state.ended, *state.not_run} - {case.id for case in state.opened.mine}):
            raise SpecError(f"{path}: {others[0]} does not belong to this shard")
        for row in state.ended.values():
            if row.folder and not (path / row.folder).resolve().is_relative_to(path.resolve()):
                raise SpecError(f"{path}: the run of {row.case} is not in its folder: {row.folder}")
    target = NightFolder.create(opened.suite, root)
    journal = Journal(target.path)
    journal.append(opened)
    for path, state in states:
        for ended in state.ended.values():  # with folders relative to the merged game day
            folder = os.path.relpath(path.resolve() / ended.folder, target.path) if ended.folder else ""
            journal.append(msgspec.structs.replace(ended, folder=folder))
        for not_run in state.not_run.values():
            journal.append(not_run)
    elapsed_s = max((state.elapsed_s for _, state in states), default=0.0)
    journal.append(Closed(at=opened.started_at, elapsed_s=elapsed_s))
    return target, finish(target, problems)


def _plan_of_all(states: Sequence[tuple[Path, State]]) -> Opened:
    if not states:
        raise SpecError("no folder of a shard was given")
    first_path, first = states[0]
    seen: dict[int, Path] = {}
    for path, state in states:
        if not 1 <= state.opened.shard.index <= state.opened.shard.total <= SHARDS_MAX:
            raise SpecError(f"{path}: there is no shard {state.opened.shard}")
        one, other = state.opened, first.opened
        here, there = ({case.experiment: case.spec_sha256 for case in opened.plan} for opened in (one, other))
        changed = ", ".join(name for name in here if there.get(name, here[name]) != here[name])
        differences = (
            (one.shard.total != other.shard.total, f"it is shard {one.shard}, not one of {other.shard.total}"),
            (one.suite != other.suite, f"its suite is {one.suite}, not {other.suite}"),
            (one.chaoslab != other.chaoslab, f"it was run by chaoslab {one.chaoslab}, not {other.chaoslab}"),
            (changed, f"{changed} was a different experiment there (the hashes of the resolved spec differ)"),
            (rules_of(one) != rules_of(other), "its runtime, budget, limit, after_fail or --use-binds differs"),
            (one.plan != other.plan, "its experiments were divided differently"),
        )
        if why := next((why for differs, why in differences if differs), None):
            raise SpecError(f"{path} does not belong to the same game day as {first_path}: {why}")
        index = state.opened.shard.index
        if index in seen:
            raise SpecError(f"{path} is shard {state.opened.shard}, and so is {seen[index]}: its runs would count twice")
        seen[index] = path
    started_at = min(state.opened.started_at for _, state in states)
    plan = [msgspec.structs.replace(case, shard=WHOLE.index) for case in first.opened.plan]
    return msgspec.structs.replace(first.opened, shard=WHOLE, started_at=started_at, plan=plan)
