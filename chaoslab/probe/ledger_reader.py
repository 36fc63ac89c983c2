"""Reads one journey's ledger; each read is a row."""

from __future__ import annotations

import msgspec

from chaoslab.clock import Clock
from chaoslab.history.rows import LedgerRead
from chaoslab.judge.writes import sequence_of
from chaoslab.probe.endpoint import Endpoint
from chaoslab.probe.ledger_items import Items, ItemsReader, NoLedger
from chaoslab.probe.ledger_source import source_of
from chaoslab.probe.plan import HttpCall, LedgerTarget, Python, Redis, Sql, Target

PAGES_MAX = 100_000


class LedgerReader:
    """Reads one journey's ledger at one endpoint; `site` None is the public entry."""

    def __init__(
        self,
        target: Target,
        ledger: LedgerTarget,
        how: HttpCall | Redis | Sql | Python,
        endpoint: Endpoint,
        clock: Clock,
        *,
        site: str | None = None,
    ) -> None:
        """`how`: one of the ledger's two. Raises SpecError when it cannot be read at all."""
        self._target, self._clock, self._site = target, clock, site
        self._items = ItemsReader(ledger, target.name)
        self._source = source_of(how, endpoint, site, clock, as_text=self._items.wants_text)
        template = msgspec.json.encode(how)
        self._has_after, self._has_next = b"{after}" in template, b"{next}" in template
        self._all_writers = b"{writer}" not in template

    async def read(self, writer: str, after_seq: int, *, timeout_s: float) -> LedgerRead:
        """The entries of `writer` above sequence `after_seq`; -1 for all of them. `timeout_s`: for each page.

        Never raises for what the network or the service does: that is a row with `ok` False and `error`.
        """
        begin_ns = self._clock.now_ns()
        items, error, next_, pages = Items(), None, "", 0
        while True:
            values: dict[str, str | int] = {"writer": writer, "after": after_seq, "next": next_}
            answer = await self._source.read(values, timeout_s=timeout_s)
            pages += 1
            error, seen = answer.error, next_
            if error is None:
                try:
                    items += self._items.items(answer.value)
                    next_ = self._items.next_page(answer.value) or "" if self._has_next else ""
                except NoLedger as odd:
                    error = f"not a ledger: {odd}"
            if error is not None or not next_ or next_ == seen or pages >= PAGES_MAX:
                break
        if self._all_writers:  # what others have written is none of this journey's business
            items = [(id_, hash_) for id_, hash_ in items if id_.startswith(f"{writer}-")]
        return LedgerRead(
            t_ns=self._clock.now_ns(),
            journey=self._target.name,
            service=self._target.service,
            writer=writer,
            begin_ns=begin_ns,
            end_ns=answer.end_ns,
            ok=error is None,
            site=self._site,
            after_seq=after_seq if self._has_after else -1,
            items=items,
            error=error,
        )

    async def read_all(self, writer: str, *, timeout_s: float) -> LedgerRead:
        """All entries of `writer` as one row, page by page where the service answers in pages. `timeout_s`: for each page."""
        page = whole = await self.read(writer, -1, timeout_s=timeout_s)
        after_seq = -1
        while page.ok and self._has_after:
            last_seq = max((sequence_of(id_) for id_, _ in page.items), default=-1)
            if last_seq <= after_seq:
                break
            after_seq = last_seq
            page = await self.read(writer, after_seq, timeout_s=timeout_s)
            whole = msgspec.structs.replace(
                whole, t_ns=page.t_ns, end_ns=page.end_ns, ok=page.ok, error=page.error, items=[*whole.items, *page.items]
            )
        return whole
