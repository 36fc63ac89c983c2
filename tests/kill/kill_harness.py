"""Proof by killing: SIGKILL the harness at random moments of a run, and look for whatever is left of it.

    python tests/kill/kill_harness.py --kills 50 [--seed N] [--runtime embedded|compose] [--only boot]

Each run is one of the mini stack with load, a power loss and a command of its own, in a workspace with its own folder for
temporary files; that folder stands in the environment of every process of the run, so what is left is found without asking
chaoslab's own marks. Within 10 s of the kill no process, port, temporary folder, registry entry, effect of the command or
open step of the undo journal may be left. The control kills the reaper, too: then things must be left, or the looking is
worth nothing, and `chaoslab heal --all` must clear them. Where the machine allows it, the power loss cuts the power of a
volume, whose mount and loop device may not be left either. On Compose no container, network, volume or packet rule may be
left either; those are found by the name of the stack. Exit status 1 when any of this is not so.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))
import docker_traces
from mini_stack import in_containers, parts_of, write_experiment

from chaoslab.cleanup.journal import open_steps, undo_journal
from chaoslab.process import marked
from chaoslab.stack.embedded.disks import why_no_cut
from chaoslab.stack.loop_disk import attached

WITHIN_S = 10.0
RUN_S = {"embedded": 14.0, "compose": 25.0}  # about how long an undisturbed run takes
_TRIGGER_TIMEOUT_S = 60.0
_STAYS_CLEAN_S = 0.7  # longer than the command takes: one that goes on behind its heal shows itself meanwhile
_TRIES = 4
_STEPS = ("faults", "inject", "effective", "heal", "healed")
_IN_ORDER = ("start", "boot", "steady", *_STEPS, "failback", "drain", "verify", "down", "conclude")
_IS_UP = '"phase":"steady"'


@dataclass(frozen=True)
class Moment:
    """When to kill: some time up to `spread_s` after the history speaks of `trigger` (after the start where that is empty)."""

    name: str
    trigger: str
    spread_s: float


def _phase(name: str, spread_s: float) -> Moment:
    return Moment(name, f'"phase":"{name}"', spread_s)


def _event(name: str, fault: str, spread_s: float) -> Moment:
    return Moment(f"{name} {fault}", f'"id":"{fault}".*"event":"{name}"', spread_s)


def moments(runtime: str) -> tuple[Moment, ...]:
    """As long after each beginning as that takes; what has to do with containers takes longer."""
    slow = runtime == "compose"
    return (
        Moment("start", "", 0.9),
        _phase("boot", 6.0 if slow else 1.0),
        _phase("steady", 2.5),
        _event("inject", "fire", 0.8 if slow else 0.15),
        _event("effective", "fire", 0.4),
        _event("inject", "bite", 0.5),
        _event("effective", "bite", 0.5),
        _event("heal", "fire", 2.0 if slow else 0.3),
        _event("heal", "bite", 0.3),
        _phase("failback", 1.0),
        _phase("drain", 0.3),
        _phase("verify", 0.2),
        _phase("down", 3.0 if slow else 0.6),
        Moment("any time", "", RUN_S[runtime]),
    )


@dataclass(frozen=True)
class Traces:
    """What a run held while it lived: ports that it listened on, and its containers."""

    ports: frozenset[int] = frozenset()
    containers: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Workspace:
    """Where one run takes place; nothing of it is anybody else's. `stack` is a name that no other stack has."""

    folder: Path
    runtime: str
    stack: str

    @classmethod
    def make(cls, parent: Path, number: int, runtime: str) -> Workspace:
        made = cls(parent / f"kill-{number}", runtime, f"kill{secrets.token_hex(4)}")
        for folder in (made.folder, made.temporary, made.registry):
            folder.mkdir(mode=0o700)
        fire = {"id": "fire", "fault": "site.power-loss", "site": "east", "at": "0s", "heal_after": "3s"}
        write_experiment(
            made.folder,
            load={"locustfile": str(Path(__file__).with_name("small_load.py")), "users": 3, "spawn_rate": 10},
            timeline=[
                {**fire, "disks": "cut"} if made.cuts else fire,
                {"id": "bite", "fault": "exec", "at": "500ms", "heal_after": "2s", **made._commands()},
            ],
            probe={"rate": 10},
            failback={"within": "20s", "hold": "500ms"},
            overlay=made._overlay(),
        )
        return made

    def _overlay(self) -> dict[str, Any]:
        """The stack under its own name, with a volume in the site that burns."""
        services: dict[str, Any] = in_containers()["services"] if self.in_containers else {}
        app = {**services.get("app-east", {})}
        app["volumes"] = [*app.get("volumes", []), "east:/data"]
        return {"name": self.stack, "services": {**services, "app-east": app}, "volumes": {"east": {}}}

    @property
    def cuts(self) -> bool:
        """Whether the power of the volume can be cut here."""
        return self.in_containers or why_no_cut() is None

    def _commands(self) -> dict[str, list[str]]:
        """An injection that takes its time before it bites, and a heal that takes some, too."""
        touch = f"import time, pathlib; time.sleep(0.4); pathlib.Path({str(self.bitten)!r}).touch()"
        remove = f"import time, pathlib; time.sleep(0.2); pathlib.Path({str(self.bitten)!r}).unlink(missing_ok=True)"
        return {
            "inject": [sys.executable, "-c", touch],
            "heal": [sys.executable, "-c", remove],
            "verify": ["test", "-e", str(self.bitten)],
        }

    @property
    def in_containers(self) -> bool:
        return self.runtime == "compose"

    @property
    def temporary(self) -> Path:
        return self.folder / "temporary"

    @property
    def registry(self) -> Path:
        return self.folder / "runtime"

    @property
    def bitten(self) -> Path:
        """What the command of the experiment leaves while it bites."""
        return self.folder / "bitten"

    @property
    def env(self) -> dict[str, str]:
        return {**os.environ, "TMPDIR": str(self.temporary), "XDG_RUNTIME_DIR": str(self.registry)}

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """`chaoslab` as a person starts it."""
        command = [sys.executable, "-m", "chaoslab", *arguments]
        with (self.folder / "said").open("ab") as said:
            return subprocess.Popen(
                command, cwd=self.folder, env=self.env, stdout=said, stderr=subprocess.STDOUT, start_new_session=True
            )

    def start_run(self) -> subprocess.Popen[bytes]:
        return self.start("run", "mini.yaml", "--runtime", self.runtime, "--allow-exec")

    def run_folders(self) -> list[Path]:
        return [path for path in self.folder.glob("runs/mini/*") if not path.is_symlink()]

    def history(self) -> list[str]:
        """The lines of the run's history so far; a last one that is not whole yet is left out."""
        for folder in self.run_folders():
            with contextlib.suppress(FileNotFoundError):
                return (folder / "history.jsonl").read_text(errors="replace").split("\n")[:-1]
        return []

    def processes(self) -> list[psutil.Process]:
        """Every living process of the run, whoever started it."""
        return marked("TMPDIR", str(self.temporary))

    def traces(self) -> Traces:
        """What the run holds now."""
        ports = _ports(self.processes())
        if not self.in_containers:
            return Traces(frozenset(ports))
        published, containers = docker_traces.ports(self.stack), docker_traces.containers(self.stack)
        return Traces(frozenset(ports | published), frozenset(containers))

    def left(self, traces: Traces) -> list[str]:
        """Everything that is left of the run, in words."""
        processes = self.processes() + _existing(docker_traces.processes_of(traces.containers))
        found = [f"process {_words(process)}" for process in processes]
        found += [f"port {port}" for port in _listening(traces.ports, {process.pid for process in processes})]
        found += docker_traces.things(self.stack) if self.in_containers else []
        found += [f"packet rule {rule}" for rule in (docker_traces.rules(traces.ports) if self.in_containers else [])]
        found += [f"mount {place}" for place in self._mounts()]
        found += [f"loop device {device}" for part in (str(self.temporary), self.stack) for device in attached(part)]
        found += [f"temporary {path.name}" for path in self.temporary.iterdir()]
        found += [f"private folder {run / 'private'}" for run in self.run_folders() if (run / "private").exists()]
        found += [f"registry entry {path.name}" for path in self.registry.glob("chaoslab/*")]
        found += ["the command's effect"] if self.bitten.exists() else []
        found += [f"open step {step}" for run in self.run_folders() for _, step in open_steps(undo_journal(run))]
        return found

    def _mounts(self) -> list[str]:
        """Where file systems of the run are mounted, by the processes of this machine or by the engine."""
        mounts = Path("/proc/self/mountinfo")
        places = [line.split()[4] for line in mounts.read_text().splitlines()] if mounts.exists() else []
        return [place for place in places if str(self.temporary) in place or self.stack in place]


