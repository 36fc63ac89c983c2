"""Proof by killing: SIGKILL a game day of the mini stack at random moments, go on with it, and look at its page.

    python tests/kill/gameday_kills.py --kills 50 --nights 10 [--seed N]

One game day is not killed. The others are, several times each: the game day alone, whose run then goes on to its end by itself,
or that run as well, whose reaper heals. Each is gone on with by the same command. In the end its page must be that of the
undisturbed one but for times and paths, no run that had ended may have begun again, at most one run may have been repeated
for each kill, and no process may be left. Exit status 1 when any of this is not so.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import json
import os
import random
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))
from mini_stack import MINI, PROGRAM

from chaoslab.gameday.journal import NAME, Begun, Ended, read_journal
from chaoslab.process import marked

FIRE = (MINI / "pass.yaml").read_text().replace("stack: compose.yaml", f"stack: {MINI / 'compose.yaml'}")
LATE = FIRE.replace("site.power-loss, site: east", "service.pause, service: app")  # longer than a starved second excuses
LATE += "objectives: {app: {unaffected: true}}\ntags: [known-bad]\nexpect: {verdict: fail, objectives: [app.rto]}\n"
EXPERIMENTS = {"calm": FIRE, "late": LATE, "repeat": FIRE}
_END_S = 240.0
_CLEAN_S = 15.0
_EVERY_OTHER = 0.5  # of the kills hit the run, too


@dataclass(frozen=True)
class Project:
    """A project with one suite, in a folder of its own, which is also that of its temporary files and of its registry."""

    folder: Path

    @classmethod
    def make(cls, folder: Path, experiments: dict[str, str]) -> Project:
        (folder / "experiments" / "gameday").mkdir(parents=True)
        for name in ("temporary", "registry"):
            (folder / name).mkdir(mode=0o700)
        for name, text in experiments.items():
            (folder / "experiments" / f"{name}.yaml").write_text(text)
        suite = "# Holds, however often it is killed.\ntitle: Killed\nruntime: embedded\nexperiments: [{glob: '*'}]\n"
        (folder / "experiments" / "gameday" / "all.yaml").write_text(suite)
        return cls(folder)

    def start(self) -> subprocess.Popen[bytes]:
        env = {**os.environ, "TMPDIR": str(self.folder / "temporary"), "XDG_RUNTIME_DIR": str(self.folder / "registry")}
        with (self.folder / "said").open("ab") as said:
            command = [*PROGRAM, "gameday", "all"]
            return subprocess.Popen(command, cwd=self.folder, env=env, stdout=said, stderr=said, start_new_session=True)

    def nights(self) -> list[Path]:
        return sorted(path.parent for path in self.folder.glob(f"runs/gameday/all/2*/{NAME}"))

    def left(self) -> list[str]:
        """Processes that outlive the game day by too long."""
        until = time.monotonic() + _CLEAN_S
        while (found := marked("TMPDIR", str(self.folder / "temporary"))) and time.monotonic() < until:
            time.sleep(0.1)
        return [str(process) for process in found]


@dataclass(frozen=True)
class Killed:
    """One game day that was killed: after how many seconds each time, and what is not as it should be."""

    after_s: list[float]
    wrong: list[str] = field(default_factory=list)


def undisturbed(folder: Path, experiments: dict[str, str]) -> tuple[dict[str, Any], float]:
    """Its page, and how long it took, in seconds."""
    project = Project.make(folder, experiments)
    began = time.monotonic()
    code = project.start().wait(_END_S)
    page = page_of(project)
    if code != 0:
        raise SystemExit(f"the undisturbed game day is no pass, so nothing can be shown: {page['statuses']}")
    return page, time.monotonic() - began


def page_of(project: Project) -> dict[str, Any]:
    """What the pages of the only game day say, without times and paths."""
    [night] = project.nights()
    data = json.loads((night / "night.json").read_text())
    html = re.sub(r'href="[^"]*report\.html"', "", (night / "index.html").read_text())
    return {
        "statuses": {case["id"]: case["status"] for case in data["cases"]},
        "verdict": data["verdict"],
        "counts": data["counts"],
        "problems": data["problems"],
        "hashes": data["spec_sha256"],
        "objectives": {case["id"]: case["objectives"] for case in data["cases"]},
        "html": _timeless(html),
        "files": sorted(path.name for path in night.iterdir()),
    }


def _timeless(text: str) -> str:
    """The text with every number as #, and every duration alike: an exact one, an interval, in s or in ms."""
    return re.sub(r"(# to )?# m?s\b", "# s", re.sub(r"\d+(\.\d+)?", "#", text))


