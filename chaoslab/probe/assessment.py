"""How the end of an exchange is assessed: whether the slot was good, and the outcome of a write. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

import jmespath
import msgspec

from chaoslab.clock import NS_PER_S
from chaoslab.errors import SpecError
from chaoslab.history.rows import Outcome
from chaoslab.probe.exchange import Exchange
from chaoslab.probe.plan import Http, Target


class Assessment(NamedTuple):
    """`good`: as the target wants it, and in time. `error` says why it is not good."""

    good: bool
    outcome: Outcome
    error: str | None = None


class Assessor:
    """Assesses the exchanges of one target."""

    def __init__(self, target: Target) -> None:
        """Raises SpecError when `expect` is not JMESPath."""
        self._target = target
        self._statuses = frozenset(target.how.statuses) if isinstance(target.how, Http) else None
        self._not_applied = frozenset(target.not_applied)
        try:
            self._expect = jmespath.compile(target.expect) if target.expect else None
        except jmespath.exceptions.JMESPathError as error:
            raise SpecError(f"{target.name}: expect: {error}") from error

    def assess(self, exchange: Exchange, due_ns: int) -> Assessment:
        """`due_ns`: when the slot was due, monotonic. A write that was acknowledged late is acked, and not good."""
        wrong = self._why_wrong(exchange)
        if self._target.op == "read":
            outcome: Outcome = "bad" if wrong else "ok"
        elif wrong is None:
            outcome = "acked"
        elif not exchange.sent or not self._not_applied.isdisjoint((exchange.status, exchange.code)):
            outcome = "rejected"
        else:
            outcome = "indeterminate"
        error = wrong or why_late(exchange, due_ns, self._target.within_s)
        return Assessment(error is None, outcome, error)

    def _why_wrong(self, exchange: Exchange) -> str | None:
        """None when the response is what the target wants, however late."""
        if exchange.error is not None:
            return exchange.error
        value = exchange.value
        if self._statuses is not None:
            if exchange.status not in self._statuses:
                return f"status {exchange.status}"
            if self._expect is not None:
                try:
                    value = msgspec.json.decode(exchange.body)
                except msgspec.DecodeError:
                    return "not JSON"
        if self._expect is None:
            return None
        try:
            found: Any = self._expect.search(value)
        except jmespath.exceptions.JMESPathError as error:
            return f"expect: {error}"
        return None if found is True else "not as expected"


def why_late(exchange: Exchange, due_ns: int, within_s: float) -> str | None:
    """None when the exchange ended at most `within_s` seconds after its slot was due."""
    taken_ns = exchange.end_ns - due_ns
    return None if taken_ns <= within_s * NS_PER_S else f"late: {taken_ns // 1_000_000} ms"
