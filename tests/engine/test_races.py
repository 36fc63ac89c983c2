"""What meets in a run: injections, heals and its end, each played on the fake stack and a clock that waits for everybody."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from stage import Stage

from chaoslab import process
from chaoslab.cleanup.journal import open_steps
from chaoslab.clock import NS_PER_S
from chaoslab.engine import active_fault, asking
from chaoslab.errors import NotHealthy, NotReady
from chaoslab.faults.service import KillFault
from chaoslab.history.rows import Step

KILL: dict[str, Any] = {"id": "kill", "fault": "service.kill", "service": "app", "site": "east"}
PAUSE: dict[str, Any] = {"id": "pause", "fault": "service.pause", "service": "app", "site": "west"}
SLOW: dict[str, Any] = {"id": "slow", "fault": "link.degrade", "from": "east", "to": "west", "bandwidth_kbps": 10}
CUT: dict[str, Any] = {"id": "cut", "fault": "link.cut", "from": "east", "to": "west"}
EXEC: dict[str, Any] = {"fault": "exec", "inject": ["break-it"], "heal": ["mend-it"], "verify": ["is-broken"]}


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The commands of `exec` that were run, by their first word; none is a real one."""
    ran: list[str] = []

    def run(command: list[str], **_: Any) -> process.Completed:
        ran.append(command[0])
        is_broken = ran.count("break-it") > ran.count("mend-it")
        return process.Completed(command, 0 if command[0] != "is-broken" or is_broken else 1, "", "")

    monkeypatch.setattr(process, "run", run)
    yield ran


# --- the end of the run -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [False, True])
def test_an_injection_that_the_end_overtakes_before_its_call_is_never_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: bool
) -> None:
    """Ctrl-C while it notes how to undo it; it goes on once no heal comes any more."""
    stage = Stage(tmp_path, monkeypatch, KILL, keep=keep)
    killed: list[Any] = []
    monkeypatch.setattr(stage.stack, "kill", killed.append)
    gate = stage.gate(KillFault, "undo_steps")
    stage.when(lambda: gate.standing, lambda: stage.engine.stop("Ctrl-C"))
    stage.when(lambda: stage.has_begun("down"), gate.open)
    stage.play()
    assert killed == []
    assert stage.events_of_faults() == []


def test_an_injection_that_waits_for_another_when_the_end_comes_is_never_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would begin the moment the other, which is healed, is over."""
    stage = Stage(tmp_path, monkeypatch, SLOW, CUT)
    gate = stage.gate(stage.stack.links, "degrade")
    stage.when(lambda: gate.standing, lambda: stage.engine.stop("Ctrl-C"))
    stage.when(lambda: stage.has_noted("interrupted"), gate.open)
    stage.play()
    assert {row.id for row in stage.faults()} == {"slow"}
    assert not stage.stack.links.held
    assert not stage.stack.links.slow


def test_an_injection_that_ends_after_its_heal_is_healed_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that hangs beyond all patience is healed all the same, and whatever it still does is undone."""
    stage = Stage(tmp_path, monkeypatch, PAUSE, keep=True)
    gate = stage.gate(stage.stack, "pause")
    stage.when(lambda: gate.standing, lambda: stage.engine.stop("Ctrl-C"))
    stage.when(lambda: stage.has_begun("drain"), gate.open)
    stage.play()
    assert [event for _, event in stage.events_of_faults()][:3] == ["inject", "heal", "healed"]
    assert stage.stack.states()["app-west"] == "running"
    assert any("has not ended" in text for text in stage.notes("warning"))


def test_a_command_that_hangs_when_the_end_comes_is_ended_and_healed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commands: list[str]
) -> None:
    """Its own processes are killed, then its heal has the last word."""
    stage = Stage(tmp_path, monkeypatch, EXEC | {"id": "broken"})
    gate = stage.gate(process, "run", lambda command, **_: command[0] == "break-it")
    monkeypatch.setattr(active_fault, "perform", lambda _: gate.open())
    stage.when(lambda: gate.standing, lambda: stage.engine.stop("Ctrl-C"))
    stage.play()
    assert commands == ["is-broken", "break-it", "is-broken", "mend-it", "is-broken"]
    assert open_steps(stage.journal.path) == []


