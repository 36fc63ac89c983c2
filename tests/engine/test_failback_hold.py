"""How long users are watched after the last heal: from what last disturbed them, on the fake stack."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from stage import Stage

from chaoslab.clock import NS_PER_S
from chaoslab.engine.conditions import Conditions
from chaoslab.engine.steady import Served
from chaoslab.history.rows import Condition, Fault, PhaseRow, Probe
from chaoslab.spec.model import ProbeSpec

KILL: dict[str, Any] = {"id": "kill", "fault": "service.kill", "service": "app", "site": "east", "heal_after": "2s"}
ENOUGH_S = 2.5  # 25 slots at 10 a second make a recovery


@pytest.mark.parametrize(
    ("holds_again_s", "is_bad", "over_s"),
    [
        (0.0, False, 8.0),
        (5.0, False, 8.0),  # known bad: users had to be watched for all of the hold once more
        (7.0, False, 7.0 + ENOUGH_S),
        (5.0, True, 5.0 + 8.0),  # who is not served is watched for as long as ever
    ],
)
def test_the_hold_counts_from_what_last_disturbed_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, holds_again_s: float, is_bad: bool, over_s: float
) -> None:
    """A condition that takes its time to hold again disturbs nobody; what it does once it holds is watched, too."""
    stage = Stage(tmp_path, monkeypatch, KILL, failback={"within": "30s", "hold": "8s"})
    healed_ns: list[int] = []

    def look(_: Conditions, role: Any) -> Sequence[Condition]:
        now_ns = stage.clock.now_ns()
        since_ns = healed_ns[0] if healed_ns else now_ns  # a heal may be over before its row has been read
        holds = role != "failback" or now_ns - since_ns >= holds_again_s * NS_PER_S
        return [Condition(t_ns=now_ns, id="in-sync", holds=holds, observed="", role=role)]

    def heal() -> None:
        healed_ns.append(stage.clock.now_ns())
        stage.is_bad = is_bad

    monkeypatch.setattr(Conditions, "look", look)
    monkeypatch.setattr(Conditions, "bring_about", lambda *_: None)
    stage.when(lambda: stage.count("heal"), heal)
    stage.play()
    healed = next(row.t_ns for row in stage.rows if isinstance(row, Fault) and row.event == "healed")
    end = next(row.t_ns for row in stage.rows if isinstance(row, PhaseRow) and (row.phase, row.event) == ("failback", "end"))
    assert (end - healed) / NS_PER_S == pytest.approx(over_s, abs=0.7)


@pytest.mark.parametrize(("status", "journey", "since_s"), [(202, "pay", 2.0), (201, "pay", 9.0), (202, "talk", 9.0)])
def test_a_write_that_is_queued_after_the_heal_is_watched_on(status: int, journey: str, since_s: float) -> None:
    """Only of a journey that may be queued a 202 says that users are not served in full."""
    served = Served(ProbeSpec(rate=10), {}, ["pay"])
    served.add(Fault(t_ns=1 * NS_PER_S, id="fire", name="site.power-loss", target="east", event="healed"))
    due_ns = 8 * NS_PER_S
    slot = Probe(
        t_ns=due_ns, journey=journey, service=journey, op="write", due_ns=due_ns, sent_ns=due_ns, end_ns=due_ns,
        good=True, outcome="acked", status=status,
    )  # fmt: skip
    served.add(slot)
    assert served.undisturbed_s(10 * NS_PER_S) == since_s
