"""Known-bad stacks: for each promise, a fake that breaks it, and the test of the contract that has to notice."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import test_stack_contract as contract
from fake_stack import FakeLine, FakeStack
from rigs import Rig, fake_rig

from chaoslab.clock import Deadline
from chaoslab.errors import ChaoslabError
from chaoslab.spec.stackfile.topology import Address, Flow
from chaoslab.stack.protocol import CutReport, Ended, KillReport, StopReport

Break = Callable[[Rig, FakeStack], object]


def ignores(verb: str) -> Break:
    """The stack takes the call and does nothing."""

    def broken(_: Rig, stack: FakeStack) -> None:
        owner: Any = stack if hasattr(stack, verb) else stack.links
        setattr(owner, verb, lambda *_, **__: None)

    return broken


def replaces(**verbs: Callable[..., Any]) -> Break:
    """The stack does this instead; each gets the stack first."""

    def broken(_: Rig, stack: FakeStack) -> None:
        for verb, instead in verbs.items():
            owner: Any = stack if hasattr(stack, verb) else stack.links
            setattr(owner, verb, lambda *given, instead=instead, **named: instead(stack, *given, **named))

    return broken


def with_ends(verb: str) -> Break:
    """Every connection ends when this is done."""

    def broken(_: Rig, stack: FakeStack) -> None:
        owner: Any = stack if hasattr(stack, verb) else stack.links
        real = getattr(owner, verb)

        def do(*given: Any, **named: Any) -> Any:
            for line in stack._lines:
                line.over = True
            return real(*given, **named)

        setattr(owner, verb, do)

    return broken


def connects_from(place: str) -> Break:
    """Wherever it was to be."""

    def connect(stack: FakeStack, replica: str, port: int, *, seen_from: str, timeout_s: float) -> socket.socket:
        return FakeStack.connect(stack, replica, port, seen_from=place, timeout_s=timeout_s)

    return replaces(connect=connect)


def both_ways(stack: FakeStack, flows: Sequence[Flow], _holder: str) -> None:
    stack.links.held |= {*flows, *(Flow(flow.to, flow.source) for flow in flows)}


def opens_at_once(stack: FakeStack, flows: Sequence[Flow], _holder: str) -> None:
    stack.links.held -= {*flows}


def only_these(stack: FakeStack, flows: Sequence[Flow], _holder: str) -> None:
    stack.links.held = set(flows)


def starts_without_looking(stack: FakeStack, replicas: Sequence[str], _: Deadline) -> None:
    FakeStack.start(stack, replicas, Deadline.after(1))


def excepts_nothing(stack: FakeStack, replicas: Sequence[str], mode: Any, *, except_flows: Any = ()) -> None:
    FakeStack.block(stack, replicas, mode)


def kills_the_site(stack: FakeStack, replicas: Sequence[str]) -> KillReport:
    return FakeStack.kill(stack, [*replicas, "entry"])


def destroys_what_runs(stack: FakeStack, replicas: Sequence[str]) -> None:
    for name in replicas:
        stack.disks[name].clear()


def cuts_what_runs(stack: FakeStack, replicas: Sequence[str]) -> CutReport:
    for name in replicas:
        stack.files[name] = dict(stack.synced[name])
    return CutReport(tuple(replicas), 0.0)


def loses_all(stack: FakeStack, replicas: Sequence[str]) -> CutReport:
    report = FakeStack.cut_disks(stack, replicas)
    for name in replicas:
        stack.files[name].clear()
    return report


def kills_as_a_power_cut(stack: FakeStack, replicas: Sequence[str]) -> KillReport:
    report = FakeStack.kill(stack, replicas)
    cuts_what_runs(stack, replicas)
    return report


def lets_in(stack: FakeStack, place: str, replica: str) -> FakeLine:
    return FakeLine(stack, place, replica, stack.lives[replica])


def refuses_first(stack: FakeStack, place: str, replica: str) -> FakeLine:
    if Flow(place, stack.topology.replica(replica).site) in stack.links.refused:
        raise ConnectionRefusedError(replica)
    return FakeStack.dial(stack, place, replica)


ports = itertools.count(1000)
BROKEN: list[tuple[Callable[..., None], str, Break]] = [
    (
        contract.test_many_callers_get_one_answer_each,
        "a new address for each",
        replaces(address=lambda *_, **__: Address("h", next(ports))),
    ),
    (contract.test_the_harness_is_a_client_in_any_place, "outside alone", connects_from("outside")),
    (contract.test_the_harness_is_a_client_in_any_place, "past every fence", connects_from("east")),
    (contract.test_up_again_changes_nothing, "a second relay", replaces(up=lambda s, *_: setattr(s, "relay_life", 7))),
    (contract.test_up_again_changes_nothing, "connections end", with_ends("up")),
    (contract.test_everybody_is_reached_from_everywhere, "a hole", lambda _, s: s.links.held.add(contract.EAST_WEST)),
    (contract.test_a_replica_that_is_not_there_is_named, "any name goes", replaces(address=lambda *_: Address("h", 1))),
    (contract.test_nobody_listens_but_on_the_loopback, "everywhere", lambda rig, _: setattr(rig, "listening", lambda: {"::"})),
    (contract.test_a_fence_holds_both_ways_and_lets_go, "no fence", ignores("fence")),
    (contract.test_a_fence_holds_both_ways_and_lets_go, "no lift", ignores("lift")),
    (contract.test_a_fence_holds_both_ways_and_lets_go, "ends what it holds", with_ends("fence")),
    (contract.test_a_fence_holds_both_ways_and_lets_go, "drops what was held", with_ends("lift")),
    (contract.test_a_fence_of_one_way_is_one_way, "both ways", replaces(fence=both_ways)),
    (contract.test_fences_add_up, "the last one only", replaces(fence=only_these)),
    (contract.test_a_way_that_two_hold_opens_when_the_last_lets_go, "the first opens it", replaces(lift=opens_at_once)),
    (contract.test_a_way_that_two_hold_opens_when_the_last_lets_go, "for good", ignores("lift")),
    (contract.test_new_connections_hang_in_connect, "all are accepted", replaces(dial=lets_in)),
    (contract.test_new_connections_hang_in_connect, "what waited is lost", ignores("lift")),
    (contract.test_a_site_that_refuses_behind_a_fence_still_hangs, "refused", replaces(dial=refuses_first)),
    (contract.test_death_behind_a_fence_is_silent, "a FIN leaks", with_ends("kill")),
    (contract.test_death_behind_a_fence_is_silent, "none dies", replaces(kill=lambda *_: KillReport(1, 0.0, "pids"))),
    (
        contract.test_each_disturbance_is_read_back_and_none_after_it_was_undone,
        "nothing is read back",
        replaces(disturbances=lambda _: []),
    ),
    (contract.test_each_disturbance_is_read_back_and_none_after_it_was_undone, "for good", ignores("restore")),
    (contract.test_refuse_ends_and_refuses, "ignored", ignores("refuse")),
    (contract.test_refuse_ends_and_refuses, "for good", ignores("restore")),
    (contract.test_refuse_ends_and_refuses, "ends all", with_ends("refuse")),
    (contract.test_reset_ends_at_the_first_word, "ignored", ignores("reset")),
    (contract.test_reset_ends_at_the_first_word, "for good", ignores("restore")),
    (contract.test_degradation_is_felt_and_undone, "ignored", ignores("degrade")),
    (contract.test_degradation_is_felt_and_undone, "for good", ignores("restore")),
    (contract.test_who_is_killed_is_dead_and_says_nothing, "lives", replaces(kill=lambda *_: KillReport(2, 0.0, "pids"))),
    (contract.test_who_is_killed_is_dead_and_says_nothing, "too many", replaces(kill=kills_the_site)),
    (contract.test_start_waits_for_health_and_names_who_is_not, "does not wait", replaces(start=starts_without_looking)),
    (contract.test_start_waits_for_health_and_names_who_is_not, "starts none", ignores("start")),
    (contract.test_who_is_paused_is_silent_and_resumes, "ignored", ignores("pause")),
    (contract.test_who_is_paused_is_silent_and_resumes, "for good", ignores("resume")),
    (contract.test_who_is_paused_is_silent_and_resumes, "connections end", with_ends("pause")),
    (contract.test_the_paused_can_be_killed, "lives", replaces(kill=lambda *_: KillReport(1, 0.0, "pids"))),
    (contract.test_a_stop_asks_and_then_kills, "says nothing", replaces(stop=lambda *_: StopReport(1, 0.0))),
    (contract.test_a_throttle_is_seen_and_lifted, "for good", ignores("unthrottle")),
    (contract.test_a_command_runs_in_a_replica_that_runs, "anywhere", replaces(execute=lambda *_: Ended(0, "well done\n"))),
    (contract.test_a_blocked_replica_is_reached_within_its_site_and_by_excepted_flows, "ignored", ignores("block")),
    (
        contract.test_a_blocked_replica_is_reached_within_its_site_and_by_excepted_flows,
        "excepts nothing",
        replaces(block=excepts_nothing),
    ),
    (contract.test_a_blocked_replica_is_reached_within_its_site_and_by_excepted_flows, "for good", ignores("unblock")),
    (contract.test_disks_are_kept_until_they_are_destroyed, "kept", ignores("destroy_disks")),
    (
        contract.test_disks_are_kept_until_they_are_destroyed,
        "under a replica that runs",
        replaces(destroy_disks=destroys_what_runs),
    ),
    (
        contract.test_a_cut_of_power_loses_what_was_never_synced,
        "all is kept",
        replaces(cut_disks=lambda *_: CutReport(("store",), 0.0)),
    ),
    (contract.test_a_cut_of_power_loses_what_was_never_synced, "all is lost", replaces(cut_disks=loses_all)),
    (contract.test_a_cut_of_power_loses_what_was_never_synced, "under a replica that runs", replaces(cut_disks=cuts_what_runs)),
    (contract.test_a_cut_of_power_loses_what_was_never_synced, "a kill loses, too", replaces(kill=kills_as_a_power_cut)),
    (contract.test_only_a_relay_that_restarts_changes_the_epoch, "unnoticed", replaces(trouble=lambda _: None)),
    (contract.test_only_a_relay_that_restarts_changes_the_epoch, "always the same", replaces(epoch=lambda _: "0")),
    (contract.test_down_leaves_nothing_however_often, "all is left", replaces(down=lambda _: [])),
]
ARGUMENTS = {
    contract.test_degradation_is_felt_and_undone: {"flow": contract.OUT_EAST},
    contract.test_each_disturbance_is_read_back_and_none_after_it_was_undone: {"verb": "refuse"},
    contract.test_a_blocked_replica_is_reached_within_its_site_and_by_excepted_flows: {"mode": "refuse"},
}


@pytest.mark.parametrize(("test", "how", "defect"), BROKEN, ids=[f"{test.__name__}: {how}" for test, how, _ in BROKEN])
def test_a_broken_promise_is_noticed(
    test: Callable[..., None], how: str, defect: Break, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same test passes on the fake as it is, or the contract itself is red."""
    monkeypatch.setattr(contract, "Deadline", Impatient)
    with fake_rig() as rig:
        assert isinstance(rig.stack, FakeStack)
        defect(rig, rig.stack)
        with pytest.raises((AssertionError, pytest.fail.Exception, ChaoslabError)):
            test(rig, **ARGUMENTS.get(test, {}))


class Impatient(Deadline):
    """A fake does at once what it does at all."""

    @classmethod
    def after(cls, timeout_s: float, *_: Any) -> Deadline:
        return Deadline.after(min(timeout_s, 0.2))


def test_every_promise_is_broken_once() -> None:
    """But for the abilities, which are a matter of the class."""
    promises = {name for name in vars(contract) if name.startswith("test_")} - {"test_the_runtime_says_what_it_can"}
    assert promises == {test.__name__ for test, _, _ in BROKEN}
