"""Acknowledged writes against what the sites hold in the end: the buckets of measurement.md, section 3. Pure.

A bucket counts writes, not copies. F, what the final read holds, is the union of all sites; where they differ is `divergent`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from chaoslab.events import LedgerRead, Probe
from chaoslab.measure import NS_PER_S, seconds
from chaoslab.record import Injection
from chaoslab.result import LedgerResult

BEFORE_FAULT_S = 2.0  # a write must have been acknowledged so shortly before the fault, or a loss could not have shown
EXAMPLES_MAX = 10
_RANK = {"rejected": 0, "bad": 1, "ok": 1, "indeterminate": 1, "acked": 2}
ENTRY = "the entry"
BUCKETS = (
    *("lost", "lost_after_fault", "recovered", "resurrected", "unexpected"),
    *("duplicated", "corrupt", "divergent", "stale", "unverified"),
)


@dataclass(frozen=True)
class Write:
    """One write, all its attempts as one: acknowledged if any was, rejected only if all were."""

    id: str
    seq: int
    outcome: str
    attempts: int
    hash: str | None
    due_ns: int
    complete_ns: int


@dataclass
class Copy:
    """What one site holds of one writer, after its last final read; that covers writes above `after_seq`."""

    after_seq: int
    entries: dict[str, list[str]] = field(default_factory=dict)  # hashes by id, one for each copy


@dataclass
class Ledger:
    """The writes of one journey, sorted into buckets (sets of ids). `rpo_s` is about losses from before the fault."""

    writes: Mapping[str, Write]
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

    def acked_between(self, begin_ns: int, end_ns: int) -> bool:
        """Whether any write was acknowledged in begin..end."""
        return any(w.outcome == "acked" and begin_ns <= w.complete_ns <= end_ns for w in self.writes.values())

    def result(self, objective_s: float | None) -> LedgerResult:
        counts = {name: len(ids) for name, ids in self._buckets().items()}
        outcomes = [write.outcome for write in self.writes.values()]
        return LedgerResult(
            acked=outcomes.count("acked"),
            rejected=outcomes.count("rejected"),
            indeterminate=len(outcomes) - outcomes.count("acked") - outcomes.count("rejected"),
            rpo_s=self.rpo_s,
            objective_s=objective_s,
            examples={name: self._first(ids) for name, ids in self._buckets().items() if ids and name != "recovered"},
            **counts,
        )

    def _buckets(self) -> dict[str, set[str]]:
        return {name: getattr(self, name) for name in BUCKETS}

    def _first(self, ids: set[str]) -> list[str]:
        return sorted(ids, key=lambda one: (sequence_of(one), one))[:EXAMPLES_MAX]


def together(ledgers: Sequence[Ledger]) -> Ledger:
    """Several journeys' ledgers as the ledger of their service."""
    whole = Ledger({id_: write for one in ledgers for id_, write in one.writes.items()})
    for one in ledgers:
        for name, ids in one._buckets().items():
            getattr(whole, name).update(ids)
        whole.unread |= one.unread
        whole.rpo_s = max(whole.rpo_s, one.rpo_s)
    return whole


def ledger_of(slots: Iterable[Probe], reads: Sequence[LedgerRead], injections: Sequence[Injection]) -> Ledger:
    """Sort the writes of one journey into buckets. `reads`: all of this journey, final and not, in any order."""
    writes = _writes(slots)
    reads = sorted(reads, key=lambda read: (read.begin_ns, read.end_ns, read.site or ""))
    shown = _first_shown(reads, writes)
    copies = _copies(reads)
    ledger = Ledger(writes, unread=_unread(reads))
    held = {id_ for copy in copies.values() for id_ in copy.entries}
    ledger.unexpected = held - writes.keys()
    covered_from = _covered_from(copies)
    for write in writes.values():
        _sort_in(write, ledger, held=write.id in held, covered=_covers(covered_from, write), shown_ns=shown.get(write.id))
    ledger.duplicated, ledger.corrupt = _miscopied(copies, writes)
    ledger.divergent = _divergent(copies)
    ledger.stale = _stale(reads, writes, held)
    _date_losses(ledger, shown, injections)
    return ledger


