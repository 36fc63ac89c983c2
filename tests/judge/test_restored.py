"""What a restore may lose: the end of what was acknowledged, from the end of its backup on, and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from judge_runs import FaultScript, Run, experiment, final_reads, judged, ns, objective, outage

from chaoslab.clock import NS_PER_S
from chaoslab.history.rows import Anchor, LedgerRead, Step
from chaoslab.judge.restored import CLOCKS_NS, Acknowledged, held_until, why_not_the_end

MANY = settings(max_examples=150, deadline=None)


@st.composite
def committed(draw: Any) -> list[tuple[Acknowledged, int]]:
    """Writes, sent and acknowledged in any way, each with the instant at which it was committed in between."""
    found = []
    for number in range(draw(st.integers(1, 12))):
        sent_ns, took_ns, share = draw(st.integers(0, 200)), draw(st.integers(0, 60)), draw(st.floats(0, 1))
        found.append((Acknowledged(f"w-{number}", sent_ns, sent_ns + took_ns, False), sent_ns + round(took_ns * share)))
    return found


def cut_at(writes: list[tuple[Acknowledged, int]], end_ns: int) -> list[Acknowledged]:
    """As a backup that ends at one instant restores them."""
    return [replace(write, lost=committed_ns > end_ns) for write, committed_ns in writes]


def some_instant_explains(writes: list[Acknowledged]) -> bool:
    """The same question, asked of every instant."""
    instants = {write.acked_ns for write in writes} | {write.sent_ns for write in writes} | {-1}
    return any(
        all(write.acked_ns >= end_ns if write.lost else write.sent_ns <= end_ns for write in writes) for end_ns in instants
    )


@MANY
@given(committed(), st.integers(-10, 300))
def test_any_backup_that_ends_at_one_instant_passes(writes: list[tuple[Acknowledged, int]], end_ns: int) -> None:
    """Whatever was in flight then, in any order."""
    assert why_not_the_end(cut_at(writes, end_ns), end_ns) is None


@MANY
@given(committed(), st.data())
def test_what_no_instant_explains_is_a_fail(writes: list[tuple[Acknowledged, int]], data: st.DataObject) -> None:
    """With any of the writes lost: a fail exactly where no instant could be the end. The clock plays no part here."""
    fates = [replace(write, lost=data.draw(st.booleans())) for write, _ in writes]
    in_order = why_not_the_end(fates, _between(fates)) is None
    assert in_order == some_instant_explains(fates)


def _between(writes: list[Acknowledged]) -> int:
    """An end of the backup that nothing of a few hundred nanoseconds can contradict: all lies within the clocks' allowance."""
    return writes[0].sent_ns


@MANY
@given(committed(), st.integers(0, 300), st.data())
def test_a_kept_write_that_is_taken_away_is_seen(
    writes: list[tuple[Acknowledged, int]], end_ns: int, data: st.DataObject
) -> None:
    """Known bad: one that another, sent after its acknowledgement, proves to be in the backup."""
    fates = cut_at(writes, end_ns)
    last_ns = max((write.sent_ns for write in fates if not write.lost), default=0)
    provable = [number for number, write in enumerate(fates) if not write.lost and write.acked_ns < last_ns]
    assume(provable)
    number = data.draw(st.sampled_from(provable))
    fates[number] = replace(fates[number], lost=True)
    assert "lost from the middle" in (why_not_the_end(fates, end_ns) or "")


def test_writes_in_flight_together_may_go_either_way() -> None:
    """Three that overlap: any of them may be the one that was committed last."""
    for lost in range(8):
        writes = [Acknowledged(f"w-{n}", 10 * n, 30 + 10 * n, bool(lost >> n & 1)) for n in range(3)]
        assert why_not_the_end(writes, 25) is None


