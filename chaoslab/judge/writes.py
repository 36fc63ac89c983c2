"""A journey's writes and the reads of its ledger as columns: a run may have a million ids, and few are ever shown. Pure.

An id is kept as a number, a hash as a fingerprint: hashes are only compared with each other.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from chaoslab.history.rows import LedgerRead, Outcome, Probe
from chaoslab.spec.stackfile.journey import QUEUED

ACKED, INDETERMINATE, REJECTED = range(3)  # of several attempts at one write, the one with the lowest counts
_RANKS: dict[Outcome, int] = {
    "acked": ACKED,
    "rejected": REJECTED,
    "indeterminate": INDETERMINATE,
    "ok": INDETERMINATE,
    "bad": INDETERMINATE,
}
NO_HASH = hash(None)
_SEQUENCE_BITS = 40
_SEQUENCES = 1 << _SEQUENCE_BITS
_NUMBERS = msgspec.json.Decoder(list[int])


def sequence_of(id_: str) -> int:
    """The sequence in an id "<writer>-<seq>"; -1 where it has none."""
    tail = id_.rpartition("-")[2]
    return int(tail) if tail.isdecimal() else -1


class Ids:
    """Ids as numbers, and back. "<writer>-<seq>" is the writer's place and the sequence; any other is listed, below 0."""

    def __init__(self) -> None:
        self._writers: dict[str, int] = {}
        self._names: list[str] = []
        self._others: dict[str, int] = {}
        self._listed: list[str] = []

    def keys(self, ids: Sequence[str], writer: str | None) -> array[int]:
        """The number of each; fast if all are of this writer."""
        if writer is not None and (own := _sequences(ids, f"{writer}-")) is not None:
            base = self._base(writer)
            return array("q", map(base.__add__, own) if base else own)
        return array("q", map(self.key, ids))

    def key(self, id_: str) -> int:
        writer, dash, _ = id_.rpartition("-")
        if dash and (own := _sequences([id_], f"{writer}-")) is not None:
            return self._base(writer) + own[0]
        place = self._others.setdefault(id_, len(self._others))
        if place == len(self._listed):
            self._listed.append(id_)
        return -1 - place

    def text(self, key: int) -> str:
        if key < 0:
            return self._listed[-1 - key]
        return f"{self._names[key >> _SEQUENCE_BITS]}-{key % _SEQUENCES}"

    def sequence(self, key: int) -> int:
        return sequence_of(self._listed[-1 - key]) if key < 0 else key % _SEQUENCES

    def writer(self, key: int) -> str:
        return self._listed[-1 - key].rpartition("-")[0] if key < 0 else self._names[key >> _SEQUENCE_BITS]

    def by_writer(self, keys: Iterable[int]) -> dict[str, list[int]]:
        """Keys by writer, in order of sequence."""
        found: defaultdict[int, list[int]] = defaultdict(list)
        for key in sorted(keys):
            found[key >> _SEQUENCE_BITS].append(key)
        listed = found.pop(-1, [])
        named = {self._names[place]: own for place, own in found.items()}
        for key in listed:
            named.setdefault(self.writer(key), []).append(key)
        for writer in {*map(self.writer, listed)}:
            named[writer].sort(key=self.sequence)
        return named

    def _base(self, writer: str) -> int:
        place = self._writers.setdefault(writer, len(self._writers))
        if place == len(self._names):
            self._names.append(writer)
        return place << _SEQUENCE_BITS


def _sequences(ids: Sequence[str], prefix: str) -> list[int] | None:
    """The sequences in these ids; None unless each is `prefix` and a canonical sequence.

    Checked all at once: with as many commas as ids and otherwise only digits, no id holds anything else.
    """
    text = "\n".join(["", *ids]).replace(f"\n{prefix}", ",")
    if text.count(",") != len(ids) or not (text.isascii() and text.replace(",", "").isdecimal()):
        return None
    try:
        found = _NUMBERS.decode(f"[{text[1:]}]")
    except msgspec.MsgspecError:  # a leading zero, or no digit
        return None
    return found if max(found) < _SEQUENCES else None


class Writes:
    """The writes of one journey, each attempt, in the order of their rows. Only `add` changes the columns.

    `later`: the keys of those that a 202 acknowledged, which promises to apply them later.
    """

    __slots__ = ("due", "end", "hashes", "ids", "keys", "later", "ranks")

    def __init__(self, ids: Ids) -> None:
        self.ids = ids
        self.keys, self.due, self.end, self.hashes, self.ranks = array("q"), array("q"), array("q"), array("q"), bytearray()
        self.later: set[int] = set()

    def add(self, rows: Iterable[Probe]) -> None:
        """Take those of these slots that are writes and carry an id."""
        rows = [row for row in rows if row.id is not None and row.op == "write"]
        if not rows:
            return
        writers = {row.writer for row in rows}
        keys = self.ids.keys([row.id or "" for row in rows], writers.pop() if len(writers) == 1 else None)
        self.keys += keys
        self.later.update(key for key, row in zip(keys, rows, strict=True) if row.status == QUEUED and row.outcome == "acked")
        self.due.fromlist([row.due_ns for row in rows])
        self.end.fromlist([row.end_ns for row in rows])
        self.hashes.fromlist([hash(row.hash) for row in rows])
        self.ranks += bytes([_RANKS[row.outcome] for row in rows])


@dataclass(frozen=True, slots=True)
class Reading:
    """One read of a ledger; see `rows.LedgerRead`. `hashes`: of the items of a final read alone."""

    writer: str
    site: str | None
    begin_ns: int
    end_ns: int
    after_seq: int
    ok: bool
    final: bool
    settled: bool
    differed_ns: int | None
    keys: array[int]
    hashes: array[int]

    @classmethod
    def of(cls, row: LedgerRead, ids: Ids) -> Reading:
        return cls(
            writer=row.writer,
            site=row.site,
            begin_ns=row.begin_ns,
            end_ns=row.end_ns,
            after_seq=row.after_seq,
            ok=row.ok,
            final=row.final,
            settled=row.settled,
            differed_ns=row.differed_ns,
            keys=ids.keys([id_ for id_, _ in row.items], row.writer),
            hashes=array("q", [hash(hash_) for _, hash_ in row.items] if row.final else []),
        )
