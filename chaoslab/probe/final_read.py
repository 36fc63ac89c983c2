"""The final read of every ledger from every site, repeated until two rounds agree, or the deadline."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

from chaoslab import process
from chaoslab.background import in_thread
from chaoslab.clock import NS_PER_S, Deadline
from chaoslab.errors import EnvironmentFault
from chaoslab.history.rows import LedgerRead
from chaoslab.probe.endpoint import Endpoint
from chaoslab.probe.ledger_reader import LedgerReader
from chaoslab.probe.plan import LedgerTarget, Python, Target, target_of, writer_of

if TYPE_CHECKING:  # pydantic stays out of the process that reads by users' classes
    from chaoslab.spec.stackfile.journey import Journey

PAUSE_S = 0.1  # between two rounds of reads
DISAGREE_S = 3.0  # sites that differ get this long to become equal, unchanged, before that counts as settled
ROUND_MAX_S = 0.5  # what one round adds to that at most: while the machine stands still, sites cannot become equal
READ_TIMEOUT_S = 10.0
LAST_TIMEOUT_S = 1.0  # of a read that begins right before the deadline: cut short, it would show less than the read before

START_S = 5.0  # what the process that reads by users' classes may take to start and to end
Reads = Sequence[LedgerRead]


class FinalPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Which ledgers are read, where. `urls`: by target's name and site. `left_s`: until the deadline."""

    writer: str
    targets: list[Target] = []
    urls: dict[str, dict[str, str]] = {}
    left_s: float = 0.0


def read_all_sites(
    journeys: Mapping[str, Journey], addresses: Mapping[str, Mapping[str, str]], writer: str, deadline: Deadline
) -> list[LedgerRead]:
    """Every ledger among `journeys` as each site of `addresses` (site: place: base URL) holds it.

    A place is what the ledger's `from` names, without that the journey's service. The last read of each comes with `final`, and
    with whether it had settled; a read that failed until the deadline is a row with `ok` False. An earlier read is kept only
    where it showed a write that the final read does not hold. `writer` is the prefix of the plan. Raises SpecError when an
    address is not a URL, or a ledger cannot be read at all.
    """
    here, in_classes = FinalPlan(writer=writer), FinalPlan(writer=writer)
    for name, journey in journeys.items():
        target, place = target_of(name, journey), (journey.ledger and journey.ledger.from_) or journey.service
        if target.ledger is None:
            continue
        plan = in_classes if isinstance(target.ledger.site, Python) else here
        plan.targets.append(target)
        plan.urls[name] = {site: places[place] for site, places in addresses.items() if place in places}
    foreign = in_thread(lambda: _read_in_process(in_classes, deadline), "read_back") if in_classes.targets else None
    rows = asyncio.run(read_planned(here, deadline))
    return [*rows, *(foreign.result() if foreign is not None else ())]


async def read_planned(plan: FinalPlan, deadline: Deadline) -> list[LedgerRead]:
    """The reads of one plan, in this process. Raises SpecError as `read_all_sites` does."""

    def reader(target: Target, ledger: LedgerTarget, site: str, url: str) -> LedgerReader:
        return LedgerReader(target, ledger, ledger.site, Endpoint.parse(url), deadline.clock, site=site)

    each = []
    for target in plan.targets:
        if target.ledger is not None:
            readers = [reader(target, target.ledger, site, url) for site, url in plan.urls[target.name].items()]
            each.append(settle(readers, writer_of(plan.writer, target.name), deadline))
    return [row for rows in await asyncio.gather(*each) for row in rows]


def _read_in_process(plan: FinalPlan, deadline: Deadline) -> list[LedgerRead]:
    """In a process of its own: the classes of users may hang, and their modules are none of the harness's business."""
    left_s = max(deadline.left_s, LAST_TIMEOUT_S)
    told = msgspec.json.encode(msgspec.structs.replace(plan, left_s=left_s)).decode()
    command, begin_ns = [sys.executable, "-m", "chaoslab.probe.read_back"], deadline.clock.now_ns()
    try:
        done = process.run(command, timeout_s=left_s + START_S, told=told)
        error = (done.stderr.strip().splitlines() or ["it ended without an error message"])[-1]
        if done.returncode == 0:
            return msgspec.json.decode(done.stdout, type=list[LedgerRead])
    except EnvironmentFault:
        error = f"read_back did not end within {left_s:.0f} s; a class must not block the event loop"
    return [
        LedgerRead(
            t_ns=deadline.clock.now_ns(),
            journey=target.name,
            service=target.service,
            writer=writer_of(plan.writer, target.name),
            begin_ns=begin_ns,
            end_ns=deadline.clock.now_ns(),
            ok=False,
            site=site,
            final=True,
            error=error,
        )
        for target in plan.targets
        for site in plan.urls[target.name]
    ]


class Reader(Protocol):
    """Reads one ledger in one site."""

    async def read_all(self, writer: str, *, timeout_s: float) -> LedgerRead: ...


async def settle(readers: Sequence[Reader], writer: str, deadline: Deadline) -> list[LedgerRead]:
    """One journey's ledger from all sites, in rounds until it has settled or the deadline has passed.

    It has settled when two rounds in a row read the same, and all sites hold the same or stayed unchanged for DISAGREE_S.
    """
    last = await _round(readers, writer, deadline)
    superseded: list[LedgerRead] = []  # reads that showed an entry which the next read of the same site does not hold
    same_s, differed_ns, settled = 0.0, _differed_ns(last), False
    while not settled and not deadline.passed:
        before, began_ns = last, deadline.clock.now_ns()
        await asyncio.sleep(PAUSE_S)
        last = await _round(readers, writer, deadline)
        took_s = (deadline.clock.now_ns() - began_ns) / NS_PER_S
        pairs = list(zip(before, last, strict=True))
        unchanged = all(a.ok and b.ok and _contents(a) == _contents(b) for a, b in pairs)
        same_s = same_s + min(took_s, ROUND_MAX_S) if unchanged else 0.0
        differed_ns = _differed_ns(last) or differed_ns
        settled = same_s > 0 and (_sites_agree(last) or same_s >= DISAGREE_S)
        superseded += [read for read, next_ in pairs if not set(read.items) <= set(next_.items)]
    final = [msgspec.structs.replace(row, final=True, settled=settled, differed_ns=differed_ns) for row in last]
    held = {row.site: set(row.items) for row in final}
    return [*(read for read in superseded if not set(read.items) <= held[read.site]), *final]


async def _round(readers: Sequence[Reader], writer: str, deadline: Deadline) -> Reads:
    timeout_s = max(LAST_TIMEOUT_S, min(READ_TIMEOUT_S, deadline.left_s))
    return await asyncio.gather(*(reader.read_all(writer, timeout_s=timeout_s) for reader in readers))


def _sites_agree(reads: Reads) -> bool:
    """Whether all sites that could be read hold the same."""
    contents = [_contents(read) for read in reads if read.ok]
    return all(content == contents[0] for content in contents)


def _differed_ns(reads: Reads) -> int | None:
    """When a round in which sites differed began; None where they agreed."""
    return None if _sites_agree(reads) else min(read.begin_ns for read in reads)


def _contents(read: LedgerRead) -> list[tuple[str, str]]:
    return sorted((id_, hash_ or "") for id_, hash_ in read.items)
