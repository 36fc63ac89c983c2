"""Acknowledged writes compared with what the sites hold at the end: judge/README.md, Ledger. Pure.

A category counts writes, not copies. F, what the final read holds, is the union of all sites; where they differ is `divergent`.
If a site was not read, or was still changing at the deadline of the reads, F is not known: lost and divergent writes are then
shown as last seen, without a verdict.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from chaoslab.history.result import LedgerResult
from chaoslab.judge.losses import Span, acknowledged_before, loss_age_s
from chaoslab.judge.run_record import Injection
from chaoslab.judge.writes import ACKED, NO_HASH, REJECTED, Ids, Reading, Writes, sequence_of

EXAMPLES_MAX = 10
ENTRY = "the entry"
CATEGORIES = (
    *("lost", "lost_after_fault", "recovered", "resurrected", "unexpected"),
    *("duplicated", "corrupt", "divergent", "stale", "unverified"),
)


class Attempted:
    """The writes of one journey by key. Several attempts are one write: acked if any was, rejected only if all were."""

    def __init__(self, writes: Writes) -> None:
        self.writes = writes
        self.places = dict(zip(writes.keys, range(len(writes.keys)), strict=True))  # of the attempt that counts
        self._times = Counter(writes.keys) if len(self.places) < len(writes.keys) else Counter()
        for place in reversed(range(len(writes.keys) if self._times else 0)):
            key = writes.keys[place]
            so_far = self.places[key]
            if (writes.ranks[place], writes.end[place]) <= (writes.ranks[so_far], writes.end[so_far]):
                self.places[key] = place  # the lowest rank counts; among equals the earliest end, then the earliest row
        ranks = writes.ranks
        self.acked = {key for key, place in self.places.items() if ranks[place] == ACKED}
        self.rejected = {key for key, place in self.places.items() if ranks[place] == REJECTED}
        self.indeterminate = self.places.keys() - self.acked - self.rejected

    def attempts(self, key: int) -> int:
        return self._times.get(key, 1)

    def end_ns(self, key: int) -> int:
        return self.writes.end[self.places[key]]

    def first_shown(self, reads: Sequence[Reading]) -> dict[int, int]:
        """When a read first showed a write of unknown outcome: from then on users may rely on it."""
        shown: dict[int, int] = {}
        for read in reads:
            for key in self.indeterminate.intersection(read.keys):
                shown[key] = min(shown.get(key, read.end_ns), read.end_ns)
        return shown


@dataclass
class Copy:
    """What one site holds of one writer after its last final read, which covers the writes above `after_seq`."""

    ids: Ids
    after_seq: int
    hashes: dict[int, int] = field(default_factory=dict)  # by key
    more: dict[int, list[int]] = field(default_factory=dict)  # hashes of further copies of the same write

    def take(self, read: Reading) -> None:
        """A later final read replaces what it covers."""
        if read.after_seq < 0:
            self.hashes, self.more = {}, {}
        else:
            kept = {key for key in self.hashes if self.ids.sequence(key) <= read.after_seq}
            self.hashes = {key: hash_ for key, hash_ in self.hashes.items() if key in kept}
            self.more = {key: hashes for key, hashes in self.more.items() if key in kept}
        self.after_seq = min(self.after_seq, read.after_seq)
        for key, hash_ in zip(read.keys, read.hashes, strict=True):
            if key in self.hashes:
                self.more.setdefault(key, []).append(hash_)
            else:
                self.hashes[key] = hash_

    def all_hashes(self, key: int) -> list[int]:
        """One for each copy of a write, sorted."""
        return sorted([*([self.hashes[key]] if key in self.hashes else []), *self.more.get(key, [])])


Copies = Mapping[tuple[str, str], Copy]  # by site and writer


def copies_of(finals: Sequence[Reading], ids: Ids) -> Copies:
    """What each site holds of each writer. `finals`: the final reads that were answered, in order of time."""
    copies: dict[tuple[str, str], Copy] = {}
    for read in finals:
        copies.setdefault((read.site or ENTRY, read.writer), Copy(ids, read.after_seq)).take(read)
    return copies


@dataclass
class Ledger:
    """Writes by category: sets of ids, but only the number of those that are correct.

    `lost_after_fault`: those of the lost that no RPO excuses; `rpo_s` is about the others. `settled`: two rounds of final reads
    agreed. `differed_ns`: when the sites were last seen to differ, None for never. `alike_ns`: from when on all reads of them
    agreed; None if they never did.
    """

    acked: int = 0
    rejected: int = 0
    indeterminate: int = 0
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
    acked_before_fault: bool = False  # a write was acknowledged so shortly before a fault that it could have been lost
    silent_faults: set[str] = field(default_factory=set)  # faults that should have had such a write before them, and had none
    settled: bool = True
    differed_ns: int | None = None
    alike_ns: int | None = None
    later: int = 0  # acknowledged with a 202, by a journey that may be queued
    later_lost: int = 0  # of these, those that are lost

    @property
    def known(self) -> bool:
        """Whether the final content of the sites is known."""
        return self.settled and not self.unread

    def ids(self, name: str) -> set[str]:
        """The ids in one of the sets above, by its name."""
        ids: set[str] = getattr(self, name)
        return ids

    def result(self, objective_s: float | None) -> LedgerResult:
        found = {name: self.ids(name) for name in CATEGORIES}
        examples = {
            name: sorted(ids, key=lambda id_: (sequence_of(id_), id_))[:EXAMPLES_MAX]
            for name, ids in found.items()
            if ids and name != "recovered"
        }
        return LedgerResult(
            acked=self.acked,
            rejected=self.rejected,
            indeterminate=self.indeterminate,
            rpo_s=self.rpo_s,
            objective_s=objective_s,
            examples=examples,
            **{name: len(ids) for name, ids in found.items()},
        )


def merged(ledgers: Sequence[Ledger]) -> Ledger:
    """Several journeys' ledgers as the ledger of their service."""
    whole = Ledger()
    for ledger in ledgers:
        for name in ("unread", "silent_faults", *CATEGORIES):
            whole.ids(name).update(ledger.ids(name))
        whole.acked += ledger.acked
        whole.rejected += ledger.rejected
        whole.indeterminate += ledger.indeterminate
        whole.later += ledger.later
        whole.later_lost += ledger.later_lost
        whole.rpo_s = max(whole.rpo_s, ledger.rpo_s)
    whole.acked_before_fault = all(ledger.acked_before_fault for ledger in ledgers)
    whole.settled = all(ledger.settled for ledger in ledgers)
    whole.differed_ns = max((one.differed_ns for one in ledgers if one.differed_ns is not None), default=None)
    alike_ns = [ledger.alike_ns for ledger in ledgers]
    whole.alike_ns = None if None in alike_ns else max((each for each in alike_ns if each is not None), default=None)
    return whole


