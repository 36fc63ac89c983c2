"""Acknowledged writes against what the sites hold in the end: the buckets of measurement.md, section 3. Pure.

A bucket counts writes, not copies. F, what the final read holds, is the union of all sites; where they differ is `divergent`.
Where a site was not read, or still changed when the time for reading was over, F is not known: what is lost or divergent then
is so as last seen, and no verdict follows from it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from chaoslab.losses import Span, acknowledged_before, loss_age_s
from chaoslab.record import Injection
from chaoslab.result import LedgerResult
from chaoslab.writes import ACKED, NO_HASH, REJECTED, Ids, Reading, Writes, sequence_of

EXAMPLES_MAX = 10
ENTRY = "the entry"
BUCKETS = (
    *("lost", "lost_after_fault", "recovered", "resurrected", "unexpected"),
    *("duplicated", "corrupt", "divergent", "stale", "unverified"),
)


class Attempted:
    """The writes of one journey by their key. Several attempts are one write: acked if any was, rejected only if all were."""

    def __init__(self, writes: Writes) -> None:
        self.writes = writes
        self.places = dict(zip(writes.keys, range(len(writes.keys)), strict=True))  # of the attempt that counts
        self._times = Counter(writes.keys) if len(self.places) < len(writes.keys) else Counter()
        if self._times:
            for place in reversed(range(len(writes.keys))):
                self._count(place)
        ranks = writes.ranks
        self.acked = {key for key, place in self.places.items() if ranks[place] == ACKED}
        self.rejected = {key for key, place in self.places.items() if ranks[place] == REJECTED}
        self.indeterminate = self.places.keys() - self.acked - self.rejected

    def attempts(self, key: int) -> int:
        return self._times.get(key, 1)

    def end_ns(self, key: int) -> int:
        return self.writes.end[self.places[key]]

    def _count(self, place: int) -> None:
        """Whether this attempt counts more than the one that counts so far, or as much and came before it."""
        key, writes = self.writes.keys[place], self.writes
        so_far = self.places[key]
        if (writes.ranks[place], writes.end[place]) <= (writes.ranks[so_far], writes.end[so_far]):
            self.places[key] = place


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


@dataclass
class Ledger:
    """Writes sorted into buckets (sets of ids; of those that are as they should be the number alone).

    `lost_after_fault`: those of the lost that no RPO excuses; `rpo_s` is about the others.
    `settled`: two rounds of final reads agreed. `differed_ns`: when the sites were last seen to differ, None for never.
    `alike_ns`: when they were read and all alike, for good; None: not as long as we looked.
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
            acked=self.acked,
            rejected=self.rejected,
            indeterminate=self.indeterminate,
            rpo_s=self.rpo_s,
            objective_s=objective_s,
            examples={name: _first(self.bucket(name)) for name in BUCKETS if self.bucket(name) and name != "recovered"},
            **{name: len(self.bucket(name)) for name in BUCKETS},
        )


def together(ledgers: Sequence[Ledger]) -> Ledger:
    """Several journeys' ledgers as the ledger of their service."""
    whole = Ledger()
    for one in ledgers:
        for name in ("unread", "silent_faults", *BUCKETS):
            whole.bucket(name).update(one.bucket(name))
        whole.acked += one.acked
        whole.rejected += one.rejected
        whole.indeterminate += one.indeterminate
        whole.rpo_s = max(whole.rpo_s, one.rpo_s)
    whole.acked_before_fault = all(one.acked_before_fault for one in ledgers)
    whole.settled = all(one.settled for one in ledgers)
    whole.differed_ns = max((one.differed_ns for one in ledgers if one.differed_ns is not None), default=None)
    alike_ns = [one.alike_ns for one in ledgers]
    whole.alike_ns = None if None in alike_ns else max((each for each in alike_ns if each is not None), default=None)
    return whole