def test_the_end_waits_for_a_heal_that_is_under_way_and_begins_no_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while the site boots: never two heals of one fault at once."""
    stage = Stage(tmp_path, monkeypatch, KILL | {"heal_after": "2s"}, PAUSE | {"heal_after": "30s"})
    gate = stage.gate(stage.stack, "start", lambda names, _: list(names) == ["app-east"])
    stage.when(lambda: gate.standing, lambda: (stage.engine.stop("Ctrl-C"), stage.after(5.0, gate.open)))
    stage.play()
    assert (gate.came, gate.most) == (1, 1)
    assert stage.events_of_faults().count(("kill", "heal")) == 1
    assert ("pause", "healed") in stage.events_of_faults()


def test_a_heal_that_fails_keeps_no_other_from_being_healed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end of a run that was cut short."""
    stage = Stage(tmp_path, monkeypatch, KILL, PAUSE)
    stage.when(lambda: stage.count("effective") == 2, lambda: (breaks(), stage.engine.stop("Ctrl-C")))

    def breaks() -> None:
        monkeypatch.setattr(stage.stack, "start", lambda *_: (_ for _ in ()).throw(NotReady("no power")))

    stage.play()
    assert {("kill", "unhealed"), ("pause", "healed")} <= set(stage.events_of_faults())


# --- nothing waits for what hangs ---------------------------------------------------------------------------------


def test_a_heal_waits_for_no_other_injection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commands: list[str]) -> None:
    """Nine commands hang, more than any pool of workers has; the heal comes at its instant."""
    hanging = [EXEC | {"id": f"hang-{number}", "at": "1s"} for number in range(9)]
    stage = Stage(tmp_path, monkeypatch, PAUSE | {"heal_after": "2s"}, *hanging)
    gate = stage.gate(process, "run", lambda command, **_: command[0] == "break-it")
    stage.when(lambda: gate.standing == 9, lambda: stage.after(4.0, lambda: stage.engine.stop("Ctrl-C")))
    monkeypatch.setattr(active_fault, "perform", lambda _: gate.open(), raising=False)
    stage.play()
    assert gate.most == 9
    assert stage.seconds("pause", "heal") == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("verb", "message"),
    [
        ("up", "waited 150 s for the stack; last message: "),
        ("prepare", "waited 120 s for the check of what works before the faults"),
        ("kill", "waited 120 s for the injection of kill (service.kill app east) to end; last seen: injecting"),
        ("states", "waited 120 s for the injection of kill (service.kill app east) to end; last seen: verifying"),
        ("start", "waited 70 s for the heal of kill (service.kill app east) to end; last seen: healing"),
    ],
)
def test_every_wait_has_a_deadline_and_says_what_it_saw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, message: str
) -> None:
    """A verb of the stack never comes back: the run ends, with an error that names it."""
    stage = Stage(tmp_path, monkeypatch, KILL | {"heal_after": "2s"})
    owner = KillFault if verb == "prepare" else stage.stack
    looks = itertools.count()  # the first is that of the boot
    stands = {"start": lambda *args: list(args[0]) == ["app-east"], "states": lambda *_: next(looks) > 0}
    stage.gate(owner, verb, lambda *args, **_: verb not in stands or stands[verb](*args))
    stage.play()
    assert any(message in text for text in stage.notes("error")), [row for row in stage.rows if hasattr(row, "text")]


def test_a_stack_that_does_not_come_down_is_left_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reaper is next."""
    stage = Stage(tmp_path, monkeypatch, KILL | {"heal_after": "2s"})
    stage.gate(stage.stack, "down")
    end = stage.play()[-1]
    assert "waited 180 s for the end of the stack" in end.detail["left"][0]  # type: ignore[union-attr]


# --- at one instant -----------------------------------------------------------------------------------------------


def test_what_is_scripted_for_one_instant_is_called_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Injections, and heals: none waits until another has come back."""
    stage = Stage(tmp_path, monkeypatch, KILL | {"at": "1s", "heal_after": "3s"}, PAUSE | {"at": "1s", "heal_after": "3s"})
    gates = [stage.gate(stage.stack, "kill"), stage.gate(stage.stack, "pause")]
    heals = [stage.gate(stage.stack, "resume"), stage.gate(stage.stack, "start", lambda names, _: list(names) == ["app-east"])]
    for pair in (gates, heals):
        stage.when(lambda pair=pair: all(gate.standing for gate in pair), lambda pair=pair: [gate.open() for gate in pair])
    stage.play()
    assert sorted(stage.events_of_faults()) == [
        (id_, event) for id_ in ("kill", "pause") for event in ("effective", "heal", "healed", "inject")
    ]
    assert {stage.seconds(id_, "inject") for id_ in ("kill", "pause")} == {1.0}
    assert {stage.seconds(id_, "heal") for id_ in ("kill", "pause")} == {4.0}


