"""Sends the slots of one target as requests of HTTP, after what comes before them, such as a login."""

from __future__ import annotations

from chaoslab.clock import NS_PER_S, Clock
from chaoslab.probe.assessment import Assessment, Assessor
from chaoslab.probe.client import Client
from chaoslab.probe.endpoint import Endpoint
from chaoslab.probe.exchange import Exchange
from chaoslab.probe.payload import write_values
from chaoslab.probe.plan import Http, Target
from chaoslab.probe.prelude import NOTHING, Kept, PreludeSender
from chaoslab.probe.request import render, varies


class HttpSender:
    """A target's request, to one endpoint."""

    def __init__(self, target: Target, how: Http, endpoint: Endpoint, writer: str, clock: Clock) -> None:
        """`writer`: the name in the ids of its writes. Raises SpecError when the target's request cannot be sent at all."""
        self.timeout_s = target.timeout_s
        self._call, self._endpoint, self._writer, self._clock = how.call, endpoint, writer, clock
        self._client = Client(endpoint, clock)
        self._head = how.call.method == "HEAD"
        self._assessor = Assessor(target)
        self._prelude = PreludeSender(target, how.before, endpoint, self._client, clock) if how.before else None
        requests = (self._render(0, fresh=False), self._render(0, fresh=True))
        self._rendered = None if varies(how.call) or how.before else requests

    async def send(self, slot: int, *, fresh: bool, left_s: float) -> Exchange:
        """Once with what the prelude has kept; refused with that, the slot is bad and the next one asks for it anew."""
        if self._prelude is None:
            request = self._rendered[fresh] if self._rendered else self._render(slot, fresh=fresh)
            return await self._client.exchange(request, timeout_s=left_s, fresh=fresh, head=self._head)
        began_ns = self._clock.now_ns()
        kept = await self._prelude.kept(left_s)
        if isinstance(kept, str):
            return Exchange(self._clock.now_ns(), sent=False, error=kept)
        left_s -= (self._clock.now_ns() - began_ns) / NS_PER_S
        if left_s <= 0:
            return Exchange(self._clock.now_ns(), sent=False, error="before: no time left for the request itself")
        request = self._render(slot, fresh=fresh, kept=kept)
        exchange = await self._client.exchange(request, timeout_s=left_s, fresh=fresh, head=self._head)
        self._prelude.note(exchange, kept)
        return exchange

    def assess(self, exchange: Exchange, due_ns: int) -> Assessment:
        return self._assessor.assess(exchange, due_ns)

    def close(self) -> None:
        self._client.close()
        if self._prelude is not None:
            self._prelude.close()

    def _render(self, slot: int, *, fresh: bool, kept: Kept = NOTHING) -> bytes:
        values = {**write_values(self._writer, slot), **kept.values}
        return render(self._endpoint, self._call, values, fresh=fresh, cookie=kept.cookie)
