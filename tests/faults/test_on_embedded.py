"""Every fault on a real stack: its effect is seen from outside, it heals, and one without effect is caught."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_stack import FakeStack
from pydantic import TypeAdapter

from chaoslab.clock import Deadline
from chaoslab.errors import FaultNotEffective
from chaoslab.faults.base import Fault
from chaoslab.faults.proof import Endpoint, prove_silence, reachable
from chaoslab.faults.registry import fault_for
from chaoslab.history.rows import NOT_HIDDEN
from chaoslab.spec.fault_types import FaultSpec
from chaoslab.stack.embedded.stack import EmbeddedStack
from chaoslab.stack.protocol import Stack

SPEC = TypeAdapter(FaultSpec)

FAULTS: list[dict[str, Any]] = [
    {"fault": "site.power-loss", "site": "east"},
    {"fault": "site.power-loss", "site": "east", "disks": "destroy"},
    {"fault": "site.destroy", "sites": ["east", "west"], "replaced_after": "0s"},
    {"fault": "site.isolate", "site": "east"},
    {"fault": "link.cut", "from": "east", "to": "west"},
    {"fault": "link.cut", "from": "east", "to": "west", "direction": "from-to"},
    {"fault": "link.cut", "from": "outside", "to": "east", "mode": "refuse"},
    {"fault": "link.cut", "from": "outside", "to": "east", "mode": "reset", "direction": "from-to"},
    {"fault": "link.degrade", "from": "east", "to": "west", "latency": "200ms"},
    {"fault": "link.degrade", "from": "east", "to": "west", "loss": "40%"},
    {"fault": "service.kill", "service": "app"},
    {"fault": "service.kill", "service": "app", "site": "west"},
    {"fault": "service.pause", "service": "app", "site": "west"},
    {"fault": "service.stop", "service": "app", "site": "west"},
    {"fault": "service.restart", "service": "app"},
    {"fault": "service.throttle", "service": "app", "site": "west", "cpu": "20%"},
    {"fault": "link.flap", "from": "east", "to": "west", "period": "2s", "count": 2},
    {"fault": "dependency.down", "service": "store"},
    {"fault": "dependency.down", "service": "store", "mode": "silent"},
    {"fault": "dependency.down", "service": "app", "callers": "elsewhere"},
    {"fault": "dependency.down", "service": "store", "from": "east", "mode": "silent"},
]


def made(stack: Stack, **written: Any) -> Fault:
    return fault_for(SPEC.validate_python({"id": "f", **written}), stack)


@pytest.mark.parametrize("written", FAULTS, ids=lambda w: " ".join(str(v) for v in w.values()))
def test_a_fault_is_seen_and_heals(stack: EmbeddedStack, written: dict[str, Any]) -> None:
    """Inject, see the effect; heal, see everything answer again; healing twice does no harm."""
    fault = made(stack, **written)
    fault.prepare()
    fault.inject()
    try:
        fault.verify()
    finally:
        fault.heal(Deadline.after(20))
    fault.heal(Deadline.after(20))
    fault.verify_heal(Deadline.after(20))


@pytest.mark.parametrize("written", FAULTS, ids=lambda w: " ".join(str(v) for v in w.values()))
def test_a_fault_that_was_not_injected_is_not_verified(
    fake: FakeStack, written: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The known-bad case of every check: nothing was done, so nothing may be seen."""
    monkeypatch.setattr("chaoslab.faults.proof.EFFECT_TIMEOUT_S", 0.0)
    fault = made(fake, **written)
    fault.prepare()
    with pytest.raises(FaultNotEffective):
        fault.verify()


