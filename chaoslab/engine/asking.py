"""Queries the stack once: by HTTP, by a command in a replica, by Redis or by SQL. Decides nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import SplitResult, urlsplit, urlunsplit

import requests
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from chaoslab.background import in_thread
from chaoslab.clock import SYSTEM
from chaoslab.errors import ChaoslabError
from chaoslab.probe.endpoint import Endpoint
from chaoslab.probe.exchange import Exchange
from chaoslab.probe.plan import redis_of, sql_of
from chaoslab.probe.redis import RedisClient
from chaoslab.probe.sql import SqlClient
from chaoslab.spec.stackfile.condition import BringAbout, Look
from chaoslab.spec.stackfile.model import OUTSIDE
from chaoslab.stack.protocol import CanConnect, CanExecute, Ended, Stack

LOOK_S, CHANGE_S = 2.0, 6.0
BESIDE = "beside"  # the place of the replica that is asked
_LATE_S = 0.5  # to distinguish a failed connection from a missing answer
SHOWN = 400  # characters of an answer that a row keeps
_FIELD = re.compile(r"\{([A-Za-z_]+)\}")
Values = Mapping[str, Any]


class NoAnswer(Exception):
    """What was asked, and why there is no answer, in words."""


class NotSent(NoAnswer):
    """There is no answer as there was no connection, so nothing was changed."""


@dataclass(frozen=True)
class HttpAnswer:
    """What came back. `content` may be no text."""

    status: int
    content: bytes

    @property
    def ok(self) -> bool:
        """Whether the status is a 2xx or 3xx."""
        return self.status < 400

    @property
    def text(self) -> str:
        return self.content.decode(errors="replace")


@dataclass(frozen=True)
class Change:
    """The answer to a request for a change, in words. `refused`: nothing was changed."""

    observed: str
    refused: bool


class Asking:
    """Queries to one stack. `sent_from`: the place from which requests are sent, which a fault may have cut off.

    The runtime sends them from there where it can; else, and for all that is no plain HTTP, they are sent from outside.
    """

    def __init__(self, stack: Stack, *, look_s: float = LOOK_S, sent_from: str = OUTSIDE) -> None:
        self._stack = stack
        self._look_s = look_s
        self._sent_from = sent_from

    def look(self, how: Look) -> Any:
        """The content of the answer. Raises NoAnswer, also if a command ends with a status other than 0.

        Of several URLs, the JSON of the first that answers 2xx counts, or else of the last that answered.
        """
        if (http := how.http) is not None:
            failure: NoAnswer | None = None
            answer: HttpAnswer | None = None
            for url in http.url:
                try:
                    answer = self.send(http.method, url, self._look_s, http.body, http.headers)
                    if 200 <= answer.status < 300:
                        break
                except NoAnswer as failed:
                    failure = failed
            if answer is None:
                raise failure or NoAnswer("nothing was asked")
            try:
                return json.loads(answer.content)
            except ValueError as odd:
                raise NoAnswer(f"{http.method} {http.url[-1]}: {reason_of(odd)}") from odd
        if how.run is not None:
            ended = self._execute(how.in_ or "", how.run, self._look_s)
            if ended.status != 0:
                raise NoAnswer(f"{_in_words(how, how.run)}: {_exit_in_words(ended)}")
            try:
                return json.loads(ended.output)
            except ValueError:
                return ended.output.strip()
        exchange = self.exchange(how, {}, self._look_s)
        if exchange.error is not None:
            raise NoAnswer(f"{_in_words(how)}: {exchange.error}")
        return exchange.value

    def send(
        self, method: str, url: str, timeout_s: float, body: object = None, headers: Mapping[str, str] | None = None
    ) -> HttpAnswer:
        """The answer to one request to a `replica:port`. Raises NotSent, NoAnswer."""
        asked = f"{method} {url}"
        if self._sent_from == OUTSIDE or urlsplit(url).scheme != "http" or not isinstance(self._stack, CanConnect):
            try:
                answer = ask(method, url_on(self._stack, url), timeout_s, body, headers)
            except requests.RequestException as failed:
                cause = getattr(failed.args[0], "reason", None) if failed.args else None
                kind = NotSent if isinstance(cause, ConnectTimeoutError | NewConnectionError) else NoAnswer
                raise kind(f"{asked}: {reason_of(failed)}") from failed
            return HttpAnswer(answer.status_code, answer.content)
        parts = urlsplit(url)
        replica, port = parts.hostname or "", parts.port or 80
        place = self._stack.topology.replica(replica).site if self._sent_from == BESIDE else self._sent_from
        try:
            connected = self._stack.connect(replica, port, seen_from=place, timeout_s=timeout_s)
        except OSError as failed:
            raise NotSent(f"{asked}: {reason_of(failed)}") from failed
        try:
            return in_thread(partial(_exchange, connected, method, parts, body, headers), asked).result(timeout_s + _LATE_S)
        except (OSError, HTTPException, ValueError) as failed:  # a header with a character that HTTP does not allow
            raise NoAnswer(f"{asked}: {reason_of(failed)}") from failed

    def change(self, how: BringAbout, values: Values) -> Change:
        """Request a change, from one URL after the other until one accepts. `values`: of the placeholders.

        Never raises because of the stack.
        """
        if (http := how.http) is not None:
            answers, refused = [], True
            headers = {name: str(_filled(value, values)) for name, value in http.headers.items()}
            for url in http.url:
                try:
                    answer = self.send(http.method, url, CHANGE_S, _filled(http.body, values), headers)
                except NoAnswer as failed:
                    answers.append(str(failed))
                    refused = refused and isinstance(failed, NotSent)
                    continue
                answers.append(f"{http.method} {url}: {answer.status} {answer.text[:SHOWN]}")
                refused = refused and 400 <= answer.status < 500  # with any other status it is not known what was begun
                if answer.ok:
                    break
            return Change("; ".join(answers), refused)
        if how.run is not None:
            words = [str(_filled(word, values)) for word in how.run]
            try:
                ended = self._execute(how.in_ or "", words, CHANGE_S)
            except NoAnswer as failed:
                return Change(str(failed), refused=False)
            # A command that failed may have done part of its work.
            return Change(f"{_in_words(how, words)}: {_exit_in_words(ended)}", refused=False)
        exchange = self.exchange(how, values, CHANGE_S)
        text = exchange.error or json.dumps(exchange.value, default=str)[:SHOWN]
        return Change(f"{_in_words(how)}: {text}", refused=exchange.code is not None or not exchange.sent)

    def _execute(self, replica: str, command: list[str], timeout_s: float) -> Ended:
        if not isinstance(self._stack, CanExecute):
            raise NoAnswer(f"run {' '.join(command)}: this runtime cannot run commands in replicas")
        try:
            return self._stack.execute(replica, command, timeout_s)
        except ChaoslabError as failed:
            raise NoAnswer(str(failed)) from failed

    def exchange(self, how: Look | BringAbout, values: Values, timeout_s: float) -> Exchange:
        """One command of Redis or statement of SQL. Raises NoAnswer where the driver for it is not installed."""
        replica, _, port = (how.at or "").partition(":")
        endpoint = Endpoint.parse(f"tcp://{self._stack.address(replica, int(port))}")

        async def exchange() -> Exchange:
            client: RedisClient | SqlClient
            if how.redis is not None:
                client = RedisClient(redis_of(how.redis), endpoint, SYSTEM)
            elif how.sql is not None:
                client = SqlClient(sql_of(how.sql), endpoint, SYSTEM)
            else:
                raise NoAnswer("no request, command, redis or sql is given")
            return await client.exchange(values, timeout_s=timeout_s, fresh=True)

        try:
            return asyncio.run(exchange())
        except ChaoslabError as missing:  # a driver that is not installed
            raise NoAnswer(str(missing)) from missing


def _exchange(
    connected: socket.socket, method: str, parts: SplitResult, body: object, headers: Mapping[str, str] | None
) -> HttpAnswer:
    """One request and its answer on a connection, which is closed. Raises OSError, HTTPException."""
    with contextlib.closing(HTTPConnection(parts.netloc)) as client:
        client.sock = connected
        content = None if body is None else json.dumps(body)
        own = {} if body is None else {"Content-Type": "application/json"}
        client.request(method, urlunsplit(("", "", parts.path or "/", parts.query, "")), content, own | dict(headers or {}))
        response = client.getresponse()
        return HttpAnswer(response.status, response.read())


def url_on(stack: Stack, url: str) -> str:
    """The URL of a `replica:port` as this machine reaches it."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=str(stack.address(parts.hostname or "", parts.port or 80))))


