"""Scenes made by hand: faults and bad spells in seconds, one journey of one service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import naive_clocks as naive
from naive_clocks import S
from timelines import ORIGIN, STEADY, Scene, at

LATENCY = S // 250
Spell = tuple[float, float]


def scene(
    faults: Mapping[str, Spell],
    bad: Sequence[Spell],
    *,
    under: Mapping[str, Mapping[str, Any]] | None = None,
    end: float = 70.0,
    cut: float | None = None,
    rate: int = 50,
    healed: Mapping[str, float | None] | None = None,
    starved: Sequence[float] = (),
    connected: Mapping[str, float] | None = None,
    **objectives: Any,
) -> Scene:
    """`faults`: from when to when each is active. `healed`: when a heal was verified, where not half a second after it.

    `connected`: when nothing of a fault was left. `starved`: seconds in which the machine did not serve, by their begin.
    """
    period = S // rate
    dues = range(ORIGIN - STEADY, at(end), period)
    slots = [naive.Slot(due, due + LATENCY, not any(at(begin) <= due < at(until) for begin, until in bad)) for due in dues]
    journey = naive.Journey("talk.send", "talk", period, S // 2, slots)
    whole = {id_: until + 0.5 for id_, (_, until) in faults.items()} | dict(healed or {})
    seen = {id_: None if when is None else at(when) for id_, when in whole.items()}
    left = {id_: at(when) for id_, when in (connected or {}).items()}
    made = [
        naive.Fault(id_, at(begin), at(begin + 0.05), at(until), seen[id_], at(begin), at(until), connected=left.get(id_))
        for id_, (begin, until) in faults.items()
    ]
    service = naive.Service("talk", naive.Objectives(**objectives), under or {})
    facts = naive.Facts(
        made, [journey], [service], at(end), None if cut is None else at(cut), [(at(one - 1), at(one + 2)) for one in starved]
    )
    return Scene(facts, dict.fromkeys(faults, "site.power-loss"), tuple((at(one), at(one + 1)) for one in starved))


# What random ones meet too seldom: an instant of its own decides.
_NESTED = {"fire": (0, 50), "slow": (5, 15)}
_BOTH = {"anyang": (0, 20), "pangyo": (0, 80)}
RARE = [
    scene(_NESTED, [(0, 24)], rate=10, rto=45.0, healed={"slow": None}),  # a heal that nobody saw
    scene(_NESTED, [(0, 22)], rate=10, rto=45.0, healed={"slow": 19.0}),  # back 7 s after a heal that took 4 s
    scene(_NESTED, [(0, 12.5)], rate=10, rto=45.0),  # exactly stable when another fault is healed
    scene(_NESTED, [(0, 12.6)], rate=10, rto=45.0),  # one slot less
    scene(_NESTED, [(0, 4), (6.5, 8)], rate=10, rto=45.0),  # exactly stable, begun before another fault
    scene({"fire": (0, 20), "again": (30, 50)}, [(0, 5)], rate=10, rto=45.0),  # the second is not noticed
    scene({"fire": (0, 50)}, [(0, 10), (50, 67.5)], rate=10, rto=45.0, failback=30.0),  # exactly stable at the end of the look
    scene({"fire": (0, 50)}, [(0, 10), (50, 67.6)], rate=10, rto=45.0, failback=30.0),
    scene({"fire": (0, 50)}, [(0, 24)], rate=10, rto=23.0, starved=[10, 11, 12]),  # too late by the wall clock alone
    scene({"fire": (0, 50)}, [(0, 24)], rate=10, rto=24.0),  # the limit lies inside the interval
    # A brown-out: what is good after a heal does not tell that the service was back before it.
    scene(_NESTED, [(number * 1.2, number * 1.2 + 0.1) for number in range(11)], rate=10, rto=45.0),
    # Power for one of two sites: back by itself, never healthy, and back only when the other has power again.
    scene(_BOTH, [(0, 44)], end=90, under={"anyang": {"restored": 30.0}}, rate=10),
    scene(_BOTH, [(0, 79)], end=90, restored=30.0, rate=10, healed={"anyang": None}, connected={"anyang": 23.0}),
    scene(_BOTH, [(0, 82)], end=90, restored=70.0, rate=10),
    # Of two that are healed at one instant only one was seen reconnected; and a third heal, which may have brought it back.
    scene(
        {"fire": (0, 50), "slow": (0, 50)},
        [(0, 58)],
        rate=10,
        restored=5.0,
        healed={"fire": 55, "slow": 56},
        connected={"fire": 50.6},
    ),
    scene({"a": (0, 10), "b": (0, 20), "c": (0, 30), "d": (0, 60)}, [(0, 33)], rate=10, under={"a": {"restored": 40.0}}),
    # Two faults of one instant, of which one has the tighter objective.
    scene({"fire": (0, 50), "slow": (0, 50)}, [(0, 24)], under={"slow": {"rto": 20.0}}, rate=10, rto=45.0),
]
