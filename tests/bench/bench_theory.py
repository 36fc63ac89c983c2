"""Failover against theory: the RTO of real fires beside what the stack's own time-outs add up to.

    python tests/bench/bench_theory.py [--fires 12] [--runtime embedded]
    python tests/bench/bench_theory.py --runs runs/theory-pangyo/* runs/theory-elsewhere/*

Half of the fires burn etcd's leader, too. The parts, each an interval in seconds from the one before:

    lease       from the fire until the leader's lock is over. It was renewed up to `loop_wait` ago: [ttl - loop, ttl].
                With etcd's leader burnt, an election comes first, and whoever wins it gives each lease its whole time
                again and an election's: [1.5, 3.0] + 1.5 + ttl.
    detection   until the standby looks at the lock: [0, loop].
    promotion   it asks all other nodes how far they are, and waits 2 s for one that hangs; then PostgreSQL itself.
    entry       a service looks every 0.3 s who leads, the entry every second who is ready, and then a request is answered.

A run that the machine kept waiting between the fire and the recovery says nothing about theory: it is told apart. Exit status 1
when an RTO falls outside of its band, 3 when there were fewer fires than asked.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fire_runs import Leader, Run, Stored, write_fire

from chaoslab.clock import NS_PER_S
from chaoslab.history.rows import Anchor

TTL_S, LOOP_S = 20.0, 1.0  # Patroni's, in compose/two-site
ELECTION_S = 1.5  # etcd's ELECTION_TIMEOUT; a member waits once to twice as long
PROMOTED = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) INFO: promoted self to leader")


@dataclass(frozen=True)
class Band:
    low: float
    high: float

    def __add__(self, other: Band) -> Band:
        return Band(self.low + other.low, self.high + other.high)

    def __str__(self) -> str:
        return f"{self.low:.1f}..{self.high:.1f}"

    def holds(self, low: float, high: float) -> bool:
        return self.low <= low and high <= self.high


LEASE: dict[Leader, Band] = {
    "elsewhere": Band(TTL_S - LOOP_S, TTL_S),
    "pangyo": Band(ELECTION_S, 2 * ELECTION_S) + Band(ELECTION_S + TTL_S, ELECTION_S + TTL_S),
}
DETECTION = Band(0, LOOP_S)
PROMOTION = Band(0, 2.0) + Band(0.1, 1.0)
ENTRY = Band(0, 0.3) + Band(0, 1.0) + Band(0, 0.5)


def band(leader: Leader) -> Band:
    return LEASE[leader] + DETECTION + PROMOTION + ENTRY


def promoted_s(run: Stored) -> float | None:
    """When the survivor took the lock, counted from the fire: from Patroni's own log, to tell where the time went."""
    anchor = next(row for row in run.rows if isinstance(row, Anchor))
    fire = datetime.fromisoformat(anchor.wall).timestamp() + ((run.inject_ns or 0) - anchor.t_ns) / NS_PER_S
    text = (run.folder / "logs" / "pg-anyang.log").read_text(errors="replace")
    instants = [datetime.strptime(at, "%Y-%m-%d %H:%M:%S,%f").replace(tzinfo=UTC).timestamp() for at in PROMOTED.findall(text)]
    return min((at - fire for at in instants if at > fire), default=None)


@dataclass(frozen=True)
class Told:
    """One fire beside its band."""

    run: Stored
    leader: Leader
    verdict: str  # in, out, or why it is told apart

    @classmethod
    def of(cls, run: Stored, leader: Leader) -> Told:
        rto_s, fire_ns = run.rto_s(), run.inject_ns
        if fire_ns is None or len(rto_s) < 3:
            return cls(run, leader, "told apart: no fire, or no recovery")
        recovered_ns = fire_ns + round(max(high for _, high in rto_s.values()) * NS_PER_S)
        if starved_s := run.starved_s(fire_ns, recovered_ns):
            return cls(run, leader, f"told apart: {starved_s:.0f} s starved")
        return cls(run, leader, "in" if all(band(leader).holds(*each) for each in rto_s.values()) else "OUT")

    def __str__(self) -> str:
        rto_s = {name: f"{low:.2f}..{high:.2f}" for name, (low, high) in self.run.rto_s().items()}
        cells = "".join(f"{rto_s.get(name, '-'):>16}" for name in ("auth", "talk", "pay"))
        promoted = promoted_s(self.run)
        lock = f"{promoted:.2f}" if promoted is not None else "-"
        name = f"{self.run.folder.parent.name}/{self.run.folder.name}"
        return f"{self.run.runtime:10}{self.leader:11}{band(self.leader)!s:>12}{cells}{lock:>8}  {self.verdict:8} {name}"


def fires(count: int, runtime: str) -> Iterator[Told]:
    """Real ones, with etcd's leader in pangyo and elsewhere in turn."""
    with tempfile.TemporaryDirectory(prefix="chaoslab-bench-") as folder:
        for number in range(count):
            leader: Leader = "elsewhere" if number % 2 else "pangyo"
            run = Run(write_fire(Path(folder), f"theory-{leader}", leader), runtime)
            yield Told.of(run.end(), leader)


def stored(folders: list[Path]) -> Iterator[Told]:
    """Those that were run before; one that does not say where etcd's leader was cannot be used."""
    for run in map(Stored, folders):
        if run.leader is None:
            print(f"{run.folder}: no condition says where etcd's leader was; left out")
        else:
            yield Told.of(run, run.leader)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fires", type=int, default=12)
    parser.add_argument("--runtime", default="embedded", choices=["embedded", "compose"])
    parser.add_argument("--runs", nargs="+", type=Path, help="folders of stored runs, in place of new fires")
    asked = parser.parse_args()
    titles = "".join(f"{name:>16}" for name in ("auth", "talk", "pay"))
    print(f"{'runtime':10}{'etcd leads':11}{'band':>12}{titles}{'lock':>8}  (RTO in s; lock: when the survivor took it)")
    told = []
    for one in stored(asked.runs) if asked.runs else fires(asked.fires, asked.runtime):
        print(one, flush=True)
        told.append(one)
    counts = {word: sum(one.verdict.startswith(word) for one in told) for word in ("in", "OUT", "told apart")}
    print(", ".join(f"{count} {word.lower()}" for word, count in counts.items()))
    wanted = len(asked.runs) if asked.runs else asked.fires
    return 1 if counts["OUT"] else 0 if counts["in"] == wanted else 3


if __name__ == "__main__":
    sys.exit(main())
