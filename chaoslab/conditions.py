"""Conditions of a stack: facts that must hold before a fault, and what brings them about."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import jmespath
import requests

from chaoslab.clock import SYSTEM, Clock
from chaoslab.events import Condition
from chaoslab.spec.model import BringAbout, ConditionSpec, Pick
from chaoslab.stack.protocol import Stack

_TIMEOUT_S = 2.0
_FIELD = re.compile(r"\{([A-Za-z_]+)\}")
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
            observed = self._post(how, {name: self._picked(value) for name, value in how.values.items()})
        except (requests.RequestException, ValueError) as failed:
            observed = f"bring_about: {_reason(failed)}"
        return Condition(t_ns=self._clock.now_ns(), id=id_, holds=False, observed=observed, role="bring-about")

    def _picked(self, value: Pick) -> Any:
        found = jmespath.search(value.pick, self._get(value.get))
        if found is None:
            raise ValueError(f"GET {value.get} has nothing at {value.pick}")
        return found

    def _post(self, how: BringAbout, values: Mapping[str, Any]) -> str:
        """Ask one URL after the other until one says yes. What each said."""
        said = []
        for url in how.post:
            try:
                answer = requests.post(
                    self._url(url), json=_filled(how.body, values), timeout=3 * _TIMEOUT_S, allow_redirects=False
                )
            except requests.RequestException as failed:
                said.append(f"POST {url}: {_reason(failed)}")
                continue
            said.append(f"POST {url}: {answer.status_code} {answer.text[:_SHOWN]}")
            if answer.ok:
                break
        return "; ".join(said)

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
        return requests.get(self._url(url), timeout=_TIMEOUT_S, allow_redirects=False).json()

    def _url(self, url: str) -> str:
        parts = urlsplit(url)
        address = self._stack.address(parts.hostname or "", parts.port or 80)
        return urlunsplit(parts._replace(netloc=str(address)))


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
