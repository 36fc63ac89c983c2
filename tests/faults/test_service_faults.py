"""What is particular to the faults of services and flapping links: graces, order, shares, cycles, and their known-bad cases."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_stack import FakeStack
from mini_stack import MINI, mini_stack, run_chaoslab, write_experiment
from pydantic import TypeAdapter

from chaoslab import process
from chaoslab.clock import SYSTEM, Deadline
from chaoslab.errors import ExitCode, FaultNotEffective, NotReady, SpecError
from chaoslab.faults.abilities import refuse_impossible, relayed_services
from chaoslab.faults.base import Fault
from chaoslab.faults.registry import fault_for
from chaoslab.report.view import JsonView
from chaoslab.run.session import Options, run_once
from chaoslab.spec.fault_types import FaultSpec
from chaoslab.spec.load import load_experiment
from chaoslab.spec.stackfile.compose import load_stack
from chaoslab.spec.stackfile.topology import Flow
from chaoslab.stack.compose.stack import ComposeStack
from chaoslab.stack.embedded.stack import EmbeddedStack
from chaoslab.stack.protocol import CanBlock, CanBlockWithinSite, CanDestroyDisks, CanStop, CanThrottle, Stack

SPEC = TypeAdapter(FaultSpec)
STORE_IN_EAST = {"services": {"store": {"labels": {"chaoslab.site": "east"}}}}


def spec(**written: Any) -> FaultSpec:
    return SPEC.validate_python({"id": "f", **written})


def made(stack: Stack, **written: Any) -> Fault:
    return fault_for(spec(**written), stack)


def heal(fault: Fault) -> dict[str, Any]:
    detail = fault.heal(Deadline.after(20))
    fault.verify_heal(Deadline.after(20))
    return detail


def test_a_stop_is_graceful(stack: EmbeddedStack) -> None:
    """Who ends when asked is not killed."""
    fault = made(stack, fault="service.stop", service="app", site="east")
    fault.prepare()
    report = fault.inject()
    assert (report["stopped"], report["had_to_be_killed"]) == (1, [])
    assert report["took_ms"] < 5000
    heal(fault)


def test_who_does_not_end_in_time_is_killed_and_named(stack: EmbeddedStack) -> None:
    """A frozen replica cannot hear the signal; it is down after the grace all the same."""
    fault = made(stack, fault="service.stop", service="app", grace="300ms")
    fault.prepare()
    stack.pause(["app-east"])
    report = fault.inject()
    assert (report["stopped"], report["had_to_be_killed"]) == (2, ["app-east"])
    assert report["took_ms"] >= 300
    fault.verify()
    heal(fault)


def test_a_stop_that_stops_nothing_is_caught(stack: EmbeddedStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known bad: the signal goes nowhere."""
    monkeypatch.setattr(stack, "stop", lambda *_: EmbeddedStack.stop(stack, [], 0))
    fault = made(stack, fault="service.stop", service="app")
    fault.prepare()
    fault.inject()
    with pytest.raises(FaultNotEffective, match="app-east is running"):
        fault.verify()


