"""Sends the slots of one target through a user's class, and notices when that blocks the event loop."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Final, Generic, TypeVar

from chaoslab.clock import NS_PER_MS, Clock
from chaoslab.errors import SpecError
from chaoslab.history.rows import Outcome
from chaoslab.probe.assessment import Assessment, why_late
from chaoslab.probe.endpoint import Endpoint
from chaoslab.probe.exchange import Exchange
from chaoslab.probe.journey_class import Journey, Place
from chaoslab.probe.payload import write_id
from chaoslab.probe.plan import Python, Target
from chaoslab.probe.sessions import cut_after, in_background

BLOCKED_NS: Final = 50 * NS_PER_MS  # as long as a slot may be sent late
_CLOSE_S = 1.0
_SHOWN = 200  # characters of an exception
_GOOD: Final = frozenset(("acked", "ok"))
_MAY_RETURN: Final = {"write": ("acked", "rejected", "indeterminate"), "read": ("ok", "bad")}

OnBlocked = Callable[[int, int], None]  # from when until when, monotonic
T = TypeVar("T")


def load_class(how: Python, *, called: str) -> Any:
    """The class that a plan names. Raises SpecError, saying what is missing. `called`: the method that it needs."""
    if how.folder is not None and how.folder not in sys.path:
        sys.path.insert(0, how.folder)
    module, _, name = how.name.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as missing:
        cure = f"put {module}.py beside the Compose file" if missing.name == module else f"pip install {missing.name}"
        raise SpecError(f"python: {how.name}: {missing}", cure=cure) from missing
    except Exception as broken:
        raise SpecError(f"python: {how.name} cannot be imported: {type(broken).__name__}: {broken}") from broken
    method = getattr(found, called, None)
    if not inspect.iscoroutinefunction(method) or method is getattr(Journey, called):  # the base class's own does nothing
        raise SpecError(f"python: {how.name} needs a method: async def {called}(self, …)")
    return found


def make_journey(how: Python, endpoint: Endpoint, writer: str, *, called: str) -> Any:
    """An object of a user's class. Raises SpecError when it cannot be made."""
    found = load_class(how, called=called)
    try:
        journey = found(Place(endpoint.host, endpoint.port), how.settings)
        journey.writer = writer
        return journey
    except Exception as broken:
        raise SpecError(f"python: {how.name}(entry, settings): {type(broken).__name__}: {broken}") from broken


class PythonSender:
    """A target's attempts. A class that returns what no outcome is breaks the prober, not the stack."""

    def __init__(
        self, target: Target, how: Python, endpoint: Endpoint, writer: str, on_blocked: OnBlocked, clock: Clock
    ) -> None:
        """Raises SpecError when the class cannot be used."""
        self.timeout_s = target.timeout_s
        self._target, self._name, self._writer, self._clock = target, how.name, writer, clock
        self._on_blocked = on_blocked
        self._journey = make_journey(how, endpoint, writer, called="attempt")

    async def send(self, slot: int, *, fresh: bool, left_s: float) -> Exchange:
        """Connections are the class's own affair. Raises SpecError for an outcome that there is not."""
        attempt = self._journey.attempt(write_id(self._writer, slot))
        try:
            found = await cut_after(Watched(attempt, self._on_blocked, self._clock), left_s)
        except TimeoutError as late:
            return Exchange(self._clock.now_ns(), sent=True, error=str(late) or "timeout: no answer")
        except Exception as raised:
            return Exchange(
                self._clock.now_ns(), sent=True, error=" ".join(f"{type(raised).__name__}: {raised}".split())[:_SHOWN]
            )
        end_ns = self._clock.now_ns()
        outcome, why = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
        may = _MAY_RETURN[self._target.op]
        if outcome not in may:
            raise SpecError(f"python: {self._name}.attempt returned {found!r}; a {self._target.op} returns {' or '.join(may)}")
        return Exchange(end_ns, sent=True, error=None if outcome in _GOOD else str(why or outcome), value=outcome)

    def assess(self, exchange: Exchange, due_ns: int) -> Assessment:
        outcome: Outcome = exchange.value or ("bad" if self._target.op == "read" else "indeterminate")
        if exchange.value is None and not exchange.sent and self._target.op == "write":
            outcome = "rejected"
        error = exchange.error or why_late(exchange, due_ns, self._target.within_s)
        return Assessment(error is None, outcome, error)

    def close(self) -> None:
        """Its own `close` gets a second, while others are closed."""
        if inspect.iscoroutinefunction(getattr(self._journey, "close", None)):
            in_background(cut_after(self._journey.close(), _CLOSE_S))


class Watched(Generic[T]):
    """A coroutine whose steps are timed: each must give the event loop back soon."""

    def __init__(self, work: Coroutine[Any, Any, T], on_blocked: OnBlocked, clock: Clock) -> None:
        self._work, self._on_blocked, self._clock = work, on_blocked, clock

    def __await__(self) -> Generator[Any, Any, T]:
        resume: Callable[[Any], Any] = self._work.send
        given: Any = None
        while True:
            began_ns = self._clock.now_ns()
            try:
                waits_for = resume(given)
            except StopIteration as done:
                result: T = done.value
                return result
            finally:
                ended_ns = self._clock.now_ns()
                if ended_ns - began_ns > BLOCKED_NS:
                    self._on_blocked(began_ns, ended_ns)
            try:
                resume, given = self._work.send, (yield waits_for)
            except BaseException as thrown:  # such as a cancellation: it is for the user's code
                resume, given = self._work.throw, thrown
