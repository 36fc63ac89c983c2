"""Evidence from outside: paths that answered before a fault, asked again while it lasts and after it is healed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from chaoslab.clock import SYSTEM, Clock, Deadline, wait_until
from chaoslab.errors import FaultNotEffective
from chaoslab.events import NOT_HIDDEN
from chaoslab.faults.base import Evidence
from chaoslab.spec.model import OUTSIDE
from chaoslab.stack.protocol import Stack
from chaoslab.stack.topology import Replica

ANSWER_TIMEOUT_S = 0.3
BITE_TIMEOUT_S = 5.0


class Witness(NamedTuple):
    """A caller's place and a replica's port that answered it."""

    replica: str
    port: int
    seen_from: str

    def __str__(self) -> str:
        return f"{self.replica}:{self.port} from {self.seen_from}"


def witnesses(stack: Stack, replicas: Iterable[Replica], *, seen_from: str = OUTSIDE) -> tuple[Witness, ...]:
    """The ports of these replicas that answer now. Raises FaultNotEffective when none does."""
    paths = [Witness(replica.name, port, seen_from) for replica in replicas for port in replica.ports]
    found = answering(stack, paths, timeout_s=1.0)
    if not found:
        asked = ", ".join(map(str, paths)) or "no port at all"
        raise FaultNotEffective(f"nothing answers before the fault, so its effect could not be seen (asked: {asked})")
    return found


def answering(stack: Stack, paths: Sequence[Witness], *, timeout_s: float = ANSWER_TIMEOUT_S) -> tuple[Witness, ...]:
    """Those of these paths that answer now, asked all at once."""
    if not paths:
        return ()
    with ThreadPoolExecutor(max_workers=min(16, len(paths))) as pool:
        answers = pool.map(lambda p: stack.reaches(p.replica, p.port, seen_from=p.seen_from, timeout_s=timeout_s), paths)
        return tuple(path for path, answered in zip(paths, answers, strict=True) if answered)


def prove_silence(stack: Stack, paths: Sequence[Witness], clock: Clock = SYSTEM) -> Evidence:
    """No request begun at `since_ns` or later was answered on any of these paths.

    Raises FaultNotEffective, naming who still answers, when that is not so within BITE_TIMEOUT_S.
    """
    deadline = Deadline.after(BITE_TIMEOUT_S, clock)
    while True:
        since_ns = clock.now_ns()
        alive = answering(stack, paths)
        if not alive:
            return Evidence(since_ns, {"silent": [str(path) for path in paths]})
        if deadline.passed:
            raise FaultNotEffective(f"the fault does not bite: still answered by {', '.join(map(str, alive))}")


def not_hidden(let_in: Mapping[str, int]) -> dict[str, Any]:
    """What a fault's row says of the connects that its fence could not hide, by link's end; nothing when there are none."""
    return {NOT_HIDDEN: ", ".join(f"{end} {count}" for end, count in sorted(let_in.items()))} if let_in else {}


def prove_return(stack: Stack, paths: Sequence[Witness], deadline: Deadline) -> Evidence:
    """All of these paths answer again. Raises NotReady, naming those that do not."""

    def observe() -> tuple[bool, str]:
        silent = set(paths) - set(answering(stack, paths, timeout_s=1.0))
        return not silent, f"no answer from {', '.join(sorted(map(str, silent)))}" if silent else "all answer"

    wait_until("what answered before the fault to answer again", observe, deadline)
    return Evidence(deadline.clock.now_ns(), {"answering": [str(path) for path in paths]})