def test_a_heal_counts_from_the_injection_that_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cut waits until the slow link that it cuts has been proven, as a note tells; then it lasts as long as it should."""
    stage = Stage(tmp_path, monkeypatch, CUT | {"heal_after": "4s"}, SLOW | {"heal_after": "6s"})
    gate = stage.gate(stage.stack.links, "degrade")
    stage.when(lambda: gate.standing, lambda: stage.after(3.0, gate.open))
    stage.play()
    waited_s = stage.seconds("cut", "inject")
    assert 3.0 <= waited_s < 3.2
    assert stage.seconds("cut", "heal") == pytest.approx(waited_s + 4.0)
    assert stage.seconds("slow", "inject") == 0.0
    assert any(text.startswith("cut (link.cut east west) was injected 3.") for text in stage.notes("info"))
    assert next(row for row in stage.faults("inject") if row.id == "cut").detail["waited_s"] == pytest.approx(waited_s)
    assert stage.events_of_faults()[-1][1] == "healed"


def test_faults_without_a_heal_time_are_healed_together_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not before the last of them has lasted long enough."""
    stage = Stage(tmp_path, monkeypatch, KILL, PAUSE | {"at": "5s"})
    stage.play()
    assert {stage.seconds(id_, "heal") for id_ in ("kill", "pause")} == {35.0}


def test_fences_are_lifted_before_toxics_are_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one link, at one instant: a proxy behind a fence may not answer."""
    stage = Stage(tmp_path, monkeypatch, CUT | {"at": "1s", "heal_after": "9s"}, SLOW | {"heal_after": "10s"})
    order: list[str] = []
    lift, restore = stage.stack.links.lift, stage.stack.links.restore
    monkeypatch.setattr(stage.stack.links, "restore", lambda flows: (order.append("restore"), restore(flows)))
    gate = stage.gate(stage.stack.links, "lift")
    opened = stage.stack.links.lift
    monkeypatch.setattr(stage.stack.links, "lift", lambda *held: (opened(*held), order.append("lift")))
    stage.when(lambda: gate.standing, lambda: stage.after(1.0, gate.open))
    stage.play()
    assert order == ["lift", "restore"]
    assert lift is not opened


# --- ends and steps of its own ------------------------------------------------------------------------------------


def test_a_flapping_link_has_rows_for_each_cycle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each moment in which it is cut lies between an inject and a heal, and none in which it is whole."""
    flap = {"id": "flap", "fault": "link.flap", "from": "east", "to": "west", "period": "2s", "count": 3}
    stage = Stage(tmp_path, monkeypatch, flap | {"heal_after": "20s"})
    held: list[tuple[float, bool]] = []
    monkeypatch.setattr(stage.clock, "settle", seen(stage, stage.clock.settle, held))
    stage.play()
    intervals = [(stage.seconds(id_, "inject"), stage.seconds(id_, "heal")) for id_ in ("flap", "flap#2", "flap#3")]
    assert intervals == [pytest.approx(pair, abs=0.05) for pair in ((0, 1), (2, 3), (4, 5))]
    begin = stage.faults("inject")[0].t_ns / NS_PER_S
    for at_s, is_cut in held:
        if all(abs(at_s - begin - edge_s) > 0.001 for pair in intervals for edge_s in pair):
            assert any(begin_s < at_s - begin < end_s for begin_s, end_s in intervals) == is_cut, at_s - begin
    assert [event for id_, event in stage.events_of_faults() if id_ == "flap"] == [
        "inject",
        "effective",
        "heal",
        "healed",
        "healed",
    ]
    assert stage.faults("healed")[-1].detail["cuts"] == 3


def seen(stage: Stage, real: Any, held: list[tuple[float, bool]]) -> Any:
    def settle() -> None:
        real()
        held.append((stage.clock.now_ns() / NS_PER_S, bool(stage.stack.links.held)))

    return settle


