"""One read of a ledger, as a row."""

from __future__ import annotations

from typing import Any

import jmespath
import msgspec

from chaoslab.clock import Clock
from chaoslab.errors import SpecError
from chaoslab.events import LedgerRead
from chaoslab.probe.endpoint import Endpoint
from chaoslab.probe.plan import LedgerTarget, Target
from chaoslab.probe.shooter import Template, render
from chaoslab.probe.wire import Answer, Wire

Items = list[tuple[str, str]]


class LedgerReader:
    """Reads one journey's ledger through one endpoint; `site` None is the public entry."""

    def __init__(
        self, target: Target, ledger: LedgerTarget, endpoint: Endpoint, wire: Wire, clock: Clock, *, site: str | None = None
    ) -> None:
        """Raises SpecError when `items` is not JMESPath."""
        self._target, self._endpoint, self._wire, self._clock, self._site = target, endpoint, wire, clock, site
        self._path = ledger.local or ledger.path if site is not None else ledger.path
        try:
            self._items = jmespath.compile(ledger.items)
        except jmespath.exceptions.JMESPathError as wrong:
            raise SpecError(f"{target.name}: ledger items: {wrong}") from wrong

    async def read(self, writer: str, after_seq: int, *, timeout_s: float) -> LedgerRead:
        """Never raises for what the network or the service does: that is `ok` False and `error`."""
        begin_ns = self._clock.now_ns()
        values: dict[str, str | int] = {"writer": writer, "after": after_seq}
        request = render(self._endpoint, Template("GET", self._path, self._target.headers), values, fresh=True)
        answer = await self._wire.exchange(request, timeout_s=timeout_s, fresh=True)
        items, error = self._parse(answer)
        return LedgerRead(
            t_ns=self._clock.now_ns(),
            journey=self._target.name,
            service=self._target.service,
            writer=writer,
            begin_ns=begin_ns,
            end_ns=answer.end_ns,
            ok=error is None,
            site=self._site,
            after_seq=after_seq if "{after}" in self._path else -1,
            items=items,
            error=error,
        )

    async def read_all(self, writer: str, *, timeout_s: float) -> LedgerRead:
        """All of a writer's entries as one row, page by page where the service answers in pages. The time-out is a page's."""
        read = whole = await self.read(writer, -1, timeout_s=timeout_s)
        after_seq = -1
        while read.ok and "{after}" in self._path and (last_seq := _last_seq(read)) > after_seq:
            after_seq = last_seq
            read = await self.read(writer, after_seq, timeout_s=timeout_s)
            whole = msgspec.structs.replace(
                whole, t_ns=read.t_ns, end_ns=read.end_ns, ok=read.ok, error=read.error, items=[*whole.items, *read.items]
            )
        return whole

    def _parse(self, answer: Answer) -> tuple[Items, str | None]:
        if answer.status != 200:
            return [], answer.error or f"status {answer.status}"
        try:
            found: Any = self._items.search(msgspec.json.decode(answer.body))
            return [(str(item["id"]), str(item["hash"])) for item in found], None
        except (msgspec.DecodeError, jmespath.exceptions.JMESPathError, KeyError, TypeError) as odd:
            return [], f"not a ledger: {type(odd).__name__}: {odd}"


def _last_seq(read: LedgerRead) -> int:
    """The highest sequence in a read; -1 where there is none."""
    sequences = [id_.rpartition("-")[2] for id_, _ in read.items]
    return max((int(sequence) for sequence in sequences if sequence.isdecimal()), default=-1)
