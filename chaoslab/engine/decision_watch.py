"""What the stack reports about its decisions and writers, queried several times a second during a trial."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jmespath
import msgspec

from chaoslab.background import in_thread
from chaoslab.clock import NS_PER_S, Clock
from chaoslab.engine.asking import BESIDE, SHOWN, Asking, NoAnswer
from chaoslab.errors import ChaoslabError
from chaoslab.history.rows import Answer, Row
from chaoslab.spec.stackfile.condition import Look
from chaoslab.spec.stackfile.topology import Topology
from chaoslab.stack.protocol import Stack

LOOK_EVERY_S = 0.2
_ANSWER_S = 1.0  # how long an answer may take
_ROW_NS = NS_PER_S  # of so long a time at most a row tells


@dataclass(frozen=True)
class Subject:
    """Something that is read out of an answer by an expression."""

    about: Literal["detected", "decided", "acted", "writes"]
    expression: str
    replica: str = ""
    service: str = ""
    site: str = ""

    def value(self, answer: Any) -> str | bool | None:
        """Raises JMESPathError."""
        found = jmespath.search(self.expression, answer)
        if self.about == "writes":
            return found is True
        return found if found is None or isinstance(found, str) else json.dumps(found, default=str)[:SHOWN]


def subjects(topology: Topology) -> list[tuple[Look, list[Subject]]]:
    """What is looked up, and what is read out of it; the same request is sent once, whatever is read out of its answer."""
    spec, wanted = topology.spec, list[tuple[Look, Subject]]()
    for name, moment in (spec.decisions.moments if spec.decisions is not None else {}).items():
        wanted.append((moment, Subject(name, moment.changes)))  # type: ignore[arg-type]
    for name, writer in spec.writers.items():
        replica = topology.replica(name)
        wanted.append((writer, Subject("writes", writer.expect, name, replica.service, replica.site)))
    found: dict[str, tuple[Look, list[Subject]]] = {}
    for look, subject in wanted:
        found.setdefault(look.model_dump_json(exclude={"changes", "expect"}), (look, []))[1].append(subject)
    return [*found.values()]


class DecisionWatch:
    """Looks from `begin` to `end`, each way to look in a thread of its own. `write` takes the rows, from several threads.

    Requests are sent from the place of the replica that is asked: a site that is cut off does not stop to write for that.
    """

    def __init__(self, stack: Stack, write: Callable[[Row], None], clock: Clock) -> None:
        self._asking = Asking(stack, look_s=_ANSWER_S, sent_from=BESIDE)
        self._wanted = subjects(stack.topology)
        self._write = write
        self._clock = clock
        self._open: dict[Subject, Answer] = {}  # the rows that are not written yet
        self._lock = threading.Lock()
        self._threads: list[Future[None]] = []
        self._over = False

    def begin(self) -> None:
        self._threads = [in_thread(partial(self._look_on, look, own), "decision watch") for look, own in self._wanted]

    def check(self) -> None:
        """Raises what ended a thread: nothing would be seen by it any more."""
        for thread in self._threads:
            if thread.done():
                thread.result()

    def end(self) -> None:
        """Stop looking, and write what was seen last."""
        with self._lock:
            self._over = True
            for row in self._open.values():
                self._try_to_write(row)
            self._open.clear()

    def _look_on(self, look: Look, own: Sequence[Subject]) -> None:
        while not self._over:
            asked_ns = self._clock.now_ns()
            answer, error = None, None
            try:
                answer = self._asking.look(look)
            except (NoAnswer, ChaoslabError) as failed:
                error = str(failed)
            answered_ns = self._clock.now_ns()
            for subject in own:
                self._take(subject, answer, error, asked_ns, answered_ns)
            self._clock.sleep(max(LOOK_EVERY_S - (answered_ns - asked_ns) / NS_PER_S, LOOK_EVERY_S / 4))

    def _take(self, subject: Subject, answer: Any, error: str | None, asked_ns: int, answered_ns: int) -> None:
        value: str | bool | None = None
        if error is None:
            try:
                value = subject.value(answer)
            except jmespath.exceptions.JMESPathError as failed:
                error = f"{type(failed).__name__}: {failed}"[:SHOWN]
        with self._lock:
            if self._over:
                return
            row = self._open.get(subject)
            if row is not None and (row.value, row.error) == (value, error) and asked_ns - row.asked_ns < _ROW_NS:
                self._open[subject] = msgspec.structs.replace(row, last_asked_ns=asked_ns, t_ns=answered_ns)
                return
            if row is not None:
                self._try_to_write(row)
            self._open[subject] = Answer(
                t_ns=answered_ns,
                about=subject.about,
                replica=subject.replica,
                service=subject.service,
                site=subject.site,
                asked_ns=asked_ns,
                answered_ns=answered_ns,
                last_asked_ns=asked_ns,
                value=value,
                error=error,
            )

    def _try_to_write(self, row: Row) -> None:
        """A full disk is reported by the next row of another kind."""
        with contextlib.suppress(ChaoslabError):
            self._write(row)
