"""Conditions of a stack: facts that must hold before a fault, and what brings them about."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import jmespath
import requests
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from chaoslab.clock import SYSTEM, Clock, Deadline
from chaoslab.events import Condition
from chaoslab.spec.model import BringAbout, ConditionSpec
from chaoslab.stack.protocol import Stack

_TIMEOUT_S = 2.0
_SHOWN = 400  # characters of an answer that a row keeps
_REFUSED_AGAIN_S = 3.0  # from a call that was refused to the next
_AT_WORK_S = 10.0  # how long one that was not refused may take to show: a second call would be a second disturbance


@dataclass(frozen=True)
class Attempt:
    """A call that is to bring a condition about. `refused`: it changed nothing."""

    row: Condition
    called_ns: int
    refused: bool


class Conditions:
    """The conditions that a run cares about, looked at from outside."""

    def __init__(self, stack: Stack, ids: Sequence[str], clock: Clock = SYSTEM) -> None:
        self._stack = stack
        self._specs = {id_: stack.topology.spec.conditions[id_] for id_ in ids}
        self._clock = clock
        self._rests: dict[str, Deadline] = {}

    def look(self, role: str) -> list[Condition]:
        """One row for each condition, as things stand now."""
        return [self._look(id_, spec, role) for id_, spec in self._specs.items()]

    def bring_about(self, id_: str) -> Attempt | None:
        """Ask the stack to make a condition true, which may take a while to become so.

        None when nothing says how, or while an earlier call may still be at work.
        """
        how, rest = self._specs[id_].bring_about, self._rests.get(id_)
        if how is None or (rest is not None and not rest.passed):
            return None
        called_ns, refused = self._clock.now_ns(), False
        try:
            answer = self._ask(how)
            observed = f"POST {how.post}: {answer.status_code} {answer.text[:_SHOWN]}"
            refused = 400 <= answer.status_code < 500  # above that nobody knows what was begun
        except requests.RequestException as failed:
            observed = f"POST {how.post}: {_reason(failed)}"
            refused = _was_never_sent(failed)
        row = Condition(t_ns=self._clock.now_ns(), id=id_, holds=False, observed=observed, role="bring-about")
        self._rests[id_] = Deadline.after(_REFUSED_AGAIN_S if refused else _AT_WORK_S, self._clock)
        return Attempt(row, called_ns, refused)

    def _look(self, id_: str, spec: ConditionSpec, role: str) -> Condition:
        holds, observed = False, ""
        try:
            answer = requests.get(self._url(spec.get), timeout=_TIMEOUT_S, allow_redirects=False)
            said = answer.json()
            holds = jmespath.search(spec.expect, said) is True
            observed = spec.expect if holds else f"not so: {spec.expect}; seen: {json.dumps(said)[:_SHOWN]}"
        except (requests.RequestException, ValueError) as failed:
            observed = f"GET {spec.get}: {_reason(failed)}"
        return Condition(t_ns=self._clock.now_ns(), id=id_, holds=holds, observed=observed, role=role)  # type: ignore[arg-type]

    def _ask(self, how: BringAbout) -> requests.Response:
        return requests.post(self._url(how.post), json=how.body, timeout=3 * _TIMEOUT_S, allow_redirects=False)

    def _url(self, url: str) -> str:
        parts = urlsplit(url)
        address = self._stack.address(parts.hostname or "", parts.port or 80)
        return urlunsplit(parts._replace(netloc=str(address)))


def _was_never_sent(failed: requests.RequestException) -> bool:
    """Whether there was no connection to send it on."""
    reason = getattr(failed.args[0], "reason", None) if failed.args else None
    return isinstance(reason, ConnectTimeoutError | NewConnectionError)


def _reason(failed: Exception) -> str:
    return "no answer in time" if isinstance(failed, requests.Timeout) else f"{type(failed).__name__}: {failed}"[:_SHOWN]