def ledger_of(writes: Writes, reads: Sequence[Reading], injections: Sequence[Injection], clocks: Sequence[Span] = ()) -> Ledger:
    """Sort the writes of one journey into buckets. `reads`: all of this journey, final and not, in any order.

    `clocks`: when an RTO clock of its service ran.
    """
    tried, ids = Attempted(writes), writes.ids
    reads = sorted((read for read in reads if read.ok or read.final), key=lambda read: (read.begin_ns, read.end_ns))
    answered = [read for read in reads if read.ok]
    shown = _first_shown(answered, tried)
    copies = _copies(answered, ids)
    held = {key for copy in copies.values() for key in copy.hashes}
    missing = (tried.acked | shown.keys()) - held
    unverified = missing - _covered(missing, copies, ids)
    lost = missing - unverified
    found = {
        "lost": lost,
        "recovered": tried.indeterminate & held,
        "resurrected": tried.rejected & held,
        "unexpected": held - tried.places.keys(),
        "duplicated": _duplicated(copies, tried),
        "corrupt": _corrupt(copies, tried),
        "divergent": _divergent(copies, ids),
        "stale": _stale(answered, tried, held),
        "unverified": unverified,
    }
    ledger = Ledger(
        acked=len(tried.acked),
        rejected=len(tried.rejected),
        indeterminate=len(tried.indeterminate),
        unread=_unread(reads),
        **{name: {*map(ids.text, keys)} for name, keys in found.items()},  # type: ignore[arg-type]
    )
    _date_losses(ledger, {ids.text(key): tried.end_ns(key) if key in tried.acked else shown[key] for key in lost}, injections)
    acks_ns = [tried.end_ns(key) for key in tried.acked]
    ledger.acked_before_fault, ledger.silent_faults = acknowledged_before(acks_ns, injections, clocks)
    _tell_whether_settled(ledger, [read for read in reads if read.final])
    return ledger


def _first(ids: set[str]) -> list[str]:
    return sorted(ids, key=lambda one: (sequence_of(one), one))[:EXAMPLES_MAX]


def _copies(reads: Sequence[Reading], ids: Ids) -> Copies:
    copies: dict[tuple[str, str], Copy] = {}
    for read in reads:
        if read.final:
            copies.setdefault((read.site or ENTRY, read.writer), Copy(ids, read.after_seq)).take(read)
    return copies


def _unread(reads: Sequence[Reading]) -> set[str]:
    asked = {(read.site or ENTRY, read.writer) for read in reads if read.final}
    answered = {(read.site or ENTRY, read.writer) for read in reads if read.final and read.ok}
    return {site for site, _ in asked - answered}


def _covered(keys: set[int], copies: Copies, ids: Ids) -> set[int]:
    """Those that some site's final read would have shown."""
    from_seq: dict[str, int] = {}
    for (_, writer), copy in copies.items():
        from_seq[writer] = min(from_seq.get(writer, copy.after_seq), copy.after_seq)
    return {key for key in keys if (writer := ids.writer(key)) in from_seq and ids.sequence(key) > from_seq[writer]}


def _first_shown(reads: Sequence[Reading], tried: Attempted) -> dict[int, int]:
    """When a read first showed a write of unknown outcome: from then on somebody relies on it."""
    shown: dict[int, int] = {}
    for read in reads:
        for key in tried.indeterminate.intersection(read.keys):
            shown[key] = min(shown.get(key, read.end_ns), read.end_ns)
    return shown


def _duplicated(copies: Copies, tried: Attempted) -> set[int]:
    """Writes of which some site holds more copies than were attempted."""
    more = ((key, 1 + len(hashes)) for copy in copies.values() for key, hashes in copy.more.items())
    return {key for key, count in more if key in tried.places and count > tried.attempts(key)}


def _corrupt(copies: Copies, tried: Attempted) -> set[int]:
    """Writes with another hash than what was sent."""
    hashes = tried.writes.hashes
    sent = {key: hashes[place] for key, place in tried.places.items() if hashes[place] != NO_HASH}
    corrupt: set[int] = set()
    for copy in copies.values():
        corrupt.update(key for key, hash_ in copy.hashes.items() if sent.get(key, hash_) != hash_)
        corrupt.update(key for key, more in copy.more.items() if any(sent.get(key, hash_) != hash_ for hash_ in more))
    return corrupt