def _existing(pids: list[int]) -> list[psutil.Process]:
    found = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            found.append(psutil.Process(pid))
    return found


def _words(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return f"{process.pid} ({' '.join(process.cmdline())[:120]})"
    return str(process.pid)


def _ports(processes: list[psutil.Process]) -> set[int]:
    """What these processes listen on now."""
    found: set[int] = set()
    for process in processes:
        with contextlib.suppress(psutil.Error):
            listening = [one for one in process.net_connections("tcp") if one.status == psutil.CONN_LISTEN]
            found |= {one.laddr.port for one in listening}
    return found


def _listening(ports: Collection[int], ours: set[int]) -> list[int]:
    """Of these ports, those that somebody listens on who is not known to be another run's process."""
    held = [one for one in psutil.net_connections("tcp") if one.status == psutil.CONN_LISTEN and one.laddr.port in ports]
    return sorted({one.laddr.port for one in held if one.pid is None or one.pid in ours or _is_engines(one.pid)})


def _is_engines(pid: int) -> bool:
    """Docker listens for its containers."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).name() == "docker-proxy")
    return False


@dataclass(frozen=True)
class Killed:
    """One kill: when it was meant, what the run was doing, how long the clean-up took (None: not clean), what was left."""

    moment: Moment
    where: str
    clean_s: float | None
    left: list[str] = field(default_factory=list)


def kill_at(workspace: Workspace, moment: Moment, delay_s: float, *, reaper: bool = False) -> tuple[str, Traces] | None:
    """Run, and kill the harness at that moment; what the run was doing, and what it held. None when it had ended.

    With `reaper` that is killed first, so that nobody heals.
    """
    child = workspace.start_run()
    traces = _wait_for(child, workspace, moment.trigger)
    time.sleep(delay_s)
    traces = traces or workspace.traces()
    if reaper:
        for process in parts_of(child.pid, "chaoslab.cleanup.reaper"):
            process.kill()
    os.kill(child.pid, signal.SIGKILL)
    where = where_in(workspace.history())
    return (where, traces) if child.wait() == -signal.SIGKILL else None


def _wait_for(child: subprocess.Popen[bytes], workspace: Workspace, trigger: str) -> Traces | None:
    """Until the history speaks of it. Returns what the run holds once all is up: looking takes longer than some steps."""
    until, wanted, traces = time.monotonic() + _TRIGGER_TIMEOUT_S, re.compile(trigger), None
    while trigger and child.poll() is None and time.monotonic() < until:
        history = workspace.history()
        if traces is None and any(_IS_UP in line for line in history):
            traces = workspace.traces()
        if any(wanted.search(line) for line in history):
            break
        time.sleep(0.01)
    return traces


def where_in(history: list[str]) -> str:
    """What a run was doing when its history ended: a phase, and within the faults the step of the last one."""
    doing = "start"
    for line in history:
        row: dict[str, Any] = json.loads(line)
        if row["kind"] == "phase":
            after = "conclude" if row["phase"] == "down" else doing
            doing = row["phase"] if row["event"] == "begin" else after
        elif row["kind"] == "fault":
            doing = row["event"]
    return doing


def wait_until_clean(workspace: Workspace, traces: Traces) -> tuple[float | None, list[str]]:
    """How long it takes until nothing is left, and stays so; None and what is left when that is too long."""
    began = time.monotonic()
    while left := workspace.left(traces):
        if time.monotonic() - began > WITHIN_S:
            return None, left
        time.sleep(0.05)
    took_s = time.monotonic() - began
    time.sleep(_STAYS_CLEAN_S)
    left = workspace.left(traces)
    return (None if left else took_s), left


def kills(count: int, seed: int, parent: Path, runtime: str = "embedded", only: str | None = None) -> Iterator[Killed]:
    """So many kills, spread evenly over the moments, or all at one."""
    chance = random.Random(seed)  # noqa: S311  a choice of moments, no secret
    order = [moment for moment in moments(runtime) if only in (None, moment.name)]
    chance.shuffle(order)
    for number in range(count):
        yield _kill_once(order[number % len(order)], chance, parent, number, runtime)


def _kill_once(moment: Moment, chance: random.Random, parent: Path, number: int, runtime: str) -> Killed:
    """A run that ended before it could be killed proves nothing, and is done again, sooner."""
    for attempt in range(_TRIES):
        with workspace_of(parent, number, runtime) as workspace:
            hit = kill_at(workspace, moment, chance.uniform(0.0, moment.spread_s / (attempt + 1)))
            if hit is not None:
                clean_s, left = wait_until_clean(workspace, hit[1])
                return Killed(moment, hit[0], clean_s, left)
    return Killed(moment, "ended", None, [f"{_TRIES} runs ended before they could be killed"])


@contextlib.contextmanager
def workspace_of(parent: Path, number: int, runtime: str) -> Iterator[Workspace]:
    """Whatever a run leaves in its workspace is ended at last: the next one is to start on a quiet machine."""
    workspace = Workspace.make(parent, number, runtime)
    try:
        yield workspace
    finally:
        while processes := workspace.processes():
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            time.sleep(0.05)
        if workspace.in_containers:
            docker_traces.remove(workspace.stack)
        for place in workspace._mounts():
            subprocess.run(["umount", place], check=False)
        shutil.rmtree(workspace.folder)


@dataclass(frozen=True)
class Control:
    """The known-bad case: what was left without the reaper, what healing by hand said, twice, and what it left."""

    runtime: str
    cuts: bool
    left: list[str]
    said: str
    said_again: str
    statuses: tuple[int, int]
    left_after: list[str]

    @property
    def proves(self) -> bool:
        kinds = ["process", "port", "temporary", "registry entry", "the command's effect", "open step"]
        kinds += ["container", "network", "volume"] if self.runtime == "compose" else []
        kinds += ["mount", "loop device"] if self.cuts and sys.platform == "linux" else []
        seen = all(any(what.startswith(kind) for what in self.left) for kind in kinds)
        return seen and self.statuses == (0, 0) and not self.left_after and "nothing to heal" in self.said_again


def control(parent: Path, runtime: str = "embedded") -> Control:
    """Kill reaper and harness while both faults bite, look, then heal by hand."""
    with workspace_of(parent, -1, runtime) as workspace:
        hit = kill_at(workspace, _event("effective", "bite", 0.0), 0.1, reaper=True)
        traces = hit[1] if hit else Traces()
        time.sleep(1.0)
        left = workspace.left(traces)
        first, second = _heal(workspace), _heal(workspace)
        _, left_after = wait_until_clean(workspace, traces)
        return Control(runtime, workspace.cuts, left, first[1], second[1], (first[0], second[0]), left_after)


def _heal(workspace: Workspace) -> tuple[int, str]:
    command = [sys.executable, "-m", "chaoslab", "heal", "--all"]
    done = subprocess.run(
        command, cwd=workspace.folder, env=workspace.env, capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout + done.stderr


def tally(found: list[Killed]) -> str:
    """The lines that people read."""
    clean = [one.clean_s for one in found if one.clean_s is not None]
    where = Counter(one.where for one in found)
    cleanly = Counter(one.where for one in found if one.clean_s is not None)
    known = [name for name in _IN_ORDER if name in where]
    lines = [f"  {name:<12} {cleanly[name]} of {where[name]}" for name in [*known, *sorted(where.keys() - set(known))]]
    slowest = f"; slowest clean after {max(clean):.1f} s" if clean else ""
    return "\n".join([f"{len(clean)} of {len(found)} kills left nothing behind{slowest}", *lines])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=None, help="repeats the choice of moments")
    parser.add_argument("--runtime", choices=sorted(RUN_S), default="embedded")
    parser.add_argument("--only", choices=[moment.name for moment in moments("embedded")], help="at this moment alone")
    asked = parser.parse_args()
    seed = secrets.randbits(32) if asked.seed is None else asked.seed
    print(f"seed {seed}")
    with tempfile.TemporaryDirectory(prefix="chaoslab-kill-") as parent:
        found = []
        for one in kills(asked.kills, seed, Path(parent), asked.runtime, asked.only):
            found.append(one)
            how = "NOT CLEAN: " + "; ".join(one.left) if one.clean_s is None else f"clean after {one.clean_s:.1f} s"
            print(f"{len(found):3} meant {one.moment.name:<15} hit {one.where:<10} {how}", flush=True)
        bad = control(Path(parent), asked.runtime)
    print(tally(found))
    verdict = "seen, and healed by hand" if bad.proves else "NOT AS EXPECTED"
    print(f"control, without the reaper: {len(bad.left)} things left, {verdict}\n{bad.said}{bad.said_again}", end="")
    if not bad.proves:
        print(f"left: {bad.left}\nleft after healing: {bad.left_after}, exit status {bad.statuses}")
    return 0 if bad.proves and all(one.clean_s is not None for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
