"""Failed connections, as the WAN of containers sees it: lines of Toxiproxy's log, and SYNs behind a fence."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

import pytest
from test_wan_plan import TWO, A, B, made

from chaoslab.clock import Deadline
from chaoslab.spec.stackfile.topology import Flow
from chaoslab.stack.compose.asks import WanAsks
from chaoslab.stack.compose.wan import Wan, plan_wans
from chaoslab.stack.protocol import Unanswered


class Engine:
    """Knows two replicas by their addresses, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.known = {"10.0.0.2": "web-a", "10.0.1.2": "web-b"}

    def follow_logs(self, name: str) -> Iterable[str]:
        return ()

    def follow(self, name: str, command: Sequence[str]) -> Iterable[str]:
        return ()

    def addresses(self) -> Mapping[str, str]:
        self.asked += 1
        return dict(self.known)


def wan(flow: Flow) -> Wan:
    return next(one for one in plan_wans(*made(TWO), within=True) if one.flow == flow)


def asks(engine: Engine | None = None, *, held: bool = False) -> WanAsks:
    return WanAsks(engine or Engine(), [], lambda _: held)


def failed(client: str, name: str, message: str = "Unable to open connection to upstream") -> str:
    return json.dumps({"level": "error", "client": client, "name": name, "message": message, "err": "refused"})


def test_what_toxiproxy_could_not_connect_was_refused() -> None:
    """By the name of its proxy, and the address of the client."""
    found = asks()
    for _ in range(2):
        found.see_log(wan(Flow(A, B)), failed("10.0.0.2:43210", "web-b_80"))
    found.see_log(wan(Flow(A, B)), failed("[::ffff:10.0.0.2]:43210", "web-b_80"))
    assert found.take() == [Unanswered("web-a", "web-b", 80, "refused", 3)]
    assert found.take() == []


def test_a_syn_behind_a_fence_is_silence_and_any_other_is_nothing() -> None:
    """By the address that it was sent to."""
    for held, expected in ((True, [Unanswered("web-b", "web-a", 80, "silent", 1)]), (False, [])):
        found = asks(held=held)
        found.see_syn(wan(Flow(B, A)), "10.0.1.2 43210 10.0.1.7 80")
        assert found.take() == expected


def test_strangers_and_other_lines_are_not_counted() -> None:
    """The harness's own gate, a proxy that is not there, a line of another kind, a line of no kind."""
    found = asks()
    there = wan(Flow(A, B))
    for text in (
        failed("10.0.0.9:1", "web-b_80"),
        failed("10.0.0.2:1", "no_1"),
        failed("10.0.0.2:1", "web-b_80", "Accepted"),
        "x",
    ):
        found.see_log(there, text)
    assert found.take() == []


def test_addresses_are_looked_up_again_and_at_most_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Known bad: containers of a site that were killed and started again had each other's addresses."""
    engine = Engine()
    found = asks(engine)
    for _ in range(5):
        found.see_log(wan(Flow(A, B)), failed("10.0.0.2:1", "web-b_80"))
    assert engine.asked == 1
    engine.known["10.0.0.2"] = "db-a"
    monkeypatch.setattr(found, "_look_up_again", Deadline.after(0.0))
    found.see_log(wan(Flow(A, B)), failed("10.0.0.2:1", "web-b_80"))
    assert [(one.client, one.times) for one in found.take()] == [("db-a", 1), ("web-a", 5)]


def test_replicas_of_one_place_reach_each_other_by_addresses_of_their_own() -> None:
    """Only where that is asked for, and not outside all places; each by the name that Docker's DNS has."""
    assert Flow(A, A) not in {one.flow for one in plan_wans(*made(TWO))}
    inside = wan(Flow(A, A))
    assert dict(inside.hosts).keys() == {"web-a", "db-a"}
    assert inside.aliases == ()
    assert [one.upstream for one in inside.proxies] == ["web-a.p_east:80", "db-a.p_east:5432"]
    flows = {one.flow for one in plan_wans(*made(TWO), within=True)}
    assert Flow(B, B) in flows
    assert not any(flow.source == flow.to == "outside" for flow in flows)
