"""A good stack is green: run a short fire so many times, and count what it came to.

    python tests/e2e/green_runs.py [--runs 20] [--again 0] [--experiment short-fire] [--runtime embedded]

Exit status 0 only when so many runs were a pass that left nothing behind, and none was anything else. A run that could not be
told is counted apart, with its reason, and is not green; `--again` of them may be repeated, for a busy machine. 3 when there
were more and nothing worse, else 1.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from mini_stack import Ran, finish, start_chaoslab

ROOT = Path(__file__).parents[2]
RUN_TIMEOUT_S = 240.0


@dataclass(frozen=True)
class Seen:
    """One run: its verdict (or how it ended without one), the worst reason, how long it took, where it lies."""

    verdict: str
    why: str = ""
    took_s: float = 0.0
    folder: str = ""

    @classmethod
    def of(cls, ran: Ran, before: Path | None = None) -> Seen:
        """`before`: the latest run until then, which is not this one's."""
        if ran.folder == before or not (ran.folder / "result.json").exists():
            return cls(f"exit {ran.code}", (ran.err or ran.out).strip()[-300:])
        result = ran.result
        unclean = ran.code == 6
        verdict = "left something behind" if unclean else result["verdict"]
        reasons = result["left_behind"] if unclean else result["reasons"]
        return cls(verdict, "; ".join(reasons[:2]), result["duration_s"], os.path.relpath(ran.folder))


def run_once(experiment: str, runtime: str) -> Seen:
    """A whole run, and proof that nothing of it is left."""
    before = (ROOT / "runs" / experiment / "latest").resolve()
    child = start_chaoslab(ROOT, "run", experiment, "--runtime", runtime)
    return Seen.of(finish(child, ROOT, experiment, timeout_s=RUN_TIMEOUT_S), before)


def line(number: int, seen: Seen) -> str:
    why = f": {seen.why}" if seen.why else ""
    return f"{number:3} {seen.verdict}{why} ({seen.took_s:.0f} s, {seen.folder})"


def tally(seen: Sequence[Seen]) -> str:
    """The line that people read."""
    counted = Counter(one.verdict for one in seen)
    others = [f"{count} {verdict}" for verdict, count in counted.most_common() if verdict != "pass"]
    return ", ".join([f"{counted['pass']} of {len(seen)} runs green", *others])


def untold(seen: Sequence[Seen]) -> int:
    return sum(one.verdict == "inconclusive" for one in seen)


def exit_status(seen: Sequence[Seen], again: int = 0) -> int:
    verdicts = {one.verdict for one in seen}
    if not verdicts or verdicts - {"pass", "inconclusive"}:
        return 1
    return 3 if untold(seen) > again else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--again", type=int, default=0)
    parser.add_argument("--experiment", default="short-fire")
    parser.add_argument("--runtime", default=os.environ.get("RUNTIME") or "auto")
    asked = parser.parse_args()
    seen: list[Seen] = []
    try:
        while len(seen) < asked.runs + min(untold(seen), asked.again):
            seen.append(run_once(asked.experiment, asked.runtime))
            print(line(len(seen), seen[-1]), flush=True)
    finally:
        print(tally(seen))
    return exit_status(seen, asked.again)


if __name__ == "__main__":
    sys.exit(main())
