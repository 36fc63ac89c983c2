"""Planted mistakes in the judge's clocks: the comparison with the naive model must catch every one."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import chain

import pytest
from clock_readings import Judge, Reading, difference, read_by_judge, read_by_naive
from clock_scenes import RARE
from hypothesis import HealthCheck, Phase, given, seed, settings
from mutants import Mutant, judge_with
from timelines import Scene, scenes

CHUNK = 50  # scenes
CHUNKS = 20
CHUNKS_CLEAN = 6
JOIN = "script.get((call[0], kind), call)"
HIGH = "return seconds(self.back_ns + self.chance_ns - self.cause.at_ns)"
FAILS = "if clock.served_low_s(timeline) > limit.value:"
STABLE = "if segment.stop - self._running.numbers[-1] > self._stable:"
OWN_HEAL = "elif self._timeline.is_own_heal(event, running.cause):"
INJECT = 'elif running.kind == "failback":'
NEAR = "if heal.verified_ns is None or back_ns <= heal.verified_ns + AFTER_HEAL_S * NS_PER_S:"
MOVED = """if not slots.good[number]:
            found.insert(Slot(due_ns, slots.sent[number], slots.end[number], good=False))"""
RELAPSE = """for number in bad:
                    if self._running.numbers and number - self._running.numbers[-1] > self._stable:
                        cause, kind = self._running.cause, self._running.kind
                        yield self._recovered(self._running)
                        self._running = _Running(cause, kind)
                    self._running.numbers.append(number)"""
MUTANTS = [
    Mutant("the heal of any fault ends a clock", "clocks", OWN_HEAL, 'elif event.kind == "heal":'),
    Mutant("the cause's own heal ends nothing", "clocks", OWN_HEAL, "elif False:"),
    Mutant(
        "one of several faults healed is the own heal",
        "clocks",
        "return all(end_ns is not None and",
        "return any(end_ns is not None and",
    ),
    Mutant("a heal after the cause is over is its own", "clocks", " or set(heal.ids).isdisjoint(cause.ids):", ":"),
    Mutant("a relapse starts a clock of its own", "clocks", "self._running.numbers += bad", RELAPSE),
    Mutant("an inject does not end a failback clock", "clocks", INJECT, "elif False:"),
    Mutant("an inject ends every clock", "clocks", INJECT, 'elif event.kind == "inject":'),
    Mutant("one good slot less is stable", "clocks", STABLE, STABLE.replace(">", ">=")),
    Mutant("one good slot more is needed", "clocks", STABLE, STABLE.replace("> self._stable", "> self._stable + 1")),
    Mutant(
        "a run over an event needs one more",
        "clocks",
        "self._good_run(first_good) >= self._stable",
        "self._good_run(first_good) > self._stable",
    ),
    Mutant(
        "a run over a heal is as good as any",
        "clocks",
        "yield self._recovered(running, doubt)",
        "yield self._recovered(running)",
    ),
    Mutant("low counts from the call", "clocks", "return max(self.at_ns, self.verified_ns or self.at_ns)", "return self.at_ns"),
    Mutant("high counts from the verification", "clocks", HIGH, HIGH.replace("at_ns", "counted_from_ns")),
    Mutant("recovery after another's heal is met", "clocks", NEAR, "if False:"),
    Mutant("5 s count from the call of a heal", "clocks", NEAR, NEAR.replace("heal.verified_ns + ", "heal.at_ns + ")),
    Mutant("a heal that was not verified brings nothing", "clocks", NEAR, NEAR.replace("is None or", "is not None and")),
    Mutant(
        "a bad slot in flight counts when it was due", "clocks", MOVED, MOVED.replace("Slot(due_ns", "Slot(slots.due[number]")
    ),
    Mutant(
        "a good slot in flight counts after the event",
        "clocks",
        MOVED,
        "found.insert(Slot(due_ns, slots.sent[number], slots.end[number], bool(slots.good[number])))",
    ),
    Mutant("a bad slot in flight does not count", "clocks", "if not slots.good[number]:", "if False:"),
    Mutant("a lone bad slot starts a clock", "clocks", "slots.good[number] = 1", "slots.good[number] = 0"),
    Mutant("a flap needs good slots on one side", "clocks", "if min(bad[place]", "if max(bad[place]"),
    Mutant(
        "what an inject caused is held against the RTO",
        "clocks",
        "if self._timeline.active_at(slots.due[bad[0]]) else",
        'if event.kind == "inject" else',
    ),
    Mutant("faults of one instant are events apart", "clocks", JOIN, "call"),
    Mutant("several faults are called with the last call", "clocks", "own[0][1], last_ns", "own[-1][1], last_ns"),
    Mutant(
        "several faults are verified with the first",
        "clocks",
        "max(verified) if len(verified)",
        "min(verified) if len(verified)",
    ),
    Mutant("one of several verified is enough", "clocks", "if len(verified) == len(own) else", "if verified else"),
    Mutant("a brown-out is as narrow as a black-out", "clocks", "chance * self._slots.period_ns if", "0 if"),
    Mutant(
        "what is good after a heal counts against chance",
        "clocks",
        "good = min(self._good_run(first_good), self._slots.numbers(0, heal_ns).stop - first_good)",
        "good = self._good_run(first_good)",
    ),
    Mutant("a fault with an end of its own is healed", "clocks", 'if fault.detail.get("own_end")}', "if False}"),
    Mutant("a step is no event", "clocks", "[*injects, *taken, *heals]", "[*injects, *heals]"),
    Mutant("starved seconds count", "clocks", FAILS, "if clock.low_s > limit.value:"),
    Mutant("a limit inside the interval is met", "clocks", "if clock.high_s > limit.value:", "if clock.low_s > limit.value:"),
    Mutant("a cut is a fail", "clocks", FAILS, FAILS.replace(":", ' or clock.ended_by == "cut":')),
    Mutant("open at the end is a fail", "clocks", FAILS, FAILS.replace(":", ' or clock.ended_by == "end":')),
    Mutant("healed too early is a fail", "clocks", FAILS, FAILS.replace(":", ' or clock.ended_by == "heal":')),
    Mutant("a cause that was not verified is judged", "clocks", "if clock.cause.verified_ns is None:", "if False:"),
    Mutant("a masked fault is unnoticed", "clocks", '"masked" if ids <=', '"unnoticed" if ids <='),
    Mutant("one masked cycle masks the fault", "clocks", "if ids <= overlapping", "if ids & overlapping"),
    Mutant(
        "one noticed fault excuses the others",
        "objectives",
        "outcomes.append(outcome)",
        'outcomes += [outcome] if impact == "noticed" or "noticed" not in impacts.values() else []',
    ),
    Mutant(
        "a claim not to notice is met by the RTO",
        "objectives",
        'if impact in ("noticed", "degraded") and unaffected is True:',
        'if impact in ("noticed", "degraded") and unaffected is True and objectives.rto is None:',
    ),
    Mutant("the loosest of several objectives holds", "objectives", "return min(limits, key=", "return max(limits, key="),
    Mutant(
        "a claim is broken in a run that was cut",
        "objectives",
        "outcome = inconclusive(outcome[1])",
        "pass",
    ),
    Mutant("a clock that ran on over a heal is its failback", "objectives", "elif over is not None:", "elif False:"),
    Mutant(
        "a restoration counts from the health of the replicas",
        "clocks",
        "if len(reconnected) == len(known) else heal",
        "if False else heal",
    ),
    Mutant(
        "one of several reconnected is enough",
        "clocks",
        "if len(reconnected) == len(known) else heal",
        "if reconnected else heal",
    ),
    Mutant("a restoration ends at the next event", "clocks", "events=[cause, *later]", "events=[cause, *later[:1]]"),
    Mutant(
        "a heal that nobody saw restored what was not missed",
        "objectives",
        """        if heal.verified_ns is None:
            outcomes.append(inconclusive(f"the heal of {heal.cause} was not verified"))
        elif not seen(heal):
            outcomes.append(inconclusive(f"no slot came""",
        """        if not seen(heal):
            outcomes.append(inconclusive(f"no slot came""",
    ),
    Mutant("what was met before the cut is met", "verdict", "if run.timeline.cut and", "if False and"),
]


