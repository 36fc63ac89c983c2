"""After the heal of a fault: when each replica that it ended answers again, and which connections failed before."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from chaoslab.background import in_thread
from chaoslab.clock import Clock, Deadline
from chaoslab.errors import ChaoslabError
from chaoslab.faults.proof import Endpoint, answering
from chaoslab.history.rows import Ask, Fault, Row, Start
from chaoslab.spec.fault import FaultBase
from chaoslab.stack.protocol import CanTellAsks, Stack, Unanswered

_LOOK_EVERY_S = 0.3
_ASKS_EVERY_S = 1.0
_ANSWER_TIMEOUT_S = 1.0


class StartWatch:
    """Looks in a thread of its own, from `begin` to `end`. `write` takes the rows, from that thread and the caller's.

    A replica has started once all its ports answer that did so before the faults, asked from its own place.
    """

    def __init__(self, timeline: Sequence[FaultBase], stack: Stack, write: Callable[[Row], None], clock: Clock) -> None:
        self._stack = stack
        self._write = write
        self._clock = clock
        self._ended_by = {fault.id: fault.touches(stack.topology).replicas for fault in timeline}
        self._services = {replica.name: replica.service for replica in stack.topology.replicas}
        self._ports: dict[str, list[Endpoint]] = {}
        self._returning: dict[str, str] = {}  # replicas that do not answer yet, with the fault that was healed
        self._lock = threading.Lock()
        self._thread: Future[None] | None = None
        self._over = threading.Event()

    def prepare(self) -> None:
        """Note which ports answer now."""
        names = {name for replicas in self._ended_by.values() for name in replicas}
        replicas = [replica for replica in self._stack.topology.replicas if replica.name in names]
        endpoints = [Endpoint(replica.name, port, replica.site) for replica in replicas for port in replica.ports]
        for endpoint in answering(self._stack, endpoints, timeout_s=_ANSWER_TIMEOUT_S):
            self._ports.setdefault(endpoint.replica, []).append(endpoint)

    def begin(self) -> None:
        if self._ports:
            self._thread = in_thread(self._look_on, "start watch")

    def check(self) -> None:
        """Raises what ended its thread: nothing would be seen any more."""
        if self._thread is not None and self._thread.done():
            self._thread.result()

    def see(self, row: Fault) -> None:
        """Take a row of a fault: with its heal, its replicas begin to return."""
        if row.event == "heal" and row.id in self._ended_by:
            with self._lock:
                for name in sorted(self._ended_by[row.id] & self._ports.keys()):
                    self._returning[name] = row.id
                    self._try_to_write(Start(t_ns=row.t_ns, **self._about(name, row.id), event="returning"))
        elif row.event == "inject":
            with self._lock:
                for name in self._ended_by.get(row.id, ()):
                    self._returning.pop(name, None)

    def end(self) -> None:
        """Stop looking."""
        self._over.set()

    def _look_on(self) -> None:
        self._unanswered()  # failed connections of the boot do not count
        asks = Deadline.after(_ASKS_EVERY_S, self._clock)
        while not self._over.is_set():
            with self._lock:
                waiting = dict(self._returning)
            silent = {endpoint for name in waiting for endpoint in self._ports[name]}
            silent -= set(answering(self._stack, sorted(silent)))
            now_ns = self._clock.now_ns()
            with self._lock:
                for name, fault in waiting.items():
                    if silent.isdisjoint(self._ports[name]) and self._returning.get(name) == fault:
                        del self._returning[name]
                        self._try_to_write(Start(t_ns=now_ns, **self._about(name, fault), event="answers"))
            if asks.passed:
                self._note_asks()
                asks = Deadline.after(_ASKS_EVERY_S, self._clock)
            self._clock.sleep(_LOOK_EVERY_S)

    def _note_asks(self) -> None:
        for one in (one for one in self._unanswered() if one.client in self._services):
            row = Ask(
                t_ns=self._clock.now_ns(),
                client=one.client,
                client_service=self._services[one.client],
                target=one.target,
                target_service=self._services[one.target],
                port=one.port,
                how=one.how,
                times=one.times,
            )
            self._try_to_write(row)

    def _unanswered(self) -> Sequence[Unanswered]:
        """Since the last call; nothing if the runtime cannot tell, or if its links broke, which the trial notices itself."""
        with contextlib.suppress(ChaoslabError):
            return self._stack.unanswered() if isinstance(self._stack, CanTellAsks) else ()
        return ()

    def _about(self, replica: str, fault: str) -> dict[str, str]:
        return {"replica": replica, "service": self._services[replica], "fault": fault}

    def _try_to_write(self, row: Row) -> None:
        """A full disk is reported by the next row of another kind."""
        with contextlib.suppress(ChaoslabError):
            self._write(row)