def test_a_restore_is_held_to_the_end_of_its_backup() -> None:
    """In order, and yet more lost, or more kept, than a backup that ends there explains."""
    writes = [Acknowledged(f"w-{n}", n * NS_PER_S, n * NS_PER_S + 5_000_000, n >= 5) for n in range(10)]
    assert why_not_the_end(writes, 4 * NS_PER_S + NS_PER_S // 2) is None
    assert "3 lost that the backup holds: w-5 was acknowledged 3.00 s before" in (why_not_the_end(writes, 8 * NS_PER_S) or "")
    assert "2 kept that the backup cannot hold: w-4 was sent 1.50 s after" in (why_not_the_end(writes, 5 * NS_PER_S // 2) or "")
    assert why_not_the_end(writes, 5 * NS_PER_S + CLOCKS_NS) is None


# --- in a run ---------------------------------------------------------------------------------------------------

BEGIN = datetime(2026, 11, 22, 2, tzinfo=UTC)  # the anchor of `Run`, ten seconds before its fault
RESTORE = {"id": "restore", "after": "fire", "http": {"url": "http://pg:8008/restore"}, "restores": ["talk"]}
SPEC = experiment(
    {"rto": "< 10s", "rpo": "< 5s", "failback": "< 4s"},
    timeline=[{"id": "fire", "fault": "site.power-loss", "site": "pangyo", "heal_after": "20s"}, RESTORE],
)


def restored(*, held_s: float, lost: Any, said: str | None = None) -> Run:
    """Burnt at 0, restored from 2 to 4. `lost`: whether the write that was sent at this second is lost."""
    output = json.dumps({"holds_until": (BEGIN + timedelta(seconds=10 + held_s)).isoformat()}) if said is None else said
    steps = [
        Step(t_ns=ns(2.0), id="restore", name="http", event="begin", detail={"target": "POST"}),
        Step(t_ns=ns(2.5), id="restore", name="http", event="returned", detail={"output": output}),
        Step(t_ns=ns(4.0), id="restore", name="http", event="end", detail={}),
    ]
    run = Run(bad=outage(0.0, 4.0), faults=[FaultScript()], more=steps)
    kept = [slot for slot in run.slots() if not lost((slot.due_ns - ns(0)) / NS_PER_S)]

    class Restored(Run):
        def rows(self) -> list[Any]:
            others = [row for row in super().rows() if not isinstance(row, LedgerRead)]
            return [*others, *final_reads(kept)]

    return Restored(bad=run.bad, faults=run.faults, more=run.more)


def test_a_restore_that_lost_the_last_second_passes() -> None:
    """The RPO says how much, and the restore that it is the end of what was acknowledged."""
    result = judged(restored(held_s=-1.0, lost=lambda sent_s: -1.0 < sent_s < 0), SPEC)
    found = objective(result, "restore.restore")
    assert (found.verdict, found.measured) == ("pass", "49 of 200 lost; the backup ends at 02:00:09.000")
    assert objective(result, "talk.rpo").verdict == "pass"


@pytest.mark.parametrize(
    ("held_s", "lost", "why"),
    [
        (-1.0, lambda sent_s: -1.0 < sent_s < -0.5, "lost from the middle"),
        (-1.0, lambda sent_s: -2.0 < sent_s < 0, "lost that the backup holds"),
        (-2.0, lambda sent_s: -1.0 < sent_s < 0, "kept that the backup cannot hold"),
    ],
)
def test_a_restore_that_lost_anything_else_fails(held_s: float, lost: Any, why: str) -> None:
    """Known bads: a hole, a restore that ended early, and one that did not come from the backup."""
    found = objective(judged(restored(held_s=held_s, lost=lost), SPEC), "restore.restore")
    assert found.verdict == "fail"
    assert why in found.why


def test_a_backup_that_ends_after_the_restore_began_has_a_wrong_clock() -> None:
    found = objective(judged(restored(held_s=3600.0, lost=lambda _: False), SPEC), "restore.restore")
    assert (found.verdict, found.why) == ("fail", "the backup ends 3598.0 s after the restore began: its clock is wrong")


@pytest.mark.parametrize("said", ["", "done", "[]", '{"holds_until": "yesterday"}', '{"holds_until": null}'])
def test_what_is_not_known_is_inconclusive(said: str) -> None:
    """An output that does not say where the backup ends."""
    found = objective(judged(restored(held_s=0, lost=lambda _: False, said=said), SPEC), "restore.restore")
    assert found.verdict == "inconclusive"
    assert "holds_until" in found.why


def test_the_moment_that_was_asked_for_is_the_end() -> None:
    """In our own clock, which began with the anchor."""
    anchor = Anchor(t_ns=NS_PER_S, wall=BEGIN.isoformat(), experiment="x", run="r", runtime="embedded")
    told = {"holds_until": (BEGIN + timedelta(seconds=9)).isoformat(), "until": (BEGIN + timedelta(seconds=5)).isoformat()}
    held = held_until({"output": f"some words\n{json.dumps(told)}\n"}, anchor)
    assert held is not None
    assert held.at_ns == 6 * NS_PER_S
