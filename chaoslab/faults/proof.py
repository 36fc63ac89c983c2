"""Proof from outside: endpoints that answered before a fault, asked again while it lasts and after it is healed.

For replicas without a port, or with one on which nothing listens, the runtime reports the state: the engine or the kernel says
whether they run, and since when.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

from chaoslab.clock import NS_PER_S, SYSTEM, Clock, Deadline, wait_until
from chaoslab.errors import FaultNotEffective
from chaoslab.faults.base import Proof
from chaoslab.history.rows import NOT_HIDDEN
from chaoslab.spec.stackfile.model import OUTSIDE
from chaoslab.spec.stackfile.topology import Replica
from chaoslab.stack.protocol import CanTestify, Stack

ANSWER_TIMEOUT_S = 0.3
EFFECT_TIMEOUT_S = 5.0
LIVES_S = 1.0  # how long a replica without a port must have run to count as back, so that one that soon ends again does not


class Endpoint(NamedTuple):
    """A replica's port, as seen from a caller's place."""

    replica: str
    port: int
    seen_from: str

    def __str__(self) -> str:
        return f"{self.replica}:{self.port} from {self.seen_from}"


@dataclass(frozen=True)
class Before:
    """What shows a fault's effect on replicas: `endpoints` that answered before it, and `workers`, which answer on no port."""

    endpoints: tuple[Endpoint, ...] = ()
    workers: tuple[str, ...] = ()

    def of(self, replicas: Sequence[str]) -> Before:
        """The part about these replicas."""
        endpoints = tuple(endpoint for endpoint in self.endpoints if endpoint.replica in replicas)
        return Before(endpoints, tuple(name for name in self.workers if name in replicas))


def alive_before(stack: Stack, replicas: Sequence[Replica]) -> Before:
    """Which endpoints of these replicas answer now, and which replicas run but answer on no port. An image may declare a port
    on which this container does not listen, such as a web server's image that runs a worker.

    Raises FaultNotEffective if there are none.
    """
    endpoints = answering(stack, _endpoints(replicas, OUTSIDE), timeout_s=1.0)
    workers: tuple[str, ...] = ()
    if isinstance(stack, CanTestify):
        served = {endpoint.replica for endpoint in endpoints}
        lives = stack.testimony([replica.name for replica in replicas if replica.name not in served])
        workers = tuple(name for name, life in lives.items() if life.state == "running")
    if not endpoints and not workers:
        raise _nothing_answers(_endpoints(replicas, OUTSIDE))
    return Before(endpoints, workers)


def prove_down(stack: Stack, before: Before, clock: Clock = SYSTEM) -> Proof:
    """Verify that no endpoint answers, and show the state that the runtime reports for workers; the caller checks that state.

    Raises FaultNotEffective as `prove_silence` does.
    """
    proof = prove_silence(stack, before.endpoints, clock)
    if not before.workers or not isinstance(stack, CanTestify):
        return proof
    words = {name: life.word for name, life in stack.testimony(before.workers).items()}
    return Proof(proof.since_ns, {**proof.detail, "testified": words})


def prove_back(stack: Stack, before: Before, deadline: Deadline) -> Proof:
    """Verify that the endpoints answer again, and each worker has run for LIVES_S or more. Raises NotReady, naming the rest."""
    proof = prove_return(stack, before.endpoints, deadline)
    if not before.workers or not isinstance(stack, CanTestify):
        return proof
    testifying, since = stack, dict[str, tuple[str | None, int]]()

    def observe() -> tuple[bool, dict[str, str]]:
        lives, now_ns = testifying.testimony(before.workers), deadline.clock.now_ns()
        for name, life in lives.items():
            if life.state != "running" or since.get(name, ("", 0))[0] != life.began:
                since[name] = (life.began, now_ns)
        lasting = all((now_ns - began_ns) / NS_PER_S >= LIVES_S for _, began_ns in since.values())
        return lasting, {name: f"{life.word}, {life.began or 'not running'}" for name, life in lives.items()}

    words = wait_until("replicas without a port to run again", observe, deadline)
    return Proof(deadline.clock.now_ns(), {**proof.detail, "testified": words})


def reachable(stack: Stack, replicas: Iterable[Replica], *, seen_from: str = OUTSIDE) -> tuple[Endpoint, ...]:
    """The ports of these replicas that answer now. Raises FaultNotEffective if none does."""
    endpoints = _endpoints(replicas, seen_from)
    found = answering(stack, endpoints, timeout_s=1.0)
    if not found:
        raise _nothing_answers(endpoints)
    return found


def _endpoints(replicas: Iterable[Replica], seen_from: str) -> list[Endpoint]:
    return [Endpoint(replica.name, port, seen_from) for replica in replicas for port in replica.ports]


def _nothing_answers(asked: Sequence[Endpoint]) -> FaultNotEffective:
    ports = ", ".join(map(str, asked)) or "no port at all"
    return FaultNotEffective(f"nothing answered before the fault, so its effect could not be verified (tried: {ports})")


def answering(stack: Stack, endpoints: Sequence[Endpoint], *, timeout_s: float = ANSWER_TIMEOUT_S) -> tuple[Endpoint, ...]:
    """The endpoints that answer now, all asked at the same time."""
    if not endpoints:
        return ()
    with ThreadPoolExecutor(max_workers=min(16, len(endpoints))) as pool:
        answers = pool.map(lambda e: stack.reaches(e.replica, e.port, seen_from=e.seen_from, timeout_s=timeout_s), endpoints)
        return tuple(endpoint for endpoint, answered in zip(endpoints, answers, strict=True) if answered)


def prove_silence(stack: Stack, endpoints: Sequence[Endpoint], clock: Clock = SYSTEM) -> Proof:
    """Verify that no endpoint answered a request sent at `since_ns` or later.

    Raises FaultNotEffective, naming what still answers after EFFECT_TIMEOUT_S.
    """
    deadline = Deadline.after(EFFECT_TIMEOUT_S, clock)
    while True:
        since_ns = clock.now_ns()
        alive = answering(stack, endpoints)
        if not alive:
            return Proof(since_ns, {"silent": [str(endpoint) for endpoint in endpoints]})
        if deadline.passed:
            raise FaultNotEffective(f"the fault has no effect: still answered by {', '.join(map(str, alive))}")


def not_hidden(let_in: Mapping[str, int]) -> dict[str, Any]:
    """For a fault's row: the connects that its fence could not hide, by end of the link; empty if there are none."""
    return {NOT_HIDDEN: ", ".join(f"{end} {count}" for end, count in sorted(let_in.items()))} if let_in else {}


def prove_return(stack: Stack, endpoints: Sequence[Endpoint], deadline: Deadline) -> Proof:
    """Verify that all of these endpoints answer again. Raises NotReady, naming those that do not."""

    def observe() -> tuple[bool, str]:
        silent = set(endpoints) - set(answering(stack, endpoints, timeout_s=1.0))
        return not silent, f"no answer from {', '.join(sorted(map(str, silent)))}" if silent else "all answer"

    wait_until("what answered before the fault to answer again", observe, deadline)
    return Proof(deadline.clock.now_ns(), {"answering": [str(endpoint) for endpoint in endpoints]})