def test_a_heal_within_a_cycle_ends_that_cycle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second cut is under way when the run is ended."""
    flap = {"id": "flap", "fault": "link.flap", "from": "east", "to": "west", "period": "2s", "count": 9}
    stage = Stage(tmp_path, monkeypatch, flap)
    stage.when(lambda: stage.count("inject") == 2, lambda: stage.after(0.5, lambda: stage.engine.stop("Ctrl-C")))
    stage.play()
    assert stage.seconds("flap#2", "heal") == pytest.approx(2.5, abs=0.2)
    assert stage.events_of_faults()[-2:] == [("flap#2", "healed"), ("flap", "healed")]
    assert not stage.stack.links.held


def test_what_comes_after_the_heal_of_a_flap_waits_for_its_last_cycle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known bad: the heal of the first cycle began the step, while the link was still flapping."""
    flap = {"id": "flap", "fault": "link.flap", "from": "east", "to": "west", "period": "2s", "count": 3}
    step = {"id": "mend", "after_heal": "flap", "manual": "mend", "delay": "1s"}
    stage = Stage(tmp_path, monkeypatch, flap | {"heal_after": "8s"}, step)
    rows = stage.play()
    start_ns = next(row.t_ns for row in rows if getattr(row, "phase", "") == "faults")
    begun_ns = next(row.t_ns for row in rows if isinstance(row, Step) and row.event == "begin")
    assert (begun_ns - start_ns) / NS_PER_S >= 8.0


def test_a_roll_ends_on_its_own_and_is_not_healed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One inject, and an end marked as its own."""
    stage = Stage(tmp_path, monkeypatch, {"id": "roll", "fault": "service.restart", "service": "app", "heal_after": "20s"})
    gate = stage.gate(stage.stack, "start", lambda names, _: list(names) == ["app-west"])
    stage.when(lambda: gate.standing, lambda: stage.after(3.0, gate.open))
    stage.play()
    assert stage.events_of_faults() == [("roll", "inject"), ("roll", "effective"), ("roll", "heal"), ("roll", "healed")]
    assert [row.detail.get("own_end") for row in stage.faults("heal", "healed")] == [True, True]
    assert stage.seconds("roll", "heal") == pytest.approx(3.0, abs=0.2)


def test_a_roll_that_breaks_off_is_healed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then its end is not its own."""
    stage = Stage(tmp_path, monkeypatch, {"id": "roll", "fault": "service.restart", "service": "app"}, keep=True)
    real, failed = stage.stack.start, list[str]()

    def start(names: list[str], deadline: Any) -> None:
        if names == ["app-west"] and not failed:
            failed.append("once")
            raise NotReady("app-west does not get healthy")
        real(names, deadline)

    monkeypatch.setattr(stage.stack, "start", start)
    stage.play()
    assert stage.events_of_faults() == [("roll", "inject"), ("roll", "heal"), ("roll", "healed")]
    assert "own_end" not in stage.faults("heal")[0].detail
    assert stage.stack.states()["app-west"] == "running"


@dataclass
class Answer:
    status_code: int = 200
    site: str = ""
    text: str = ""

    @property
    def ok(self) -> bool:
        return self.status_code < 400

    @property
    def content(self) -> bytes:
        return json.dumps({"site": self.site}).encode()


CONDITION = {
    "get": "http://app-west:8000/where",
    "expect": "site == 'east'",
    "bring_about": {"post": "http://app-west:8000/switch", "json": {}},
}


class Switching:
    """A stack that does what a switch-back asks for some seconds after it took the call; the first calls it refuses."""

    def __init__(self, stage: Stage, monkeypatch: pytest.MonkeyPatch, *answers: int, takes_s: float) -> None:
        self.calls_s: list[float] = []
        self._stage, self._answers, self._takes_s, self._back_s = stage, [*answers], takes_s, 0.0
        monkeypatch.setattr(asking, "ask", lambda verb, *_, **__: self.ask() if verb == "POST" else self.look())

    @property
    def _now_s(self) -> float:
        return self._stage.clock.now_ns() / NS_PER_S

    def ask(self) -> Answer:
        self.calls_s.append(self._now_s)
        status = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if status < 400:
            self._back_s = min(self._back_s, self._now_s + self._takes_s)
        return Answer(status)

    def look(self) -> Answer:
        if self._stage.stack.lives["app-east"] > 1 and not self.calls_s:
            self._back_s = float("inf")  # away since the fault
        return Answer(site="east" if self._now_s >= self._back_s else "west")


