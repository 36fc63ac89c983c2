"""Acknowledged writes against what the sites hold in the end: the buckets of measurement.md, section 3. Pure.

A bucket counts writes, not copies. F, what the final read holds, is the union of all sites; where they differ is `divergent`.
Where a site was not read, or still changed when the time for reading was over, F is not known: what is lost or divergent then
is so as last seen, and no verdict follows from it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from chaoslab.events import LedgerRead, Probe
from chaoslab.losses import Span, acknowledged_before, loss_age_s
from chaoslab.record import Injection
from chaoslab.result import LedgerResult

EXAMPLES_MAX = 10
ENTRY = "the entry"
BUCKETS = (
    *("lost", "lost_after_fault", "recovered", "resurrected", "unexpected"),
    *("duplicated", "corrupt", "divergent", "stale", "unverified"),
)


class Writes:
    """The writes of one journey by id. Several attempts are one write: acked if any was, rejected only if all were."""

    def __init__(self, slots: Iterable[Probe]) -> None:
        self.by_id: dict[str, Probe] = {}  # the attempt that counts
        self._repeated: dict[str, int] = {}
        for slot in slots:
            if slot.id is not None and slot.op == "write":
                self._add(slot.id, slot)
        self.acked = {id_ for id_, slot in self.by_id.items() if slot.outcome == "acked"}
        self.rejected = {id_ for id_, slot in self.by_id.items() if slot.outcome == "rejected"}
        self.indeterminate = self.by_id.keys() - self.acked - self.rejected

    def attempts(self, id_: str) -> int:
        return self._repeated.get(id_, 1)

    def _add(self, id_: str, slot: Probe) -> None:
        earlier = self.by_id.setdefault(id_, slot)
        if earlier is not slot:
            self._repeated[id_] = self.attempts(id_) + 1
            self.by_id[id_] = min(earlier, slot, key=_counts_more)


def _counts_more(slot: Probe) -> tuple[int, int]:
    rank = {"acked": 0, "rejected": 2}.get(slot.outcome, 1)
    return rank, slot.end_ns


@dataclass
class Copy:
    """What one site holds of one writer after its last final read, which covers the writes above `after_seq`."""

    after_seq: int
    hashes: dict[str, str] = field(default_factory=dict)  # by id
    more: dict[str, list[str]] = field(default_factory=dict)  # hashes of further copies of the same id

    def take(self, read: LedgerRead) -> None:
        """A later final read replaces what it covers."""
        if read.after_seq < 0:
            self.hashes, self.more = {}, {}
        else:
            self.hashes = {id_: hash_ for id_, hash_ in self.hashes.items() if sequence_of(id_) <= read.after_seq}
            self.more = {id_: hashes for id_, hashes in self.more.items() if sequence_of(id_) <= read.after_seq}
        self.after_seq = min(self.after_seq, read.after_seq)
        for id_, hash_ in read.items:
            if id_ in self.hashes:
                self.more.setdefault(id_, []).append(hash_)
            else:
                self.hashes[id_] = hash_

    def all_hashes(self, id_: str) -> list[str]:
        """One for each copy of a write, sorted."""
        return sorted([*([self.hashes[id_]] if id_ in self.hashes else []), *self.more.get(id_, [])])


Copies = Mapping[tuple[str, str], Copy]  # by site and writer


@dataclass
class Ledger:
    """Writes sorted into buckets (sets of ids).

    `lost_after_fault`: those of the lost that no RPO excuses; `rpo_s` is about the others.
    `settled`: two rounds of final reads agreed. `differed_ns`: when the sites were last seen to differ, None for never.
    `alike_ns`: when they were read and all alike, for good; None: not as long as we looked.
    """

    acked: set[str] = field(default_factory=set)
    rejected: set[str] = field(default_factory=set)
    indeterminate: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)
    lost_after_fault: set[str] = field(default_factory=set)
    recovered: set[str] = field(default_factory=set)
    resurrected: set[str] = field(default_factory=set)
    unexpected: set[str] = field(default_factory=set)
    duplicated: set[str] = field(default_factory=set)
    corrupt: set[str] = field(default_factory=set)
    divergent: set[str] = field(default_factory=set)
    stale: set[str] = field(default_factory=set)
    unverified: set[str] = field(default_factory=set)
    unread: set[str] = field(default_factory=set)  # sites that were asked and never gave a final answer
    rpo_s: float = 0.0
    acked_before_fault: bool = False  # some write was acknowledged so shortly before that a fault could have taken it
    silent_faults: set[str] = field(default_factory=set)  # faults before which there should have been one, and was none
    settled: bool = True
    differed_ns: int | None = None
    alike_ns: int | None = None

    @property
    def known(self) -> bool:
        """Whether it is known what the sites hold in the end."""
        return self.settled and not self.unread

    def bucket(self, name: str) -> set[str]:
        ids: set[str] = getattr(self, name)
        return ids

    def result(self, objective_s: float | None) -> LedgerResult:
        return LedgerResult(
            acked=len(self.acked),
            rejected=len(self.rejected),
            indeterminate=len(self.indeterminate),
            rpo_s=self.rpo_s,
            objective_s=objective_s,
            examples={name: _first(self.bucket(name)) for name in BUCKETS if self.bucket(name) and name != "recovered"},
            **{name: len(self.bucket(name)) for name in BUCKETS},
        )


def together(ledgers: Sequence[Ledger]) -> Ledger:
    """Several journeys' ledgers as the ledger of their service."""
    whole = Ledger()
    for one in ledgers:
        for name in ("acked", "rejected", "indeterminate", "unread", "silent_faults", *BUCKETS):
            whole.bucket(name).update(one.bucket(name))
        whole.rpo_s = max(whole.rpo_s, one.rpo_s)
    whole.acked_before_fault = all(one.acked_before_fault for one in ledgers)
    whole.settled = all(one.settled for one in ledgers)
    whole.differed_ns = max((one.differed_ns for one in ledgers if one.differed_ns is not None), default=None)
    alike_ns = [one.alike_ns for one in ledgers]
    whole.alike_ns = None if None in alike_ns else max((each for each in alike_ns if each is not None), default=None)
    return whole