def test_a_restart_rolls(stack: EmbeddedStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one replica is down the other answers; in the end both are new processes."""
    others: list[bool] = []
    real = stack.stop

    def stop(names: list[str], grace_s: float) -> Any:
        report = real(names, grace_s)
        others.append(stack.reaches("app-west" if names == ["app-east"] else "app-east", 8000, timeout_s=2.0))
        return report

    monkeypatch.setattr(stack, "stop", stop)
    before = dict(process.tagged("CHAOSLAB_REPLICA", f"{stack._run_id}/app-"))
    fault = made(stack, fault="service.restart", service="app")
    fault.prepare()
    began_ns = SYSTEM.now_ns()
    fault.inject()
    evidence = fault.verify()
    assert others == [True, True]
    assert began_ns < evidence.since_ns < SYSTEM.now_ns()
    assert evidence.detail["seen_down"] == ["app-east", "app-west"]
    assert set(stack.states().values()) == {"running"}
    after = process.tagged("CHAOSLAB_REPLICA", f"{stack._run_id}/app-")
    assert sorted(after.values()) == sorted(before.values())
    assert not after.keys() & before.keys()
    heal(fault)


def test_a_restart_that_restarts_nothing_is_caught(stack: EmbeddedStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known bad: everything is healthy in the end, because nothing was ever down."""
    monkeypatch.setattr(stack, "stop", lambda *_: EmbeddedStack.stop(stack, [], 0))
    fault = made(stack, fault="service.restart", service="app")
    fault.prepare()
    fault.inject()
    with pytest.raises(FaultNotEffective, match="app-west is running"):
        fault.verify()


def test_a_roll_stops_at_the_first_that_does_not_come_back(stack: EmbeddedStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second replica is not touched while the first one is ill; the heal starts what is down."""
    fault = made(stack, fault="service.restart", service="app")
    fault.prepare()
    with monkeypatch.context() as broken:
        broken.setattr(stack, "_spawn", lambda _: None)
        with pytest.raises(NotReady, match="app-east"):
            fault.inject()
    assert stack.states()["app-west"] == "running"
    heal(fault)


def test_a_throttle_is_a_share_and_ends_with_its_holder(stack: EmbeddedStack) -> None:
    """About the share is seen; when the throttle dies the run is told, and the heal thaws what it left frozen."""
    fault = made(stack, fault="service.throttle", service="app", site="west", cpu="30%")
    fault.prepare()
    fault.inject()
    try:
        seen = fault.verify().detail["observed_share"]["app-west"]
        assert 0.05 < seen <= 0.65
        assert stack.trouble() is None
        assert stack.observed_share("app-east") == 1.0
        helper = stack._throttles._helpers[f"{stack._run_id}/app-west"]
        helper.send_signal(signal.SIGKILL)
        helper.wait()
        assert "ended unexpectedly" in (stack.trouble() or "")
    finally:
        heal(fault)
    assert stack.trouble() is None
    assert stack.observed_share("app-west") == 1.0


def test_a_throttle_lets_go_when_the_harness_dies(stack: EmbeddedStack) -> None:
    """The end of its standard input is enough; nobody has to ask it."""
    stack.throttle(["app-west"], 0.05)
    helper = stack._throttles._helpers[f"{stack._run_id}/app-west"]
    assert helper.stdin is not None
    SYSTEM.sleep(0.5)
    helper.stdin.close()
    assert helper.wait(5) == 0
    assert stack.observed_share("app-west") == 1.0
    stack.unthrottle(["app-west"])


def test_a_replica_that_starts_under_a_throttle_is_throttled(stack: EmbeddedStack) -> None:
    """Killed and started again, it gets no more than before."""
    stack.throttle(["app-west"], 0.1)
    try:
        stack.kill(["app-west"])
        stack.start(["app-west"], Deadline.after(30))
        SYSTEM.sleep(1.5)
        assert stack.observed_share("app-west") < 0.6
    finally:
        stack.unthrottle(["app-west"])


def test_a_link_flaps(stack: EmbeddedStack) -> None:
    """It is cut as often as was said, whole in between, and whole in the end by itself."""
    fault = made(stack, fault="link.flap", **{"from": "east", "to": "west", "period": "1s", "count": 3})
    fault.prepare()
    fault.inject()
    fault.verify()
    seen, over = [True], Deadline.after(15)
    while not over.passed and len(seen) < 6:
        held = bool(stack.links.fenced())
        if held != seen[-1]:
            seen.append(held)
        SYSTEM.sleep(0.05)
    assert seen == [True, False, True, False, True, False]
    SYSTEM.sleep(0.7)
    assert not stack.links.fenced()
    assert heal(fault) == {"cuts": 3, "wanted": 3}


def test_a_heal_ends_the_flapping(stack: EmbeddedStack) -> None:
    """Cut short, the link is whole and stays so; the report says how far it came."""
    fault = made(stack, fault="link.flap", **{"from": "east", "to": "west", "period": "1s", "count": 100})
    fault.prepare()
    fault.inject()
    fault.verify()
    assert heal(fault)["cuts"] < 100
    SYSTEM.sleep(0.7)
    assert not stack.links.fenced()


def test_a_link_that_breaks_while_it_flaps_is_told(stack: EmbeddedStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known bad: later cuts fail; the heal makes the link whole, and then says so."""
    fault = made(stack, fault="link.flap", **{"from": "east", "to": "west", "period": "1s", "count": 3})
    fault.prepare()
    fault.inject()
    monkeypatch.setattr(stack.links, "fence", lambda *_: (_ for _ in ()).throw(NotReady("no fence any more")))
    fault.verify()
    SYSTEM.sleep(1.5)
    with pytest.raises(NotReady, match="no fence any more"):
        fault.heal(Deadline.after(5))
    assert not stack.links.fenced()


@pytest.mark.parametrize("mode", ["refuse", "silent"])
def test_a_dependency_is_down_for_its_neighbours_too(tmp_path: Path, mode: str) -> None:
    """Store and app stand in one place; the app is not answered any more, and the store lives and is healthy inside."""
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(yaml.safe_dump(STORE_IN_EAST))
    with mini_stack(overlay, relayed=["store"]) as stack:
        fault = made(stack, fault="dependency.down", service="store", mode=mode)
        fault.prepare()
        fault.inject()
        evidence = fault.verify()
        assert {path.rpartition(" ")[2] for path in evidence.detail["silent"]} == {"east", "west", "outside"}
        stack.start(["store"], Deadline.after(10))
        stack.links.refuse([])
        stack.links.restore([flow for place in ("west", "outside") for flow in stack.topology.flows_around(place)])
        fault.verify()  # the heal of a link unblocks nothing
        heal(fault)


def test_neighbours_that_are_not_blocked(tmp_path: Path) -> None:
    """`elsewhere`: who stands beside the service is answered all the time."""
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(yaml.safe_dump(STORE_IN_EAST))
    with mini_stack(overlay, relayed=["store"]) as stack:
        fault = made(stack, fault="dependency.down", service="store", callers="elsewhere")
        fault.prepare()
        fault.inject()
        fault.verify()
        assert stack.reaches("store", 7000, seen_from="east", timeout_s=2.0)
        heal(fault)


@pytest.mark.parametrize("mode", ["refuse", "silent"])
def test_only_callers_in_the_places_that_are_named_are_blocked(stack: EmbeddedStack, mode: str) -> None:
    """A third party's place loses sight of the service; everybody else is answered, and the proof says so."""
    fault = made(stack, fault="dependency.down", service="store", mode=mode, **{"from": "east"})
    fault.prepare()
    fault.inject()
    try:
        evidence = fault.verify()
        assert evidence.detail["silent"] == ["store:7000 from east"]
        assert stack.reaches("store", 7000, seen_from="west", timeout_s=2.0)
    finally:
        heal(fault)


def test_a_block_that_hits_others_too_is_another_fault(fake: FakeStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known bad: what should have been blocked for one place is blocked for all."""
    monkeypatch.setattr("chaoslab.faults.proof.EFFECT_TIMEOUT_S", 0.0)
    fault = made(fake, fault="dependency.down", service="store", **{"from": "east"})
    fault.prepare()
    fake.block(["store"], "refuse")
    with pytest.raises(FaultNotEffective, match=r"other callers got no answer either: .*store:7000 from outside"):
        fault.verify()


def test_two_views_of_one_service_conflict(fake: FakeStack) -> None:
    """The heal of one would unblock the service for the callers of the other."""
    east, west = (spec(fault="dependency.down", service="store", **{"from": place}) for place in ("east", "west"))
    assert east.conflicts_with(west)
    assert not east.conflicts_with(spec(fault="dependency.down", service="app", callers="elsewhere"))
    assert (east.target, [*east.ways(fake.topology)]) == ("store from east", [Flow("east", "witness")])


def test_a_dead_service_is_no_dependency_that_is_down(stack: EmbeddedStack) -> None:
    """Known bad: silence that comes from a death is another fault."""
    fault = made(stack, fault="dependency.down", service="app", callers="elsewhere")
    fault.prepare()
    stack.kill(["app-east", "app-west"])
    try:
        with pytest.raises(FaultNotEffective, match="app-east is dead"):
            fault.verify()
    finally:
        heal_after_kill = made(stack, fault="service.kill", service="app")
        heal_after_kill.heal(Deadline.after(20))


class Bare:
    """A runtime with no ability beyond the common ones."""


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ({"fault": "service.stop", "service": "app"}, "cannot ask a replica to stop"),
        ({"fault": "service.restart", "service": "app"}, "cannot ask a replica to stop"),
        ({"fault": "service.throttle", "service": "app", "cpu": "20%"}, "cannot limit CPU time"),
        ({"fault": "dependency.down", "service": "store"}, "cannot block access"),
        ({"fault": "site.power-loss", "site": "east", "disks": "destroy"}, "cannot destroy volumes"),
    ],
)
def test_what_a_runtime_cannot_do_is_refused(stack: EmbeddedStack, written: dict[str, Any], why: str) -> None:
    """By its class, before there is a stack; our own runtimes can do all of these."""
    with pytest.raises(SpecError, match=why):
        refuse_impossible([spec(**written)], stack.topology, Bare, "bare")
    for runtime in (EmbeddedStack, ComposeStack):
        refuse_impossible([spec(**written)], stack.topology, runtime, "own")


def test_compose_cannot_block_neighbours(tmp_path: Path) -> None:
    """Containers of one network talk directly; who asks for callers elsewhere gets them."""
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(yaml.safe_dump(STORE_IN_EAST))
    topology = load_stack([MINI / "compose.yaml", overlay]).topology()
    down = {"fault": "dependency.down", "service": "store"}
    with pytest.raises(SpecError, match="app-east reach it inside their own place; use callers: elsewhere"):
        refuse_impossible([spec(**down)], topology, ComposeStack, "compose")
    refuse_impossible([spec(**down, callers="elsewhere")], topology, ComposeStack, "compose")
    refuse_impossible([spec(**down)], topology, EmbeddedStack, "embedded")
    assert relayed_services([spec(**down)]) == {"store"}
    assert relayed_services([spec(**down, callers="elsewhere")]) == frozenset()


def test_a_run_that_cannot_be_is_refused_before_it_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 2, no folder, no process."""
    monkeypatch.chdir(tmp_path)
    down = {"id": "down", "fault": "dependency.down", "service": "store", "heal_after": "3s"}
    loaded = load_experiment(write_experiment(tmp_path, overlay=STORE_IN_EAST, timeline=[down]))
    with pytest.raises(SpecError, match="inside their own place") as refused:
        run_once(loaded, Options(tmp_path, runtime="compose"), JsonView())
    assert refused.value.exit_code is ExitCode.USAGE
    assert not (tmp_path / "runs").exists()


def test_whole_runs_take_the_new_faults(tmp_path: Path) -> None:
    """A flapping link, a roll and a throttle in one timeline are verified and healed; nothing is left."""
    timeline = [
        {"id": "flap", "fault": "link.flap", "from": "east", "to": "west", "period": "1s", "count": 2, "heal_after": "3s"},
        {"id": "roll", "at": "4s", "fault": "service.restart", "service": "app", "heal_after": "4s"},
        {"id": "slow", "at": "9s", "fault": "service.throttle", "service": "app", "cpu": "60%", "heal_after": "3s"},
        {"id": "down", "at": "13s", "fault": "dependency.down", "service": "store", "heal_after": "2s"},
        {"id": "stop", "at": "16s", "fault": "service.stop", "service": "app", "site": "east", "heal_after": "2s"},
    ]
    ran = run_chaoslab(tmp_path, str(write_experiment(tmp_path, overlay=STORE_IN_EAST, timeline=timeline)))
    wanted = ["flap", "flap#2", "roll", "slow", "down", "stop"]  # each cycle of a flapping link is an interval of its own
    assert [(one["id"], one["verified"]) for one in ran.result["faults"]] == [(id_, True) for id_ in wanted], ran.out
    assert all(ran.objective(f"fault.{one['id']}")["verdict"] == "pass" for one in timeline), ran.out
    assert ran.result["cleanup"] == "complete"


@pytest.mark.parametrize("runtime", [EmbeddedStack, ComposeStack])
def test_the_abilities_of_our_runtimes(runtime: type) -> None:
    """What the refusals rely on; only one of them can block neighbours."""
    assert all(issubclass(runtime, ability) for ability in (CanStop, CanThrottle, CanBlock, CanDestroyDisks))
    assert issubclass(runtime, CanBlockWithinSite) is (runtime is EmbeddedStack)
