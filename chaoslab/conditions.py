"""Named facts about the stack: is it true, and how to make it true. Only looks and asks; never decides."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import jmespath
import requests
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from chaoslab.clock import SYSTEM, Clock, Deadline
from chaoslab.events import Condition
from chaoslab.spec.model import BringAbout, ConditionSpec, Pick
from chaoslab.stack.protocol import Stack

_TIMEOUT_S = 2.0
_FIELD = re.compile(r"\{([A-Za-z_]+)\}")
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
        called_ns = self._clock.now_ns()
        try:
            observed, refused = self._post(how, {name: self._picked(value) for name, value in how.values.items()})
        except (requests.RequestException, ValueError) as failed:
            observed, refused = f"bring_about: {_reason(failed)}", True  # a value could not be had: nothing was asked for
        row = Condition(t_ns=self._clock.now_ns(), id=id_, holds=False, observed=observed, role="bring-about")
        self._rests[id_] = Deadline.after(_REFUSED_AGAIN_S if refused else _AT_WORK_S, self._clock)
        return Attempt(row, called_ns, refused)

    def _picked(self, value: Pick) -> Any:
        found = jmespath.search(value.pick, self._get(value.get))
        if found is None:
            raise ValueError(f"GET {value.get} has nothing at {value.pick}")
        return found

    def _post(self, how: BringAbout, values: Mapping[str, Any]) -> tuple[str, bool]:
        """Ask one URL after the other until one says yes. What each said, and whether all of them refused."""
        said, refused = [], True
        for url in how.post:
            try:
                answer = _ask("POST", self._url(url), 3 * _TIMEOUT_S, body=_filled(how.body, values))
            except requests.RequestException as failed:
                said.append(f"POST {url}: {_reason(failed)}")
                refused = refused and _was_never_sent(failed)
                continue
            said.append(f"POST {url}: {answer.status_code} {answer.text[:_SHOWN]}")
            refused = refused and 400 <= answer.status_code < 500  # above that nobody knows what was begun
            if answer.ok:
                break
        return "; ".join(said), refused

    def _look(self, id_: str, spec: ConditionSpec, role: str) -> Condition:
        holds, observed = False, ""
        try:
            said = self._get(spec.get)
            holds = jmespath.search(spec.expect, said) is True
            observed = spec.expect if holds else f"not so: {spec.expect}; seen: {json.dumps(said)[:_SHOWN]}"
        except (requests.RequestException, ValueError) as failed:
            observed = f"GET {spec.get}: {_reason(failed)}"
        return Condition(t_ns=self._clock.now_ns(), id=id_, holds=holds, observed=observed, role=role)  # type: ignore[arg-type]

    def _get(self, url: str) -> Any:
        return _ask("GET", self._url(url), _TIMEOUT_S).json()

    def _url(self, url: str) -> str:
        parts = urlsplit(url)
        address = self._stack.address(parts.hostname or "", parts.port or 80)
        return urlunsplit(parts._replace(netloc=str(address)))


def _was_never_sent(failed: requests.RequestException) -> bool:
    """Whether there was no connection to send it on."""
    reason = getattr(failed.args[0], "reason", None) if failed.args else None
    return isinstance(reason, ConnectTimeoutError | NewConnectionError)


def _ask(verb: str, url: str, timeout_s: float, body: object = None) -> requests.Response:
    """Ask the stack itself: not through a proxy of the environment, and with no password of a .netrc."""
    with requests.Session() as session:
        session.trust_env = False
        return session.request(verb, url, json=body, timeout=timeout_s, allow_redirects=False)


def _filled(template: Any, values: Mapping[str, Any]) -> Any:
    """The template with {name} replaced in every text; a text that is a {name} and nothing else becomes the value itself."""
    if isinstance(template, dict):
        return {key: _filled(part, values) for key, part in template.items()}
    if isinstance(template, list):
        return [_filled(part, values) for part in template]
    if not isinstance(template, str):
        return template
    whole = _FIELD.fullmatch(template)
    return values[whole[1]] if whole else _FIELD.sub(lambda match: str(values[match[1]]), template)


def _reason(failed: Exception) -> str:
    return "no answer in time" if isinstance(failed, requests.Timeout) else f"{type(failed).__name__}: {failed}"[:_SHOWN]