def ledger_of(
    slots: Iterable[Probe], reads: Sequence[LedgerRead], injections: Sequence[Injection], clocks: Sequence[Span] = ()
) -> Ledger:
    """Sort the writes of one journey into buckets. `reads`: all of this journey, final and not, in any order.

    `clocks`: when an RTO clock of its service ran.
    """
    writes = Writes(slots)
    reads = sorted((read for read in reads if read.ok or read.final), key=lambda read: (read.begin_ns, read.end_ns))
    answered = [read for read in reads if read.ok]
    shown = _first_shown(answered, writes)
    copies = _copies(answered)
    held = {id_ for copy in copies.values() for id_ in copy.hashes}
    missing = (writes.acked | (writes.indeterminate & shown.keys())) - held
    unverified = missing - _covered(missing, copies)
    ledger = Ledger(
        acked=writes.acked,
        rejected=writes.rejected,
        indeterminate=writes.indeterminate,
        lost=missing - unverified,
        recovered=writes.indeterminate & held,
        resurrected=writes.rejected & held,
        unexpected=held - writes.by_id.keys(),
        duplicated=_duplicated(copies, writes),
        corrupt=_corrupt(copies, writes),
        divergent=_divergent(copies),
        stale=_stale(answered, writes, held),
        unverified=unverified,
        unread=_unread(reads),
    )
    _date_losses(ledger, writes, shown, injections)
    acks_ns = [writes.by_id[id_].end_ns for id_ in writes.acked]
    ledger.acked_before_fault, ledger.silent_faults = acknowledged_before(acks_ns, injections, clocks)
    _tell_whether_settled(ledger, [read for read in reads if read.final])
    return ledger


def sequence_of(id_: str) -> int:
    """The sequence in an id "<writer>-<seq>"; -1 where it has none."""
    tail = id_.rpartition("-")[2]
    return int(tail) if tail.isdecimal() else -1


def _writer_of(id_: str) -> str:
    return id_.rpartition("-")[0]


def _first(ids: set[str]) -> list[str]:
    return sorted(ids, key=lambda one: (sequence_of(one), one))[:EXAMPLES_MAX]


def _copies(reads: Sequence[LedgerRead]) -> Copies:
    copies: dict[tuple[str, str], Copy] = {}
    for read in reads:
        if read.final:
            copies.setdefault((read.site or ENTRY, read.writer), Copy(read.after_seq)).take(read)
    return copies


def _unread(reads: Sequence[LedgerRead]) -> set[str]:
    asked = {(read.site or ENTRY, read.writer) for read in reads if read.final}
    answered = {(read.site or ENTRY, read.writer) for read in reads if read.final and read.ok}
    return {site for site, _ in asked - answered}


def _covered(ids: set[str], copies: Copies) -> set[str]:
    """Those that some site's final read would have shown."""
    from_seq: dict[str, int] = {}
    for (_, writer), copy in copies.items():
        from_seq[writer] = min(from_seq.get(writer, copy.after_seq), copy.after_seq)
    return {id_ for id_ in ids if (writer := _writer_of(id_)) in from_seq and sequence_of(id_) > from_seq[writer]}


def _first_shown(reads: Sequence[LedgerRead], writes: Writes) -> dict[str, int]:
    """When a read first showed a write of unknown outcome: from then on somebody relies on it."""
    shown: dict[str, int] = {}
    for read in reads:
        for id_, _ in read.items:
            if id_ in writes.indeterminate:
                shown[id_] = min(shown.get(id_, read.end_ns), read.end_ns)
    return shown