@pytest.mark.parametrize(
    "written",
    [
        {"fault": "site.power-loss", "site": "east"},
        {"fault": "site.isolate", "site": "east"},
        {"fault": "link.cut", "from": "east", "to": "west"},
        {"fault": "link.flap", "from": "east", "to": "west", "period": "2s", "count": 2},
    ],
    ids=lambda w: w["fault"],
)
@pytest.mark.parametrize("let_in", [{}, {"west_east_app-east_8000": 2, "outside_east_app-east_8000": 1}], ids=["none", "some"])
def test_a_fence_tells_of_connects_that_it_could_not_hide(
    fake: FakeStack, written: dict[str, Any], let_in: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They succeeded and then hung, which a real network does not do; where there were none nothing is said."""
    fault = made(fake, **written)
    fault.prepare()
    fault.inject()
    monkeypatch.setattr(fake.links, "lift", lambda *_: let_in)
    told = fault.heal(Deadline.after(20))
    assert told.get(NOT_HIDDEN) == ("outside_east_app-east_8000 1, west_east_app-east_8000 2" if let_in else None)


def test_power_loss_is_silent(stack: EmbeddedStack) -> None:
    """An established connection into the site sees no FIN and no RST: it hangs, as in a real fire."""
    fault = made(stack, fault="site.power-loss", site="east")
    fault.prepare()
    with socket.create_connection(stack.address("app-east", 8000), timeout=1) as open_before:
        open_before.sendall(b"GET /where HTTP/1.1\r\nHost: x\r\n\r\n")
        assert open_before.recv(4096)
        report = fault.inject()
        try:
            fault.verify()
            open_before.settimeout(0.5)
            with pytest.raises(TimeoutError):
                open_before.recv(1)
        finally:
            fault.heal(Deadline.after(20))
    assert report["killed"] >= 1
    assert report["skew_ms"] < 100
    fault.verify_heal(Deadline.after(20))


def test_killing_alone_is_not_silent(stack: EmbeddedStack) -> None:
    """Why the fence is there: without it the peer learns of the death at once."""
    fault = made(stack, fault="service.kill", service="app", site="east")
    fault.prepare()
    with socket.create_connection(stack.address("app-east", 8000), timeout=1) as open_before:
        open_before.sendall(b"GET /where HTTP/1.1\r\nHost: x\r\n\r\n")
        assert open_before.recv(4096)
        fault.inject()
        try:
            assert open_before.recv(1) == b""
        finally:
            fault.heal(Deadline.after(20))
    fault.verify_heal(Deadline.after(20))


def test_destroyed_disks_come_back_empty(stack: EmbeddedStack) -> None:
    """What stood on the volume is gone; the replica starts on an empty one."""
    fault = made(stack, fault="site.power-loss", site="witness", disks="destroy")
    assert (stack.volume("store", "/data") / "here").exists()
    fault.prepare()
    fault.inject()
    assert list(stack.volume("store", "/data").iterdir()) == []
    fault.heal(Deadline.after(20))
    fault.verify_heal(Deadline.after(20))


def test_a_cut_of_one_link_leaves_the_others(stack: EmbeddedStack) -> None:
    """East and west lose each other; users still reach both."""
    fault = made(stack, fault="link.cut", **{"from": "east", "to": "west"})
    fault.prepare()
    fault.inject()
    try:
        assert not stack.reaches("app-west", 8000, seen_from="east")
        assert stack.reaches("app-west", 8000) and stack.reaches("app-east", 8000)
    finally:
        fault.heal(Deadline.after(20))


def test_nothing_answers_before_so_nothing_can_be_proven(stack: EmbeddedStack) -> None:
    """A target that is silent already cannot show an effect."""
    stack.kill(["app-west"])
    try:
        with pytest.raises(FaultNotEffective, match="nothing answered before the fault"):
            reachable(stack, stack.topology.of_service("app", "west"))
    finally:
        stack.start(["app-west"], Deadline.after(20))


def test_who_still_answers_is_named(stack: EmbeddedStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says which path disproves the fault."""
    monkeypatch.setattr("chaoslab.faults.proof.EFFECT_TIMEOUT_S", 0.0)
    with pytest.raises(FaultNotEffective, match="still answered by app-east:8000 from outside"):
        prove_silence(stack, [Endpoint("app-east", 8000, "outside")])


def exec_fault(stack: EmbeddedStack, marker: Path, *, inject: str = "touch", check: str = "test -e") -> Fault:
    program, *flags = check.split()
    return made(
        stack,
        fault="exec",
        inject=[inject, str(marker)],
        heal=["rm", "-f", str(marker)],
        verify=[program, *flags, str(marker)],
        timeout="5s",
    )


def test_a_users_own_fault_is_checked_and_undone(stack: EmbeddedStack, tmp_path: Path) -> None:
    """Its undo command is what goes to the journal."""
    fault = exec_fault(stack, tmp_path / "x")
    fault.prepare()
    assert fault.undo_steps()[0].command == ["rm", "-f", str(tmp_path / "x")]
    fault.inject()
    fault.verify()
    fault.heal(Deadline.after(5))
    fault.verify_heal(Deadline.after(5))
    assert not (tmp_path / "x").exists()


def test_a_users_own_fault_that_does_nothing_is_caught(stack: EmbeddedStack, tmp_path: Path) -> None:
    """`true` as inject leaves no effect to see."""
    fault = exec_fault(stack, tmp_path / "x", inject="true")
    fault.prepare()
    fault.inject()
    with pytest.raises(FaultNotEffective, match="exit status 1"):
        fault.verify()


def test_a_check_that_always_says_yes_is_caught(stack: EmbeddedStack, tmp_path: Path) -> None:
    """It says yes before anything was injected, so it proves nothing."""
    fault = exec_fault(stack, tmp_path / "x", check=f"{sys.executable} -c pass")
    with pytest.raises(FaultNotEffective, match="before it was injected"):
        fault.prepare()
