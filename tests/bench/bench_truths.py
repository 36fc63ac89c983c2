"""Truths of the witness: what a run says when the machine, or the stack, is hurt in a way that we know.

    python tests/bench/bench_truths.py [--only quiet]... [--times 5] [--runtime embedded] [--quiet-rto 23.2]

Each is a short fire whose RTO is 30 s, with etcd's leader out of the fire, so that a quiet one takes 20 to 26 s. What is
done begins 5 s after the recovery, or lasts for the whole run:

    quiet       nothing                                              a pass, and no second starved
    frozen-all  the run with its prober and control stands still 6 s inconclusive: nobody could be served
    frozen-app  the stack's replicas alone stand still for 6 s       a fail: the stack was away again
    fsync       three programs force their writes to disk for 10 s   no fail; and the others are named when seconds were starved
    busy        two programs compute for the whole run               a pass, with the quiet RTO +- 1 s
    known-bad   each known-bad experiment once, beside two such      none is a pass

Exit status 1 when one differs. All load stays on this machine and ends by itself.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from disturbances import busy_loops, disk_of, freeze_all, freeze_replicas, fsync_writers
from fire_runs import ROOT, Run, Stored, write_fire

from chaoslab.clock import NS_PER_S
from chaoslab.run.selftest import KNOWN_BAD
from chaoslab.spec.load import load_experiment

RTO_S = 30.0
AFTER_RECOVERY_S, FROZEN_S, WRITING_S = 5.0, 6.0, 10.0
AN_OUTAGE_S = 10.0  # a fire takes this long at least; what is bad for a shorter time only is no failover
WAIT_S = 240.0
NAMES = ("quiet", "frozen-all", "frozen-app", "fsync", "busy", "known-bad")
CHANGES: dict[str, Any] = {
    "load": {"locustfile": str(ROOT / "experiments" / "load" / "everyday.py"), "users": 10, "spawn_rate": 10},
    "timeline": [{"id": "fire", "at": "0s", "fault": "site.power-loss", "site": "pangyo", "heal_after": "55s"}],
    "objectives": {service: {"rto": f"< {RTO_S:.0f}s"} for service in ("auth", "talk", "pay", "partner")},
}


@dataclass(frozen=True)
class Row:
    """One run: what was expected of it, what came, and whether that is the same."""

    case: str
    expected: str
    run: Stored
    fine: bool

    def __str__(self) -> str:
        machine = self.run.result["machine"]
        by = "; ".join(machine["by"])
        rto_s = max((high for _, high in self.run.rto_s().values()), default=None)
        cells = f"{self.case:11}{self.expected:42}{self.run.result['verdict']:14}{f'{rto_s:.2f}' if rto_s else '-':>6}"
        word = "as expected" if self.fine else "DIFFERS"
        return f"{cells}{machine['starved_s']:9.1f}  {word:12}{self.run.folder.parent.name}/{self.run.folder.name}  {by}"


class Bench:
    """Runs cases on one runtime; `quiet_rto_s` are the RTOs of the quiet ones so far."""

    def __init__(self, folder: Path, runtime: str, quiet_rto_s: Sequence[float]) -> None:
        self._folder, self._runtime = folder, runtime
        self.quiet_rto_s = list(quiet_rto_s)

    def once(self, case: str) -> Row:
        """One run of a case that is a short fire."""
        row: Row = {
            "quiet": self._quiet,
            "frozen-all": self._frozen_all,
            "frozen-app": self._frozen_app,
            "fsync": self._fsync,
            "busy": self._busy,
        }[case]()
        return row

    def known_bad(self) -> Iterator[Row]:
        """Every known-bad experiment once."""
        for path in sorted((ROOT / "experiments").glob("*.yaml")):
            if KNOWN_BAD in load_experiment(path).experiment.tags:
                with busy_loops():
                    run = Run(path, self._runtime).end()
                yield Row("known-bad", "no pass", run, run.result["verdict"] != "pass")

    def _quiet(self) -> Row:
        run = self._fire("quiet")
        if run.rto_s():
            self.quiet_rto_s.append(worst_rto_s(run))
        return Row("quiet", "pass, none starved", run, run.result["verdict"] == "pass" and not starved_s(run))

    def _frozen_all(self) -> Row:
        run = self._fire("frozen-all", lambda child, run_id: freeze_all(child, run_id, self._runtime, FROZEN_S))
        return Row("frozen-all", "inconclusive", run, run.result["verdict"] == "inconclusive")

    def _frozen_app(self) -> Row:
        run = self._fire("frozen-app", lambda child, run_id: freeze_replicas(child, run_id, self._runtime, FROZEN_S))
        return Row("frozen-app", "fail", run, run.result["verdict"] == "fail")

    def _fsync(self) -> Row:
        writers: list[int] = []
        run = self._fire("fsync", lambda _child, _id: writers.extend(fsync_writers(disk_of(self._runtime), WRITING_S)))
        named = not starved_s(run) or names(run, writers)
        return Row("fsync", "no fail; others named when starved", run, run.result["verdict"] != "fail" and named)

    def _busy(self) -> Row:
        wanted_s = statistics.median(self.quiet_rto_s)
        run = self._fire("busy", during=busy_loops())
        near = bool(run.rto_s()) and abs(worst_rto_s(run) - wanted_s) <= 1.0
        return Row("busy", f"pass, RTO {wanted_s:.1f} +- 1 s", run, run.result["verdict"] == "pass" and near)

    def _fire(
        self,
        name: str,
        after_recovery: Callable[[int, str], object] = lambda _child, _id: None,
        during: AbstractContextManager[object] | None = None,
    ) -> Stored:
        """A whole short fire; `after_recovery` is given the program's pid and the run's id."""
        with during or nullcontext():
            run = Run(write_fire(self._folder, f"truth-{name}", "elsewhere", **CHANGES), self._runtime)
            if (run_id := wait_for_recovery(run)) is not None:
                after_recovery(run.child.pid, run_id)
            return run.end()


def wait_for_recovery(run: Run) -> str | None:
    """The run's id, once every journey has been good for `AFTER_RECOVERY_S` after an outage; None when the run ends before."""
    deadline = time.monotonic() + WAIT_S
    fire_ns = bad_ns = 0
    run_id = None
    for row in history(run, deadline):
        if row["kind"] == "anchor":
            run_id = row["facts"]["run_id"]
        elif row["kind"] == "fault" and row["event"] == "inject":
            fire_ns = row["t_ns"]
        elif row["kind"] == "fault" and row["event"] == "heal":
            return None
        elif row["kind"] == "probe" and fire_ns:
            bad_ns = bad_ns if row["good"] else max(bad_ns, row["due_ns"])
            if bad_ns - fire_ns > AN_OUTAGE_S * NS_PER_S and row["due_ns"] - bad_ns > AFTER_RECOVERY_S * NS_PER_S:
                return run_id
    return None