def ledger_of(
    writes: Writes,
    reads: Sequence[Reading],
    injections: Sequence[Injection],
    clocks: Sequence[Span] = (),
    applied_by_ns: int | None = None,
) -> Ledger:
    """Sort the writes of one journey by category. `reads`: all of this journey, final and not, in any order.

    `clocks`: when an RTO clock of its service ran. `applied_by_ns`: for a journey that may be queued, the end of the time in
    which a read need not show what a 202 acknowledged.
    """
    attempted, ids = Attempted(writes), writes.ids
    reads = sorted((read for read in reads if read.ok or read.final), key=lambda read: (read.begin_ns, read.end_ns))
    answered = [read for read in reads if read.ok]
    finals = [read for read in reads if read.final]
    shown = attempted.first_shown(answered)
    copies = copies_of([read for read in finals if read.ok], ids)
    held = {key for copy in copies.values() for key in copy.hashes}
    missing = (attempted.acked | shown.keys()) - held
    from_seq: dict[str, int] = {}  # by writer: some site's final read would have shown what comes after
    for (_, writer), copy in copies.items():
        from_seq[writer] = min(from_seq.get(writer, copy.after_seq), copy.after_seq)
    covered = {key for key in missing if (writer := ids.writer(key)) in from_seq and ids.sequence(key) > from_seq[writer]}
    unverified = missing - covered
    lost = missing - unverified
    more = ((key, 1 + len(hashes)) for copy in copies.values() for key, hashes in copy.more.items())
    found = {
        "lost": lost,
        "recovered": attempted.indeterminate & held,
        "resurrected": attempted.rejected & held,
        "unexpected": held - attempted.places.keys(),
        "duplicated": {key for key, count in more if key in attempted.places and count > attempted.attempts(key)},
        "corrupt": _corrupt(copies, attempted),
        "divergent": _divergent(copies, ids),
        "stale": _stale(answered, attempted, held, applied_by_ns),
        "unverified": unverified,
    }
    acks_ns = [attempted.end_ns(key) for key in attempted.acked]
    acked_before_fault, silent_faults = acknowledged_before(acks_ns, injections, clocks)
    unread = {(read.site or ENTRY, read.writer) for read in finals} - copies.keys()
    ledger = Ledger(
        acked=len(attempted.acked),
        rejected=len(attempted.rejected),
        indeterminate=len(attempted.indeterminate),
        unread={site for site, _ in unread},
        acked_before_fault=acked_before_fault,
        silent_faults=silent_faults,
        **{name: {*map(ids.text, keys)} for name, keys in found.items()},  # type: ignore[arg-type]
    )
    for key in lost:
        age_s = loss_age_s(attempted.end_ns(key) if key in attempted.acked else shown[key], injections)
        if age_s is None:
            ledger.lost_after_fault.add(ids.text(key))
        else:
            ledger.rpo_s = max(ledger.rpo_s, age_s)
    if applied_by_ns is not None:
        later = attempted.acked & writes.later
        ledger.later, ledger.later_lost = len(later), len(later & lost)
    _note_agreement(ledger, finals)
    return ledger


