"""What the return of a burnt site's power takes from the other site: the share of good slots from the heal to the switch back.

    python tests/bench/bench_heal.py [RUNTIME...]     run idc-fire once on each (embedded and compose, where nothing is said)
    python tests/bench/bench_heal.py RUN_FOLDER...    read stored runs

Figures, not a test. Asked for: 98 % of each journey, on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from chaoslab.clock import NS_PER_S
from chaoslab.history.rows import Probe, decode
from chaoslab.judge.outages import outages
from chaoslab.judge.slots import Slot, Slots

ROOT = Path(__file__).parents[2]
WANTED = 0.98
RUNTIMES = ("embedded", "compose")


def heal_to_switch(rows: Sequence[dict[str, Any]], slots: Sequence[Probe]) -> tuple[int, int] | None:
    """From the first heal's call to the call that switches back; None for a run that had neither."""
    heals = [row["t_ns"] for row in rows if row["kind"] == "fault" and row["event"] == "heal"]
    if not heals:
        return None
    switch_ns = _switch_ns(rows, heals[0], slots)
    return None if switch_ns is None else (heals[0], switch_ns)


def _switch_ns(rows: Sequence[dict[str, Any]], heal_ns: int, slots: Sequence[Probe]) -> int | None:
    """The last call that was made, where the run tells of calls; else the first bad slot of what was bad at its answer."""
    later = [row for row in rows if row["t_ns"] > heal_ns]
    called = [row["t_ns"] for row in later if row["kind"] == "step" and row["event"] == "begin"]
    if called:
        return int(called[-1])
    answered = [row["t_ns"] for row in later if row["kind"] == "condition" and row.get("role") == "bring-about"]
    if not answered:
        return None
    by_journey: defaultdict[str, list[Probe]] = defaultdict(list)
    for slot in slots:
        by_journey[slot.journey].append(slot)
    found = []
    for own in by_journey.values():
        period_ns = round((own[-1].due_ns - own[0].due_ns) / max(1, len(own) - 1)) or NS_PER_S
        found += outages(Slots((Slot(one.due_ns, one.sent_ns, one.end_ns, one.good) for one in own), period_ns=period_ns))
    begins = [one.first_bad_ns for one in found if heal_ns < one.first_bad_ns <= answered[-1] <= one.last_bad_ns + NS_PER_S]
    return min(begins, default=int(answered[-1]))


def report(folder: Path) -> None:
    """Print one run's figures."""
    lines = (folder / "history.jsonl").read_bytes().splitlines()
    rows: list[dict[str, Any]] = [msgspec.json.decode(line) for line in lines]
    slots = [
        row for line, raw in zip(lines, rows, strict=True) if raw["kind"] == "probe" and isinstance(row := decode(line), Probe)
    ]
    slots.sort(key=lambda slot: slot.due_ns)
    runtime = next(row["runtime"] for row in rows if row["kind"] == "anchor")
    window = heal_to_switch(rows, slots)
    if window is None:
        print(f"{folder}: {runtime}: no heal, or no switch back")
        return
    begin_ns, end_ns = window
    healed = next((row["detail"] for row in rows if row["kind"] == "fault" and row["event"] == "healed"), {})
    print(f"{folder.name}: {runtime}, {(end_ns - begin_ns) / NS_PER_S:.1f} s, boot share: {healed.get('share', 'none')}")
    by_journey = defaultdict(list)
    for slot in slots:
        if begin_ns <= slot.due_ns < end_ns:
            by_journey[slot.journey].append(slot)
    for journey, own in sorted(by_journey.items()):
        share = sum(slot.good for slot in own) / len(own)
        bad_s = sorted({round((slot.due_ns - begin_ns) / NS_PER_S, 1) for slot in own if not slot.good})
        print(f"  {journey:<16} {share:7.2%}  {'ok' if share >= WANTED else 'missed':<7} bad at {bad_s[:12] or 'no time'}")


def run(runtime: str) -> None:
    """Run idc-fire once and print its figures."""
    with tempfile.TemporaryDirectory(prefix="chaoslab-bench-") as folder:
        command = [sys.executable, "-m", "chaoslab", "run", str(ROOT / "experiments" / "idc-fire.yaml"), "--runtime", runtime]
        subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        latest = Path(folder) / "runs" / "idc-fire" / "latest"
        if latest.exists():
            report(latest.resolve())
        else:
            print(f"{runtime}: there was no run")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=RUNTIMES, help="runtimes to run idc-fire on, or folders of stored runs")
    for word in parser.parse_args().what:
        if word in RUNTIMES:
            run(word)
        else:
            report(Path(word).resolve())


if __name__ == "__main__":
    main()
