"""Which replica a ledger is read from."""

from __future__ import annotations

from typing import Any

import pytest
from fake_stack import FakeStack

from chaoslab.clock import Deadline
from chaoslab.engine import ledgers
from chaoslab.spec.stackfile.model import StackSpec
from chaoslab.spec.stackfile.topology import Replica, Topology

SPEC = StackSpec.model_validate(
    {
        "sites": ["a", "b"],
        "entry": "entry:1",
        "journeys": {
            "set.add": {
                "service": "store",
                "redis": ["SADD", "s", "{id}"],
                "ledger": {"redis": ["SMEMBERS", "s"], "from": "store:6379"},
            }
        },
    }
)


def test_it_is_the_first_that_listens_on_the_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """Known bad: a Sentinel that stands before the store in the file was asked for the writes."""
    replicas = [
        Replica(f"{name}-{site}", "store", site, ports=(port,))
        for site in ("a", "b")
        for name, port in (("sentinel", 26379), ("valkey", 6379))
    ]
    stack = FakeStack(Topology("t", tuple(replicas), SPEC))
    read: dict[str, dict[str, str]] = {}
    monkeypatch.setattr(stack, "address", lambda name, port: f"{name}:{port}", raising=False)
    monkeypatch.setattr(ledgers, "read_all_sites", lambda _, addresses, *rest: read.update(addresses) or [])
    no_time: Any = Deadline.after(0)
    ledgers.read_ledgers(stack, None, "w", no_time)
    assert read == {"a": {"store:6379": "http://valkey-a:6379"}, "b": {"store:6379": "http://valkey-b:6379"}}