def switching(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *answers: int, takes_s: float) -> tuple[Stage, Switching]:
    steady = {"hold": "1s", "within": "20s", "conditions": ["home"]}
    overlay = {"x-chaoslab": {"conditions": {"home": CONDITION}}}
    once = KILL | {"heal_after": "2s"}
    stage = Stage(tmp_path, monkeypatch, once, steady_state=steady, overlay=overlay, failback={"within": "40s", "hold": "1s"})
    return stage, Switching(stage, monkeypatch, *answers, takes_s=takes_s)


def steps(stage: Stage) -> list[tuple[str, str, str, float]]:
    begin = next(row.t_ns for row in stage.rows if isinstance(row, Step))
    return [(row.id, row.name, row.event, (row.t_ns - begin) / NS_PER_S) for row in stage.rows if isinstance(row, Step)]


def test_the_switch_back_is_a_step_from_its_call_to_the_look_that_saw_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes seven seconds, and is not asked for again meanwhile: that would be a second disturbance."""
    stage, stack = switching(tmp_path, monkeypatch, 200, takes_s=7.0)
    stage.play()
    assert len(stack.calls_s) == 1
    (begin, end) = steps(stage)
    assert begin == ("home", "switchback", "begin", 0.0)
    assert end[:3] == ("home", "switchback", "end")
    assert 7.0 <= end[3] < 8.0


def test_a_switch_back_that_was_refused_is_no_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two refusals, a second apart, then the one that counts."""
    stage, stack = switching(tmp_path, monkeypatch, 412, 412, 200, takes_s=1.0)
    stage.play()
    assert [later - stack.calls_s[0] for later in stack.calls_s] == pytest.approx([0.0, 1.0, 2.0], abs=1.2)
    assert [(id_, event) for id_, _, event, _ in steps(stage)] == [("home", "begin"), ("home", "end")]
    first = next(row.t_ns for row in stage.rows if isinstance(row, Step))
    assert first / NS_PER_S == stack.calls_s[2]


def test_a_switch_back_without_effect_is_asked_for_again_and_is_another_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not before the first has had ten seconds."""
    stage, stack = switching(tmp_path, monkeypatch, 503, 200, takes_s=1.0)
    stage.play()
    assert stack.calls_s[1] - stack.calls_s[0] >= 10.0
    assert [(id_, event) for id_, _, event, _ in steps(stage)] == [
        ("home", "begin"),
        ("home#2", "begin"),
        ("home", "end"),
        ("home#2", "end"),
    ]


def test_replicas_that_do_not_answer_after_a_power_loss_are_recorded_and_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Known bad: healthy by their own word, and an error of the harness that ended the run."""
    fire = {"id": "fire", "fault": "site.power-loss", "site": "east", "heal_after": "5s"}
    stage = Stage(tmp_path, monkeypatch, fire)
    real = stage.stack.reaches
    monkeypatch.setattr(stage.stack, "reaches", lambda *args, **more: not stage.count("effective") and real(*args, **more))
    stage.play()
    (unhealed,) = [row for row in stage.faults() if row.event == "unhealed"]
    assert (unhealed.detail["unhealthy"], "app-east:8000" in unhealed.detail["why"]) == (True, True)
    assert stage.notes("error") == []
    assert stage.has_begun("verify")


def test_replicas_that_do_not_get_healthy_are_recorded_and_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The row records it, the run goes on, and the judge makes a failback fail of it."""
    stage = Stage(tmp_path, monkeypatch, KILL)

    def start(replicas: Any, deadline: Any) -> None:
        if stage.count("effective"):
            raise NotHealthy("not healthy after 60.0 s: app-west")
        real(replicas, deadline)

    real = stage.stack.start
    monkeypatch.setattr(stage.stack, "start", start)
    stage.play()
    (unhealed,) = [row for row in stage.faults() if row.event == "unhealed"]
    assert (unhealed.detail["unhealthy"], "app-west" in unhealed.detail["why"]) == (True, True)
    assert stage.notes("error") == []
    assert stage.has_begun("verify")