def sequence_of(id_: str) -> int:
    """The sequence in an id "<writer>-<seq>"; -1 where it has none."""
    tail = id_.rpartition("-")[2]
    return int(tail) if tail.isdecimal() else -1


def _writer_of(id_: str) -> str:
    return id_.rpartition("-")[0]


def _writes(slots: Iterable[Probe]) -> dict[str, Write]:
    writes: dict[str, Write] = {}
    for slot in slots:
        if slot.id is None or slot.op != "write":
            continue
        seq = slot.seq if slot.seq is not None else sequence_of(slot.id)
        write = Write(slot.id, seq, slot.outcome, 1, slot.hash, slot.due_ns, slot.end_ns)
        earlier = writes.get(slot.id)
        writes[slot.id] = write if earlier is None else _both(earlier, write)
    return writes


def _both(one: Write, other: Write) -> Write:
    """Two attempts of one write: the stronger outcome, and of equals the earlier."""
    best = min(one, other, key=lambda write: (-_RANK[write.outcome], write.complete_ns))
    due_ns = min(one.due_ns, other.due_ns)
    return Write(best.id, best.seq, best.outcome, one.attempts + other.attempts, best.hash, due_ns, best.complete_ns)


def _copies(reads: Sequence[LedgerRead]) -> dict[tuple[str, str], Copy]:
    """By site and writer. A later final read replaces what it covers."""
    copies: dict[tuple[str, str], Copy] = {}
    for read in reads:
        if not (read.final and read.ok):
            continue
        copy = copies.setdefault((read.site or ENTRY, read.writer), Copy(read.after_seq))
        copy.entries = {id_: hashes for id_, hashes in copy.entries.items() if sequence_of(id_) <= read.after_seq}
        copy.after_seq = min(copy.after_seq, read.after_seq)
        for id_, hash_ in read.items:
            copy.entries.setdefault(id_, []).append(hash_)
    return copies


def _unread(reads: Sequence[LedgerRead]) -> set[str]:
    asked = {(read.site or ENTRY, read.writer) for read in reads if read.final}
    answered = {(read.site or ENTRY, read.writer) for read in reads if read.final and read.ok}
    return {site for site, _ in asked - answered}


def _covered_from(copies: Mapping[tuple[str, str], Copy]) -> dict[str, int]:
    """By writer: the sequence above which some site's final read covers everything."""
    lowest: dict[str, int] = {}
    for (_, writer), copy in copies.items():
        lowest[writer] = min(lowest.get(writer, copy.after_seq), copy.after_seq)
    return lowest


def _covers(covered_from: Mapping[str, int], write: Write) -> bool:
    after = covered_from.get(_writer_of(write.id))
    return after is not None and write.seq > after


def _sort_in(write: Write, ledger: Ledger, *, held: bool, covered: bool, shown_ns: int | None) -> None:
    if held:
        if write.outcome == "rejected":
            ledger.resurrected.add(write.id)
        elif write.outcome != "acked":
            ledger.recovered.add(write.id)
    elif write.outcome == "acked" or (write.outcome != "rejected" and shown_ns is not None):
        (ledger.lost if covered else ledger.unverified).add(write.id)


def _first_shown(reads: Sequence[LedgerRead], writes: Mapping[str, Write]) -> dict[str, int]:
    """When a read first showed a write that was never acknowledged: from then on somebody relies on it."""
    shown: dict[str, int] = {}
    for read in reads:
        if not read.ok:
            continue
        for id_, _ in read.items:
            write = writes.get(id_)
            if write is not None and write.outcome != "acked":
                shown[id_] = min(shown.get(id_, read.end_ns), read.end_ns)
    return shown


def _miscopied(copies: Mapping[tuple[str, str], Copy], writes: Mapping[str, Write]) -> tuple[set[str], set[str]]:
    """Writes of which some site holds more copies than were attempted, and those with another hash."""
    duplicated: set[str] = set()
    corrupt: set[str] = set()
    for copy in copies.values():
        for id_, hashes in copy.entries.items():
            write = writes.get(id_)
            if write is None:
                continue
            if len(hashes) > write.attempts:
                duplicated.add(id_)
            if write.hash is not None and any(hash_ != write.hash for hash_ in hashes):
                corrupt.add(id_)
    return duplicated, corrupt


