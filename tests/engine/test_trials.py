"""Several trials on one booted stack: each has its own folder, rows and verdict; none begins on a stack that is not clean."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stage import Stage

from chaoslab.cleanup.journal import RemoveFolder
from chaoslab.errors import EnvironmentFault, NotHealthy
from chaoslab.faults.service import PauseFault
from chaoslab.history.result import Result
from chaoslab.history.rows import Anchor, AnyRow, Fault, PhaseRow, Probe
from chaoslab.judge.verdict import judge_rows
from chaoslab.spec.stackfile.topology import Flow
from chaoslab.stack.protocol import Degradation

PAUSE: dict[str, Any] = {"id": "pause", "fault": "service.pause", "service": "app", "site": "west", "heal_after": "6s"}
KILL: dict[str, Any] = {"id": "kill", "fault": "service.kill", "service": "app", "site": "east", "heal_after": "6s"}


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    reads = {
        "probe": {"rate": 10, "journeys": ["app.read"]},
        "objectives": {"app": {"rpo": None, "rto": "< 1s", "unaffected": "allowed"}},
    }
    staged = Stage(tmp_path, monkeypatch, KILL, PAUSE | {"at": "1s"}, **reads)
    calls: list[str] = []
    for verb in ("up", "down"):
        real = getattr(staged.stack, verb)
        monkeypatch.setattr(staged.stack, verb, lambda *a, verb=verb, real=real: (calls.append(verb), real(*a))[1])
    staged.calls = calls  # type: ignore[attr-defined]
    yield staged


def verdict(stage: Stage, rows: list[AnyRow]) -> Result:
    def crashed(bug: Exception) -> None:
        raise bug

    return judge_rows(stage.loaded.experiment, stage.loaded.compose.spec, rows, crashed)[0]


def phases(rows: list[AnyRow]) -> list[tuple[str, str]]:
    return [(row.phase, row.event) for row in rows if isinstance(row, PhaseRow)]


ALL = ("boot", "steady", "faults", "failback", "drain", "verify", "down")
WHOLE = [(phase, event) for phase in ALL for event in ("begin", "end")]


def test_two_trials_share_one_boot_and_are_judged_apart(stage: Stage) -> None:
    """One up, one down; each history has one anchor, all phases once, and only its own rows."""

    def set_bad(bad: bool) -> None:
        stage.is_bad = bad

    first, second = stage.trial(last=False), stage.trial()
    histories = [stage.play(first)]
    stage.when(lambda: stage.count("inject"), lambda: (set_bad(True), stage.after(1.5, lambda: set_bad(False))))
    histories.append(stage.play(second))
    assert stage.calls == ["up", "down"]  # type: ignore[attr-defined]
    assert first[1].path != second[1].path
    for rows, folder in zip(histories, (first[1], second[1]), strict=True):
        assert [row.run for row in rows if isinstance(row, Anchor)] == [folder.name]
        assert phases(rows) == WHOLE
        assert [row.event for row in rows if isinstance(row, Fault)].count("healed") == 2
    assert max(row.t_ns for row in histories[0]) <= min(row.t_ns for row in histories[1])
    results = [verdict(stage, rows) for rows in histories]
    assert [(one.verdict, len(one.faults)) for one in results] == [("pass", 2), ("fail", 2)]
    assert [one.id for one in results[1].objectives if one.verdict == "fail"] == ["app.rto"]
    assert [one.cleanup for one in results] == ["kept", "complete"]


def test_two_trials_of_one_seed_write_under_names_of_their_own(stage: Stage) -> None:
    """The services still hold the writes of the first when those of the second are read back."""
    stage.play(stage.trial(seed=10, last=False))
    stage.play(stage.trial(seed=10))
    assert [plan.writer for plan in stage.plans] == ["probe-a", "probe-a-2"]
    assert len({plan.history for plan in stage.plans}) == 2


def test_a_trial_that_fails_leaves_a_clean_stack_to_the_next(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its prober dies while both faults are in; they are healed, and the next trial finds the stack as it was booted."""
    monkeypatch.setattr("stage.Prober.poll", poll_that_dies_once(stage))
    broken = stage.play(stage.trial(last=False))
    assert verdict(stage, broken).verdict == "error"
    assert stage.session.why_unusable() is None
    assert phases(stage.play(stage.trial())) == WHOLE
    assert stage.calls == ["up", "down"]  # type: ignore[attr-defined]


def poll_that_dies_once(stage: Stage) -> Any:
    from stage import Prober

    real, died = Prober.poll, list[bool]()

    def poll(prober: Prober) -> str | None:
        if stage.count("effective") == 2 and not died:
            died.append(True)
            return "the prober ended"
        return real(prober)

    return poll


