"""What comes back has a small share of the processors until it is healthy, and then what all replicas have."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from fake_stack import FakeStack
from mini_stack import MINI, mini_stack

from chaoslab import process
from chaoslab.clock import Deadline, FakeClock
from chaoslab.errors import NotReady
from chaoslab.faults.boot import held_back
from chaoslab.faults.registry import fault_for
from chaoslab.faults.service import ServiceKill
from chaoslab.faults.site import SitePowerLoss
from chaoslab.spec.stackfile.compose import load_stack
from chaoslab.stack.boot_share import (
    HELD_NICENESS,
    USUAL_NICENESS,
    BootShare,
    OneProcessor,
    Sessions,
    process_means,
    sessions_are_weighed,
)
from chaoslab.stack.embedded.stack import EmbeddedStack
from chaoslab.stack.protocol import CanHoldBack


class FakeKernel:
    """Sessions by process, and their niceness. `deaf`: takes what is written and does nothing."""

    def __init__(self, sessions: dict[int, str], deaf: bool = False) -> None:
        self.sessions, self.deaf = sessions, deaf
        self.niceness: dict[str, int] = {}

    def read(self, pid: int) -> tuple[str, int] | None:
        session = self.sessions.get(pid)
        return None if session is None else (session, self.niceness.get(session, 0))

    def write(self, pid: int, niceness: int) -> None:
        if not self.deaf:
            self.niceness[self.sessions[pid]] = niceness

    def means(self) -> Sessions:
        return Sessions(lambda: [*self.sessions], self.read, self.write)


def test_sessions_that_are_opened_later_are_held_back_too_and_all_get_back_what_they_had() -> None:
    """Known bad: a database server leaves the session that was held back, and takes the processor from a new one."""
    kernel = FakeKernel({1: "a", 2: "a"})
    kernel.niceness["a"] = 3
    means = kernel.means()
    means.look()
    kernel.sessions[3] = "server"
    means.look()
    assert kernel.niceness == {"a": HELD_NICENESS, "server": HELD_NICENESS}
    assert means.detail() == {"means": "autogroup", "niceness": HELD_NICENESS, "sessions": 2}
    means.put_back()
    assert kernel.niceness == {"a": 3, "server": 0}


def test_what_was_started_with_the_small_share_gets_the_usual_one() -> None:
    """Before that it had none."""
    kernel = FakeKernel({1: "a"})
    kernel.niceness["a"] = HELD_NICENESS
    means = kernel.means()
    means.adopt(1)
    means.look()
    means.put_back()
    assert kernel.niceness == {"a": USUAL_NICENESS}


def test_a_session_that_does_not_take_it_is_told_and_left_alone() -> None:
    """Read back after setting: what was not there is not claimed."""
    kernel = FakeKernel({1: "a"}, deaf=True)
    means = kernel.means()
    means.look()
    assert means.detail() == {"means": "autogroup", "niceness": HELD_NICENESS, "sessions": 0, "refused": 1}


def test_who_is_gone_meanwhile_needs_nothing() -> None:
    """Neither a process that ended nor its number, which may be another's by then."""
    kernel = FakeKernel({1: "a", 2: "b"})
    means = kernel.means()
    means.look()
    kernel.sessions = {2: "another user's"}
    means.put_back()
    assert kernel.niceness == {"a": HELD_NICENESS, "b": HELD_NICENESS}


class Counted:
    """A means that counts, and notes when it was asked to put back."""

    def __init__(self, broken: bool = False) -> None:
        self.looks, self.broken, self.back = 0, broken, threading.Event()

    def look(self) -> None:
        self.looks += 1

    def put_back(self) -> None:
        self.back.set()

    def detail(self) -> dict[str, Any]:
        return {"means": "counted"}


def test_it_is_there_before_anything_starts_and_ends_when_it_is_let_go() -> None:
    """How long it was is reported."""
    clock, means = FakeClock(), Counted()
    held = BootShare(means, 20, clock)
    assert means.looks == 1
    clock.sleep(3.5)
    assert held.let_go() == {"means": "counted", "held_s": 3.5, "until": "healthy"}
    assert means.back.is_set()


def test_a_boot_that_takes_too_long_gets_all_that_it_wants() -> None:
    """Known bad: on a busy machine a boot with a small share does not end before the heal's deadline."""
    clock, means = FakeClock(), Counted()
    held = BootShare(means, 20, clock, look_every_s=0.001)
    clock.sleep(20)
    assert means.back.wait(5)
    clock.sleep(9)
    assert held.let_go()["until"] == "20 s were over"


class Holding(FakeStack):
    """A stack that notes which replicas are held back."""

    held: tuple[str, ...] = ()
    at_most_s = 0.0
    held_at_start: list[tuple[str, ...]]

    def hold_back(self, replicas: Any, at_most_s: float) -> None:
        self.held, self.at_most_s = tuple(replicas), at_most_s

    def let_go(self, replicas: Any) -> dict[str, Any]:
        assert tuple(replicas) == self.held
        self.held = ()
        return {"means": "noted"}

    def start(self, replicas: Any, deadline: Deadline) -> None:
        if self.held:
            self.held_at_start = [*getattr(self, "held_at_start", []), self.held]
        super().start(replicas, deadline)


