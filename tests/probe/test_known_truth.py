"""Known truth, end to end: a server that goes wrong exactly as scripted, the real prober, the real final reads, the real judge.

Every interval holds the instant at which the server itself says that it was well again, and is no wider than two slots;
every bucket of the ledger is counted exactly.
"""

from __future__ import annotations

from typing import Any

import pytest
from rehearsal import Rehearsals, Scene, Told, read_journey, write_journey

from chaoslab.clock import NS_PER_S
from chaoslab.history.result import Interval, ObjectiveResult
from chaoslab.judge.intervals import chance_slots
from chaoslab.judge.ledger import CATEGORIES

pytestmark = pytest.mark.timeout(180)

# --- times ------------------------------------------------------------------------------------------------------

TURNS: dict[str, list[tuple[float, str]]] = {
    "refused": [(0, "refused"), (0.731, "ok")],
    "silent": [(0, "silent"), (0.917, "ok")],
    "broken": [(0, "503"), (0.613, "ok")],
    "slow": [(0, "slow"), (1.273, "ok")],
    "brown": [(0, "third"), (1.837, "ok")],
    "flapping": [(0, "503"), (0.61, "ok"), (1.37, "503"), (1.933, "ok"), (2.71, "silent"), (3.291, "ok")],
    "away": [(0, "503"), (0.403, "ok"), (4, "silent"), (4.537, "ok")],
    "gone": [(0, "silent"), (4.217, "ok")],
    "calm": [],
    "untouched": [],
}
HEAL_S = 4
TIMES = Scene(
    script={"services": {name: {"turns": turns} for name, turns in TURNS.items()}, "heal_s": HEAL_S, "end_s": 6},
    journeys={f"{name}.read": read_journey(name) for name in TURNS},
    objectives={name: {"rto": "< 10s", "failback": "< 10s"} for name in TURNS}
    | {"gone": {"rto": "< 3s", "failback": "< 10s"}, "calm": {"unaffected": True}},
)
SLOT_S = TIMES.period_s
CHANCE_S = {"brown": chance_slots(2 / 3) * SLOT_S}  # good slots in a row may be chance while one in three is served
BACK_BEFORE_THE_HEAL = [name for name, turns in TURNS.items() if turns and name != "gone"]


@pytest.fixture(scope="module")
def times(tmp_path_factory: pytest.TempPathFactory) -> Rehearsals:
    return Rehearsals(TIMES, tmp_path_factory.mktemp("times"))


def answered_at_once(service: str) -> Any:
    """Whether each return of a service was proven by an answer that took no longer than a slot."""

    def prompt(told: Told) -> bool:
        slots = told.slots(f"{service}.read")
        proofs = [next(one for one in slots if one.good and one.end_ns >= at_ns) for at_ns in told.returns(service)]
        return all(one.end_ns - one.due_ns <= SLOT_S * NS_PER_S for one in proofs)

    return prompt


def holds(interval: Interval | None, truth_s: float, luck_s: float = 0.0) -> bool:
    """Whether an interval holds the truth and is no wider than two slots (and what luck may explain)."""
    if interval is None or interval.high is None:
        return False
    return interval.low <= truth_s <= interval.high <= interval.low + 2 * SLOT_S + luck_s


def said(told: Told, id_: str) -> ObjectiveResult:
    return next(one for one in told.result.objectives if one.id == id_)


@pytest.mark.parametrize("service", BACK_BEFORE_THE_HEAL)
def test_an_rto_holds_the_last_return_before_the_heal(service: str, times: Rehearsals) -> None:
    """Silent, refused, 503, slow, a brown-out, flaps: from the fault to when the service was well, and stayed so."""
    told = times.first(answered_at_once(service))
    back_ns = max(at_ns for at_ns in told.returns(service) if at_ns < told.heal_ns)
    found = told.result.services[service]
    assert holds(found.rto_s, (back_ns - told.begin_ns) / NS_PER_S, CHANCE_S.get(service, 0.0)), (found, told.turns[service])
    assert (found.status, said(told, f"{service}.rto").verdict) == ("recovered", "pass")


