"""Conditions of a stack: facts that must hold before a fault, and what brings them about."""

from __future__ import annotations

import json
from collections.abc import Sequence
from urllib.parse import urlsplit, urlunsplit

import jmespath
import requests

from chaoslab.clock import SYSTEM, Clock
from chaoslab.events import Condition
from chaoslab.spec.model import ConditionSpec
from chaoslab.stack.protocol import Stack

_TIMEOUT_S = 2.0
_SHOWN = 400  # characters of an answer that a row keeps


class Conditions:
    """The conditions that a run cares about, looked at from outside."""

    def __init__(self, stack: Stack, ids: Sequence[str], clock: Clock = SYSTEM) -> None:
        self._stack = stack
        self._specs = {id_: stack.topology.spec.conditions[id_] for id_ in ids}
        self._clock = clock

    def look(self, role: str) -> list[Condition]:
        """One row for each condition, as things stand now."""
        return [self._look(id_, spec, role) for id_, spec in self._specs.items()]

    def bring_about(self, id_: str) -> Condition | None:
        """Ask the stack to make a condition true; None when nothing says how. It may take a while to become so."""
        how = self._specs[id_].bring_about
        if how is None:
            return None
        try:
            answer = _ask("POST", self._url(how.post), 3 * _TIMEOUT_S, body=how.body)
            observed = f"POST {how.post}: {answer.status_code} {answer.text[:_SHOWN]}"
        except requests.RequestException as failed:
            observed = f"POST {how.post}: {_reason(failed)}"
        return Condition(t_ns=self._clock.now_ns(), id=id_, holds=False, observed=observed, role="bring-about")

    def _look(self, id_: str, spec: ConditionSpec, role: str) -> Condition:
        holds, observed = False, ""
        try:
            answer = _ask("GET", self._url(spec.get), _TIMEOUT_S)
            said = answer.json()
            holds = jmespath.search(spec.expect, said) is True
            observed = spec.expect if holds else f"not so: {spec.expect}; seen: {json.dumps(said)[:_SHOWN]}"
        except (requests.RequestException, ValueError) as failed:
            observed = f"GET {spec.get}: {_reason(failed)}"
        return Condition(t_ns=self._clock.now_ns(), id=id_, holds=holds, observed=observed, role=role)  # type: ignore[arg-type]

    def _url(self, url: str) -> str:
        parts = urlsplit(url)
        address = self._stack.address(parts.hostname or "", parts.port or 80)
        return urlunsplit(parts._replace(netloc=str(address)))


def _ask(verb: str, url: str, timeout_s: float, body: object = None) -> requests.Response:
    """Ask the stack itself: not through a proxy of the environment, and with no password of a .netrc."""
    with requests.Session() as session:
        session.trust_env = False
        return session.request(verb, url, json=body, timeout=timeout_s, allow_redirects=False)


def _reason(failed: Exception) -> str:
    return "no answer in time" if isinstance(failed, requests.Timeout) else f"{type(failed).__name__}: {failed}"[:_SHOWN]