def kill_night(project: Project, kills: int, step_s: float, chance: random.Random) -> list[float]:
    """Kill it so many times, each up to `step_s` after it began or went on; then let it end. Returns when it was killed."""
    after_s = []
    for _ in range(kills):
        child, delay_s = project.start(), chance.uniform(0.0, step_s)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(delay_s)
            return after_s  # it had ended
        running = _run_of(child.pid)
        child.send_signal(signal.SIGKILL)
        if running is not None and chance.random() < _EVERY_OTHER:
            with contextlib.suppress(psutil.NoSuchProcess):
                running.kill()
        child.wait()
        after_s.append(delay_s)
    project.start().wait(_END_S)
    return after_s


def _run_of(pid: int) -> psutil.Process | None:
    with contextlib.suppress(psutil.Error):
        return next((child for child in psutil.Process(pid).children() if "run" in child.cmdline()), None)
    return None


def _difference(found: Any, wanted: Any) -> str:
    """What is there and what should be; of a text of many lines, those that differ."""
    if not isinstance(found, str):
        return f"{found!r} instead of {wanted!r}"
    lines = difflib.unified_diff(wanted.splitlines(), found.splitlines(), "wanted", "found", n=0, lineterm="")
    return "\n".join(lines)


def wrong_with(project: Project, wanted: dict[str, Any], kills: int) -> list[str]:
    """What is not as it should be, in words."""
    if len(project.nights()) != 1:
        return [f"{len(project.nights())} game days instead of one"]
    found = [f"left: {process}" for process in project.left()]
    page = page_of(project)
    found += [f"{key}: {_difference(page[key], wanted[key])}" for key in wanted if page[key] != wanted[key]]
    rows = read_journal(project.nights()[0])
    ended: set[str] = set()
    for row in rows:
        if isinstance(row, Begun) and row.case in ended:
            found.append(f"{row.case} began again after its end")
        ended |= {row.case} if isinstance(row, Ended) else set()
    begun = sum(isinstance(row, Begun) for row in rows)
    if begun > len(wanted["statuses"]) + kills:
        found.append(f"{begun} runs for {len(ended)} cases and {kills} kills")
    return found


def killed_nights(kills: int, nights: int, seed: int, parent: Path, experiments: dict[str, str]) -> Iterator[Killed]:
    """So many game days, with the kills divided between them."""
    chance = random.Random(seed)  # noqa: S311  a choice of moments, no secret
    wanted, whole_s = undisturbed(parent / "undisturbed", experiments)
    for number in range(nights):
        share = kills // nights + (number < kills % nights)
        project = Project.make(parent / f"night-{number}", experiments)
        after_s = kill_night(project, share, 2 * whole_s / (share + 1), chance)
        yield Killed(after_s, wrong_with(project, wanted, len(after_s)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--nights", type=int, default=10)
    parser.add_argument("--seed", type=int, default=None, help="repeats the choice of moments")
    asked = parser.parse_args()
    seed = secrets.randbits(32) if asked.seed is None else asked.seed
    print(f"seed {seed}", flush=True)
    found = []
    with tempfile.TemporaryDirectory(prefix="chaoslab-nights-") as parent:
        for one in killed_nights(asked.kills, asked.nights, seed, Path(parent), EXPERIMENTS):
            found.append(one)
            moments = ", ".join(f"{after_s:.1f}" for after_s in one.after_s)
            print(f"{len(found):3} killed after {moments} s: {'; '.join(one.wrong) or 'the same page'}", flush=True)
    killed = sum(len(one.after_s) for one in found)
    same = sum(not one.wrong for one in found)
    print(f"{killed} kills of {len(found)} game days; {same} pages are that of the undisturbed one")
    return 0 if same == len(found) and killed > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
