"""Defects of a backup: what finds them, and what takes each for sound.

    python tests/bench/bench_restore.py [--only TEXT] [--part 1/1] [--seed 1] [--keep FOLDER]

Makes one archive of a real PostgreSQL with the programs of compose/two-site, damages a copy of it in 24 ways, and restores
each, and 20 that are sound. A defect must be red, with its cause named; beside it, whether `pg_verifybackup` (with all WAL),
and a restore that ends with a running database, would have shown it. Exit status 1 when one differs, or takes over 15 s.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from backup_archive import Made, Restored, make, restore
from backup_defects import DEFECTS, Case, copy_of, sound

LIMIT_S = 15.0


def tried(made: Made, case: Case, folder: Path) -> tuple[Restored, bool]:
    """One restore, alone; and whether it came out as it must."""
    archive = copy_of(made, folder / "archive-copy")
    case.change(made, archive)
    found = restore(made, archive, folder / "restored", tools=case.tools(folder), until=case.until)
    right = (case.says in found.why if case.says else not found.red) and found.took_s <= LIMIT_S
    return found, right and found.red == bool(case.says)


def chosen(cases: Sequence[Case], only: str, part: str) -> list[Case]:
    """Those to try. Raises SystemExit when there is none: nothing would be wrong with it."""
    number, parts = map(int, part.split("/"))
    found = [case for case in cases if only in case.name][number - 1 :: parts]
    if not found:
        raise SystemExit(
            f"no case has {only!r} in its name, or none is in part {part}; cases: {', '.join(c.name for c in cases)}"
        )
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", default="", help="cases with this in their name")
    parser.add_argument("--part", default="1/1", help="the second of three parts is 2/3")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="work in this folder, and leave it; an archive in it is used again")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chaoslab-restore-") as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        began = time.monotonic()
        made = make(folder / "made")
        written = sum(map(len, made.writes.values()))
        print(f"one archive: {written} writes, made in {time.monotonic() - began:.0f} s\n")
        print(f"{'archive':46} {'run':5} {'verifybackup':12} {'exit 0':7} {'took':>6}  why")
        wrong, caught = [], {"run": 0, "verify": 0, "exit": 0}
        cases = chosen([*DEFECTS, *sound(made, arguments.seed)], arguments.only, arguments.part)
        for case in cases:
            found, right = tried(made, case, folder)
            verify, ended = "red" if found.verify_caught else "-", "red" if found.exit_caught else "-"
            why = found.why or f"{found.lost} lost, {found.rpo_s:.1f} s"
            print(
                f"{case.name:46} {'red' if found.red else 'green':5} {verify:12} {ended:7} {found.took_s:5.1f}s  {why[:160]}",
                flush=True,
            )
            if not right:
                wrong.append(case.name)
            if case.says:
                caught["run"] += found.red
                caught["verify"] += found.verify_caught
                caught["exit"] += found.exit_caught
        defects = sum(bool(case.says) for case in cases)
        print(f"\nof {defects} defects caught: {caught['run']}; by pg_verifybackup {caught['verify']};", end=" ")
        print(f"by a restore that fails {caught['exit']}\n{'wrong: ' + ', '.join(wrong) if wrong else 'all as they must be'}")
        return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
