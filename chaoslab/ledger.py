"""The final read of every ledger from every site: until twice identical, or the deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from chaoslab.clock import NS_PER_S, Deadline
from chaoslab.events import LedgerRead
from chaoslab.probe.endpoint import Endpoint
from chaoslab.probe.plan import target_of, writer_of
from chaoslab.probe.readback import LedgerReader
from chaoslab.probe.wire import Wire
from chaoslab.spec.model import Journey

PAUSE_S = 0.1  # between two rounds; where sites differ, or change, there are more of them
DISAGREE_S = 3.0  # sites that differ get this long to come together, unchanged, before that counts as settled
ROUND_MAX_S = 0.5  # what one round counts for in that: a machine that stands still keeps the sites from coming together
READ_TIMEOUT_S = 10.0
LAST_TIMEOUT_S = 1.0  # of a read that begins right before the deadline: cut short, it would tell less than the one before

Reads = Sequence[LedgerRead]


def read_all_sites(
    journeys: Mapping[str, Journey], addresses: Mapping[str, Mapping[str, str]], writer: str, deadline: Deadline
) -> list[LedgerRead]:
    """Every ledger among `journeys` as each site of `addresses` (site: service: base URL) holds it.

    The last read of each comes with `final`, and with whether it had settled; what failed until the deadline is a row with
    `ok` False. An earlier read is kept only where it showed a write that the final one does not hold. `writer` is the
    prefix of the plan.
    """
    return asyncio.run(_read_all(_readers(journeys, addresses, deadline), writer, deadline))


def _readers(
    journeys: Mapping[str, Journey], addresses: Mapping[str, Mapping[str, str]], deadline: Deadline
) -> dict[str, list[LedgerReader]]:
    """One for each site, by journey."""
    readers: dict[str, list[LedgerReader]] = {}
    for name, journey in journeys.items():
        target = target_of(name, journey)
        for site, services in addresses.items():
            if target.ledger is not None and target.service in services:
                endpoint = Endpoint.parse(services[target.service])
                reader = LedgerReader(
                    target, target.ledger, endpoint, Wire(endpoint, deadline.clock), deadline.clock, site=site
                )
                readers.setdefault(name, []).append(reader)
    return readers


async def _read_all(readers: Mapping[str, Sequence[Reader]], writer: str, deadline: Deadline) -> list[LedgerRead]:
    each = (settle(own, writer_of(writer, journey), deadline) for journey, own in readers.items())
    return [row for rows in await asyncio.gather(*each) for row in rows]


class Reader(Protocol):
    """Reads one ledger in one site."""

    async def read_all(self, writer: str, *, timeout_s: float) -> LedgerRead: ...


async def settle(readers: Sequence[Reader], writer: str, deadline: Deadline) -> list[LedgerRead]:
    """One journey's ledger from all sites, in rounds until it has settled or the deadline has passed."""
    last, telling = await _round(readers, writer, deadline), list[LedgerRead]()
    same_s, differed_ns, settled = 0.0, _differed_ns(last), False
    while not settled and not deadline.passed:
        before, began_ns = last, deadline.clock.now_ns()
        await asyncio.sleep(PAUSE_S)
        last = await _round(readers, writer, deadline)
        took_s = (deadline.clock.now_ns() - began_ns) / NS_PER_S
        same_s = same_s + min(took_s, ROUND_MAX_S) if _same(before, last) else 0.0
        differed_ns = _differed_ns(last) or differed_ns
        settled = same_s > 0 and (_alike(last) or same_s >= DISAGREE_S)
        telling += _telling(before, last)
    final = [msgspec.structs.replace(row, final=True, settled=settled, differed_ns=differed_ns) for row in last]
    held = {row.site: set(row.items) for row in final}
    return [*(read for read in telling if not set(read.items) <= held[read.site]), *final]


async def _round(readers: Sequence[Reader], writer: str, deadline: Deadline) -> Reads:
    timeout_s = max(LAST_TIMEOUT_S, min(READ_TIMEOUT_S, deadline.left_s))
    return await asyncio.gather(*(reader.read_all(writer, timeout_s=timeout_s) for reader in readers))


def _same(before: Reads, after: Reads) -> bool:
    """Whether both rounds read everything, and the same."""
    return all(a.ok and b.ok and sorted(a.items) == sorted(b.items) for a, b in zip(before, after, strict=True))


def _alike(reads: Reads) -> bool:
    """Whether all sites that could be read hold the same."""
    views = [sorted(read.items) for read in reads if read.ok]
    return all(view == views[0] for view in views)


def _differed_ns(reads: Reads) -> int | None:
    """When a round that saw the sites differ began."""
    return None if _alike(reads) else min(read.begin_ns for read in reads)


def _telling(before: Reads, after: Reads) -> list[LedgerRead]:
    """Reads that showed what the next one of the same place does not hold."""
    return [read for read, next_ in zip(before, after, strict=True) if not set(read.items) <= set(next_.items)]
