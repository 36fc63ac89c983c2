"""Where the writes of a journey are read back from: one read of one page, whatever the protocol."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import msgspec

from chaoslab.clock import Clock
from chaoslab.probe.client import Client
from chaoslab.probe.endpoint import Endpoint
from chaoslab.probe.payload import Values
from chaoslab.probe.plan import HttpCall, Python, Redis, Sql
from chaoslab.probe.python_sender import load_class, make_journey
from chaoslab.probe.redis import RedisClient
from chaoslab.probe.request import render
from chaoslab.probe.sessions import cut_after
from chaoslab.probe.sql import SqlClient, load_driver


class Answer(NamedTuple):
    """What one read returned. `value` only where `error` is None."""

    end_ns: int
    value: Any = None
    error: str | None = None


class Source(Protocol):
    """Reads once, over a connection of its own. Never raises for what the network or the server does."""

    async def read(self, values: Values, *, timeout_s: float) -> Answer: ...


class HttpSource:
    """A request; as text where that is wanted, else as JSON."""

    def __init__(self, call: HttpCall, endpoint: Endpoint, clock: Clock, *, as_text: bool) -> None:
        self._call, self._endpoint, self._client, self._as_text = call, endpoint, Client(endpoint, clock), as_text

    async def read(self, values: Values, *, timeout_s: float) -> Answer:
        request = render(self._endpoint, self._call, values, fresh=True)
        exchange = await self._client.exchange(request, timeout_s=timeout_s, fresh=True)
        if exchange.status != 200:
            return Answer(exchange.end_ns, error=exchange.error or f"status {exchange.status}")
        if self._as_text:
            return Answer(exchange.end_ns, exchange.body.decode(errors="replace"))
        try:
            return Answer(exchange.end_ns, msgspec.json.decode(exchange.body))
        except msgspec.DecodeError as odd:
            return Answer(exchange.end_ns, error=f"not a ledger: {type(odd).__name__}: {odd}")


class ClientSource:
    """A statement of SQL or a command of Redis."""

    def __init__(self, client: SqlClient | RedisClient) -> None:
        self._client = client

    async def read(self, values: Values, *, timeout_s: float) -> Answer:
        exchange = await self._client.exchange(values, timeout_s=timeout_s, fresh=True)
        return Answer(exchange.end_ns, exchange.value, exchange.error)


class PythonSource:
    """The `read_back` of a user's class."""

    def __init__(self, how: Python, endpoint: Endpoint, site: str, clock: Clock) -> None:
        """Raises SpecError when the class cannot be used."""
        self._site, self._clock = site, clock
        self._journey = make_journey(how, endpoint, "", called="read_back")

    async def read(self, values: Values, *, timeout_s: float) -> Answer:
        self._journey.writer = values["writer"]
        try:
            found = await cut_after(self._journey.read_back(self._site), timeout_s)
            return Answer(self._clock.now_ns(), list(found))
        except TimeoutError:
            return Answer(self._clock.now_ns(), error="timeout: no answer")
        except Exception as raised:
            return Answer(self._clock.now_ns(), error=f"{type(raised).__name__}: {raised}")


def require_source(how: HttpCall | Redis | Sql | Python) -> None:
    """Raises SpecError for a driver or a class that is not there: better before a run than at its end."""
    if isinstance(how, Sql):
        load_driver(how)
    elif isinstance(how, Python):
        load_class(how, called="read_back")


def source_of(
    how: HttpCall | Redis | Sql | Python, endpoint: Endpoint, site: str | None, clock: Clock, *, as_text: bool
) -> Source:
    """`site` None: through the entry. Raises SpecError when it cannot be read at all."""
    match how:
        case HttpCall():
            return HttpSource(how, endpoint, clock, as_text=as_text)
        case Redis():
            return ClientSource(RedisClient(how, endpoint, clock))
        case Sql():
            return ClientSource(SqlClient(how, endpoint, clock))
    return PythonSource(how, endpoint, site or "", clock)