def test_a_failback_holds_the_return_after_the_heal(times: Rehearsals) -> None:
    """Counted from the heal, by its own objective; whoever did not notice the heal was back with the first answer."""
    for service in ("away", "gone"):
        told = times.first(answered_at_once(service))
        truth_s = (told.returns(service)[-1] - told.heal_ns) / NS_PER_S
        assert holds(told.result.services[service].failback_s, truth_s), (told.result.services[service], told.turns[service])
        assert said(told, f"{service}.failback").verdict == "pass"
    unnoticed = times.first().result.services["silent"].failback_s
    assert unnoticed is not None
    assert unnoticed.low == 0.0


def test_who_comes_back_with_the_power_alone_has_not_failed_over(times: Rehearsals) -> None:
    """Well again 0.2 s after the heal, when its RTO was over: a fail, and the interval has no end."""
    told = times.first()
    found = told.result.services["gone"].rto_s
    assert found is not None
    assert (found.high, said(told, "gone.rto").verdict) == (None, "fail")
    assert HEAL_S - 0.5 - 2 * SLOT_S <= found.low <= HEAL_S, "what was open at the heal, and not yet late, tells nothing"


def test_who_notices_nothing_passes_only_where_that_was_declared(times: Rehearsals) -> None:
    """No bad slot at all."""
    told = times.first()
    assert [told.result.services[name].status for name in ("calm", "untouched")] == ["unaffected", "unaffected"]
    assert [said(told, f"{name}.rto").verdict for name in ("calm", "untouched")] == ["pass", "inconclusive"]


@pytest.mark.parametrize("service", [name for name in TURNS if name != "brown"])
def test_downtime_longest_and_flaps_are_the_scripts(service: str, times: Rehearsals) -> None:
    """Each stretch to within a slot at either end; a relapse after a stable run is a flap."""
    told = times.first(answered_at_once(service))
    instants = [at_ns for at_ns, _ in told.turns[service]]
    down_s = [(up - down) / NS_PER_S for down, up in zip(instants[::2], instants[1::2], strict=True)]
    found = told.result.services[service]
    assert abs(found.downtime_s - sum(down_s)) <= SLOT_S * len(down_s) + 1e-9
    assert abs(found.longest_s - max(down_s, default=0.0)) <= SLOT_S
    assert found.flaps == (2 if service == "flapping" else 0)
    assert found.availability == pytest.approx(1 - found.downtime_s / (found.slots * SLOT_S))


@pytest.mark.parametrize(
    "interval", [None, Interval(0.9, None), Interval(0.9, 0.93), Interval(1.01, 1.03), Interval(0.97, 1.02), Interval(0, 5)]
)
def test_a_wrong_interval_would_be_seen(interval: Interval | None) -> None:
    """Known bad: unseen, without an end, over too early, begun too late, wider than two slots."""
    assert not holds(interval, 1.0)
    assert holds(Interval(0.98, 1.015), 1.0)


# --- the ledger -------------------------------------------------------------------------------------------------