def _corrupt(copies: Copies, attempted: Attempted) -> set[int]:
    """Writes with a different hash than was sent. A copy that was read without a hash shows nothing about its content."""
    hashes = attempted.writes.hashes
    sent = {key: hashes[place] for key, place in attempted.places.items() if hashes[place] != NO_HASH}
    corrupt: set[int] = set()
    for copy in copies.values():
        corrupt.update(key for key, hash_ in copy.hashes.items() if hash_ not in (NO_HASH, sent.get(key, hash_)))
        for key, more in copy.more.items():
            if any(hash_ not in (NO_HASH, sent.get(key, hash_)) for hash_ in more):
                corrupt.add(key)
    return corrupt


def _divergent(copies: Copies, ids: Ids) -> set[int]:
    """Writes that two sites hold differently, above what the final reads of all of them cover."""
    by_writer: dict[str, list[Copy]] = defaultdict(list)
    for (_, writer), copy in copies.items():
        by_writer[writer].append(copy)
    divergent: set[int] = set()
    for first, *others in by_writer.values():
        after = max(copy.after_seq for copy in (first, *others))
        for other in others:
            if (first.hashes, first.more) != (other.hashes, other.more):
                keys = first.hashes.keys() | other.hashes.keys()
                differing = {key for key in keys if first.all_hashes(key) != other.all_hashes(key)}
                divergent |= {key for key in differing if after < 0 or ids.sequence(key) > after}
    return divergent


def _stale(reads: Sequence[Reading], attempted: Attempted, held: set[int], applied_by_ns: int | None) -> set[int]:
    """Writes missing from a read begun after their acknowledgement, and present in the end.

    Only reads through the entry count: a site's own copy may lag until it has settled. A read covers the writes above its
    `after_seq`. Sequences are sent in order: writes after one that was sent after the read began were not acknowledged before
    it. A write that a 202 acknowledged may be missing from reads that began before `applied_by_ns`.
    """
    ids, places, sent_ns = attempted.writes.ids, attempted.places, attempted.writes.due
    kept = ids.by_writer(attempted.acked & held)
    due = {writer: [sent_ns[places[key]] for key in keys] for writer, keys in kept.items()}
    stale: set[int] = set()
    for read in reads:
        if read.site is None and not read.final and read.writer in kept:
            keys, due_ns = kept[read.writer], due[read.writer]
            first = bisect_right(keys, read.after_seq, key=ids.sequence)
            later = (place for place in range(first, len(keys)) if due_ns[place] > read.begin_ns)
            missing = {*keys[first : next(later, len(keys))]} - {*read.keys}
            if applied_by_ns is not None and read.begin_ns < applied_by_ns:
                missing -= attempted.writes.later
            stale.update(key for key in missing if attempted.end_ns(key) < read.begin_ns)
    return stale


def _note_agreement(ledger: Ledger, finals: Sequence[Reading]) -> None:
    """Whether, and when, the sites agreed. `finals` in order of time: the last of each site and writer counts."""
    last = {(read.site or ENTRY, read.writer): read for read in finals}.values()
    ledger.settled = all(read.settled for read in last)
    differed = [read.differed_ns for read in last if read.differed_ns is not None]
    if ledger.divergent:
        differed.append(max(read.begin_ns for read in last))
    ledger.differed_ns = max(differed, default=None)
    if last and ledger.known and not ledger.divergent:
        ledger.alike_ns = max(read.end_ns for read in last)


def loss_text(ledger: Ledger) -> str:
    """What was lost, in words."""
    if not ledger.lost:
        return f"0 of {ledger.acked} lost"
    dated = len(ledger.lost) - len(ledger.lost_after_fault)
    reach = f", the oldest {ledger.rpo_s:.2f} s before the fault" if dated else ""
    after = f", {len(ledger.lost_after_fault)} acknowledged after the last fault or under a healed partition"
    return f"{len(ledger.lost)} of {ledger.acked} lost{reach}{after if ledger.lost_after_fault else ''}"
