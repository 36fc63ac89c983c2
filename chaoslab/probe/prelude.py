"""What comes before a journey's requests, such as a login: sent once, and again when it has run out."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final, NamedTuple

import jmespath
import msgspec

from chaoslab.clock import NS_PER_S, Clock
from chaoslab.errors import SpecError
from chaoslab.probe.client import Client
from chaoslab.probe.endpoint import Endpoint
from chaoslab.probe.exchange import Exchange
from chaoslab.probe.plan import Prelude, Target
from chaoslab.probe.request import render

AGAIN_NS: Final = NS_PER_S // 5  # from one failed attempt to the next, at least


class Kept(NamedTuple):
    """What an answer left for the requests after it: values by name, and cookies as they are sent. `at_ns`: since when."""

    values: Mapping[str, Any]
    cookie: str
    at_ns: int


NOTHING: Final = Kept({}, "", 0)


class PreludeSender:
    """Sends one target's prelude, never twice at the same time, and keeps what its slots need of the answer."""

    def __init__(self, target: Target, prelude: Prelude, endpoint: Endpoint, client: Client, clock: Clock) -> None:
        """Raises SpecError when a value of `keep` is not JMESPath."""
        self._prelude, self._endpoint, self._client, self._clock = prelude, endpoint, client, clock
        self._timeout_s = target.timeout_s
        self._keep = {}
        for name, expression in prelude.keep.items():
            try:
                self._keep[name] = jmespath.compile(expression)
            except jmespath.exceptions.JMESPathError as error:
                raise SpecError(f"{target.name}: before: keep: {name}: {error}") from error
        self._kept: Kept | None = None
        self._why = "before: not sent yet"
        self._asked_ns = 0
        self._asking: asyncio.Task[None] | None = None

    async def kept(self, left_s: float) -> Kept | str:
        """What was kept, waited for where there is none yet, at most `left_s`; a text says why there is none."""
        every_s, now_ns = self._prelude.every_s, self._clock.now_ns()
        old = self._kept is not None and every_s is not None and now_ns - self._kept.at_ns > every_s * NS_PER_S
        idle = self._asking is None or self._asking.done()
        if idle and (old or self._kept is None) and now_ns - self._asked_ns >= AGAIN_NS:
            self._asked_ns = now_ns
            self._asking = asyncio.create_task(self._ask())
        if self._kept is None and self._asking is not None and not self._asking.done():
            await asyncio.wait([self._asking], timeout=left_s)
            if not self._asking.done():
                return "timeout: before: no answer"
        if self._asking is not None and self._asking.done():
            self._asking.result()
        return self._kept or self._why

    def note(self, exchange: Exchange, kept: Kept) -> None:
        """An answer to a request that was sent with this: whether it has run out."""
        if exchange.status in self._prelude.again_on and kept is self._kept:
            self._kept, self._why = None, f"before: status {exchange.status}"

    def close(self) -> None:
        if self._asking is not None:
            self._asking.cancel()

    async def _ask(self) -> None:
        request = render(self._endpoint, self._prelude.call, {}, fresh=True)
        head = self._prelude.call.method == "HEAD"
        exchange = await self._client.exchange(request, timeout_s=self._timeout_s, fresh=True, head=head)
        found = self._found_in(exchange)
        if isinstance(found, Kept):
            self._kept = found
        else:
            self._why = f"before: {found}"

    def _found_in(self, exchange: Exchange) -> Kept | str:
        if exchange.error is not None:
            return exchange.error
        if exchange.status not in self._prelude.statuses:
            return f"status {exchange.status}"
        values: dict[str, Any] = {}
        if self._keep:
            try:
                answer = msgspec.json.decode(exchange.body)
                values = {name: expression.search(answer) for name, expression in self._keep.items()}
            except (msgspec.DecodeError, jmespath.exceptions.JMESPathError) as error:
                return f"keep: {error}"
        missing = [name for name, value in values.items() if not isinstance(value, str | int | float)]
        if missing:
            return f"the answer has nothing to keep as {', '.join(missing)}"
        jar = SimpleCookie()
        for cookie in exchange.cookies:
            try:
                jar.load(cookie)
            except CookieError as error:
                return f"cookie: {error}"
        cookies = "; ".join(f"{morsel.key}={morsel.coded_value}" for morsel in jar.values())
        return Kept(values, cookies, exchange.end_ns)