def history(run: Run, deadline: float) -> Iterator[dict[str, Any]]:
    """The rows of a run as they are written, until it ends."""
    while run.folder is None:
        if run.child.poll() is not None or time.monotonic() > deadline:
            return
        time.sleep(0.1)
    with (run.folder / "history.jsonl").open() as lines:
        rest = ""
        while time.monotonic() < deadline:
            rest += lines.readline()
            if rest.endswith("\n"):
                yield json.loads(rest)
                rest = ""
            elif run.child.poll() is not None:
                return
            else:
                time.sleep(0.05)


def worst_rto_s(run: Stored) -> float:
    return max(high for _, high in run.rto_s().values())


def starved_s(run: Stored) -> float:
    return float(run.result["machine"]["starved_s"])


def names(run: Stored, pids: Sequence[int]) -> bool:
    """Whether the run says that processes outside of it had the machine: as others, or one of these by its pid."""
    said = " ".join([*run.result["machine"]["by"], *(name for row in run.machine() for name in row.top)])
    return "others" in said or any(f"({pid})" in said for pid in pids)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=NAMES, help="this case; may be said again")
    parser.add_argument("--times", type=int, default=5, help="runs of each case but known-bad")
    parser.add_argument("--runtime", default="embedded", choices=["embedded", "compose"])
    parser.add_argument("--quiet-rto", type=float, action="append", default=[], help="of quiet runs made before")
    asked = parser.parse_args()
    cases = [name for name in NAMES if name in (asked.only or NAMES)]
    if "busy" in cases and "quiet" not in cases and not asked.quiet_rto:
        parser.error("busy is compared with quiet runs; say --only quiet, too, or their RTO as --quiet-rto")
    print(
        f"{'case':11}{'expected':42}{'verdict':14}{'RTO':>6}{'starved':>9}  (RTO and starved in s; last, who had the machine)"
    )
    with tempfile.TemporaryDirectory(prefix="chaoslab-bench-") as folder:
        bench = Bench(Path(folder), asked.runtime, asked.quiet_rto)
        rows = []
        for case in cases:
            for row in bench.known_bad() if case == "known-bad" else (bench.once(case) for _ in range(asked.times)):
                print(row, flush=True)
                rows.append(row)
    differ = sum(not row.fine for row in rows)
    print(f"{len(rows) - differ} of {len(rows)} as expected")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
