"""The final read of every ledger from every site: until twice identical, or the deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
READ_TIMEOUT_S = 10.0


def read_all_sites(
    journeys: Mapping[str, Journey], addresses: Mapping[str, Mapping[str, str]], writer: str, deadline: Deadline
) -> list[LedgerRead]:
    """Every ledger among `journeys` as each site of `addresses` (site: service: base URL) holds it.

    The last read of each comes with `final`; what failed until the deadline is a row with `ok` False. An earlier read
    is kept only where it showed a write that the final one does not hold. `writer` is the prefix of the plan.
    """
    return asyncio.run(_Readers(_readers(journeys, addresses, deadline), writer, deadline).settle())


@dataclass(frozen=True)
class _Place:
    """One journey's ledger in one site."""

    journey: str
    site: str
    reader: LedgerReader


def _readers(journeys: Mapping[str, Journey], addresses: Mapping[str, Mapping[str, str]], deadline: Deadline) -> list[_Place]:
    places = []
    for name, journey in journeys.items():
        target = target_of(name, journey)
        for site, services in addresses.items():
            if target.ledger is not None and target.service in services:
                endpoint = Endpoint.parse(services[target.service])
                wire = Wire(endpoint, deadline.clock)
                reader = LedgerReader(target, target.ledger, endpoint, wire, deadline.clock, site=site)
                places.append(_Place(name, site, reader))
    return places


class _Readers:
    """Rounds of reads, all places at once."""

    def __init__(self, places: Sequence[_Place], writer: str, deadline: Deadline) -> None:
        self._places, self._writer, self._deadline = places, writer, deadline

    async def settle(self) -> list[LedgerRead]:
        rounds = [await self._round()]
        unchanged_since_ns = self._deadline.clock.now_ns()
        while not self._deadline.passed:
            await asyncio.sleep(min(PAUSE_S, self._deadline.left_s))
            rounds.append(await self._round())
            if not _same(rounds[-2], rounds[-1]):
                unchanged_since_ns = self._deadline.clock.now_ns()
            elif _settled(rounds[-1], (self._deadline.clock.now_ns() - unchanged_since_ns) / NS_PER_S):
                break
        final = [msgspec.structs.replace(row, final=True) for row in rounds[-1]]
        return [*_telling(rounds[:-1], final), *final]

    async def _round(self) -> list[LedgerRead]:
        timeout_s = max(0.1, min(READ_TIMEOUT_S, self._deadline.left_s))
        reads = (place.reader.read_all(writer_of(self._writer, place.journey), timeout_s=timeout_s) for place in self._places)
        return list(await asyncio.gather(*reads))


def _same(before: Sequence[LedgerRead], after: Sequence[LedgerRead]) -> bool:
    """Whether both rounds read everything, and the same."""
    return all(a.ok and b.ok and sorted(a.items) == sorted(b.items) for a, b in zip(before, after, strict=True))


def _settled(reads: Sequence[LedgerRead], unchanged_s: float) -> bool:
    """Twice identical is enough where the sites agree; where they do not, they have had time to."""
    held: dict[str, set[frozenset[tuple[str, str]]]] = {}
    for read in reads:
        held.setdefault(read.journey, set()).add(frozenset(read.items))
    return all(len(views) == 1 for views in held.values()) or unchanged_s >= DISAGREE_S


def _telling(rounds: Sequence[Sequence[LedgerRead]], final: Sequence[LedgerRead]) -> list[LedgerRead]:
    """Earlier reads that showed what the final read of the same place does not hold."""
    return [read for reads in rounds for read, last in zip(reads, final, strict=True) if not set(read.items) <= set(last.items)]