def _divergent(copies: Mapping[tuple[str, str], Copy]) -> set[str]:
    """Ids that two sites hold differently, above what both final reads cover."""
    by_writer: dict[str, list[Copy]] = defaultdict(list)
    for (_, writer), copy in copies.items():
        by_writer[writer].append(copy)
    return {id_ for own in by_writer.values() for id_ in _differing(own)}


def _differing(copies: Sequence[Copy]) -> set[str]:
    after = max(copy.after_seq for copy in copies)
    first = copies[0].entries
    differing: set[str] = set()
    for other in (copy.entries for copy in copies[1:]):
        ids = first.keys() | other.keys()
        differing |= {id_ for id_ in ids if sorted(first.get(id_, ())) != sorted(other.get(id_, ()))}
    return {id_ for id_ in differing if after < 0 or sequence_of(id_) > after}


def _stale(reads: Sequence[LedgerRead], writes: Mapping[str, Write], held: set[str]) -> set[str]:
    """Writes missing from a read that began after their acknowledgement, and present in the end."""
    by_writer: dict[str, list[Write]] = defaultdict(list)
    for write in writes.values():
        if write.outcome == "acked" and write.id in held:
            by_writer[_writer_of(write.id)].append(write)
    for own in by_writer.values():
        own.sort(key=lambda write: write.seq)
    seqs = {writer: [write.seq for write in own] for writer, own in by_writer.items()}
    stale: set[str] = set()
    for read in reads:
        if read.ok and not read.final and read.writer in by_writer:  # a site's own copy may lag until it has settled
            own = by_writer[read.writer]
            stale |= _missing_from(read, own[bisect_right(seqs[read.writer], read.after_seq) :])
    return stale


def _missing_from(read: LedgerRead, candidates: Sequence[Write]) -> set[str]:
    items = {id_ for id_, _ in read.items}
    missing: set[str] = set()
    for write in candidates:
        if write.due_ns > read.begin_ns:  # sequences are sent in order: nothing later was acknowledged by then
            break
        if write.complete_ns < read.begin_ns and write.id not in items:
            missing.add(write.id)
    return missing


def _date_losses(ledger: Ledger, shown: Mapping[str, int], injections: Sequence[Injection]) -> None:
    for id_ in ledger.lost:
        write = ledger.writes[id_]
        known_ns = write.complete_ns if write.outcome == "acked" else shown[id_]
        fault = _fault_to_blame(known_ns, injections)
        if fault is None:
            ledger.lost_after_fault.add(id_)
        else:
            ledger.rpo_s = max(ledger.rpo_s, seconds(fault.inject_ns - known_ns))


def _fault_to_blame(known_ns: int, injections: Sequence[Injection]) -> Injection | None:
    """The fault that came next, if none was on then; None: acknowledged while a fault was on, or after the last one.

    A fault is on from its verified effect: what was acknowledged between call and effect may still be its victim.
    """
    for one in injections:
        over_ns = one.healed_ns if one.healed_ns is not None else one.heal_ns
        if _on_ns(one) < known_ns and (over_ns is None or known_ns < over_ns):
            return None
    return min((one for one in injections if _on_ns(one) >= known_ns), key=_on_ns, default=None)


def _on_ns(fault: Injection) -> int:
    return fault.effective_ns if fault.effective_ns is not None else fault.inject_ns


def acked_before(ledger: Ledger, inject_ns: int) -> bool:
    """Whether a write was acknowledged so shortly before the fault that the fault could have taken it."""
    return ledger.acked_between(inject_ns - round(BEFORE_FAULT_S * NS_PER_S), inject_ns)


def loss_text(ledger: Ledger) -> str:
    """What was lost, in words."""
    acked = sum(write.outcome == "acked" for write in ledger.writes.values())
    if not ledger.lost:
        return f"0 of {acked} lost"
    before = len(ledger.lost) - len(ledger.lost_after_fault)
    reach = f", the oldest {ledger.rpo_s:.2f} s before the fault" if before else ""
    after = f", {len(ledger.lost_after_fault)} acknowledged after the fault" if ledger.lost_after_fault else ""
    return f"{len(ledger.lost)} of {acked} lost{reach}{after}"