def _divergent(copies: Copies, ids: Ids) -> set[int]:
    """Writes that two sites hold differently, above what the final reads of all of them cover."""
    by_writer: dict[str, list[Copy]] = defaultdict(list)
    for (_, writer), copy in copies.items():
        by_writer[writer].append(copy)
    return {key for own in by_writer.values() for key in _differing(own, ids)}


def _differing(copies: Sequence[Copy], ids: Ids) -> set[int]:
    first, *others = copies
    after = max(copy.after_seq for copy in copies)
    differing: set[int] = set()
    for other in others:
        if (first.hashes, first.more) != (other.hashes, other.more):
            keys = first.hashes.keys() | other.hashes.keys()
            differing |= {key for key in keys if first.all_hashes(key) != other.all_hashes(key)}
    return {key for key in differing if after < 0 or ids.sequence(key) > after}


def _stale(reads: Sequence[Reading], tried: Attempted, held: set[int]) -> set[int]:
    """Writes missing from a read begun after their acknowledgement, and present in the end.

    Only what users read counts, through the entry: a site's own copy may lag until it has settled.
    """
    ids = tried.writes.ids
    kept = {writer: _Kept.of(own, tried) for writer, own in ids.by_writer(tried.acked & held).items()}
    stale: set[int] = set()
    for read in reads:
        if read.site is None and not read.final and read.writer in kept:
            missing = kept[read.writer].in_reach(read) - {*read.keys}
            stale.update(key for key in missing if tried.end_ns(key) < read.begin_ns)
    return stale


@dataclass(frozen=True)
class _Kept:
    """Acknowledged writes of one writer by their sequence, and when each was due."""

    ids: Ids
    keys: Sequence[int]
    due: Sequence[int]

    @classmethod
    def of(cls, keys: Sequence[int], tried: Attempted) -> _Kept:
        due, places = tried.writes.due, tried.places
        return cls(tried.writes.ids, keys, [due[places[key]] for key in keys])

    def in_reach(self, read: Reading) -> set[int]:
        """Those that a read covers. Sequences are sent in order: what follows one sent after it began was not acknowledged."""
        first = bisect_right(self.keys, read.after_seq, key=self.ids.sequence)
        later = (place for place in range(first, len(self.due)) if self.due[place] > read.begin_ns)
        return {*self.keys[first : next(later, len(self.due))]}


def _tell_whether_settled(ledger: Ledger, finals: Sequence[Reading]) -> None:
    """`finals` in order of time: the last of each place counts."""
    last = {(read.site or ENTRY, read.writer): read for read in finals}.values()
    ledger.settled = all(read.settled for read in last)
    differed = [read.differed_ns for read in last if read.differed_ns is not None]
    if ledger.divergent:
        differed.append(max(read.begin_ns for read in last))
    ledger.differed_ns = max(differed, default=None)
    if last and ledger.known and not ledger.divergent:
        ledger.alike_ns = max(read.end_ns for read in last)


def _date_losses(ledger: Ledger, known_ns: Mapping[str, int], injections: Sequence[Injection]) -> None:
    """`known_ns`: of each write that is lost, from when on somebody relied on it."""
    for id_, instant_ns in known_ns.items():
        age_s = loss_age_s(instant_ns, injections)
        if age_s is None:
            ledger.lost_after_fault.add(id_)
        else:
            ledger.rpo_s = max(ledger.rpo_s, age_s)


def loss_text(ledger: Ledger) -> str:
    """What was lost, in words."""
    if not ledger.lost:
        return f"0 of {ledger.acked} lost"
    dated = len(ledger.lost) - len(ledger.lost_after_fault)
    reach = f", the oldest {ledger.rpo_s:.2f} s before the fault" if dated else ""
    after = f", {len(ledger.lost_after_fault)} acknowledged after the last fault or under a healed partition"
    return f"{len(ledger.lost)} of {ledger.acked} lost{reach}{after if ledger.lost_after_fault else ''}"