@cache
def _readings(chunk: int) -> list[tuple[Scene, Reading]]:
    """The same scenes every time, and what the naive model reads in them. Many small chunks differ more than a large one."""
    found: list[Scene] = []

    @seed(chunk)
    @settings(max_examples=CHUNK, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=[*HealthCheck])
    @given(scenes())
    def collect(scene: Scene) -> None:
        found.append(scene)

    collect()
    return [(scene, read_by_naive(scene)) for scene in found]


@cache
def _rare_readings() -> list[tuple[Scene, Reading]]:
    return [(scene, read_by_naive(scene)) for scene in RARE]


def _differences(judge: Judge, chunks: int) -> Iterator[str]:
    """What this judge reads otherwise than the naive model, scene by scene."""
    readings = chain(_rare_readings(), (one for chunk in range(chunks) for one in _readings(chunk)))
    return (difference(expected, read_by_judge(scene, judge)) for scene, expected in readings)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_planted_mistake_is_caught(mutant: Mutant) -> None:
    """Most in the first hundred scenes, which all of them share."""
    assert any(_differences(judge_with(mutant), CHUNKS)), f"not caught in {CHUNKS * CHUNK} scenes"


def test_what_catches_them_is_the_mistake() -> None:
    """Loaded afresh with nothing changed, the judge reads scenes as the naive model does."""
    judge = judge_with(Mutant("none", "clocks", OWN_HEAL, OWN_HEAL))
    assert [what for what in _differences(judge, CHUNKS_CLEAN) if what] == []