def test_ctrl_c_in_the_second_trial_heals_and_takes_the_stack_down(stage: Stage) -> None:
    """Although another trial was to follow; that one is refused."""
    stage.play(stage.trial(last=False))
    stage.when(lambda: stage.count("effective") == 2, lambda: stage.session.stop("ended by SIGINT"))
    rows = stage.play(stage.trial(last=False))
    assert stage.notes("interrupted") == ["ended by SIGINT"]
    assert {row.id for row in rows if isinstance(row, Fault) and row.event == "healed"} == {"kill", "pause"}
    assert stage.calls == ["up", "down"]  # type: ignore[attr-defined]
    assert verdict(stage, rows).cleanup == "complete"
    third = stage.play(stage.trial())
    assert stage.notes("interrupted") == ["ended by SIGINT"]
    assert stage.faults() == []
    assert stage.calls == ["up", "down"]  # type: ignore[attr-defined]
    assert not any(isinstance(row, Probe) for row in third)


def test_a_fault_that_did_not_heal_ends_the_session(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known bad: west stays frozen. The stack is taken down, and the next trial gives the reason why it does not begin."""

    def stays(_: PauseFault, __: Any) -> dict[str, Any]:
        raise EnvironmentFault("SIGCONT was lost")

    monkeypatch.setattr(PauseFault, "heal", stays)
    assert phases(stage.play(stage.trial(last=False)))[-1] == ("down", "end")
    assert stage.calls == ["up", "down"]  # type: ignore[attr-defined]
    stage.play(stage.trial())
    (refusal,) = stage.notes("error")
    assert refusal.startswith("no further trial can run on this stack: it was taken down after trial 1: ")
    assert "the heal of pause (service.pause app west) was not verified; app-west is paused" in refusal
    assert stage.faults() == []
    assert stage.calls == ["up", "down"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda stage: stage.stack.pause(["store"]), "store is paused"),
        (lambda stage: stage.stack.links.fence([next(iter(stage.stack.topology.flows_around("east")))], "test"), "is cut"),
        (lambda stage: stage.stack.links.refuse(list(stage.stack.topology.flows_around("east"))), "is closed"),
        (lambda stage: stage.stack.links.degrade([Flow("outside", "east")], Degradation(latency_ms=9)), "has a toxic"),
        (lambda stage: stage.stack.block(["app-east"], "silent"), "app-east is blocked"),
        (lambda stage: setattr(stage.stack, "start", not_healthy), "app-east is not healthy"),
        (lambda stage: stage.journal.plan(RemoveFolder("/nowhere")), "1 undo steps are open in"),
    ],
)
def test_a_stack_that_changed_between_two_trials_is_refused(stage: Stage, spoil: Any, why: str) -> None:
    """Known bad: anything that is not as it was booted, whatever changed it."""
    stage.play(stage.trial(last=False))
    assert stage.session.why_unusable() is None
    spoil(stage)
    stage.play(stage.trial())
    assert any("no further trial can run on this stack: " in text and why in text for text in stage.notes("error"))
    assert stage.faults() == []
    assert stage.calls == ["up", "down"]  # type: ignore[attr-defined]


def not_healthy(*_: Any) -> None:
    raise NotHealthy("app-east is not healthy")


def test_links_that_died_between_two_trials_end_the_session(stage: Stage) -> None:
    """Known bad: the relay is gone. Whichever look finds it first, nothing is injected."""
    stage.play(stage.trial(last=False))
    stage.stack.relay_runs = False
    assert stage.session.why_unusable() == "the relay ended by itself"
    stage.play(stage.trial())
    assert any("the relay ended by itself" in text for text in stage.notes("error") + stage.notes("blind"))
    assert stage.faults() == []
    assert stage.calls == ["up", "down"]  # type: ignore[attr-defined]


def test_a_stack_that_does_not_come_up_takes_no_trial(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is taken down at once, and not booted again."""

    def up(*_: Any) -> None:
        raise NotHealthy("no disk today")

    monkeypatch.setattr(stage.stack, "up", up)
    stage.play(stage.trial(last=False))
    assert stage.notes("error") == ["no disk today"]
    assert stage.calls == ["down"]  # type: ignore[attr-defined]
    stage.play(stage.trial())
    assert stage.notes("error") == [
        "no further trial can run on this stack: it was taken down after trial 1: it did not come up"
    ]


def test_what_is_still_up_when_no_trial_follows_is_taken_down_by_the_session(stage: Stage) -> None:
    """For a caller that does not know beforehand which trial is the last."""
    stage.play(stage.trial(last=False))
    assert not stage.session.is_down
    assert stage.session.down() == []
    assert stage.session.down() == []
    assert stage.calls == ["up", "down"]  # type: ignore[attr-defined]