def reason_of(failed: Exception) -> str:
    """Why there was no answer, in words."""
    if isinstance(failed, requests.Timeout | TimeoutError):
        return "no answer in time"
    return f"{type(failed).__name__}: {failed}"[:SHOWN]


def ask(
    verb: str, url: str, timeout_s: float, body: object = None, headers: Mapping[str, str] | None = None
) -> requests.Response:
    """Send a request to the stack, ignoring the proxies of the environment and the passwords of .netrc.

    `timeout_s` is for the whole answer: an endless one, such as a stream of events, is given up. Raises
    requests.RequestException.
    """

    def send() -> requests.Response:
        with requests.Session() as session:
            session.trust_env = False
            return session.request(verb, url, json=body, headers=headers, timeout=timeout_s, allow_redirects=False)

    try:
        return in_thread(send, f"{verb} {url}").result(timeout_s + _LATE_S)
    except TimeoutError as late:
        raise requests.Timeout(f"the answer did not end within {timeout_s:g} s") from late
    except UnicodeError as odd:
        raise requests.exceptions.InvalidHeader("a header holds a character that HTTP does not allow") from odd


def _in_words(how: Look | BringAbout, command: list[str] | None = None) -> str:
    if command is not None:
        return f"{' '.join(command)} in {how.in_}"
    if how.redis is not None:
        return f"redis {' '.join(how.redis.command)} at {how.at}"
    return f"sql at {how.at}"


def _exit_in_words(ended: Ended) -> str:
    return f"exit status {ended.status}: {(ended.said or ended.output).strip()[-SHOWN:]}"


def _filled(template: Any, values: Values) -> Any:
    """The template with {name} replaced in every text; a text that is only {name} becomes the value itself."""
    if isinstance(template, dict):
        return {key: _filled(part, values) for key, part in template.items()}
    if isinstance(template, list):
        return [_filled(part, values) for part in template]
    if not isinstance(template, str):
        return template
    whole = _FIELD.fullmatch(template)
    if whole and whole[1] in values:
        return values[whole[1]]
    return _FIELD.sub(lambda match: str(values.get(match[1], match[0])), template)
