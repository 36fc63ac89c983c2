"""Who waits for whom at one instant, and what is safe to do at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fake_stack import FakeStack
from pydantic import TypeAdapter

from chaoslab.clock import Deadline
from chaoslab.spec.fault_types import FaultSpec
from chaoslab.spec.stackfile.topology import Flow
from chaoslab.stack.embedded.stack import EmbeddedStack
from chaoslab.stack.toxiproxy.toxic_verbs import ToxicVerbs
from chaoslab.stack.toxiproxy.wire import ProxyView

SPEC = TypeAdapter(FaultSpec)
WAYS = {"from": "east", "to": "west"}
FIRE = {"fault": "site.power-loss", "site": "east"}
PART = FIRE | {"services": ["app-east"]}
ALONE = {"fault": "site.isolate", "site": "west"}
CUT = {"fault": "link.cut", **WAYS}
REFUSE = CUT | {"mode": "refuse"}
SLOW = {"fault": "link.degrade", "latency": "50ms", "from": "west", "to": "east"}
AWAY = {"fault": "link.degrade", "latency": "50ms", "from": "west", "to": "witness"}
DOWN = {"fault": "dependency.down", "service": "store"}
KILL = {"fault": "service.kill", "service": "app", "site": "east"}
PAUSE = {"fault": "service.pause", "service": "app", "site": "west"}
EXEC = {"fault": "exec", "inject": ["true"], "heal": ["true"], "verify": ["true"]}


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        (FIRE, CUT, False),  # two fences add up
        (FIRE, ALONE, False),
        (FIRE, SLOW, True),
        (CUT, SLOW, True),
        (SLOW, REFUSE, True),
        (SLOW, AWAY, False),
        (ALONE, AWAY, True),
        (DOWN, AWAY, True),
        (DOWN, SLOW, False),
        (PART, SLOW, False),
        (PART, KILL, True),
        (FIRE, KILL, True),
        (FIRE, PAUSE, False),
        (EXEC, EXEC, False),
    ],
)
def test_who_gets_in_whose_way(fake: FakeStack, one: dict[str, Any], other: dict[str, Any], meet: bool) -> None:
    """Either way round."""
    first, second = (SPEC.validate_python({"id": "f", **each}).touches(fake.topology) for each in (one, other))
    assert first.meets(second) is meet
    assert second.meets(first) is meet


def test_two_that_start_one_replica_at_once_start_it_once(stack: EmbeddedStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known bad: both saw it dead, and the second process could not have the port."""
    both_looked, real, spawned = threading.Barrier(2), stack._spawn, list[str]()
    from chaoslab.stack.embedded import stack as embedded

    spawn = embedded.process.spawn

    def counted(*args: Any, **more: Any) -> Any:
        spawned.append(str(args))
        return spawn(*args, **more)

    def together(name: str) -> None:
        both_looked.wait(10)
        real(name)

    stack.kill(["app-east"])
    monkeypatch.setattr(stack, "_spawn", together)
    monkeypatch.setattr(embedded.process, "spawn", counted)
    with ThreadPoolExecutor(2) as pool:
        for started in [pool.submit(stack.start, ["app-east"], Deadline.after(30)) for _ in range(2)]:
            started.result()
    assert len(spawned) == 1
    assert stack.states()["app-east"] == "running"


class Driver:
    """Notes how many change toxics at once."""

    def __init__(self) -> None:
        self.most = self._now = 0
        self.second = threading.Event()

    def set_toxics(self, *_: Any, **__: Any) -> None:
        self._now += 1
        self.most = max(self.most, self._now)
        if self._now == 1:
            self.second.wait(0.1)
        else:
            self.second.set()
        self._now -= 1

    def enable(self, *_: str) -> list[ProxyView]:
        return []


def test_two_that_restore_one_link_at_once_do_so_one_after_the_other() -> None:
    """Known bad: the later found the toxics gone that it had read, and took that for an error."""
    driver: Any = Driver()
    verbs = ToxicVerbs(driver)
    verbs.carry("east-west", Flow("east", "west"))
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(verbs.restore, [Flow("east", "west")]) for _ in range(2)]:
            done.result()
    assert driver.most == 1