def _duplicated(copies: Copies, writes: Writes) -> set[str]:
    """Writes of which some site holds more copies than were attempted."""
    more = ((id_, 1 + len(hashes)) for copy in copies.values() for id_, hashes in copy.more.items())
    return {id_ for id_, count in more if id_ in writes.by_id and count > writes.attempts(id_)}


def _corrupt(copies: Copies, writes: Writes) -> set[str]:
    """Writes with another hash than what was sent."""
    corrupt: set[str] = set()
    for copy in copies.values():
        pairs = chain(copy.hashes.items(), ((id_, hash_) for id_, more in copy.more.items() for hash_ in more))
        for id_, hash_ in pairs:
            slot = writes.by_id.get(id_)
            if slot is not None and slot.hash is not None and slot.hash != hash_:
                corrupt.add(id_)
    return corrupt


def _divergent(copies: Copies) -> set[str]:
    """Ids that two sites hold differently, above what the final reads of all of them cover."""
    by_writer: dict[str, list[Copy]] = defaultdict(list)
    for (_, writer), copy in copies.items():
        by_writer[writer].append(copy)
    return {id_ for own in by_writer.values() for id_ in _differing(own)}


def _differing(copies: Sequence[Copy]) -> set[str]:
    first, *others = copies
    after = max(copy.after_seq for copy in copies)
    differing: set[str] = set()
    for other in others:
        if (first.hashes, first.more) != (other.hashes, other.more):
            ids = first.hashes.keys() | other.hashes.keys()
            differing |= {id_ for id_ in ids if first.all_hashes(id_) != other.all_hashes(id_)}
    return {id_ for id_ in differing if after < 0 or sequence_of(id_) > after}


def _stale(reads: Sequence[LedgerRead], writes: Writes, held: set[str]) -> set[str]:
    """Writes missing from a read begun after their acknowledgement, and present in the end.

    Only what users read counts, through the entry: a site's own copy may lag until it has settled.
    """
    by_writer: dict[str, list[str]] = defaultdict(list)
    for id_ in writes.acked & held:
        by_writer[_writer_of(id_)].append(id_)
    for own in by_writer.values():
        own.sort(key=sequence_of)
    seqs = {writer: [sequence_of(id_) for id_ in own] for writer, own in by_writer.items()}
    stale: set[str] = set()
    for read in reads:
        if read.site is None and not read.final and read.writer in by_writer:
            first = bisect_right(seqs[read.writer], read.after_seq)
            stale |= _missing_from(read, by_writer[read.writer], first, writes)
    return stale


def _missing_from(read: LedgerRead, ordered: Sequence[str], first: int, writes: Writes) -> set[str]:
    items = {id_ for id_, _ in read.items}
    missing: set[str] = set()
    for number in range(first, len(ordered)):  # no slice: with a read a second, copying would be most of the work
        id_ = ordered[number]
        slot = writes.by_id[id_]
        if slot.due_ns > read.begin_ns:  # sequences are sent in order: nothing later was acknowledged by then
            break
        if slot.end_ns < read.begin_ns and id_ not in items:
            missing.add(id_)
    return missing


def _tell_whether_settled(ledger: Ledger, finals: Sequence[LedgerRead]) -> None:
    """`finals` in order of time: the last of each place counts."""
    last = {(read.site or ENTRY, read.writer): read for read in finals}.values()
    ledger.settled = all(read.settled for read in last)
    differed = [read.differed_ns for read in last if read.differed_ns is not None]
    if ledger.divergent:
        differed.append(max(read.begin_ns for read in last))
    ledger.differed_ns = max(differed, default=None)
    if last and ledger.known and not ledger.divergent:
        ledger.alike_ns = max(read.end_ns for read in last)


def _date_losses(ledger: Ledger, writes: Writes, shown: Mapping[str, int], injections: Sequence[Injection]) -> None:
    for id_ in ledger.lost:
        age_s = loss_age_s(writes.by_id[id_].end_ns if id_ in writes.acked else shown[id_], injections)
        if age_s is None:
            ledger.lost_after_fault.add(id_)
        else:
            ledger.rpo_s = max(ledger.rpo_s, age_s)


def loss_text(ledger: Ledger) -> str:
    """What was lost, in words."""
    if not ledger.lost:
        return f"0 of {len(ledger.acked)} lost"
    dated = len(ledger.lost) - len(ledger.lost_after_fault)
    reach = f", the oldest {ledger.rpo_s:.2f} s before the fault" if dated else ""
    after = f", {len(ledger.lost_after_fault)} acknowledged after the last fault or under a healed partition"
    return f"{len(ledger.lost)} of {len(ledger.acked)} lost{reach}{after if ledger.lost_after_fault else ''}"