@pytest.fixture
def holding() -> Holding:
    stack = Holding(load_stack([MINI / "compose.yaml"]).topology())
    stack.up(Deadline.after(1), lambda _: None)
    return stack


@pytest.mark.parametrize(
    "spec",
    [
        SitePowerLoss(id="f", fault="site.power-loss", site="east"),
        ServiceKill(id="f", fault="service.kill", service="app", site="east"),
    ],
)
def test_a_heal_holds_back_what_it_starts_and_says_so(holding: Holding, spec: Any) -> None:
    """In each start of the heal, and not any more afterwards; what was used is in the row."""
    fault = fault_for(spec, holding)
    fault.prepare()
    fault.inject()
    assert fault.heal(Deadline.after(5))["share"] == {"means": "noted"}
    assert set(holding.held_at_start) == {("app-east",)}
    assert holding.held == ()


def test_a_heal_that_fails_lets_go_as_well(holding: Holding) -> None:
    """Known bad: a replica that never got healthy was left with a small share."""
    assert isinstance(holding, CanHoldBack)
    with pytest.raises(NotReady), held_back(holding, ["app-east"], Deadline.after(5)):
        assert holding.held == ("app-east",)
        raise NotReady("not healthy")
    assert holding.held == ()


@pytest.mark.parametrize(("left_s", "at_most_s"), [(10, 5), (60, 20)])
def test_no_boot_is_held_back_to_its_deadline(holding: Holding, left_s: float, at_most_s: float) -> None:
    """Known bad: with every processor busy, a small share for all of the time left is a replica that never gets healthy."""
    with held_back(holding, ["app-east"], Deadline.after(left_s, FakeClock())):
        assert holding.at_most_s == at_most_s


def test_a_runtime_that_cannot_is_left_alone() -> None:
    """And says nothing."""
    stack = FakeStack(load_stack([MINI / "compose.yaml"]).topology())
    with held_back(stack, ["app-east"], Deadline.after(5)) as share:
        pass
    assert share == {}


@pytest.mark.parametrize(
    ("switch", "groups", "weights", "weighed"),
    [
        ("1", "0::/\n", [], True),
        ("0", "0::/\n", [], False),
        ("1", "9:name=systemd:/a\n1:cpu:/\n0::/\n", [], True),
        ("1", "4:cpu,cpuacct:/user\n0::/\n", [], False),
        ("1", "0::/user.slice/one.scope\n", [], True),
        ("1", "0::/user.slice/one.scope\n", ["user.slice"], False),
        ("1", "0::/\n", [""], False),
        (None, "0::/\n", [], False),
    ],
)
def test_sessions_are_weighed_only_where_no_control_group_comes_first(
    tmp_path: Path, switch: str | None, groups: str, weights: list[str], weighed: bool
) -> None:
    """Known bad: under systemd the niceness of a session can be set and read back, and has no effect."""
    for folder in ("proc/self", "proc/sys/kernel", *(f"sys/fs/cgroup/{name}" for name in weights)):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    (tmp_path / "proc/self/cgroup").write_text(groups)
    for name in weights:
        (tmp_path / "sys/fs/cgroup" / name / "cpu.weight").write_text("100\n")
    if switch is not None:
        (tmp_path / "proc/sys/kernel/sched_autogroup_enabled").write_text(f"{switch}\n")
    assert sessions_are_weighed(tmp_path) is weighed


def weights_of(stack: EmbeddedStack, replica: str) -> set[int]:
    """The niceness of a replica's sessions; empty where sessions have none."""
    found = [process.read_session_niceness(pid) for pid in stack._pids([replica])]
    return {weight[1] for weight in found if weight is not None}


def test_a_real_replica_is_held_back_from_its_start_to_its_health() -> None:
    """With what this machine has, seen from beside the stack; once it is let go nothing of it is left."""
    with mini_stack() as stack:
        before = weights_of(stack, "app-east")
        stack.kill(["app-east"])
        stack.hold_back(["app-east"], 20)
        stack.start(["app-east"], Deadline.after(20))
        held, means = weights_of(stack, "app-east"), process_means(list)
        detail = stack.let_go(["app-east"])
        assert held == ({HELD_NICENESS} if isinstance(means, Sessions) else before)
        assert (detail["means"], detail["until"]) == (means.detail()["means"], "healthy")
        assert weights_of(stack, "app-east") == before
        assert stack.let_go(["app-east"]) == {}


def test_where_sessions_are_not_weighed_one_processor_does() -> None:
    """All that comes back stands on one processor, and afterwards may use all again."""
    stands: dict[int, frozenset[int]] = {}
    means = OneProcessor(lambda: [7, 8], {0, 1, 2, 3}, stands.__setitem__)
    means.adopt(7)
    assert stands == {7: {3}}
    means.look()
    assert stands == {7: {3}, 8: {3}}
    assert means.detail() == {"means": "affinity", "processors": [3], "of": 4, "processes": 2}
    means.put_back()
    assert stands == {7: {0, 1, 2, 3}, 8: {0, 1, 2, 3}}