Spoil = list[tuple[str, str, list[int]]]
LOST: Spoil = [("lose", "start", [3, 9, 14])]
EVERYTHING: Spoil = [
    *[("lose", "start", [2]), ("lose", "fault", [1, 2]), ("double", "start", [4, 5, 6]), ("corrupt", "start", [7])],
    *[("one-sided", "fault", [4, 5]), ("reject", "start", [8]), ("resurrect", "fault", [6, 7, 8]), ("stale", "start", [11])],
    *[("unsaid", "start", [9, 10]), ("vanish", "fault", [9]), ("show", "start", [13, 14]), ("show", "fault", [3])],
]
# By service: what goes wrong; the buckets that are not empty; the verdicts on RPO and ledger.
CASES: dict[str, tuple[Spoil, dict[str, int], tuple[str, str]]] = {
    "honest": ([], {}, ("pass", "pass")),
    "lost": (LOST, {"lost": 3}, ("fail", "pass")),
    "lost-in-time": (LOST, {"lost": 3}, ("pass", "pass")),
    "lost-later": ([("lose", "fault", [2, 5])], {"lost": 2, "lost_after_fault": 2}, ("fail", "pass")),
    "shown-and-lost": (
        [("show", "start", [4]), ("show", "fault", [3])],
        {"indeterminate": 2, "lost": 2, "lost_after_fault": 1},
        ("fail", "pass"),
    ),
    "recovered": (
        [("unsaid", "start", [4, 8]), ("unsaid", "fault", [3])],
        {"indeterminate": 3, "recovered": 3},
        ("pass", "pass"),
    ),
    "vanished": ([("vanish", "start", [4, 8])], {"indeterminate": 2}, ("pass", "pass")),
    "rejected": ([("reject", "start", [2, 5, 9])], {"rejected": 3}, ("pass", "pass")),
    "resurrected": ([("resurrect", "start", [6, 7])], {"rejected": 2, "resurrected": 2}, ("pass", "fail")),
    "duplicated": ([("double", "start", [3, 4, 5, 6])], {"duplicated": 4}, ("pass", "fail")),
    "corrupt": ([("corrupt", "fault", [2, 4, 6])], {"corrupt": 3}, ("pass", "fail")),
    "divergent": ([("one-sided", "start", [5, 6])], {"divergent": 2}, ("pass", "fail")),
    "stale": ([("stale", "start", [5, 9])], {"stale": 2}, ("pass", "pass")),
    "strict-stale": ([("stale", "start", [5, 9])], {"stale": 2}, ("pass", "fail")),
    "invented": ([], {"unexpected": 2}, ("pass", "fail")),
    "everything": (
        EVERYTHING,
        {
            **{"rejected": 4, "indeterminate": 6, "lost": 6, "lost_after_fault": 3, "recovered": 2, "resurrected": 3},
            **{"unexpected": 5, "duplicated": 3, "corrupt": 1, "divergent": 2, "stale": 1},
        },
        ("fail", "fail"),
    ),
    "unread": ([], {}, ("inconclusive", "inconclusive")),
}
ODD: dict[str, dict[str, Any]] = {"invented": {"invent": 2}, "everything": {"invent": 5}, "unread": {"unread": True}}
LENIENT = {"lost-in-time": {"rpo": "< 10s"}, "lost-later": {"rpo": "< 1h"}}
WRITES = Scene(
    script={
        "services": {name: {"spoil": spoil, **ODD.get(name, {})} for name, (spoil, _, _) in CASES.items()},
        **{"heal_s": 2, "end_s": 3},
    },
    journeys={f"{name}.write": write_journey(name, linearizable=name == "strict-stale") for name in CASES},
    objectives={name: {"rpo": 0} for name in CASES} | LENIENT,
    rate=10,
    steady_s=2.0,
)


@pytest.fixture(scope="module")
def writes(tmp_path_factory: pytest.TempPathFactory) -> Told:
    return Rehearsals(WRITES, tmp_path_factory.mktemp("writes")).first()


@pytest.mark.parametrize("service", CASES)
def test_every_bucket_is_counted_exactly(service: str, writes: Told) -> None:
    """So many lost, duplicated, resurrected, corrupt, divergent, stale, unexpected, unverified; and nothing else."""
    found = writes.result.ledger[service]
    _, wanted, verdicts = CASES[service]
    slots = writes.slots(f"{service}.write")
    rest = len(slots) - wanted.get("rejected", 0) - wanted.get("indeterminate", 0)
    whole = wanted | {"acked": rest} | ({"unverified": rest} if service == "unread" else {})
    counted = {name: getattr(found, name) for name in ("acked", "rejected", "indeterminate", *CATEGORIES)}
    assert {name: count for name, count in counted.items() if count} == whole
    assert (said(writes, f"{service}.rpo").verdict, said(writes, f"{service}.ledger").verdict) == verdicts


def test_the_examples_are_the_writes_that_the_script_spoiled(writes: Told) -> None:
    """By name, and in order: the third, ninth and fourteenth write."""
    slots = writes.slots("lost.write")
    assert writes.result.ledger["lost"].examples == {"lost": [slots[number - 1].id for number in (3, 9, 14)]}


def test_an_rpo_is_the_age_of_the_oldest_loss(writes: Told) -> None:
    """From its acknowledgement to the fault; what was lost after the fault does not count in it."""
    oldest = writes.slots("lost.write")[2]
    assert writes.result.ledger["lost"].rpo_s == pytest.approx((writes.begin_ns - oldest.end_ns) / NS_PER_S, abs=0.001)
    assert writes.result.ledger["lost-later"].rpo_s == 0.0


def test_stale_reads_are_a_warning_where_nothing_else_was_promised(writes: Told) -> None:
    """By service, and not for the journey that says linearizable: there it is a fail."""
    warned = [text.partition(":")[0] for text in writes.result.warnings if "stale" in text]
    assert warned == ["stale", "everything"]
